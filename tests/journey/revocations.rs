//! Revocation by token, user, partner, and at the patient's direction: on the next request, on record, nobody else.

use fhirwall::audit::Kind;
use fhirwall::audit::read::{Filter, entries};
use fhirwall::demo::client::Reply;
use http::Method;
use serde_json::{Value, json};

use crate::Stage;

impl Stage {
    pub(crate) async fn order(&self, body: &str, header: bool) -> Reply {
        let url = format!("{}/revocations", self.neighbours().admin_url());
        let headers: &[(&str, &str)] = if header { &[(fhirwall::admin::ACT_HEADER, "1")] } else { &[] };
        let client = self.neighbours().anonymous().unwrap();
        client.send(Method::POST, &url, headers, body.to_owned()).await.unwrap()
    }

    async fn patient_app(&self, below: &str) -> Reply {
        let app = &self.neighbours().patient;
        app.client.get(&self.url(below), &app.token).await.unwrap()
    }
}

/// A claim of a token.
pub(crate) fn claim(token: &str, name: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).unwrap();
    serde_json::from_slice::<Value>(&bytes).unwrap()[name].take()
}

#[track_caller]
fn is_revoked(reply: &Reply) {
    assert_eq!(reply.status, 401, "{}", reply.text());
    assert!(reply.header("www-authenticate").contains("error_description=\"revoked\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_tokens_from_the_next_request_on_and_no_others() {
    for name in ["by token", "by user", "by partner"] {
        let stage = Stage::set().await;
        let issuer = stage.neighbours().issuer.issuer();
        let what = match name {
            "by token" => json!({"token": {"issuer": issuer, "id": claim(&stage.neighbours().treatment.token, "jti")}}),
            "by user" => json!({"user": {"issuer": issuer, "sub": "noor"}}),
            _ => json!({"partner": {"client_id": "recovery-path"}}),
        };
        assert_eq!(stage.treatment("/Patient/bruno-vale").await.status, 200, "{name}: before");
        let body = json!({"what": what, "by": "security desk", "reason": "lost laptop"}).to_string();
        let ordered = stage.order(&body, true).await;
        assert_eq!(ordered.status, 204, "{name}: {}", ordered.text());
        is_revoked(&stage.treatment("/Patient/bruno-vale").await);
        assert_eq!(stage.patient_app("/Patient/amara-osei").await.status, 200, "{name}: the neighbour");
        let recorded = entries(&stage.neighbours().audit_dir(), None, &Filter::default()).unwrap();
        let acts: Vec<_> = recorded.iter().filter(|entry| entry.kind == Kind::Token).collect();
        assert_eq!(acts.len(), 1, "{name}");
        assert_eq!(acts[0].body.as_ref().unwrap()["by"], "security desk");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_patient_s_direction_one_app_loses_her_record_and_no_other_app_does() {
    let stage = Stage::set().await;
    assert_eq!(stage.patient_app("/Patient/amara-osei").await.status, 200);
    let what = json!({"grant": {"client_id": "pocket-chart", "patient": "amara-osei"}});
    let body = json!({"what": what, "by": "Amara Osei, by phone", "reason": "patient's direction"}).to_string();
    assert_eq!(stage.order(&body, true).await.status, 204);
    is_revoked(&stage.patient_app("/Patient/amara-osei").await);
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200, "her clinician's app");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_says_too_little_does_nothing() {
    let stage = Stage::set().await;
    let what = json!({"partner": {"client_id": "recovery-path"}});
    let whole = json!({"what": what, "by": "desk", "reason": "test"});
    assert_eq!(
        stage.order(&whole.to_string(), false).await.status,
        403,
        "a form of another site cannot set the header"
    );
    for broken in [
        json!({}),
        json!({"what": what, "by": "desk"}),
        json!({"what": what, "by": " ", "reason": "test"}),
        json!({"what": {"partner": {}}, "by": "desk", "reason": "test"}),
        json!({"what": {"everybody": {}}, "by": "desk", "reason": "test"}),
        json!({"what": what, "by": "desk", "reason": "test", "until": "never"}),
    ] {
        let reply = stage.order(&broken.to_string(), true).await;
        assert_eq!(reply.status, 400, "{broken}");
        assert!(reply.text().contains("client_id"), "{}", reply.text());
    }
    assert_eq!(stage.treatment("/Patient/bruno-vale").await.status, 200);
}
