//! Opaque tokens by introspection (RFC 7662).

use std::sync::Arc;
use std::time::Duration as StdDuration;

use fhirwall::identify::error::{IdentifyError, TokenFault};
use fhirwall::identify::issuer::{IntrospectionConfig, IssuerConfig};
use serde_json::{Value, json};
use time::Duration;

use crate::world::{BASE, CLIENT, Draft, ISSUER, NOW, World, b64, certificate, now};

const OPAQUE: &str = "Xk3-opaque_token~1";

fn endpoint() -> String {
    format!("{ISSUER}/introspect")
}

fn introspecting(config: &mut IssuerConfig) {
    config.introspection = Some(IntrospectionConfig {
        endpoint: endpoint().parse().unwrap(),
        client_id: "gateway".to_owned(),
        client_secret: "a secret".to_owned(),
        cache: StdDuration::from_secs(20),
    });
}

fn active() -> Value {
    json!({"active": true, "scope": "patient/Observation.rs", "client_id": CLIENT, "sub": "user-1", "aud": BASE,
        "exp": NOW + 300, "iat": NOW, "token_type": "Bearer", "patient": "a", "fhirUser": "Practitioner/p"})
}

fn opaque() -> Draft {
    Draft { finish: |_| OPAQUE.to_owned(), ..Draft::new() }
}

fn world(answer: Value) -> World {
    let world = World::with(introspecting, None);
    world.fetch.set(&endpoint(), answer);
    world
}

#[tokio::test]
async fn an_active_token_is_known_by_what_its_issuer_says() {
    let world = world(active());
    let subject = world.identify(&opaque()).await.unwrap();
    assert_eq!((&*subject.issuer, &*subject.sub, subject.patient.unwrap().as_str()), (ISSUER, "user-1", "a"));
    assert_eq!(subject.scopes.join(" "), "patient/Observation.rs");
    assert!(!subject.token_id.contains(OPAQUE), "a digest stands for the token");
    let asked = Arc::clone(&world.fetch);
    let requests = asked.requests.lock().unwrap();
    assert!(requests.iter().any(|(url, body)| *url == endpoint() && body.contains("token=Xk3-opaque_token%7E1")));
}

#[tokio::test]
async fn an_answer_is_reused_for_its_time_and_never_beyond_the_token() {
    let world = world(active());
    for second in 0..20 {
        assert!(world.identify_at(&opaque(), now() + Duration::seconds(second)).await.is_ok());
    }
    assert_eq!(world.fetch.count(), 1);
    assert!(world.identify_at(&opaque(), now() + Duration::seconds(20)).await.is_ok());
    assert_eq!(world.fetch.count(), 2);
    world.fetch.set(&endpoint(), json!({"active": false}));
    let revoked = world.identify_at(&opaque(), now() + Duration::seconds(40)).await.err();
    assert_eq!(revoked, Some(IdentifyError::InvalidToken(TokenFault::Inactive)));
}

#[tokio::test]
async fn what_the_issuer_does_not_vouch_for_is_refused() {
    let with = |name: &str, value: Value| {
        let mut answer = active();
        answer[name] = value;
        answer
    };
    let invalid = IdentifyError::InvalidToken;
    for (name, answer, expected) in [
        ("inactive", json!({"active": false}), invalid(TokenFault::Inactive)),
        ("inactive with claims", with("active", json!(false)), invalid(TokenFault::Inactive)),
        ("active a text", with("active", json!("true")), IdentifyError::IssuerUnavailable),
        ("not JSON of this kind", json!([1]), IdentifyError::IssuerUnavailable),
        ("expired", with("exp", json!(NOW - 60)), invalid(TokenFault::Expired)),
        ("no exp", with("exp", Value::Null), invalid(TokenFault::Claims)),
        ("another audience", with("aud", json!(["https://other.example"])), invalid(TokenFault::Audience)),
        ("no audience", with("aud", Value::Null), invalid(TokenFault::Audience)),
        ("another issuer", with("iss", json!("https://other.example")), invalid(TokenFault::Issuer)),
        ("no client", with("client_id", Value::Null), invalid(TokenFault::Claims)),
        ("stranger", with("client_id", json!("nobody")), IdentifyError::PartnerUnknown),
        ("bound elsewhere", with("cnf", json!({"x5t#S256": b64(&[1; 32])})), invalid(TokenFault::CertificateBinding)),
    ] {
        assert_eq!(world(answer).identify(&opaque()).await.err(), Some(expected), "{name}");
    }
    let peer = certificate(CLIENT);
    let bound = with("cnf", json!({"x5t#S256": peer.x5t_s256()}));
    assert!(world(bound).identify(&Draft { peer: Some(peer), ..opaque() }).await.is_ok());
}

#[tokio::test]
async fn without_an_introspecting_issuer_or_with_the_issuer_away_there_is_no_caller() {
    let refused = World::new().identify(&opaque()).await.err();
    assert_eq!(refused, Some(IdentifyError::InvalidToken(TokenFault::Unreadable)));
    let away = World::with(introspecting, None);
    assert_eq!(away.identify(&opaque()).await.err(), Some(IdentifyError::IssuerUnavailable));
}
