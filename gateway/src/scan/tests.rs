//! Every rule of a scan, broken by a neighbour of its own, beside the neighbour that breaks none.

use std::collections::{BTreeSet, HashMap};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use fhirwall_certs::authority::{Authority, Validity};
use serde_json::{Value, json};
use time::macros::datetime;

use super::*;
use crate::config::tests::Site;
use crate::config::{FilePath, Issuer, Partners};

const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

/// The rules that the tests of this module and of its parts show broken.
pub(crate) const SHOWN: [&str; 16] = [
    "ehr-open",
    "ehr-any-token",
    "ehr-cors",
    "issuer-pkce-plain",
    "issuer-pkce-missing",
    "issuer-unsigned",
    "issuer-implicit",
    "issuer-plaintext",
    "issuer-cors",
    "issuer-keys",
    "partner-keys",
    "labels-unknown",
    "tls-old",
    "tls-weak-cipher",
    "tls-1-3",
    "tls-certificate-expiring",
];

#[test]
fn every_rule_of_a_scan_is_shown() {
    let ids: BTreeSet<_> = controls().map(|control| control.id).collect();
    assert_eq!(ids, BTreeSet::from(SHOWN));
}

/// How an issuer behaves.
#[derive(Clone, Default)]
struct Manners {
    discovery: Vec<(&'static str, Value)>,
    takes_plain: bool,
    takes_no_challenge: bool,
    takes_any_token: bool,
    any_origin: bool,
    weak_key: bool,
}

#[derive(Clone)]
struct Idp {
    base: String,
    manners: Manners,
}

async fn discovery(State(idp): State<Idp>) -> axum::Json<Value> {
    let base = &idp.base;
    let mut document = json!({
        "issuer": base,
        "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"),
        "userinfo_endpoint": format!("{base}/userinfo"),
        "jwks_uri": format!("{base}/jwks"),
        "code_challenge_methods_supported": ["S256"],
        "response_types_supported": ["code"],
        "id_token_signing_alg_values_supported": ["RS256"],
    });
    for (name, value) in idp.manners.discovery {
        document[name] = value;
    }
    axum::Json(document)
}

async fn authorize(State(idp): State<Idp>, Query(query): Query<HashMap<String, String>>) -> Response {
    let accepted = match query.get("code_challenge_method").map(String::as_str) {
        None => idp.manners.takes_no_challenge,
        Some(method) => method == "S256" || idp.manners.takes_plain,
    };
    if accepted {
        return "who are you?".into_response();
    }
    let back = format!("{}?error=invalid_request&state={}", query["redirect_uri"], query["state"]);
    (StatusCode::FOUND, [(header::LOCATION, back)]).into_response()
}

async fn token(State(idp): State<Idp>) -> Response {
    let origin =
        [("access-control-allow-origin", "https://scan.invalid"), ("access-control-allow-credentials", "true")];
    if idp.manners.any_origin { (origin, "").into_response() } else { "".into_response() }
}

async fn userinfo(State(idp): State<Idp>) -> StatusCode {
    if idp.manners.takes_any_token { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
}

async fn jwks(State(idp): State<Idp>) -> axum::Json<Value> {
    let key = if idp.manners.weak_key { json!({"kty": "RSA", "kid": "a", "n": "AQAB"}) } else { json!({"kty": "EC"}) };
    axum::Json(json!({"keys": [key]}))
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    base
}

async fn identity_provider(manners: Manners) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/authorize", get(authorize))
        .route("/token", any(token))
        .route("/userinfo", get(userinfo))
        .route("/jwks", get(jwks))
        .with_state(Idp { base: base.clone(), manners });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    base
}

/// The good configuration's issuer, standing at `base`, and its partners.
fn registered(base: &str, site: &Site) -> (Issuer, Partners) {
    let config = site.load().unwrap();
    let mut issuer = config.gateway.issuers[0].clone();
    issuer.issuer = base.to_owned();
    issuer.jwks_uri = None;
    issuer.ca_file = Some(authority(site));
    (issuer, config.partners)
}

fn authority(site: &Site) -> FilePath {
    let authority = Authority::create("tests", Validity::days(NOW, 3650).unwrap()).unwrap();
    let file = site.path("scan-ca.pem");
    std::fs::write(&file, authority.certificate_pem()).unwrap();
    FilePath(file)
}

async fn found(manners: Manners) -> Vec<&'static str> {
    let site = Site::good();
    let base = identity_provider(manners).await;
    let (issuer, partners) = registered(&base, &site);
    let mut report = Report::default();
    issuer::probe(&issuer, &partners, NOW, &mut report).await;
    assert!(report.asked.iter().all(|one| one.failure.is_none()), "{:?}", report.asked);
    report.unmet.iter().map(|(control, _)| control.id).collect()
}

#[tokio::test]
async fn a_well_mannered_issuer_is_well() {
    assert_eq!(found(Manners::default()).await, [""; 0]);
}

#[tokio::test]
async fn every_bad_manner_of_an_issuer_is_told() {
    let announcing = |name, value| Manners { discovery: vec![(name, value)], ..Manners::default() };
    for (id, manners) in [
        ("issuer-pkce-plain", announcing("code_challenge_methods_supported", json!(["S256", "plain"]))),
        ("issuer-pkce-plain", Manners { takes_plain: true, ..Manners::default() }),
        ("issuer-pkce-missing", announcing("code_challenge_methods_supported", Value::Null)),
        ("issuer-pkce-missing", Manners { takes_no_challenge: true, ..Manners::default() }),
        ("issuer-unsigned", announcing("id_token_signing_alg_values_supported", json!(["RS256", "none"]))),
        ("issuer-unsigned", announcing("request_object_signing_alg_values_supported", json!(["none"]))),
        ("issuer-unsigned", Manners { takes_any_token: true, ..Manners::default() }),
        ("issuer-implicit", announcing("response_types_supported", json!(["code", "id_token token"]))),
        ("issuer-plaintext", announcing("revocation_endpoint", json!("http://idp.example.org/revoke"))),
        ("issuer-cors", Manners { any_origin: true, ..Manners::default() }),
        ("issuer-keys", Manners { weak_key: true, ..Manners::default() }),
    ] {
        assert_eq!(found(manners).await, [id]);
    }
}

#[tokio::test]
async fn an_issuer_out_of_reach_is_no_finding_but_told() {
    let site = Site::good();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (issuer, partners) = registered(&format!("http://{closed}"), &site);
    let mut report = Report::default();
    issuer::probe(&issuer, &partners, NOW, &mut report).await;
    assert!(report.unmet.is_empty());
    assert!(report.asked[0].failure.as_ref().unwrap().contains("cannot reach"));
}

/// Does a request with these headers get patients?
type Door = fn(&HeaderMap) -> bool;

async fn behind(door: Door, any_origin: bool) -> Vec<&'static str> {
    let answer = move |headers: HeaderMap| async move {
        let status = if door(&headers) { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        let origin = if any_origin { "*" } else { "https://app.example.org" };
        (status, [("access-control-allow-origin", origin)])
    };
    let base = serve(Router::new().route("/fhir/Patient", get(answer))).await;
    let site = Site::good();
    let stranger = door::Stranger::trusting(Some(&authority(&site))).unwrap();
    let mut report = Report::default();
    ehr::doors(&stranger, &format!("{base}/fhir"), "EHR", &mut report).await;
    report.unmet.iter().map(|(control, _)| control.id).collect()
}

#[tokio::test]
async fn every_way_around_the_gateway_is_told() {
    assert_eq!(behind(|_| false, false).await, [""; 0]);
    assert_eq!(behind(|_| true, false).await, ["ehr-open"]);
    assert_eq!(behind(|headers| headers.contains_key("authorization"), false).await, ["ehr-any-token"]);
    assert_eq!(behind(|_| false, true).await, ["ehr-cors"]);
}

#[tokio::test]
async fn partners_keys_are_fetched_and_judged() {
    for (document, expected) in
        [(json!({"keys": [{"kty": "EC"}]}), vec![]), (json!({"keys": [{"kty": "EC", "d": "x"}]}), vec!["partner-keys"])]
    {
        let base = serve(Router::new().route("/jwks", get(|| async move { axum::Json(document) }))).await;
        let site = Site::good();
        site.patch("partners/recovery-path.yaml", "https://recovery.example/jwks.json", &format!("{base}/jwks"));
        let config = site.load().unwrap();
        let partner = config.partners.get("recovery-path").unwrap();
        let mut report = Report::default();
        partner::probe(&partner.file, NOW, &mut report).await;
        assert_eq!(report.unmet.iter().map(|(control, _)| control.id).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn labels_that_no_rule_knows_are_told_once_with_their_count() {
    let own = |code: &str| json!({"system": "https://labels.example.org", "code": code});
    let record = json!({"resourceType": "Condition", "meta": {"security": [own("HUSH"), own("MAPPED"), {
        "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]}});
    let page = json!({"resourceType": "Bundle", "entry": [{"resource": record}, {"resource": record}]});
    let router = Router::new()
        .route(
            "/fhir/Condition",
            get(|| async move { ([("content-type", "application/fhir+json")], page.to_string()) }),
        )
        .fallback(|| async { StatusCode::NOT_FOUND });
    let base = serve(router).await;
    let site = Site::good();
    site.patch(
        "fhirwall.yaml",
        "https://ehr-1.internal:9443/fhir, https://ehr-2.internal:9443/fhir",
        &format!("{base}/fhir"),
    );
    let protection = "      ca_file: tls/ehr-ca.pem\n      pins_sha256: [\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"]\n      client_certificate_file: tls/gateway.pem\n      client_key_file: tls/gateway.key\n";
    site.patch("fhirwall.yaml", protection, "");
    let mut config = site.load().unwrap();
    let mut gateway = (*config.gateway).clone();
    gateway.endpoints.truncate(1);
    let upstream = &mut gateway.endpoints[0].upstream;
    upstream.ca_file = Some(authority(&site));
    upstream.auth = crate::config::UpstreamAuth::None;
    gateway.labels.map[0].system = "https://labels.example.org".to_owned();
    gateway.labels.map[0].code = "MAPPED".to_owned();
    config.gateway = std::sync::Arc::new(gateway);
    let mut report = Report::default();
    let unknown = labels::sample(&config, &mut report).await;
    assert_eq!(unknown, [("https://labels.example.org".to_owned(), "HUSH".to_owned(), 2)]);
    assert_eq!(report.unmet.iter().map(|(control, _)| control.id).collect::<Vec<_>>(), ["labels-unknown"]);
    assert!(report.asked.iter().all(|one| one.failure.is_none()), "{:?}", report.asked);
}
