//! What changes while requests are served: consents, configuration, certificates.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fhirwall::demo::client::Reply;
use http::Method;

use crate::Stage;

impl Stage {
    pub(crate) fn edit(&self, below: &str, change: impl FnOnce(String) -> String) {
        let path = self.neighbours().dir().join(below);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(text)).unwrap();
    }

    /// Waits for the next attempt to reload, good or bad, and returns the generation that serves.
    pub(crate) async fn reload(&self) -> u64 {
        let mut status = self.world.gateway.live.subscribe();
        status.mark_unchanged();
        self.world.gateway.reload();
        let changed = tokio::time::timeout(std::time::Duration::from_secs(20), status.changed()).await;
        changed.expect("an attempt within 20 s").unwrap();
        self.world.gateway.live.current().number
    }
}

fn shows(reply: &Reply, id: &str) -> bool {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["entry"].as_array().into_iter().flatten().any(|entry| entry["resource"]["id"] == id)
}

const CONDITIONS: &str = "/Condition?patient=amara-osei";
const HIDDEN: &str = "amara-opioid-use";

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_written_through_the_gateway_holds_from_the_next_request() {
    let stage = Stage::set().await;
    stage.edit("fhirwall.yaml", |text| text.replace("cache: 1ms", "cache: 5m"));
    stage.edit("partners/recovery-path.yaml", |text| {
        text.replace("\"user/Condition.cud\"", "\"user/Condition.cud\", \"user/Consent.cud\"")
    });
    assert_eq!(stage.reload().await, 2);
    assert!(shows(&stage.treatment(CONDITIONS).await, HIDDEN));
    let app = &stage.neighbours().treatment;
    let mut grant = stage.neighbours().grant(app);
    grant.scope = "user/*.rs user/Consent.u".to_owned();
    let authorization = format!("Bearer {}", stage.neighbours().issuer.mint(&grant).unwrap());
    let mut consent = stage.neighbours().ehr.resource("Consent", "amara-consent").unwrap();
    consent["status"] = "inactive".into();
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/fhir+json")];
    let url = stage.url("/Consent/amara-consent");
    let body = serde_json::to_vec(&consent).unwrap();
    let reply = app.client.send(Method::PUT, &url, &headers, body).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(!shows(&stage.treatment(CONDITIONS).await, HIDDEN), "the cache of five minutes must not serve it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_elsewhere_holds_as_soon_as_the_gateway_is_told() {
    let stage = Stage::set().await;
    stage.edit("fhirwall.yaml", |text| text.replace("cache: 1ms", "cache: 5m"));
    stage.reload().await;
    assert!(shows(&stage.treatment(CONDITIONS).await, HIDDEN));
    stage.neighbours().revoke_consent(time::OffsetDateTime::now_utc());
    assert!(shows(&stage.treatment(CONDITIONS).await, HIDDEN), "within consent.cache it may still be shown");
    let admin = stage.neighbours().admin_url();
    let changed = |headers: &'static [(&'static str, &'static str)], body: &'static str| {
        let client = plain();
        let url = format!("{admin}/consents/changed");
        async move {
            let mut request = http::Request::post(url);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let body = http_body_util::Full::new(hyper::body::Bytes::from_static(body.as_bytes()));
            client.request(request.body(body).unwrap()).await.unwrap().status()
        }
    };
    // A form on another origin's page cannot set the header.
    assert_eq!(changed(&[], r#"{"patient":"amara-osei"}"#).await, 403);
    assert!(shows(&stage.treatment(CONDITIONS).await, HIDDEN));
    assert_eq!(changed(&[("x-fhirwall-admin", "1")], r#"{"patient":"amara-osei"}"#).await, 204);
    assert!(!shows(&stage.treatment(CONDITIONS).await, HIDDEN));
}

type Plain = hyper_util::client::legacy::Client<
    hyper_util::client::legacy::connect::HttpConnector,
    http_body_util::Full<hyper::body::Bytes>,
>;

fn plain() -> Plain {
    hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http()
}

/// 500 in the second tier, by `FHIRWALL_CASES`.
fn reloads() -> u64 {
    std::env::var("FHIRWALL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24)
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_good_bad_and_torn_fail_no_request_and_no_bad_one_goes_live() {
    let stage = Stage::set().await;
    stage.edit("fhirwall.yaml", |text| {
        text + "limits:\n  partner: {requests_per_second: 100000}\n  user: {requests_per_second: 100000}\n  address: {requests_per_second: 100000}\n"
    });
    stage.edit("partners/recovery-path.yaml", |text| {
        text.replace("requests_per_second: 50", "requests_per_second: 100000")
    });
    assert_eq!(stage.reload().await, 2);
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU64::new(0));
    let app = &stage.neighbours().treatment;
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (client, token, url) = (app.client.clone(), app.token.clone(), stage.url("/Patient/amara-osei"));
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        load.spawn(async move {
            while !stop.load(Ordering::Acquire) {
                let reply = client.get(&url, &token).await.expect("an answer");
                assert_eq!(reply.status, 200, "{}", reply.text());
                served.fetch_add(1, Ordering::AcqRel);
            }
        });
    }
    let good = std::fs::read_to_string(stage.neighbours().config_file()).unwrap();
    let mut number = 2;
    for round in 0..reloads() {
        match round % 3 {
            0 => {
                stage.edit("fhirwall.yaml", |_| format!("{good}# {round}\n"));
                number += 1;
            }
            1 => stage.edit("fhirwall.yaml", |_| good.replace("mode: enforce", "mode: enforced")),
            _ => stage.edit("fhirwall.yaml", |_| good.chars().take(good.len() / 2).collect()),
        }
        assert_eq!(stage.reload().await, number, "round {round}");
    }
    stop.store(true, Ordering::Release);
    while let Some(done) = load.join_next().await {
        done.expect("no request failed");
    }
    assert!(served.load(Ordering::Acquire) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_partner_is_refused_from_the_next_request_and_the_others_are_not() {
    let stage = Stage::set().await;
    assert_eq!(stage.research("/Patient?_id=amara-osei").await.status, 200);
    stage.edit("partners/cohort-lens.yaml", |text| text.replace("status: active", "status: suspended"));
    stage.reload().await;
    stage.asked();
    let reply = stage.research("/Patient?_id=amara-osei").await;
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(reply.text().contains("partner-suspended"));
    assert_eq!(stage.asked(), Vec::<String>::new());
    assert_eq!(stage.treatment("/Patient/amara-osei").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_told_to_a_file_sink() {
    let dir = tempfile::TempDir::new().unwrap();
    let neighbours = fhirwall::demo::world::Neighbours::start(dir.path(), None).await.unwrap();
    let file = neighbours.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("audit: {dir: audit,", "audit: {sinks: [{kind: file, file: out.ndjson}], dir: audit,");
    std::fs::write(&file, text).unwrap();
    let world = fhirwall::demo::world::World::between(neighbours).unwrap();
    let app = &world.treatment;
    let url = format!("{}/Patient/amara-osei", world.base_url());
    assert_eq!(app.client.get(&url, &app.token).await.unwrap().status, 200);
    let out = world.dir().join("out.ndjson");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !std::fs::read_to_string(&out).is_ok_and(|text| text.contains("amara-osei")) {
        assert!(std::time::Instant::now() < until, "the sink got nothing");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn enumerating_ids_stands_out_and_is_counted() {
    let stage = Stage::set().await;
    for number in 0..60 {
        let reply = stage.research(&format!("/Condition/guess-{number}")).await;
        assert!([404, 429].contains(&reply.status.as_u16()), "{}", reply.text());
    }
    let metrics = stage.world.gateway.shared.metrics.text().unwrap();
    assert!(metrics.contains(r#"fhirwall_risk_events_total{answer="#), "{metrics}");
    assert!(metrics.contains(r#"kind="enumeration""#), "{metrics}");
}
