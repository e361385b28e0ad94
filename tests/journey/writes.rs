//! Writes: judged on both images, versioned, and never at the cost of a label.

use std::time::Duration;

use fhirwall::demo::client::Reply;
use fhirwall::demo::ehr::Misbehaviour;
use http::Method;
use serde_json::{Value, json};

use crate::Stage;

const JSON: &str = "application/fhir+json";
const PATCH: &str = "application/json-patch+json";

impl Stage {
    /// A token of the treatment app that may write what the app is registered for.
    pub(crate) fn writing_token(&self) -> String {
        let app = &self.neighbours().treatment;
        let mut grant = self.neighbours().grant(app);
        grant.scope = "user/*.rs user/Observation.cud user/Condition.cud".to_owned();
        self.neighbours().issuer.mint(&grant).unwrap()
    }

    async fn write(&self, method: Method, below: &str, kind: &str, more: &[(&str, &str)], body: &Value) -> Reply {
        let authorization = format!("Bearer {}", self.writing_token());
        let mut headers = vec![("authorization", authorization.as_str())];
        if !body.is_null() {
            headers.push(("content-type", kind));
        }
        headers.extend_from_slice(more);
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        self.neighbours().treatment.client.send(method, &self.url(below), &headers, body).await.unwrap()
    }

    fn stored(&self, kind: &str, id: &str) -> Value {
        self.neighbours().ehr.resource(kind, id).expect("stored")
    }
}

fn codes(resource: &Value) -> Vec<String> {
    let labels = resource["meta"]["security"].as_array().cloned().unwrap_or_default();
    labels.iter().map(|label| label["code"].as_str().unwrap_or_default().to_owned()).collect()
}

fn observation(patient: &str) -> Value {
    json!({
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": format!("Patient/{patient}")},
        "valueQuantity": {"value": 72, "unit": "/min"},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_is_recorded_before_and_located_after() {
    let stage = Stage::set().await;
    let reply = stage.write(Method::POST, "/Observation", JSON, &[], &observation("amara-osei")).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let location = reply.header("location").to_owned();
    assert!(location.starts_with(&stage.url("/Observation/")), "{location}");
    assert_eq!(reply.json()["resourceType"], "Observation");
    let below = location.strip_prefix(&stage.neighbours().base_url()).unwrap();
    let below = below.split("/_history/").next().unwrap();
    assert_eq!(stage.treatment(below).await.status, 200);
    let minimal = stage
        .write(Method::POST, "/Observation", JSON, &[("prefer", "return=minimal")], &observation("amara-osei"))
        .await;
    assert_eq!(minimal.status, 201);
    assert_eq!(minimal.text(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_without_its_scope_never_reaches_the_ehr() {
    let stage = Stage::set().await;
    let app = &stage.neighbours().treatment;
    let headers = [("authorization", format!("Bearer {}", app.token)), ("content-type", JSON.to_owned())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let body = serde_json::to_vec(&observation("amara-osei")).unwrap();
    let reply = app.client.send(Method::POST, &stage.url("/Observation"), &headers, body).await.unwrap();
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(reply.header("www-authenticate").contains("insufficient_scope"));
    assert_eq!(stage.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patients_app_writes_into_its_own_chart_alone() {
    let stage = Stage::set().await;
    let app = &stage.neighbours().patient;
    let send = async |patient: &str| {
        let headers = [("authorization", format!("Bearer {}", app.token)), ("content-type", JSON.to_owned())];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let body = serde_json::to_vec(&observation(patient)).unwrap();
        app.client.send(Method::POST, &stage.url("/Observation"), &headers, body).await.unwrap()
    };
    let own = send("amara-osei").await;
    assert_eq!(own.status, 201, "{}", own.text());
    stage.asked();
    let foreign = send("bruno-vale").await;
    assert_eq!(foreign.status, 403, "{}", foreign.text());
    assert_eq!(stage.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_puts_stored_labels_back_and_carries_the_judged_version() {
    let stage = Stage::set().await;
    let mut condition = stage.treatment("/Condition/amara-opioid-use").await.json();
    let before = codes(&stage.stored("Condition", "amara-opioid-use"));
    assert!(before.contains(&"42CFRPart2".to_owned()), "{before:?}");
    condition["meta"].as_object_mut().unwrap().remove("security");
    condition["note"] = json!([{"text": "seen today"}]);
    stage.neighbours().ehr.forget();
    let reply = stage.write(Method::PUT, "/Condition/amara-opioid-use", JSON, &[], &condition).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let stored = stage.stored("Condition", "amara-opioid-use");
    assert_eq!(stored["note"][0]["text"], "seen today");
    for code in &before {
        assert!(codes(&stored).contains(code), "{code} was washed off");
    }
    let seen = stage.neighbours().ehr.log();
    let put = seen.iter().find(|request| request.method == Method::PUT).unwrap();
    assert!(put.headers.contains_key("if-match"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_adds_no_label_and_may_claim_a_profile() {
    let stage = Stage::set().await;
    let security =
        json!({"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}]});
    for meta in [security, json!({"tag": [{"system": "urn:x", "code": "program"}]})] {
        let mut labelled = observation("amara-osei");
        labelled["meta"] = meta;
        stage.neighbours().ehr.forget();
        let reply = stage.write(Method::POST, "/Observation", JSON, &[], &labelled).await;
        assert_eq!(reply.status, 403, "{}", reply.text());
        assert_eq!(stage.asked(), Vec::<String>::new());
    }
    let mut profiled = observation("amara-osei");
    profiled["meta"] = json!({"profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-heart-rate"]});
    let reply = stage.write(Method::POST, "/Observation", JSON, &[], &profiled).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_cannot_remove_or_lower_a_label() {
    let stage = Stage::set().await;
    for patch in [
        json!([{"op": "remove", "path": "/meta/security"}]),
        json!([{"op": "replace", "path": "/meta/security", "value": []}]),
        json!([{"op": "replace", "path": "/meta", "value": {}}]),
        json!([{"op": "remove", "path": "/meta/security/0"}]),
    ] {
        let reply = stage.write(Method::PATCH, "/Condition/amara-opioid-use", PATCH, &[], &patch).await;
        assert_eq!(reply.status, 403, "{patch}: {}", reply.text());
    }
    assert!(codes(&stage.stored("Condition", "amara-opioid-use")).contains(&"42CFRPart2".to_owned()));
    let note = json!([{"op": "add", "path": "/note", "value": [{"text": "patched"}]}]);
    let reply = stage.write(Method::PATCH, "/Condition/amara-opioid-use", PATCH, &[], &note).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(stage.stored("Condition", "amara-opioid-use")["note"][0]["text"], "patched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_between_judging_and_writing_is_caught() {
    let stage = Stage::set().await;
    let condition = stage.treatment("/Condition/amara-hypertension").await.json();
    let stale = stage
        .write(Method::PUT, "/Condition/amara-hypertension", JSON, &[("if-match", "W/\"no-such-version\"")], &condition)
        .await;
    assert_eq!(stale.status, 412, "{}", stale.text());
    // The EHR answers the look at the pre-image late; meanwhile somebody else writes.
    stage.neighbours().ehr.misbehave(Some("Condition"), Misbehaviour::Slow(Duration::from_millis(400)));
    stage.neighbours().ehr.forget();
    let writing = stage.write(Method::PUT, "/Condition/amara-hypertension", JSON, &[], &condition);
    let meddling = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        stage.neighbours().ehr.behave();
        let mut theirs = stage.stored("Condition", "amara-hypertension");
        theirs["meta"]["security"] = json!([
            {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
        ]);
        stage.neighbours().ehr.put(theirs);
    };
    let (reply, ()) = tokio::join!(writing, meddling);
    let log = stage.neighbours().ehr.log();
    let puts = log.iter().filter(|request| request.method == Method::PUT).count();
    assert_eq!(puts, 2, "the first is refused by the EHR (412), the record is judged again: {log:?}");
    assert!([200, 404].contains(&reply.status.as_u16()), "{}", reply.text());
    let stored = stage.stored("Condition", "amara-hypertension");
    assert!(codes(&stored).contains(&"R".to_owned()), "the label that came in between stays: {stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_partner_cannot_probe_by_writing() {
    let stage = Stage::set().await;
    let app = &stage.neighbours().research;
    for id in ["amara-opioid-use", "amara-hypertension", "there-is-none"] {
        let url = stage.url(&format!("/Condition/{id}"));
        let authorization = format!("Bearer {}", app.token);
        let reply =
            app.client.send(Method::DELETE, &url, &[("authorization", &authorization)], Vec::new()).await.unwrap();
        assert_eq!(reply.status, 403, "{id}");
        assert_eq!(stage.asked(), Vec::<String>::new(), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_what_is_there_and_what_is_not() {
    let stage = Stage::set().await;
    let created = stage.write(Method::POST, "/Observation", JSON, &[], &observation("amara-osei")).await;
    let id = created.json()["id"].as_str().unwrap().to_owned();
    let gone = stage.write(Method::DELETE, &format!("/Observation/{id}"), JSON, &[], &Value::Null).await;
    assert_eq!(gone.status, 204, "{}", gone.text());
    let again = stage.write(Method::DELETE, &format!("/Observation/{id}"), JSON, &[], &Value::Null).await;
    assert_eq!(again.status, 404);
}
