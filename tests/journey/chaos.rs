//! Neighbours that fail in every way while apps go on asking: nothing is shown that may not be, nothing without its record,
//! and all is well again within seconds of their return.

mod way;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fhirwall::audit::Kind;
use fhirwall::audit::read::{Filter, entries};
use fhirwall::demo::client::HttpsClient;
use fhirwall::demo::world::{Neighbours, World};
use tempfile::TempDir;

use crate::Stage;
use way::{Fault, Way};

/// Seconds that each fault lasts; a soak makes them more.
const LASTING: &str = "FHIRWALL_CHAOS_SECONDS";
const RETURN: Duration = Duration::from_secs(5);
const FAULTS: [Fault; 9] = [
    Fault::Refused,
    Fault::Delay(Duration::from_millis(200)),
    Fault::Cut,
    Fault::Reset,
    Fault::Stalled,
    Fault::HalfClosed,
    Fault::Bandwidth(4_000),
    Fault::Garbage,
    Fault::None,
];

/// An app that asks without pause, and what it was told.
struct Asking {
    client: HttpsClient,
    token: String,
    url: String,
    /// Stands in every whole answer.
    whole: &'static str,
    /// Stands in none.
    never: &'static str,
}

#[derive(Default)]
struct Heard {
    served: std::sync::Mutex<BTreeSet<String>>,
    refused: AtomicUsize,
    latest: std::sync::Mutex<Option<Instant>>,
}

impl Asking {
    async fn until(&self, done: &AtomicBool, heard: &Heard) {
        while !done.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let reply = self.client.get(&self.url, &self.token).await.expect("the gateway itself always answers");
            let text = reply.text();
            assert!(!text.contains(self.never), "{}: {text}", self.url);
            match reply.status.as_u16() {
                200 => {
                    assert!(text.contains(self.whole), "half an answer of {}: {text}", self.url);
                    heard.served.lock().unwrap().insert(reply.header("x-request-id").to_owned());
                    *heard.latest.lock().unwrap() = Some(asked);
                }
                status => {
                    assert!((502..=504).contains(&status), "{status} of {}: {text}", self.url);
                    heard.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// The world with a way before the EHR and one before the issuer.
async fn world() -> (Stage, Way, Way) {
    let dir = TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    let to_ehr = Way::to(neighbours.ehr.address()).await;
    let (base, issuer) = (neighbours.ehr.base_url(), neighbours.issuer.issuer());
    let to_issuer = Way::to(at(&issuer)).await;
    let path = neighbours.config_file();
    let text = std::fs::read_to_string(&path).unwrap();
    let by_way = |url: &str, way: &Way| url.replace(&at(url).to_string(), &way.address.to_string());
    let text = text
        .replace(&format!("urls: [{base}]"), &format!("urls: [{}]", by_way(&base, &to_ehr)))
        .replace("timeout: 10s", "timeout: 1s")
        .replace(
            &format!("- issuer: {issuer}\n"),
            &format!("- issuer: {issuer}\n    jwks_uri: {}/jwks\n    jwks_refresh: 1s\n", by_way(&issuer, &to_issuer)),
        );
    let limits = "{requests_per_second: 100000}";
    std::fs::write(&path, format!("{text}limits: {{user: {limits}, partner: {limits}, address: {limits}}}\n")).unwrap();
    for partner in std::fs::read_dir(neighbours.dir().join("partners")).unwrap() {
        let path = partner.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("requests_per_second: 50,", "requests_per_second: 100000,")).unwrap();
    }
    let stage = Stage { world: World::between(neighbours).unwrap(), _dir: dir };
    (stage, to_ehr, to_issuer)
}

fn at(url: &str) -> SocketAddr {
    let authority = url.strip_prefix("https://").unwrap();
    authority.split('/').next().unwrap().parse().unwrap()
}

fn apps(stage: &Stage) -> Vec<Asking> {
    let neighbours = stage.neighbours();
    let asking = |app: &fhirwall::demo::apps::App, below: &str, whole, never| Asking {
        client: app.client.clone(),
        token: app.token.clone(),
        url: stage.url(below),
        whole,
        never,
    };
    vec![
        asking(&neighbours.treatment, "/Condition?patient=amara-osei", "amara-opioid-use", "bruno-"),
        // Without a consent the same search hides the same record, whatever happens.
        asking(&neighbours.research, "/Condition?patient=amara-osei", "searchset", "amara-opioid-use"),
        asking(&neighbours.treatment, "/Patient/bruno-vale", "bruno-vale", "amara"),
    ]
}

/// Lets the neighbour behind `way` fail in every way under load, and holds every answer to the record.
async fn storm(stage: &Stage, way: &Way, must_refuse: bool) {
    let lasting = std::env::var(LASTING).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (done, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(Heard::default()));
    let load: Vec<_> = apps(stage)
        .into_iter()
        .map(|app| {
            let (done, heard) = (Arc::clone(&done), Arc::clone(&heard));
            tokio::spawn(async move { app.until(&done, &heard).await })
        })
        .collect();
    for fault in FAULTS {
        way.now(fault);
        tokio::time::sleep(Duration::from_secs(lasting)).await;
        way.now(Fault::None);
        let returned = Instant::now();
        // A whole answer to a question that was asked after the return.
        while heard.latest.lock().unwrap().is_none_or(|asked| asked < returned) {
            assert!(load.iter().all(|app| !app.is_finished()), "an app met what it may not, under {fault:?}");
            assert!(returned.elapsed() < RETURN, "no answer {RETURN:?} after {fault:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    done.store(true, Ordering::Relaxed);
    for app in load {
        app.await.expect("nothing but whole answers and refusals");
    }
    let filter = Filter { kinds: vec![Kind::Disclosure], ..Filter::default() };
    let recorded = entries(&stage.neighbours().audit_dir(), None, &filter).unwrap();
    let recorded: BTreeSet<String> =
        recorded.iter().filter_map(|entry| entry.record()).map(|record| record.decision).collect();
    let served = heard.served.lock().unwrap();
    let missing: Vec<_> = served.difference(&recorded).collect();
    assert!(missing.is_empty(), "{} of {} answers are not on record", missing.len(), served.len());
    assert!(!served.is_empty());
    let refused = heard.refused.load(Ordering::Relaxed);
    assert_eq!(refused > 0, must_refuse, "{refused} refusals, {} answers", served.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ehr_that_fails_in_every_way_costs_answers_and_never_a_leak() {
    let (stage, to_ehr, _to_issuer) = world().await;
    storm(&stage, &to_ehr, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_fails_in_every_way_stops_nobody_whose_keys_are_known() {
    let (stage, _to_ehr, to_issuer) = world().await;
    for app in apps(&stage) {
        assert_eq!(app.client.get(&app.url, &app.token).await.unwrap().status, 200);
    }
    storm(&stage, &to_issuer, false).await;
}
