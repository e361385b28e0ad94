//! Who may connect, where, and who is turned away when there is too much.

use std::time::Duration;

use fhirwall::demo::authorization_server::Flaw;
use fhirwall::demo::client::{HttpsClient, Reply};
use fhirwall::demo::ehr::Misbehaviour;
use fhirwall::demo::world::{Neighbours, World};
use http::Method;
use tempfile::TempDir;

use crate::Stage;

const PATIENT: &str = "/Patient/amara-osei";

impl Stage {
    /// The world on a configuration that was changed before the start.
    pub(crate) async fn set_with(changes: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
        let mut text = std::fs::read_to_string(neighbours.config_file()).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        std::fs::write(neighbours.config_file(), text).unwrap();
        Self { world: World::between(neighbours).unwrap(), _dir: dir }
    }

    fn smart(&self, below: &str) -> String {
        format!("{}{below}", self.neighbours().smart_url())
    }
}

async fn get(client: &HttpsClient, url: &str, headers: &[(&str, &str)]) -> Reply {
    client.send(Method::GET, url, headers, "").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_bound_the_gateway_turns_research_away_before_treatment() {
    let stage = Stage::set_with(&[("mode: enforce", "mode: enforce\nlimits: {concurrent_requests: 2}")]).await;
    stage.neighbours().ehr.misbehave(Some("Patient"), Misbehaviour::Slow(Duration::from_millis(1500)));
    let app = &stage.neighbours().treatment;
    let slow = || {
        let (client, token, url) = (app.client.clone(), app.token.clone(), stage.url(PATIENT));
        tokio::spawn(async move { client.get(&url, &token).await.unwrap() })
    };
    let first = slow();
    let asked = async {
        while stage.neighbours().ehr.log().iter().all(|request| !request.path.contains("Patient")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.expect("the EHR is asked");
    // One place of two is taken: a long search may fill half of them, and treatment the rest.
    let refused = stage.research("/Condition").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("overloaded"));
    assert_eq!(refused.header("retry-after"), "30");
    let record = stage.world.gateway.shared.audit.recent_decision(refused.header("x-request-id")).expect("a record");
    assert_eq!(record["reason"], "overloaded");
    assert_eq!(stage.treatment("/AllergyIntolerance?patient=amara-osei").await.status, 200);
    assert_eq!(first.await.unwrap().status, 200);
    assert_ne!(stage.research("/Condition").await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_shut_their_sender_out_and_nobody_else() {
    let stage =
        Stage::set_with(&[("mode: enforce", "mode: enforce\nlimits: {address: {failures_per_minute: 3}}")]).await;
    let app = &stage.neighbours().research;
    let grant = stage.neighbours().grant(app);
    let expired = stage.neighbours().issuer.mint_flawed(&grant, Flaw::Expired).unwrap();
    for _ in 0..5 {
        assert_eq!(app.client.get(&stage.url(PATIENT), &expired).await.unwrap().status, 401);
    }
    let forged = stage.neighbours().issuer.mint_flawed(&grant, Flaw::ForeignKey).unwrap();
    for _ in 0..3 {
        assert_eq!(app.client.get(&stage.url(PATIENT), &forged).await.unwrap().status, 401);
    }
    let shut_out = stage.research("/Patient?_id=amara-osei").await;
    assert_eq!(shut_out.status, 429, "{}", shut_out.text());
    assert!(shut_out.header("retry-after").parse::<u64>().is_ok_and(|wait| (1..=60).contains(&wait)));
    assert_eq!(stage.treatment(PATIENT).await.status, 200, "the same address, another certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_listener_serves_what_it_says_and_nothing_else() {
    let stage = Stage::set_with(&[
        ("serves: [fhir, smart]", "serves: [smart]"),
        ("mode: enforce", "mode: enforce\nsmart: {mode: front}"),
    ])
    .await;
    let app = &stage.neighbours().treatment;
    let authorization = format!("Bearer {}", app.token);
    let bearer = [("authorization", authorization.as_str())];
    let browser = stage.neighbours().anonymous().unwrap();
    // A browser without a certificate reaches what it needs for a sign-in.
    assert_eq!(get(&browser, &stage.smart("/.well-known/smart-configuration"), &[]).await.status, 200);
    let page = get(&browser, &stage.smart("/auth/authorize?response_type=code"), &[]).await;
    assert!(
        page.status == 400 && page.header("content-type").starts_with("text/html"),
        "{} {}",
        page.status,
        page.text()
    );
    // And no record, with or without a certificate.
    for client in [&browser, &app.client] {
        for below in
            [PATIENT, "/metadata", "/Observation?patient=amara-osei", "/_history", "/_page/AAAA", "/_export/AAAA"]
        {
            let reply = get(client, &stage.smart(below), &bearer).await;
            assert_eq!(reply.status, 404, "{below}: {}", reply.text());
        }
    }
    assert_eq!(stage.asked(), Vec::<String>::new());
    // The FHIR listener gives records and no sign-in.
    assert_eq!(stage.treatment(PATIENT).await.status, 200);
    assert_eq!(get(&app.client, &stage.url("/metadata"), &[]).await.status, 200);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for endpoint in ["authorize?response_type=code", "callback?code=x", "jwks", ".well-known/openid-configuration"] {
        let page = get(&app.client, &stage.url(&format!("/auth/{endpoint}")), &bearer).await;
        assert_eq!(page.status, 404, "{endpoint}: {}", page.text());
    }
    for endpoint in ["token", "introspect", "revoke", "consent"] {
        let body = "grant_type=client_credentials&token=x";
        let here = app.client.send(Method::POST, &stage.url(&format!("/auth/{endpoint}")), &form, body).await.unwrap();
        assert_eq!(here.status, 404, "{endpoint}: {}", here.text());
        if endpoint != "consent" {
            let there =
                browser.send(Method::POST, &stage.smart(&format!("/auth/{endpoint}")), &form, body).await.unwrap();
            assert!([400, 401].contains(&there.status.as_u16()), "{endpoint}: {} {}", there.status, there.text());
        }
    }
    let bundle = br#"{"resourceType":"Bundle","type":"batch"}"#.to_vec();
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/fhir+json")];
    let posted = app.client.send(Method::POST, &stage.smart("/"), &headers, bundle.clone()).await.unwrap();
    assert_eq!(posted.status, 404, "{}", posted.text());
    assert_eq!(app.client.send(Method::POST, &stage.url("/"), &headers, bundle).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_names_the_base_url_or_the_listener_it_calls_and_no_other_host() {
    let stage = Stage::set().await;
    let app = &stage.neighbours().treatment;
    let authorization = format!("Bearer {}", app.token);
    let published = stage.neighbours().authority().to_owned();
    let beside = stage.neighbours().smart_url();
    let beside = beside.strip_prefix("https://").unwrap().strip_suffix("/fhir").unwrap().to_owned();
    let (certificate, key) = (std::fs::read(&app.certificate).unwrap(), std::fs::read(&app.key).unwrap());
    let client = HttpsClient::http1(&stage.neighbours().site_ca().unwrap(), Some((certificate, key))).unwrap();
    let port = beside.rsplit(':').next().unwrap();
    for (url, host, status) in [
        (stage.url(PATIENT), published.clone(), 200),
        (stage.smart(PATIENT), beside.clone(), 200),
        (stage.smart(PATIENT), published.clone(), 200),
        (stage.smart("/.well-known/smart-configuration"), beside.clone(), 200),
        // The port of another listener than the one that is called.
        (stage.url(PATIENT), beside.clone(), 404),
        (stage.smart(PATIENT), format!("other.example:{port}"), 404),
        (stage.smart(PATIENT), "127.0.0.1".to_owned(), 404),
        (stage.smart(PATIENT), "127.0.0.1:1".to_owned(), 404),
        (stage.smart(PATIENT), format!("127.0.0.1:0{port}"), 404),
    ] {
        let reply = get(&client, &url, &[("authorization", &authorization), ("host", &host)]).await;
        assert_eq!(reply.status, status, "{url} as {host}: {}", reply.text());
    }
    let search = stage.smart("/Observation?patient=amara-osei&_count=1");
    let links = get(&client, &search, &[("authorization", &authorization)]).await.json();
    assert!(links["link"][0]["url"].as_str().is_some_and(|url| url.starts_with(&stage.url(""))), "{links}");
}
