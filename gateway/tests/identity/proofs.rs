//! DPoP (RFC 9449 section 4.3), row 36: every check, each beside the proof that passes.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use fhirwall::identify::dpop::Nonces;
use fhirwall::identify::error::{IdentifyError, ProofFault, TokenFault};
use fhirwall::identify::jwk::thumbprint;
use fhirwall::identify::partners::Mtls;
use serde_json::{Value, json};
use time::Duration;

use crate::world::{CLIENT, Draft, NOW, TestKey, World, b64, now};

static DEVICE: LazyLock<TestKey> = LazyLock::new(|| TestKey::es256("device"));
static THIEF: LazyLock<TestKey> = LazyLock::new(|| TestKey::es256("thief"));

struct Proof {
    header: Value,
    claims: Value,
    key: &'static TestKey,
    finish: fn(String) -> String,
}

fn public(key: &TestKey) -> Value {
    let mut jwk = key.jwk.clone();
    for member in ["kid", "use"] {
        jwk.as_object_mut().unwrap().remove(member);
    }
    jwk
}

/// A DPoP-bound token of a public client.
fn bound(key: &TestKey) -> Draft {
    let jkt = thumbprint(key.jwk.as_object().unwrap()).unwrap();
    Draft {
        peer: None,
        authorization: |token| vec![format!("DPoP {token}")],
        ..Draft::new().claim("cnf", json!({"jkt": jkt}))
    }
}

fn proof(token: &str, jti: &str) -> Proof {
    Proof {
        header: json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": public(&DEVICE)}),
        claims: json!({"jti": jti, "htm": "GET", "htu": "https://fhir.example.org/fhir/Observation", "iat": NOW,
            "ath": b64(digest::digest(&digest::SHA256, token.as_bytes()).as_ref())}),
        key: &DEVICE,
        finish: |proof| proof,
    }
}

fn world(nonces: Option<Nonces>) -> World {
    let world = World::with(|_| (), nonces);
    world.change_partner(CLIENT, |entry| entry.mtls = Mtls::None { unbound_tokens_until: None });
    world
}

async fn present(world: &World, jti: &str, change: impl Fn(&mut Proof)) -> Option<IdentifyError> {
    let draft = bound(&DEVICE);
    // ECDSA signatures differ each time: the token of the proof is the token of the request.
    let token = draft.token();
    let mut proof = proof(&token, jti);
    change(&mut proof);
    let text = (proof.finish)(proof.key.sign(&proof.header, &proof.claims));
    world.identify_token(&draft, &token, vec![("dpop", text)], now()).await.err()
}

#[tokio::test]
async fn every_check_of_a_proof_is_made() {
    type Change = fn(&mut Proof);
    let world = world(None);
    let cases: Vec<(&str, Change, Option<ProofFault>)> = vec![
        ("sound", |_| (), None),
        ("typ JWT", |p| p.header["typ"] = json!("JWT"), Some(ProofFault::Header)),
        ("typ missing", |p| drop(p.header.as_object_mut().unwrap().remove("typ")), Some(ProofFault::Header)),
        ("alg none", |p| p.header["alg"] = json!("none"), Some(ProofFault::Unreadable)),
        ("alg HS256", |p| p.header["alg"] = json!("HS256"), Some(ProofFault::Unreadable)),
        ("alg of another key", |p| p.header["alg"] = json!("ES384"), Some(ProofFault::Key)),
        ("no jwk", |p| drop(p.header.as_object_mut().unwrap().remove("jwk")), Some(ProofFault::Unreadable)),
        ("private jwk", |p| p.header["jwk"]["d"] = json!("AAAA"), Some(ProofFault::Key)),
        ("symmetric jwk", |p| p.header["jwk"] = json!({"kty": "oct", "k": "AAAA"}), Some(ProofFault::Key)),
        ("jku", |p| p.header["jku"] = json!("https://evil.example"), Some(ProofFault::Unreadable)),
        ("signed by another key", |p| p.key = &THIEF, Some(ProofFault::Signature)),
        (
            "key of a thief",
            |p| {
                p.key = &THIEF;
                p.header["jwk"] = public(&THIEF);
            },
            Some(ProofFault::Binding),
        ),
        ("htm another", |p| p.claims["htm"] = json!("POST"), Some(ProofFault::Method)),
        ("htm in other case", |p| p.claims["htm"] = json!("get"), Some(ProofFault::Method)),
        (
            "htu another path",
            |p| p.claims["htu"] = json!("https://fhir.example.org/fhir/Patient"),
            Some(ProofFault::Uri),
        ),
        (
            "htu the upstream",
            |p| p.claims["htu"] = json!("https://ehr.internal/fhir/Observation"),
            Some(ProofFault::Uri),
        ),
        (
            "htu plain http",
            |p| p.claims["htu"] = json!("http://fhir.example.org/fhir/Observation"),
            Some(ProofFault::Uri),
        ),
        (
            "htu another port",
            |p| p.claims["htu"] = json!("https://fhir.example.org:8443/fhir/Observation"),
            Some(ProofFault::Uri),
        ),
        (
            "htu with another path case",
            |p| p.claims["htu"] = json!("https://fhir.example.org/fhir/observation"),
            Some(ProofFault::Uri),
        ),
        (
            "htu with an encoded slash",
            |p| p.claims["htu"] = json!("https://fhir.example.org/fhir%2FObservation"),
            Some(ProofFault::Uri),
        ),
        ("htu missing", |p| drop(p.claims.as_object_mut().unwrap().remove("htu")), Some(ProofFault::Uri)),
        (
            "htu with a query and a fragment",
            |p| p.claims["htu"] = json!("https://fhir.example.org/fhir/Observation?a=b#c"),
            None,
        ),
        (
            "htu not normalised",
            |p| p.claims["htu"] = json!("HTTPS://FHIR.example.org:443/fhir/x/../%4Fbservation"),
            None,
        ),
        ("too old", |p| p.claims["iat"] = json!(NOW - 61), Some(ProofFault::Time)),
        ("old", |p| p.claims["iat"] = json!(NOW - 60), None),
        ("from the future", |p| p.claims["iat"] = json!(NOW + 31), Some(ProofFault::Time)),
        ("a little ahead", |p| p.claims["iat"] = json!(NOW + 30), None),
        ("iat a text", |p| p.claims["iat"] = json!("1800000000"), Some(ProofFault::Time)),
        ("ath of another token", |p| p.claims["ath"] = json!(b64(&[1; 32])), Some(ProofFault::TokenHash)),
        ("ath missing", |p| drop(p.claims.as_object_mut().unwrap().remove("ath")), Some(ProofFault::TokenHash)),
        ("jti missing", |p| drop(p.claims.as_object_mut().unwrap().remove("jti")), Some(ProofFault::Unreadable)),
        ("not a JWT", |p| p.finish = |_| "x".to_owned(), Some(ProofFault::Unreadable)),
        ("two proofs in one value", |p| p.finish = |proof| format!("{proof}, {proof}"), Some(ProofFault::Unreadable)),
    ];
    for (at, (name, change, expected)) in cases.into_iter().enumerate() {
        let got = present(&world, &format!("case-{at}"), change).await;
        assert_eq!(got, expected.map(IdentifyError::InvalidProof), "{name}");
    }
}

#[tokio::test]
async fn a_proof_counts_once() {
    let world = world(None);
    assert_eq!(present(&world, "same", |_| ()).await, None);
    assert_eq!(present(&world, "same", |_| ()).await, Some(IdentifyError::InvalidProof(ProofFault::Replayed)));
    assert_eq!(present(&world, "another", |_| ()).await, None);
}

#[tokio::test]
async fn the_proof_must_be_there_once() {
    let world = world(None);
    let draft = bound(&DEVICE);
    let token = draft.token();
    let text = DEVICE.sign(&proof(&token, "x").header, &proof(&token, "x").claims);
    let missing = world.identify_token(&draft, &token, Vec::new(), now()).await.err();
    assert_eq!(missing, Some(IdentifyError::InvalidProof(ProofFault::Missing)));
    let twice = vec![("dpop", text.clone()), ("dpop", text.clone())];
    let twice = world.identify_token(&draft, &token, twice, now()).await.err();
    assert_eq!(twice, Some(IdentifyError::InvalidProof(ProofFault::Several)));
    let as_bearer = Draft { authorization: |token| vec![format!("Bearer {token}")], ..bound(&DEVICE) };
    let as_bearer = world.identify_token(&as_bearer, &token, vec![("dpop", text.clone())], now()).await.err();
    assert_eq!(as_bearer, Some(IdentifyError::InvalidToken(TokenFault::KeyBinding)));
    let subject = world.identify_token(&draft, &token, vec![("dpop", text)], now()).await.unwrap();
    assert!(subject.authentication.sender_constrained && !subject.authentication.mtls);
}

#[tokio::test]
async fn a_nonce_is_asked_for_and_lives_for_two_periods() {
    let nonces = || Nonces::new(&[9; 32]);
    let world = world(Some(nonces()));
    let current = nonces().current(now());
    let needed = Some(IdentifyError::NonceNeeded { nonce: current.clone() });
    assert_eq!(present(&world, "none", |_| ()).await, needed);
    assert_eq!(present(&world, "wrong", |p| p.claims["nonce"] = json!("guess")).await, needed);
    assert_eq!(present(&world, "right", |p| p.claims["nonce"] = json!(current)).await, None);
    let before = nonces().current(now() - Duration::seconds(120));
    assert_eq!(present(&world, "before", |p| p.claims["nonce"] = json!(before)).await, None);
    let stale = nonces().current(now() - Duration::seconds(240));
    assert_eq!(present(&world, "stale", |p| p.claims["nonce"] = json!(stale)).await, needed);
    let other = Nonces::new(&[8; 32]).current(now());
    assert_eq!(present(&world, "other key", |p| p.claims["nonce"] = json!(other)).await, needed);
}
