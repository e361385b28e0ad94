//! Attacks on tokens (rows 34 to 38 of the attack cases), each beside the neighbour that must pass.

use fhirwall::identify::error::{IdentifyError, TokenFault};
use fhirwall::identify::partners::{CertificateMatch, Mtls};
use fhirwall_policy::purpose::PurposeOfUse;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use time::Duration;

use crate::world::{
    BASE, CLIENT, Draft, ED25519, ES256, ES384, FOREIGN, GATEWAY, ISSUER, NOW, OTHER_ISSUER, RSA, SECOND, World, b64,
    certificate, now,
};

const fn bad(fault: TokenFault) -> IdentifyError {
    IdentifyError::InvalidToken(fault)
}

type Change = fn(Draft) -> Draft;

/// One attack, its answer, and the nearest thing that is right.
struct Case(&'static str, Change, IdentifyError, Change);

const SAME: Change = |draft| draft;

fn algorithms() -> Vec<Case> {
    vec![
        Case(
            "alg none, no signature",
            |d| Draft { finish: |t| format!("{}.", unsigned(&t, "none")), ..d },
            bad(TokenFault::Unreadable),
            SAME,
        ),
        Case("alg none, with a signature", |d| d.header("alg", json!("none")), bad(TokenFault::Algorithm), SAME),
        Case("alg NONE", |d| d.header("alg", json!("NONE")), bad(TokenFault::Algorithm), SAME),
        Case("alg HS256", |d| d.header("alg", json!("HS256")), bad(TokenFault::Algorithm), SAME),
        Case(
            "HS256 keyed with the public key",
            |d| Draft { finish: hs256_with_public_key, ..d },
            bad(TokenFault::Algorithm),
            |d| d.signed_by(&RSA),
        ),
        Case("alg missing", |d| d.header("alg", Value::Null), bad(TokenFault::Algorithm), |d| d.signed_by(&ES384)),
        Case("alg a number", |d| d.header("alg", json!(256)), bad(TokenFault::Header), |d| d.signed_by(&ED25519)),
        Case("alg in other case", |d| d.header("alg", json!("es256")), bad(TokenFault::Algorithm), SAME),
        Case(
            "an RSA key for an EC algorithm",
            |d| d.header("kid", json!("rs-1")),
            bad(TokenFault::Key),
            |d| d.signed_by(&RSA),
        ),
        Case(
            "an EC key of another curve",
            |d| d.header("kid", json!("es384-1")),
            bad(TokenFault::Key),
            |d| d.signed_by(&ES384),
        ),
        Case(
            "RS256 said, PS256 signed",
            |d| Draft { algorithm: Some(Algorithm::PS256), ..d.signed_by(&RSA) },
            bad(TokenFault::Signature),
            |d| Draft { algorithm: Some(Algorithm::PS256), ..d.signed_by(&RSA).header("alg", json!("PS256")) },
        ),
    ]
}

fn headers() -> Vec<Case> {
    vec![
        Case("jku", |d| d.header("jku", json!("https://evil.example/jwks")), bad(TokenFault::Header), SAME),
        Case("x5u", |d| d.header("x5u", json!("https://evil.example/c")), bad(TokenFault::Header), SAME),
        Case("x5c", |d| d.header("x5c", json!(["AA"])), bad(TokenFault::Header), |d| d.header("x5t", json!("AA"))),
        Case(
            "jwk",
            |d| {
                let jwk = FOREIGN.jwk.clone();
                d.header("jwk", jwk)
            },
            bad(TokenFault::Header),
            SAME,
        ),
        Case("crit", |d| d.header("crit", json!(["exp"])), bad(TokenFault::Header), SAME),
        Case("b64 false", |d| d.header("b64", json!(false)), bad(TokenFault::Header), SAME),
        Case("zip", |d| d.header("zip", json!("DEF")), bad(TokenFault::Header), SAME),
        Case("kid a path", |d| d.header("kid", json!("../../dev/null")), bad(TokenFault::Header), SAME),
        Case("kid a URL", |d| d.header("kid", json!("https://evil.example/k")), bad(TokenFault::Header), SAME),
        Case("kid an absolute path", |d| d.header("kid", json!("/dev/null")), bad(TokenFault::Header), SAME),
        Case("kid with SQL", |d| d.header("kid", json!("x' OR '1'='1")), bad(TokenFault::Header), SAME),
        Case("kid a list", |d| d.header("kid", json!(["es-1"])), bad(TokenFault::Header), SAME),
        Case("kid empty", |d| d.header("kid", json!("")), bad(TokenFault::Header), SAME),
        Case("kid unknown", |d| d.header("kid", json!("es-2")), bad(TokenFault::Key), SAME),
        Case(
            "no kid and two keys that fit",
            |d| d.signed_by(&ES384).header("kid", json!("none-such")),
            bad(TokenFault::Key),
            |d| d.signed_by(&ES384).header("kid", Value::Null),
        ),
        Case(
            "typ missing",
            |d| d.header("typ", Value::Null),
            bad(TokenFault::Type),
            |d| d.header("typ", json!("application/at+jwt")),
        ),
        Case("typ JWT", |d| d.header("typ", json!("JWT")), bad(TokenFault::Type), |d| d.header("typ", json!("AT+JWT"))),
        Case("typ dpop+jwt", |d| d.header("typ", json!("dpop+jwt")), bad(TokenFault::Type), SAME),
        Case("typ logout+jwt", |d| d.header("typ", json!("logout+jwt")), bad(TokenFault::Type), SAME),
    ]
}

fn signatures() -> Vec<Case> {
    vec![
        Case(
            "signature of another key with the same kid",
            |d| Draft { key: &FOREIGN, ..d },
            bad(TokenFault::Signature),
            SAME,
        ),
        Case(
            "payload changed after signing",
            |d| Draft { finish: changed_payload, ..d },
            bad(TokenFault::Signature),
            SAME,
        ),
        Case(
            "signature cut short",
            |d| Draft { finish: |t| t[..t.len() - 4].to_owned(), ..d },
            bad(TokenFault::Signature),
            SAME,
        ),
        Case(
            "signature absent",
            |d| Draft { finish: |t| t[..=t.rfind('.').unwrap()].to_owned(), ..d },
            bad(TokenFault::Unreadable),
            SAME,
        ),
        Case(
            "two signatures",
            |d| Draft { finish: |t| format!("{t}.{}", &t[t.rfind('.').unwrap() + 1..]), ..d },
            bad(TokenFault::Unreadable),
            SAME,
        ),
        Case(
            "zero signature",
            |d| Draft { finish: |t| format!("{}.{}", &t[..t.rfind('.').unwrap()], b64(&[0; 64])), ..d },
            bad(TokenFault::Signature),
            SAME,
        ),
        Case("padded base64", |d| Draft { finish: |t| format!("{t}=="), ..d }, bad(TokenFault::Signature), SAME),
        Case(
            "encrypted form, five parts",
            |d| Draft { finish: |t| format!("{t}.a.b"), ..d },
            bad(TokenFault::Unreadable),
            SAME,
        ),
        Case(
            "too long",
            |d| d.claim("padding", json!("x".repeat(8_000))),
            bad(TokenFault::TooLong),
            |d| d.claim("padding", json!("x".repeat(4_000))),
        ),
        Case("duplicate claim", |d| Draft { finish: |_| duplicate_audience(), ..d }, bad(TokenFault::Unreadable), SAME),
        Case("payload not an object", |d| Draft { claims: json!([1]), ..d }, bad(TokenFault::Unreadable), SAME),
    ]
}

fn issuers_and_audiences() -> Vec<Case> {
    vec![
        Case(
            "iss with a trailing slash",
            |d| d.claim("iss", json!(format!("{ISSUER}/"))),
            bad(TokenFault::Issuer),
            SAME,
        ),
        Case("iss in other case", |d| d.claim("iss", json!(ISSUER.to_uppercase())), bad(TokenFault::Issuer), SAME),
        Case("iss missing", |d| d.claim("iss", Value::Null), bad(TokenFault::Issuer), SAME),
        Case("iss a list", |d| d.claim("iss", json!([ISSUER])), bad(TokenFault::Issuer), SAME),
        Case("unknown issuer", |d| d.claim("iss", json!("https://evil.example")), bad(TokenFault::Issuer), SAME),
        Case(
            "our key under another issuer's name",
            |d| d.claim("iss", json!(OTHER_ISSUER)),
            bad(TokenFault::Signature),
            |d| Draft { key: &FOREIGN, ..d.claim("iss", json!(OTHER_ISSUER)) },
        ),
        Case("aud missing", |d| d.claim("aud", Value::Null), bad(TokenFault::Audience), SAME),
        Case(
            "aud another",
            |d| d.claim("aud", json!("https://fhir.example.org/other")),
            bad(TokenFault::Audience),
            SAME,
        ),
        Case("aud a prefix", |d| d.claim("aud", json!("https://fhir.example.org")), bad(TokenFault::Audience), SAME),
        Case(
            "aud with a trailing slash",
            |d| d.claim("aud", json!(format!("{BASE}/"))),
            bad(TokenFault::Audience),
            SAME,
        ),
        Case(
            "aud a list without us",
            |d| d.claim("aud", json!(["account", "https://a.example"])),
            bad(TokenFault::Audience),
            |d| d.claim("aud", json!(["account", BASE])),
        ),
        Case(
            "aud an empty list",
            |d| d.claim("aud", json!([])),
            bad(TokenFault::Audience),
            |d| d.claim("aud", json!([BASE])),
        ),
        Case("aud a list with a number", |d| d.claim("aud", json!([BASE, 1])), bad(TokenFault::Audience), SAME),
        Case(
            "aud our own, for another of our endpoints",
            |d| Draft { audience: Some(SECOND.to_owned()), ..d },
            bad(TokenFault::Audience),
            |d| Draft { audience: Some(BASE.to_owned()), ..d },
        ),
        Case(
            "aud another endpoint of ours, and the gateway",
            |d| Draft { audience: Some(SECOND.to_owned()), ..d.claim("aud", json!([BASE, GATEWAY])) },
            bad(TokenFault::Audience),
            |d| Draft { audience: Some(SECOND.to_owned()), ..d.claim("aud", json!([GATEWAY])) },
        ),
    ]
}

fn times() -> Vec<Case> {
    vec![
        Case(
            "expired",
            |d| d.claim("exp", json!(NOW - 30)),
            bad(TokenFault::Expired),
            |d| d.claim("exp", json!(NOW - 29)),
        ),
        Case("exp missing", |d| d.claim("exp", Value::Null), bad(TokenFault::Claims), SAME),
        Case(
            "exp a text",
            |d| d.claim("exp", json!("1800000300")),
            bad(TokenFault::Claims),
            |d| d.claim("exp", json!(NOW as f64 + 0.5)),
        ),
        Case("exp beyond time", |d| d.claim("exp", json!(1e300)), bad(TokenFault::Claims), SAME),
        Case("exp negative", |d| d.claim("exp", json!(-1)), bad(TokenFault::Expired), SAME),
        Case(
            "nbf in the future",
            |d| d.claim("nbf", json!(NOW + 31)),
            bad(TokenFault::NotYet),
            |d| d.claim("nbf", json!(NOW + 30)),
        ),
        Case(
            "iat in the future",
            |d| d.claim("iat", json!(NOW + 31)),
            bad(TokenFault::NotYet),
            |d| d.claim("iat", json!(NOW + 30)),
        ),
    ]
}

fn kinds() -> Vec<Case> {
    vec![
        Case("id_token by nonce", |d| d.claim("nonce", json!("n")), bad(TokenFault::NotAnAccessToken), SAME),
        Case("id_token by at_hash", |d| d.claim("at_hash", json!("h")), bad(TokenFault::NotAnAccessToken), SAME),
        Case(
            "logout token",
            |d| d.claim("events", json!({"http://schemas.openid.net/event/backchannel-logout": {}})),
            bad(TokenFault::NotAnAccessToken),
            SAME,
        ),
        Case(
            "Keycloak's id_token",
            |d| d.claim("typ", json!("ID")),
            bad(TokenFault::NotAnAccessToken),
            |d| d.claim("typ", json!("Bearer")),
        ),
        Case("Keycloak's refresh token", |d| d.claim("typ", json!("Refresh")), bad(TokenFault::NotAnAccessToken), SAME),
        Case(
            "Cognito's id_token",
            |d| d.claim("token_use", json!("id")),
            bad(TokenFault::NotAnAccessToken),
            |d| d.claim("token_use", json!("access")),
        ),
    ]
}

fn facts() -> Vec<Case> {
    vec![
        Case("client_id missing", |d| d.claim("client_id", Value::Null), bad(TokenFault::Claims), SAME),
        Case("client_id a list", |d| d.claim("client_id", json!([CLIENT])), bad(TokenFault::Claims), SAME),
        Case("client_id of nobody", |d| d.claim("client_id", json!("nobody")), IdentifyError::PartnerUnknown, SAME),
        Case(
            "client_id in other case",
            |d| d.claim("client_id", json!("Recovery-Path")),
            IdentifyError::PartnerUnknown,
            SAME,
        ),
        Case("sub missing", |d| d.claim("sub", Value::Null), bad(TokenFault::Claims), SAME),
        Case(
            "patient not an id",
            |d| d.claim("patient", json!("a/../b")),
            bad(TokenFault::Claims),
            |d| d.claim("patient", json!("Patient/a")),
        ),
        Case(
            "patient a list",
            |d| d.claim("patient", json!(["a", "b"])),
            bad(TokenFault::Claims),
            |d| d.claim("patient", Value::Null),
        ),
        Case(
            "too many scopes",
            |d| d.claim("scope", json!("a ".repeat(257))),
            bad(TokenFault::Claims),
            |d| d.claim("scope", json!("a ".repeat(256))),
        ),
        Case(
            "scope with a quote",
            |d| d.claim("scope", json!("a\"b")),
            bad(TokenFault::Claims),
            |d| d.claim("scope", json!(["patient/Observation.rs"])),
        ),
        Case(
            "scope an object",
            |d| d.claim("scope", json!({"a": 1})),
            bad(TokenFault::Claims),
            |d| d.claim("scope", Value::Null),
        ),
        Case(
            "purpose not registered",
            |d| d.claim("purpose_of_use", json!("HMARKT")),
            IdentifyError::PurposeNotAllowed,
            |d| d.claim("purpose_of_use", json!("TREAT")),
        ),
        Case(
            "purpose unknown",
            |d| d.claim("purpose_of_use", json!("FUN")),
            IdentifyError::PurposeNotAllowed,
            |d| d.claim("purpose_of_use", json!("ETREAT")),
        ),
        Case(
            "two purposes",
            |d| d.claim("purpose_of_use", json!(["TREAT", "ETREAT"])),
            IdentifyError::PurposeNotAllowed,
            |d| d.claim("purpose_of_use", json!(["TREAT"])),
        ),
        Case(
            "hl7-b2b purpose of another code system",
            |d| d.claim("extensions", json!({"hl7-b2b": {"purpose_of_use": ["urn:oid:1.2.3#TREAT"]}})),
            IdentifyError::PurposeNotAllowed,
            |d| d.claim("extensions", json!({"hl7-b2b": {"purpose_of_use": ["urn:oid:2.16.840.1.113883.5.8#TREAT"]}})),
        ),
        Case(
            "emergency without a reason",
            |d| d.claim("emergency", json!({"patient": "a", "until": NOW + 60})),
            bad(TokenFault::Claims),
            |d| d.claim("emergency", json!({"reason": "unconscious", "patient": "a", "until": NOW + 60})),
        ),
    ]
}

fn bindings() -> Vec<Case> {
    vec![
        Case(
            "no certificate where one is required",
            |d| Draft { peer: None, ..d },
            IdentifyError::CertificateMismatch,
            SAME,
        ),
        Case(
            "another partner's certificate",
            |d| Draft { peer: Some(certificate("research-app")), ..d },
            IdentifyError::CertificateMismatch,
            |d| Draft { peer: Some(certificate("research-app")), ..d.claim("client_id", json!("research-app")) },
        ),
        Case(
            "bound to another certificate",
            |d| d.claim("cnf", json!({"x5t#S256": b64(&[7; 32])})),
            bad(TokenFault::CertificateBinding),
            bound_to_own_certificate,
        ),
        Case(
            "bound, and no certificate",
            |d| Draft { peer: None, ..bound_to_own_certificate(d) },
            bad(TokenFault::CertificateBinding),
            bound_to_own_certificate,
        ),
        Case(
            "binding of an unknown kind",
            |d| d.claim("cnf", json!({"kid": "x"})),
            bad(TokenFault::Claims),
            bound_to_own_certificate,
        ),
        Case("binding that is empty", |d| d.claim("cnf", json!({})), bad(TokenFault::Claims), bound_to_own_certificate),
        Case(
            "binding cut short",
            |d| d.claim("cnf", json!({"x5t#S256": b64(&[7; 16])})),
            bad(TokenFault::Claims),
            bound_to_own_certificate,
        ),
        Case(
            "certificate out of date",
            |d| {
                let mut peer = certificate(CLIENT);
                peer.not_after = now();
                Draft { peer: Some(peer), ..d }
            },
            IdentifyError::CertificateMismatch,
            |d| {
                let mut peer = certificate(CLIENT);
                peer.not_after = now() + Duration::seconds(1);
                Draft { peer: Some(peer), ..d }
            },
        ),
        Case(
            "bound to a DPoP key, sent as Bearer",
            |d| d.claim("cnf", json!({"jkt": b64(&[7; 32])})),
            bad(TokenFault::KeyBinding),
            SAME,
        ),
        Case(
            "unbound, sent as DPoP",
            |d| Draft { authorization: |t| vec![format!("DPoP {t}")], ..d },
            bad(TokenFault::KeyBinding),
            SAME,
        ),
    ]
}

fn carriage() -> Vec<Case> {
    const TWO: IdentifyError = IdentifyError::Malformed("more than one Authorization header");
    const SHAPE: IdentifyError = IdentifyError::Malformed("Authorization is not scheme and token");
    const CHARACTERS: IdentifyError = IdentifyError::Malformed("the token has illegal characters");
    const PLACE: IdentifyError = IdentifyError::Malformed("a token may stand in the Authorization header alone");
    vec![
        Case(
            "two headers",
            |d| Draft { authorization: |t| vec![format!("Bearer {t}"), format!("Bearer {t}")], ..d },
            TWO,
            SAME,
        ),
        Case(
            "tab after the scheme",
            |d| Draft { authorization: |t| vec![format!("Bearer\t{t}")], ..d },
            SHAPE,
            |d| Draft { authorization: |t| vec![format!("bearer {t}")], ..d },
        ),
        Case(
            "two spaces",
            |d| Draft { authorization: |t| vec![format!("Bearer  {t}")], ..d },
            CHARACTERS,
            |d| Draft { authorization: |t| vec![format!("BEARER {t}")], ..d },
        ),
        Case(
            "two tokens",
            |d| Draft { authorization: |t| vec![format!("Bearer {t}, Bearer {t}")], ..d },
            CHARACTERS,
            SAME,
        ),
        Case(
            "in the query too",
            |d| Draft { query: Some("access_token=x".to_owned()), ..d },
            PLACE,
            |d| Draft { query: Some("patient=a".to_owned()), ..d },
        ),
        Case("no header", |d| Draft { authorization: |_| Vec::new(), ..d }, IdentifyError::NoCredentials, SAME),
        Case(
            "Basic",
            |d| Draft { authorization: |_| vec!["Basic YTpi".to_owned()], ..d },
            IdentifyError::NoCredentials,
            SAME,
        ),
    ]
}

#[tokio::test]
async fn every_attack_is_refused_and_its_neighbour_passes() {
    let world = World::new();
    let (mut attacks, mut wrong) = (0, Vec::new());
    for Case(name, attack, expected, neighbour) in [
        algorithms(),
        headers(),
        signatures(),
        issuers_and_audiences(),
        times(),
        kinds(),
        facts(),
        bindings(),
        carriage(),
    ]
    .into_iter()
    .flatten()
    {
        let refused = world.identify(&attack(Draft::new())).await;
        if refused.as_ref().err() != Some(&expected) {
            wrong.push(format!("{name}: {:?} instead of {expected:?}", refused.err()));
        }
        if let Err(error) = world.identify(&neighbour(Draft::new())).await {
            wrong.push(format!("neighbour of {name}: {error:?}"));
        }
        attacks += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(attacks >= 90, "{attacks}");
}

#[tokio::test]
async fn a_verified_caller_carries_what_was_verified() {
    let world = World::new();
    let draft = bound_to_own_certificate(Draft::new())
        .claim("acr", json!("phr"))
        .claim("amr", json!(["mfa"]))
        .claim("auth_time", json!(NOW - 60))
        .claim("purpose_of_use", json!("TREAT"));
    let subject = world.identify(&draft).await.unwrap();
    assert_eq!(&*subject.partner.client_id, CLIENT);
    assert_eq!((&*subject.issuer, &*subject.sub, &*subject.token_id), (ISSUER, "user-1", "jti-1"));
    assert_eq!(subject.scopes.join(" "), "patient/Observation.rs launch/patient");
    assert_eq!(subject.patient.unwrap().as_str(), "a");
    assert_eq!(subject.purpose, Some(PurposeOfUse::Treat));
    assert_eq!(subject.authentication.acr.as_deref(), Some("phr"));
    assert!(subject.authentication.mtls && subject.authentication.sender_constrained);
    assert_eq!(subject.expires, now() + Duration::seconds(300));
}

#[tokio::test]
async fn claims_are_found_where_the_issuer_puts_them() {
    let world = World::with(
        |config| {
            config.access_token_typ = vec!["JWT".to_owned()];
            config.claims.client_id = "azp".to_owned();
            config.claims.patient = "/smart/patient".to_owned();
            config.claims.fhir_user = "https://idp.example.org/fhirUser".to_owned();
        },
        None,
    );
    let draft = Draft::new()
        .header("typ", json!("JWT"))
        .claim("client_id", Value::Null)
        .claim("patient", json!("not-this-one"))
        .claim("azp", json!(CLIENT))
        .claim("smart", json!({"patient": "b"}))
        .claim("https://idp.example.org/fhirUser", json!("Practitioner/p"));
    let subject = world.identify(&draft).await.unwrap();
    assert_eq!(subject.patient.unwrap().as_str(), "b");
    assert!(subject.fhir_user.is_some());
    // RFC 9068 tokens of such an issuer have the wrong type for it.
    let other = draft.header("typ", json!("at+jwt"));
    assert_eq!(world.identify(&other).await.err(), Some(bad(TokenFault::Type)));
}

#[tokio::test]
async fn an_algorithm_that_the_issuer_may_not_use_is_refused() {
    let world = World::with(|config| config.algorithms.retain(|one| one.name() == "ES384"), None);
    assert_eq!(world.identify(&Draft::new()).await.err(), Some(bad(TokenFault::Algorithm)));
    assert!(world.identify(&Draft::new().signed_by(&ES384)).await.is_ok());
}

#[tokio::test]
async fn certificates_match_by_uri_name_dns_name_or_thumbprint_and_whole() {
    let world = World::new();
    let mut peer = certificate("somebody");
    peer.san_dns = vec!["app.recovery.example".to_owned()];
    let thumbprint = peer.leaf_sha256;
    for (one, expected) in [
        (CertificateMatch::SanDns("app.recovery.example".to_owned()), true),
        (CertificateMatch::SanDns("recovery.example".to_owned()), false),
        (CertificateMatch::SanDns("*.recovery.example".to_owned()), false),
        (CertificateMatch::SanUri("spiffe://somebody/gateway".to_owned()), true),
        (CertificateMatch::SanUri("spiffe://somebody/gatewa".to_owned()), false),
        (CertificateMatch::Sha256(thumbprint), true),
        (CertificateMatch::Sha256([0; 32]), false),
    ] {
        world.change_partner(CLIENT, |entry| entry.certificates = vec![one.clone()]);
        let draft = Draft { peer: Some(peer.clone()), ..Draft::new() };
        assert_eq!(world.identify(&draft).await.is_ok(), expected, "{one:?}");
    }
}

#[tokio::test]
async fn without_mtls_a_token_must_be_bound_unless_a_dated_waiver_says_otherwise() {
    let world = World::new();
    let bare = Draft { peer: None, ..Draft::new() };
    let waived = |until| Mtls::None { unbound_tokens_until: until };
    world.change_partner(CLIENT, |entry| entry.mtls = waived(None));
    assert_eq!(world.identify(&bare).await.err(), Some(bad(TokenFault::Unconstrained)));
    world.change_partner(CLIENT, |entry| entry.mtls = waived(Some(now())));
    assert_eq!(world.identify(&bare).await.err(), Some(bad(TokenFault::Unconstrained)));
    world.change_partner(CLIENT, |entry| entry.mtls = waived(Some(now() + Duration::seconds(1))));
    let subject = world.identify(&bare).await.unwrap();
    assert!(!subject.authentication.mtls && !subject.authentication.sender_constrained);
    // A stranger's certificate is not overlooked because none was asked for.
    let stranger = Draft { peer: Some(certificate("research-app")), ..Draft::new() };
    assert_eq!(world.identify(&stranger).await.err(), Some(IdentifyError::CertificateMismatch));
}

#[tokio::test]
async fn a_partner_that_must_use_dpop_gets_nothing_with_a_bearer_token() {
    let world = World::new();
    assert!(world.identify(&Draft::new()).await.is_ok());
    world.change_partner(CLIENT, |entry| entry.dpop_required = true);
    assert_eq!(world.identify(&Draft::new()).await.err(), Some(bad(TokenFault::Unconstrained)));
}

#[tokio::test]
async fn a_partner_tied_to_one_issuer_is_not_known_by_another() {
    let world = World::new();
    let elsewhere = || Draft { key: &FOREIGN, ..Draft::new().claim("iss", json!(OTHER_ISSUER)) };
    assert!(world.identify(&elsewhere()).await.is_ok());
    world.change_partner(CLIENT, |entry| entry.issuers = Some(vec![ISSUER.to_owned()]));
    assert_eq!(world.identify(&elsewhere()).await.err(), Some(IdentifyError::PartnerUnknown));
    assert!(world.identify(&Draft::new()).await.is_ok());
    world.change_partner(CLIENT, |entry| entry.issuers = Some(Vec::new()));
    assert_eq!(
        world.identify(&Draft::new()).await.err(),
        Some(IdentifyError::PartnerUnknown),
        "an empty set is nobody"
    );
}

#[tokio::test]
async fn a_remembered_token_is_still_judged_every_time() {
    let world = World::new();
    let draft = bound_to_own_certificate(Draft::new());
    assert!(world.identify(&draft).await.is_ok());
    assert_eq!(world.identifier.remembered_tokens(), 1);
    assert!(world.identify(&draft).await.is_ok());

    let stolen = Draft { peer: Some(certificate(CLIENT)), claims: draft.claims.clone(), ..Draft::new() };
    assert_eq!(world.identify(&stolen).await.err(), Some(bad(TokenFault::CertificateBinding)));
    assert!(world.identify_at(&draft, now() + Duration::seconds(329)).await.is_ok());
    assert_eq!(world.identify_at(&draft, now() + Duration::seconds(330)).await.err(), Some(bad(TokenFault::Expired)));
}

#[tokio::test]
async fn a_revocation_holds_from_the_next_request() {
    for name in ["jti-1", "user-1", CLIENT, "a"] {
        let world = World::new();
        assert!(world.identify(&Draft::new()).await.is_ok());
        world.revocations.revoked.lock().unwrap().push(name.to_owned());
        assert_eq!(world.identify(&Draft::new()).await.err(), Some(bad(TokenFault::Revoked)), "{name}");
    }
    let world = World::new();
    world.revocations.revoked.lock().unwrap().push("somebody-else".to_owned());
    assert!(world.identify(&Draft::new()).await.is_ok());
    world.revocations.down.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.identify(&Draft::new()).await.err(), Some(IdentifyError::StateUnavailable));
}

fn bound_to_own_certificate(draft: Draft) -> Draft {
    let peer = draft.peer.clone().unwrap();
    draft.claim("cnf", json!({"x5t#S256": peer.x5t_s256()}))
}

fn unsigned(token: &str, algorithm: &str) -> String {
    let payload = token.split('.').nth(1).unwrap();
    format!("{}.{payload}", b64(format!(r#"{{"alg":"{algorithm}","typ":"at+jwt"}}"#).as_bytes()))
}

fn changed_payload(token: String) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let claims = Draft::new().claim("scope", json!("user/*.cruds")).claims;
    format!("{}.{}.{}", parts[0], b64(claims.to_string().as_bytes()), parts[2])
}

fn duplicate_audience() -> String {
    let header = b64(br#"{"alg":"ES256","typ":"at+jwt","kid":"es-1"}"#);
    let claims = Draft::new().claims.to_string().replacen('{', r#"{"aud":"https://evil.example","#, 1);
    let message = format!("{header}.{}", b64(claims.as_bytes()));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &ES256.private, Algorithm::ES256).unwrap();
    format!("{message}.{signature}")
}

fn hs256_with_public_key(token: String) -> String {
    let message = unsigned(&token, "HS256");
    let secret = jsonwebtoken::EncodingKey::from_secret(RSA.jwk["n"].as_str().unwrap().as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &secret, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

#[tokio::test]
async fn the_configured_clock_skew_holds_at_both_ends_of_a_token_s_life_remembered_or_not() {
    for skew in [0, 5, 120] {
        let world = World::with(|config| config.clock_skew = Duration::seconds(skew), None);
        let at = |seconds: i64| now() + Duration::seconds(seconds);
        let draft = Draft::new().claim("iat", json!(NOW)).claim("exp", json!(NOW + 300));
        let early = world.identify_at(&draft, at(-skew - 1)).await.err();
        assert_eq!(early, Some(IdentifyError::InvalidToken(TokenFault::NotYet)), "{skew}");
        assert!(world.identify_at(&draft, at(-skew)).await.is_ok(), "{skew}");
        assert!(world.identify_at(&draft, at(300 + skew - 1)).await.is_ok(), "{skew}: remembered");
        for name in ["remembered", "fresh"] {
            let late = world.identify_at(&draft, at(300 + skew)).await.err();
            assert_eq!(late, Some(IdentifyError::InvalidToken(TokenFault::Expired)), "{skew}: {name}");
        }
    }
}

#[tokio::test]
async fn the_claims_of_hl7_b2b_are_facts_of_the_caller() {
    let world = World::new();
    let b2b = |extension: Value| Draft::new().claim("extensions", json!({"hl7-b2b": extension}));
    let organization = "https://hospital.example/organization/1";
    let stated = b2b(json!({"version": "1", "organization_id": organization, "organization_name": "A Hospital",
        "purpose_of_use": ["urn:oid:2.16.840.1.113883.5.8#ETREAT"]}));
    let subject = world.identify(&stated).await.unwrap();
    assert_eq!(subject.organization.as_deref(), Some(organization));
    assert_eq!(subject.purpose, Some(PurposeOfUse::Etreat));
    assert_eq!(world.identify(&Draft::new()).await.unwrap().organization, None);
    for (name, extension) in [
        ("not a text", json!({"organization_id": 1})),
        ("empty", json!({"organization_id": ""})),
        ("too long", json!({"organization_id": "x".repeat(600)})),
    ] {
        let refused = world.identify(&b2b(extension)).await.err();
        assert_eq!(refused, Some(IdentifyError::InvalidToken(TokenFault::Claims)), "{name}");
    }
    let unregistered = b2b(json!({"purpose_of_use": ["urn:oid:2.16.840.1.113883.5.8#HMARKT"]}));
    assert_eq!(world.identify(&unregistered).await.err(), Some(IdentifyError::PurposeNotAllowed));
}
