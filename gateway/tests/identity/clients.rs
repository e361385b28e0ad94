//! Client authentication at the token endpoint, by each type of client: assertions, secrets, certificates.

use fhirwall::identify::partners::{ClientKeys, Mtls};
use fhirwall::smart::clients::JWT_BEARER;
use fhirwall::smart::request::AuthEndpoint;
use http::StatusCode;
use serde_json::{Value, json};

use crate::site::{AUTH, Call, SECRET, Site, assertion, body, broker, claims};
use crate::world::{ES256, ES384, NOW, TestKey, certificate};

fn backend(assertion: &str) -> Call {
    Call::new(&[
        ("grant_type", "client_credentials"),
        ("scope", "system/Patient.rs"),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", assertion),
    ])
}

async fn error(site: &Site, call: &Call) -> Value {
    body(&site.post(AuthEndpoint::Token, call).await)["error"].clone()
}

#[tokio::test]
async fn every_check_of_an_assertion_is_made() {
    type Change = fn(&mut Value, &mut Value);
    let site = broker();
    let bad: &[(&str, Change)] = &[
        ("alg none", |h, _| h["alg"] = json!("none")),
        ("alg HS256", |h, _| h["alg"] = json!("HS256")),
        ("alg RS256", |h, _| h["alg"] = json!("RS256")),
        ("another key", |h, _| h["kid"] = json!("rs-1")),
        ("unknown key", |h, _| h["kid"] = json!("none")),
        ("no kid", |h, _| drop(h.as_object_mut().unwrap().remove("kid"))),
        ("typ at+jwt", |h, _| h["typ"] = json!("at+jwt")),
        ("jku though keys are registered by value", |h, _| h["jku"] = json!("https://evil.example/jwks")),
        ("key in the header", |h, _| h["jwk"] = ES384.jwk.clone()),
        ("crit", |h, _| h["crit"] = json!(["exp"])),
        ("iss another", |_, c| c["iss"] = json!("asymmetric")),
        ("sub another", |_, c| c["sub"] = json!("asymmetric")),
        ("aud another", |_, c| c["aud"] = json!("https://other.example/token")),
        ("aud ours among others", |_, c| c["aud"] = json!([format!("{AUTH}/token"), "https://other.example"])),
        ("no aud", |_, c| drop(c.as_object_mut().unwrap().remove("aud"))),
        ("expired", |_, c| c["exp"] = json!(NOW - 30)),
        ("no exp", |_, c| drop(c.as_object_mut().unwrap().remove("exp"))),
        ("more than five minutes", |_, c| c["exp"] = json!(NOW + 331)),
        ("from the future", |_, c| c["iat"] = json!(NOW + 31)),
        ("no jti", |_, c| drop(c.as_object_mut().unwrap().remove("jti"))),
    ];
    for (name, change) in bad {
        assert_eq!(error(&site, &backend(&assertion("backend", change))).await, "invalid_client", "{name}");
    }
    let fine: &[(&str, Change)] = &[
        ("as it should be", |_, _| ()),
        ("aud our issuer", |_, c| c["aud"] = json!(AUTH)),
        ("aud a list of one", |_, c| c["aud"] = json!([format!("{AUTH}/token")])),
        ("five minutes and the leeway", |_, c| c["exp"] = json!(NOW + 330)),
        ("no typ", |h, _| drop(h.as_object_mut().unwrap().remove("typ"))),
    ];
    for (name, change) in fine {
        let answer = site.post(AuthEndpoint::Token, &backend(&assertion("backend", change))).await;
        assert_eq!(answer.status(), StatusCode::OK, "{name}: {:?}", body(&answer));
    }
}

#[tokio::test]
async fn an_assertion_counts_once() {
    let site = broker();
    let call = backend(&assertion("backend", |_, _| ()));
    assert_eq!(site.post(AuthEndpoint::Token, &call).await.status(), StatusCode::OK);
    assert_eq!(error(&site, &call).await, "invalid_client");
}

#[tokio::test]
async fn a_client_proves_itself_in_the_way_it_is_registered_for() {
    let site = broker();
    let sound = backend(&assertion("backend", |_, _| ()));
    for (name, call, expected) in [
        ("nobody", backend(&assertion("nobody", |_, _| ())), "invalid_client"),
        ("no proof", backend("").with("client_assertion", "").with("client_id", "backend"), "invalid_client"),
        ("assertion of an unknown kind", sound.clone().with("client_assertion_type", "urn:x"), "invalid_client"),
        ("client_id of another", sound.clone().with("client_id", "asymmetric"), "invalid_client"),
        ("two proofs", sound.clone().basic("backend", SECRET), "invalid_request"),
        ("a secret for a key", backend("").with("client_assertion", "").basic("backend", SECRET), "invalid_client"),
        ("an assertion for a public client", backend(&assertion("public", |_, _| ())), "invalid_client"),
        ("a secret for a public client", Call::new(&[("grant_type", "x")]).basic("public", SECRET), "invalid_client"),
        ("another secret", Call::new(&[("grant_type", "x")]).basic("symmetric", "wrong"), "invalid_client"),
        ("a secret cut short", Call::new(&[("grant_type", "x")]).basic("symmetric", &SECRET[1..]), "invalid_client"),
        ("no secret", Call::new(&[("grant_type", "x"), ("client_id", "symmetric")]), "invalid_client"),
        ("the right secret", Call::new(&[("grant_type", "x")]).basic("symmetric", SECRET), "unsupported_grant_type"),
        (
            "the right secret, posted",
            Call::new(&[("grant_type", "x"), ("client_id", "symmetric"), ("client_secret", SECRET)]),
            "unsupported_grant_type",
        ),
        (
            "a public client by name",
            Call::new(&[("grant_type", "x"), ("client_id", "public")]),
            "unsupported_grant_type",
        ),
    ] {
        assert_eq!(error(&site, &call).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_certificate_is_the_proof_of_a_client_without_keys_and_binds_its_tokens() {
    let site = broker();
    let call = Call::new(&[("grant_type", "client_credentials"), ("scope", "patient/*.rs"), ("client_id", "mtls")]);
    assert_eq!(error(&site, &call).await, "invalid_client", "no certificate");
    let strange = Call { peer: Some(certificate("backend")), ..call.clone() };
    assert_eq!(error(&site, &strange).await, "invalid_client", "another partner's certificate");
    site.change("mtls", |entry| {
        let mut facts = (*entry.partner).clone();
        facts.scopes = vec!["system/Patient.rs".to_owned()].into();
        entry.partner = facts.into();
    });
    let own = certificate("mtls");
    let call = Call { peer: Some(own.clone()), ..call.with("scope", "system/*.rs patient/*.rs") };
    let told = body(&site.post(AuthEndpoint::Token, &call).await);
    assert_eq!(told["scope"], "system/Patient.rs");
    assert_eq!(claims(&told["access_token"])["cnf"], json!({"x5t#S256": own.x5t_s256()}));
}

#[tokio::test]
async fn a_backend_service_gets_short_lived_system_tokens_and_no_refresh_token() {
    let site = broker();
    let call = backend(&assertion("backend", |_, _| ())).with("scope", "system/Patient.rs user/*.rs openid");
    let told = body(&site.post(AuthEndpoint::Token, &call).await);
    assert_eq!(
        (&told["scope"], &told["expires_in"], &told["token_type"]),
        (&json!("system/Patient.rs"), &json!(300), &json!("Bearer"))
    );
    assert!(told.get("refresh_token").is_none() && told.get("id_token").is_none());
    assert_eq!(claims(&told["access_token"])["sub"], "backend");
    let beyond = backend(&assertion("backend", |_, _| ())).with("scope", "system/*.cud");
    assert_eq!(error(&site, &beyond).await, "invalid_scope");
    let app = backend(&assertion("asymmetric", |_, _| ()));
    assert_eq!(error(&site, &app).await, "unauthorized_client", "an app with users is no backend service");
}

#[tokio::test]
async fn published_keys_are_fetched_and_their_url_may_be_named_but_not_chosen() {
    let site = broker();
    let url = "https://recovery.example/jwks.json";
    site.change("backend", |entry| entry.keys = ClientKeys::ByUrl(url.parse().unwrap()));
    let named = |jku: &'static str| backend(&assertion("backend", move |header, _| header["jku"] = json!(jku)));
    assert_eq!(error(&site, &named("https://evil.example/jwks")).await, "invalid_client");
    assert_eq!(error(&site, &named(url)).await, "invalid_client", "the host is away");
    site.fetch.set(url, json!({"keys": [ES384.jwk.clone(), ES256.jwk.clone()]}));
    let later = named(url).after(2);
    assert_eq!(site.post(AuthEndpoint::Token, &later).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn two_keys_under_one_name_are_nobody_s() {
    let site = broker();
    let mut twin = TestKey::es384(ES384.kid()).jwk;
    let keys = |second: &Value| {
        ClientKeys::ByValue([&ES384.jwk, second].iter().map(|jwk| jwk.as_object().unwrap().clone()).collect())
    };
    site.change("backend", |entry| entry.keys = keys(&twin));
    assert_eq!(error(&site, &backend(&assertion("backend", |_, _| ()))).await, "invalid_client");
    twin["kid"] = json!("another");
    site.change("backend", |entry| entry.keys = keys(&twin));
    let answer = site.post(AuthEndpoint::Token, &backend(&assertion("backend", |_, _| ()))).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_must_bring_a_certificate_gets_nothing_without() {
    let site = broker();
    site.change("symmetric", |entry| entry.mtls = Mtls::Required);
    let call = Call::new(&[("grant_type", "x")]).basic("symmetric", SECRET);
    assert_eq!(error(&site, &call).await, "invalid_client");
    let with = Call { peer: Some(certificate("symmetric")), ..call };
    assert_eq!(error(&site, &with).await, "unsupported_grant_type");
}
