//! The demo's neighbours of the gateway, by themselves: the sample EHR, the sample authorization server, the files.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may stop at the first surprise")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fhirwall::clock::{Clock as _, SystemClock};
use fhirwall::config::Config;
use fhirwall::demo::client::{HttpsClient, Reply};
use fhirwall::demo::ehr::Misbehaviour;
use fhirwall::demo::world::Neighbours;
use http::{Method, StatusCode};
use serde_json::{Value, json};

struct Site {
    neighbours: Neighbours,
    gateway: HttpsClient,
    _dir: tempfile::TempDir,
}

async fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let gateway = neighbours.behind_the_gateway().unwrap();
    Site { neighbours, gateway, _dir: dir }
}

impl Site {
    async fn ehr(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let url = format!("{}{path}", self.neighbours.ehr.base_url());
        let method: Method = method.parse().unwrap();
        self.gateway.send(method, &url, headers, body.to_owned()).await.unwrap()
    }

    async fn ids(&self, path: &str) -> Vec<String> {
        ids(&self.ehr("GET", path, &[], "").await.json())
    }
}

fn ids(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_files_are_a_configuration_that_loads() {
    let site = site().await;
    let config = Config::load(&site.neighbours.config_file(), &|_| None).unwrap_or_else(|problems| {
        panic!("{problems}");
    });
    assert_eq!(config.gateway.endpoints.first().unwrap().base_url.as_str(), site.neighbours.base_url());
}

#[tokio::test]
async fn nobody_reaches_the_ehr_without_the_gateways_certificate() {
    let site = site().await;
    let url = format!("{}/Patient/amara-osei", site.neighbours.ehr.base_url());
    for stranger in [&site.neighbours.treatment.client, &site.neighbours.anonymous().unwrap()] {
        assert!(stranger.send(Method::GET, &url, &[], "").await.is_err());
    }
    assert!(site.neighbours.ehr.log().is_empty());
    assert_eq!(site.ehr("GET", "/Patient/amara-osei", &[], "").await.status, StatusCode::OK);
    assert_eq!(site.neighbours.ehr.log().len(), 1);
}

#[tokio::test]
async fn the_ehr_searches_as_r4_says() {
    let site = site().await;
    let conditions = ["amara-hypertension", "amara-opioid-remission", "amara-opioid-use"];
    assert_eq!(site.ids("/Condition?patient=amara-osei").await, conditions);
    assert_eq!(site.ids("/Condition?subject=Patient/amara-osei").await, conditions);
    assert_eq!(site.ids("/Patient/amara-osei/Condition").await, conditions);
    assert_eq!(site.ids("/Condition?patient=amara-osei&code=I10").await, ["amara-hypertension"]);
    assert_eq!(
        site.ids("/Condition?code=http://hl7.org/fhir/sid/icd-10-cm|I10&patient=dov-hart,celia-moss").await,
        ["celia-hypertension", "dov-hypertension"]
    );
    assert_eq!(site.ids("/Observation?category=laboratory&patient=bruno-vale").await, ["bruno-drug-screen"]);
    assert_eq!(site.ids("/Consent?patient=Patient/celia-moss&status=active").await, ["celia-refusal"]);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let posted = site.ehr("POST", "/Condition/_search", &form, "patient=amara-osei&code=I10").await;
    assert_eq!(ids(&posted.json()), ["amara-hypertension"]);
    let with_patient = site.ids("/Condition?code=F11.20&patient=bruno-vale&_include=Condition:patient").await;
    assert_eq!(with_patient, ["bruno-opioid-use", "bruno-vale"]);
    let with_provenance = site.ids("/Condition?_id=bruno-opioid-use&_revinclude=Provenance:target").await;
    assert_eq!(with_provenance, ["bruno-opioid-use", "bruno-provenance"]);
    assert_eq!(site.ehr("GET", "/Condition?colour=red", &[], "").await.status, StatusCode::OK);
    let strict = site.ehr("GET", "/Condition?colour=red", &[("prefer", "handling=strict")], "").await;
    assert_eq!(strict.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_ehrs_pages_are_opaque_links() {
    let site = site().await;
    let mut url = format!("{}/Observation?patient=amara-osei&_count=3", site.neighbours.ehr.base_url());
    let mut found = Vec::new();
    loop {
        let page = site.gateway.send(Method::GET, &url, &[], "").await.unwrap().json();
        found.extend(ids(&page));
        let links = page["link"].as_array().unwrap();
        let Some(next) = links.iter().find(|link| link["relation"] == "next") else { break };
        url = next["url"].as_str().unwrap().to_owned();
        assert!(!url.contains("amara"));
    }
    assert_eq!(found.len(), 8);
    assert_eq!(site.ehr("GET", "?_getpages=guessed", &[], "").await.status, StatusCode::GONE);
}

#[tokio::test]
async fn the_ehr_writes_versions_and_guards_them() {
    let site = site().await;
    let json_type = [("content-type", "application/fhir+json")];
    let created =
        site.ehr("POST", "/Observation", &json_type, r#"{"resourceType":"Observation","status":"final"}"#).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let id = created.json()["id"].as_str().unwrap().to_owned();
    assert!(created.header("location").ends_with(&format!("/Observation/{id}/_history/1")));

    let update = json!({"resourceType": "Observation", "id": id, "status": "amended"}).to_string();
    let path = format!("/Observation/{id}");
    let stale = site.ehr("PUT", &path, &[("if-match", "W/\"7\"")], &update).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let fresh = site.ehr("PUT", &path, &[("if-match", "W/\"1\"")], &update).await;
    assert_eq!((fresh.status, fresh.header("etag")), (StatusCode::OK, "W/\"2\""));

    let patch = r#"[{"op":"replace","path":"/status","value":"corrected"}]"#;
    assert_eq!(site.ehr("PATCH", &path, &[], patch).await.json()["status"], "corrected");
    let history = site.ehr("GET", &format!("{path}/_history"), &[], "").await.json();
    assert_eq!(history["total"], 3);
    assert_eq!(site.ehr("GET", &format!("{path}/_history/1"), &[], "").await.json()["status"], "final");
    assert_eq!(site.ehr("DELETE", &path, &[("if-match", "W/\"1\"")], "").await.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(site.ehr("DELETE", &path, &[], "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(site.ehr("GET", &path, &[], "").await.status, StatusCode::GONE);
}

#[tokio::test]
async fn the_ehr_misbehaves_when_told_to() {
    let site = site().await;
    let path = "/Patient/dov-hart";
    let ehr = &site.neighbours.ehr;
    ehr.misbehave(Some("Patient"), Misbehaviour::TruncatedJson);
    assert!(serde_json::from_slice::<Value>(&site.ehr("GET", path, &[], "").await.body).is_err());
    assert_eq!(site.ids("/Condition?patient=dov-hart").await.len(), 1, "other types are left alone");
    ehr.misbehave(Some("Patient"), Misbehaviour::DuplicateKeys);
    assert_eq!(site.ehr("GET", path, &[], "").await.text().matches("\"resourceType\"").count(), 2);
    ehr.misbehave(Some("Patient"), Misbehaviour::GzipBomb);
    let bomb = site.ehr("GET", path, &[], "").await;
    assert!(bomb.header("content-encoding") == "gzip" && bomb.body.len() < 1 << 20);
    ehr.misbehave(Some("Patient"), Misbehaviour::DieMidAnswer);
    assert!(site.gateway.send(Method::GET, &format!("{}{path}", ehr.base_url()), &[], "").await.is_err());
    ehr.misbehave(Some("Patient"), Misbehaviour::Redirect("https://evil.example/".to_owned()));
    assert_eq!(site.ehr("GET", path, &[], "").await.status, StatusCode::FOUND);
    ehr.behave();
    assert_eq!(site.ehr("GET", path, &[], "").await.status, StatusCode::OK);
}

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A request to the authorization endpoint with one field changed; gives the redirect's target, or the status.
async fn authorize(site: &Site, change: (&str, &str)) -> Result<String, StatusCode> {
    let mut fields = vec![
        ("response_type", "code".to_owned()),
        ("client_id", "pocket-chart".to_owned()),
        ("redirect_uri", "https://pocket-chart.example/callback".to_owned()),
        ("scope", "openid fhirUser launch/patient patient/*.rs".to_owned()),
        ("state", "s-1".to_owned()),
        ("aud", site.neighbours.base_url()),
        ("code_challenge", CHALLENGE.to_owned()),
        ("code_challenge_method", "S256".to_owned()),
        ("login_hint", "amara".to_owned()),
    ];
    for (name, value) in &mut fields {
        if *name == change.0 {
            change.1.clone_into(value);
        }
    }
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let url = format!("{}/authorize?{query}", site.neighbours.issuer.issuer());
    let reply = site.neighbours.anonymous().unwrap().send(Method::GET, &url, &[], "").await.unwrap();
    if reply.status == StatusCode::SEE_OTHER { Ok(reply.header("location").to_owned()) } else { Err(reply.status) }
}

async fn token(site: &Site, code: &str, verifier: &str) -> Reply {
    let url = format!("{}/token", site.neighbours.issuer.issuer());
    let app = &site.neighbours.patient;
    let assertion = site.neighbours.client_assertion(app, &url, SystemClock.now()).unwrap();
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", "https://pocket-chart.example/callback"),
            ("code_verifier", verifier),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
        ])
        .finish();
    app.client.send(Method::POST, &url, &[("content-type", "application/x-www-form-urlencoded")], form).await.unwrap()
}

fn code_in(redirect: &str) -> String {
    let url = url::Url::parse(redirect).unwrap();
    url.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned()
}

#[tokio::test]
async fn a_code_becomes_a_bound_token_once_and_with_its_verifier_alone() {
    let site = site().await;
    let code = code_in(&authorize(&site, ("", "")).await.unwrap());
    let reply = token(&site, &code, VERIFIER).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.header("cache-control"), "no-store");
    let answer = reply.json();
    assert_eq!((&answer["patient"], &answer["token_type"]), (&json!("amara-osei"), &json!("Bearer")));
    assert!(answer["id_token"].is_string());
    let claims = answer["access_token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims["cnf"]["x5t#S256"], site.neighbours.patient.x5t_s256);
    assert_eq!(claims["aud"], site.neighbours.base_url());

    assert_eq!(token(&site, &code, VERIFIER).await.json()["error"], "invalid_grant", "a code is good once");
    let code = code_in(&authorize(&site, ("", "")).await.unwrap());
    assert_eq!(token(&site, &code, "another-verifier").await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn the_authorization_endpoint_refuses_what_smart_refuses() {
    let site = site().await;
    for (name, value) in [("client_id", "nobody"), ("redirect_uri", "https://evil.example/callback")] {
        assert_eq!(authorize(&site, (name, value)).await, Err(StatusCode::BAD_REQUEST), "{name}");
    }
    for (name, value) in [
        ("code_challenge_method", "plain"),
        ("code_challenge", ""),
        ("response_type", "token"),
        ("aud", "https://elsewhere.example/fhir"),
        ("scope", "system/*.cruds"),
    ] {
        assert!(authorize(&site, (name, value)).await.unwrap().contains("error=invalid_"), "{name}");
    }
    assert_eq!(authorize(&site, ("login_hint", "")).await, Err(StatusCode::OK), "the page to pick a user");
}

#[tokio::test]
async fn a_backend_service_gets_its_token_by_assertion_and_nobody_else_does() {
    let site = site().await;
    let url = format!("{}/token", site.neighbours.issuer.issuer());
    let research = &site.neighbours.research;
    let now = SystemClock.now();
    let ask = async |assertion: String, scope: &str| {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("grant_type", "client_credentials"), ("scope", scope), ("client_assertion", &assertion)])
            .finish();
        let form_type = [("content-type", "application/x-www-form-urlencoded")];
        research.client.send(Method::POST, &url, &form_type, form).await.unwrap()
    };
    let assertion = site.neighbours.client_assertion(research, &url, now).unwrap();
    let good = ask(assertion.clone(), "system/Patient.rs").await;
    assert_eq!((good.status, &good.json()["scope"]), (StatusCode::OK, &json!("system/Patient.rs")));
    assert_eq!(
        ask(assertion, "system/Patient.rs").await.json()["error"],
        "invalid_client",
        "an assertion is good once"
    );
    let elsewhere = site.neighbours.client_assertion(research, "https://elsewhere.example/token", now).unwrap();
    assert_eq!(ask(elsewhere, "system/Patient.rs").await.json()["error"], "invalid_client");
    let late = site.neighbours.client_assertion(research, &url, now - time::Duration::minutes(10)).unwrap();
    assert_eq!(ask(late, "system/Patient.rs").await.json()["error"], "invalid_client");
    let more = site.neighbours.client_assertion(research, &url, now).unwrap();
    assert_eq!(ask(more, "system/*.cruds").await.json()["error"], "invalid_scope");
    let user_app = site.neighbours.client_assertion(&site.neighbours.treatment, &url, now).unwrap();
    assert_eq!(ask(user_app, "user/*.rs").await.json()["error"], "unauthorized_client");
}
