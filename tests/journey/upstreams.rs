//! Two EHRs behind one endpoint: one dies, both die, both come back, and no write is sent twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fhirwall::demo::client::Reply;
use fhirwall::demo::ehr::{EhrServer, Misbehaviour};
use fhirwall::demo::world::{Neighbours, World};
use http::Method;
use tempfile::TempDir;

use crate::Stage;

const PATIENT: &str = "/Patient/amara-osei";
const LIMITS: &str = "limits:\n  partner: {requests_per_second: 100000}\n  user: {requests_per_second: 100000}\n  address: {requests_per_second: 100000}\n";

/// The world with a second EHR behind the endpoint, and no limit in the way of load.
async fn two() -> (Stage, EhrServer) {
    let dir = TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let second = neighbours.another_ehr(None).await.unwrap();
    let both = format!("urls: [{}, {}]", neighbours.ehr.base_url(), second.base_url());
    let one = format!("urls: [{}]", neighbours.ehr.base_url());
    let text = std::fs::read_to_string(neighbours.config_file()).unwrap();
    std::fs::write(neighbours.config_file(), text.replace(&one, &both) + LIMITS).unwrap();
    let partner = neighbours.dir().join("partners/recovery-path.yaml");
    let text = std::fs::read_to_string(&partner).unwrap();
    std::fs::write(&partner, text.replace("requests_per_second: 50", "requests_per_second: 100000")).unwrap();
    let stage = Stage { world: World::between(neighbours).unwrap(), _dir: dir };
    (stage, second)
}

impl Stage {
    fn healthy(&self) -> Vec<bool> {
        let current = self.world.gateway.live.current();
        let endpoint = current.generation.endpoints.first().unwrap();
        endpoint.upstream.pool().standing(std::time::Instant::now()).iter().map(|url| url.healthy).collect()
    }

    /// Waits until the EHR's URLs stand like this.
    async fn until_healthy(&self, wanted: &[bool]) {
        let waited = async {
            while self.healthy() != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waited).await.expect("the health is found out");
    }

    async fn create(&self) -> Reply {
        let app = &self.neighbours().treatment;
        let mut grant = self.neighbours().grant(app);
        grant.scope = "user/*.rs user/Observation.cud".to_owned();
        let authorization = format!("Bearer {}", self.neighbours().issuer.mint(&grant).unwrap());
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/fhir+json")];
        let body = serde_json::json!({
            "resourceType": "Observation", "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "subject": {"reference": "Patient/amara-osei"},
        });
        let body = serde_json::to_vec(&body).unwrap();
        app.client.send(Method::POST, &self.url("/Observation"), &headers, body).await.unwrap()
    }

    async fn operators_see(&self, below: &str) -> (u16, String) {
        let url = format!("{}{below}", self.neighbours().admin_url());
        let reply = self.neighbours().anonymous().unwrap().send(Method::GET, &url, &[], "").await.unwrap();
        (reply.status.as_u16(), reply.text())
    }
}

fn posts(ehr: &EhrServer) -> usize {
    ehr.log().iter().filter(|request| request.method == Method::POST).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ehr_that_is_killed_under_load_fails_no_read_and_is_used_again_when_it_is_back() {
    let (stage, second) = two().await;
    let address = second.address();
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU64::new(0));
    let app = &stage.neighbours().treatment;
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (client, token, url) = (app.client.clone(), app.token.clone(), stage.url(PATIENT));
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        load.spawn(async move {
            while !stop.load(Ordering::Acquire) {
                let reply = client.get(&url, &token).await.expect("an answer");
                assert_eq!(reply.status, 200, "{}", reply.text());
                served.fetch_add(1, Ordering::AcqRel);
            }
        });
    }
    let more = async |count: u64| {
        let goal = served.load(Ordering::Acquire) + count;
        while served.load(Ordering::Acquire) < goal && !load.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    more(20).await;
    assert!(!second.log().is_empty(), "both are asked");
    drop(second);
    stage.until_healthy(&[true, false]).await;
    more(20).await;
    let second = stage.neighbours().another_ehr(Some(address)).await.unwrap();
    stage.until_healthy(&[true, true]).await;
    more(40).await;
    assert!(!second.log().is_empty(), "it is asked again");
    stop.store(true, Ordering::Release);
    while let Some(done) = load.join_next().await {
        done.expect("no read failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_may_have_arrived_is_never_sent_again() {
    let (stage, second) = two().await;
    stage.until_healthy(&[true, true]).await;
    assert_eq!(stage.create().await.status, 201);
    for how in [Misbehaviour::DieMidAnswer, Misbehaviour::Unavailable] {
        for ehr in [&stage.neighbours().ehr, &second] {
            ehr.forget();
            ehr.misbehave(Some("Observation"), how.clone());
        }
        let reply = stage.create().await;
        assert!(reply.status.is_server_error(), "{how:?}: {}", reply.text());
        assert_eq!(posts(&stage.neighbours().ehr) + posts(&second), 1, "{how:?}");
        // Its neighbour, a read, is sent to both before it is given up.
        let reply = stage.treatment("/Observation?patient=amara-osei").await;
        assert!(reply.status.is_server_error(), "{how:?}: {}", reply.text());
        let asked = |ehr: &EhrServer| ehr.log().iter().any(|request| request.method == Method::GET);
        assert!(asked(&stage.neighbours().ehr) && asked(&second), "{how:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_not_sent_goes_to_the_other_ehr() {
    let (stage, second) = two().await;
    drop(second);
    for _ in 0..4 {
        let reply = stage.create().await;
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
    assert_eq!(posts(&stage.neighbours().ehr), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_url_away_the_answer_is_503_at_once_with_a_record_and_the_gateway_stays_ready() {
    let (stage, second) = two().await;
    drop(second);
    stage.neighbours().ehr.misbehave(None, Misbehaviour::DieMidAnswer);
    while stage.healthy().contains(&true) {
        let reply = stage.treatment(PATIENT).await;
        assert!(reply.status.is_server_error(), "{}", reply.text());
    }
    let reply = stage.treatment(PATIENT).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|wait| (1..=30).contains(&wait)));
    let record = stage.world.gateway.shared.audit.recent_decision(reply.header("x-request-id")).expect("a record");
    assert_eq!((&record["status"], &record["reason"]), (&503.into(), &"upstream-busy".into()), "{record}");
    let (status, text) = stage.operators_see("/readyz?verbose").await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("upstream main 1") && text.contains("does not answer"), "{text}");
    let (_, metrics) = stage.operators_see("/metrics").await;
    assert!(metrics.contains(r#"fhirwall_upstream_healthy{endpoint="main",url="0"} 0"#), "{metrics}");
    stage.neighbours().ehr.behave();
    stage.until_healthy(&[true, false]).await;
    assert_eq!(stage.treatment(PATIENT).await.status, 200);
    // A reload with the same URLs forgets nothing.
    let mut status = stage.world.gateway.live.subscribe();
    let text = std::fs::read_to_string(stage.neighbours().config_file()).unwrap();
    std::fs::write(stage.neighbours().config_file(), text + "# again\n").unwrap();
    stage.world.gateway.reload();
    tokio::time::timeout(Duration::from_secs(20), status.changed()).await.expect("an attempt").unwrap();
    assert_eq!(stage.healthy(), [true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_ehr_that_dies_is_found_by_asking_it() {
    let dir = TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let text = std::fs::read_to_string(neighbours.config_file()).unwrap();
    std::fs::write(neighbours.config_file(), text.replace("timeout: 10s", "timeout: 10s\n      health_interval: 20ms"))
        .unwrap();
    let stage = Stage { world: World::between(neighbours).unwrap(), _dir: dir };
    let questions = || stage.neighbours().ehr.health_questions();
    let waited = async {
        while questions() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("it is asked again and again");
    assert_eq!(stage.healthy(), [true]);
    stage.neighbours().ehr.misbehave(Some("metadata"), Misbehaviour::Unavailable);
    stage.until_healthy(&[false]).await;
    // In maintenance by its own word (`Retry-After: 7`): it is left alone that long, and clients are told.
    let reply = stage.treatment(PATIENT).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(
        reply.header("retry-after").parse::<u64>().is_ok_and(|wait| (2..=7).contains(&wait)),
        "{:?}",
        reply.headers
    );
    assert_eq!(stage.asked(), Vec::<String>::new());
}
