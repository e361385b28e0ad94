//! Types with a rule of their own, each shown beside what still works.

use fhirwall::demo::client::Reply;
use http::Method;
use serde_json::{Value, json};

use crate::Stage;

impl Stage {
    /// Asks as the treatment app, with a token that may write nearly anything.
    async fn ask_with(&self, scope: &str, method: Method, below: &str, body: &Value) -> Reply {
        let app = &self.neighbours().treatment;
        let mut grant = self.neighbours().grant(app);
        grant.scope = scope.to_owned();
        let token = self.neighbours().issuer.mint(&grant).unwrap();
        let authorization = format!("Bearer {token}");
        let kind = if method == Method::PATCH { "application/json-patch+json" } else { "application/fhir+json" };
        let mut headers = vec![("authorization", authorization.as_str())];
        if !body.is_null() {
            headers.push(("content-type", kind));
        }
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        app.client.send(method, &self.url(below), &headers, body).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_follows_the_document_it_belongs_to() {
    let stage = Stage::roomy().await;
    for (below, status) in [
        ("/DocumentReference/amara-program-note", 200),
        ("/Binary/amara-program-note-text", 200),
        ("/DocumentReference/bruno-program-note", 404),
        ("/Binary/bruno-program-note-text", 404),
        ("/Binary/there-is-none", 404),
    ] {
        let reply = stage.treatment(below).await;
        assert_eq!(reply.status, status, "{below}: {}", reply.text());
    }
    stage.neighbours().ehr.put(json!({
        "resourceType": "Binary", "id": "orphan", "contentType": "text/plain", "data": "c2VjcmV0",
    }));
    let reply = stage.treatment("/Binary/orphan").await;
    assert_eq!(reply.status, 404, "of unknown sensitivity: {}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_a_hidden_record_is_shown_without_the_name() {
    let stage = Stage::roomy().await;
    let (shown, hidden) = ("Observation/bruno-blood-pressure-1", "Observation/bruno-drug-screen");
    let narrative = json!({
        "status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">Opiates: negative</div>",
    });
    let subject = json!({"reference": "Patient/bruno-vale"});
    for resource in [
        json!({
            "resourceType": "DiagnosticReport", "id": "report", "status": "final", "subject": subject,
            "code": {"text": "Panel"}, "text": narrative,
            "result": [{"reference": shown}, {"reference": hidden}],
        }),
        json!({
            "resourceType": "Group", "id": "group", "type": "person", "actual": true,
            "member": [{"entity": {"reference": "Patient/dov-hart"}}],
            "characteristic": [{
                "code": {"text": "x"}, "valueReference": {"reference": hidden, "display": "Opiates"}, "exclude": false,
            }],
        }),
    ] {
        stage.neighbours().ehr.put(resource);
    }
    for (below, keeps) in [
        ("/DiagnosticReport/report", shown),
        ("/Group/group", "Patient/dov-hart"),
        ("/List/bruno-problems", "Condition/bruno-hypertension"),
        ("/Composition/bruno-summary", "Condition/bruno-hypertension"),
        ("/Provenance/bruno-provenance", "Condition/bruno-hypertension"),
    ] {
        let reply = stage.treatment(below).await;
        assert_eq!(reply.status, 200, "{below}: {}", reply.text());
        let text = reply.text();
        assert!(text.contains(keeps), "{below}: {text}");
        for trace in [hidden, "bruno-opioid-use", "piate", "pioid"] {
            assert!(!text.contains(trace), "{below}: {trace} is in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_makes_the_ehr_send_records_elsewhere() {
    let stage = Stage::roomy().await;
    let scope = "user/*.cruds";
    let subscription = json!({
        "resourceType": "Subscription", "id": "s", "status": "requested", "reason": "x",
        "criteria": "Observation?patient=bruno-vale",
        "channel": {"type": "rest-hook", "endpoint": "https://collector.example/hook"},
    });
    stage.neighbours().ehr.put(subscription.clone());
    stage.asked();
    for (method, below) in [
        (Method::POST, "/Subscription"),
        (Method::PUT, "/Subscription/s"),
        (Method::PUT, "/Subscription?status=requested"),
    ] {
        let reply = stage.ask_with(scope, method, below, &subscription).await;
        assert_eq!(reply.status, 403, "{below}: {}", reply.text());
        assert!(reply.text().contains("unsupported-interaction"), "{}", reply.text());
    }
    let patch = json!([{"op": "replace", "path": "/status", "value": "active"}]);
    assert_eq!(stage.ask_with(scope, Method::PATCH, "/Subscription/s", &patch).await.status, 403);
    let app = &stage.neighbours().treatment;
    for kind in ["batch", "transaction"] {
        let entry = crate::bundles::with("POST", "Subscription", &subscription);
        let reply = stage.post(app, &app.token, &crate::bundles::bundle(kind, &[entry])).await;
        assert!(reply.text().contains("unsupported-interaction"), "{}", reply.text());
    }
    assert_eq!(stage.asked(), Vec::<String>::new());
    assert_eq!(stage.treatment("/Subscription/s").await.status, 200, "one that is there may be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_created_and_never_changed() {
    let stage = Stage::roomy().await;
    let scope = "user/*.cruds";
    let provenance = stage.neighbours().ehr.resource("Provenance", "amara-provenance").unwrap();
    let event = json!({"resourceType": "AuditEvent", "id": "e", "recorded": "2026-01-01T00:00:00Z"});
    stage.neighbours().ehr.put(event.clone());
    stage.asked();
    for (below, body) in [("/Provenance/amara-provenance", &provenance), ("/AuditEvent/e", &event)] {
        for (method, body) in [
            (Method::PUT, body),
            (Method::PATCH, &json!([{"op": "remove", "path": "/recorded"}])),
            (Method::DELETE, &Value::Null),
        ] {
            let reply = stage.ask_with(scope, method.clone(), below, body).await;
            assert_eq!(reply.status, 403, "{method} {below}: {}", reply.text());
            assert!(reply.text().contains("unsupported-interaction"), "{}", reply.text());
        }
    }
    assert_eq!(stage.asked(), Vec::<String>::new());
    assert_eq!(stage.treatment("/Provenance/amara-provenance").await.status, 200);
}
