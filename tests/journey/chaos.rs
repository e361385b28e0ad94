//! Neighbours that fail in every way while apps go on asking: nothing is shown that may not be, nothing without its record,
//! and all is well again within seconds of their return.

mod neighbours;
mod way;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fhirwall::audit::Kind;
use fhirwall::audit::read::{Filter, entries};
use fhirwall::clock::SystemClock;
use fhirwall::demo::client::HttpsClient;
use fhirwall::demo::world::{Neighbours, World};
use fhirwall::reload::Timing;
use fhirwall::serve::{Start, Variables, prepare_in};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::Stage;
use crate::revocations::claim;
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

fn lasting() -> Duration {
    Duration::from_secs(std::env::var(LASTING).ok().and_then(|text| text.parse().ok()).unwrap_or(1))
}

/// An app that asks without pause, and what it was told.
struct Asking {
    client: HttpsClient,
    token: String,
    url: String,
    /// Stands in every whole answer; `None` for one that must get none.
    whole: Option<&'static str>,
    /// Stands in none.
    never: &'static str,
}

#[derive(Default)]
struct Heard {
    served: std::sync::Mutex<BTreeSet<String>>,
    refused: AtomicUsize,
    turned_away: AtomicUsize,
    latest: std::sync::Mutex<Option<Instant>>,
}

impl Asking {
    async fn until(&self, done: &AtomicBool, heard: &Heard) {
        while !done.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let reply = self.client.get(&self.url, &self.token).await.expect("the gateway itself always answers");
            let text = reply.text();
            assert!(!text.contains(self.never), "{}: {text}", self.url);
            match (reply.status.as_u16(), self.whole) {
                (200, Some(whole)) => {
                    assert!(text.contains(whole), "half an answer of {}: {text}", self.url);
                    heard.served.lock().unwrap().insert(reply.header("x-request-id").to_owned());
                    *heard.latest.lock().unwrap() = Some(asked);
                }
                (401, None) => {
                    heard.turned_away.fetch_add(1, Ordering::Relaxed);
                    // It is there to be refused, not to keep the machine busy.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                (status, _) => {
                    assert!((502..=504).contains(&status), "{status} of {}: {text}", self.url);
                    heard.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// The world with a way before the EHR and one before the issuer.
async fn world() -> (Stage, Way, Way) {
    world_with(|text| text, Arc::new(|_| None)).await
}

/// As [`world`], on a configuration that is changed beforehand, in an environment of these variables.
async fn world_with(change: impl FnOnce(String) -> String, variables: Variables) -> (Stage, Way, Way) {
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
    let text = change(text);
    let address = "{requests_per_second: 100000, failures_per_minute: 1000000}";
    std::fs::write(&path, format!("{text}limits: {{user: {limits}, partner: {limits}, address: {address}}}\n"))
        .unwrap();
    for partner in std::fs::read_dir(neighbours.dir().join("partners")).unwrap() {
        let path = partner.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("requests_per_second: 50,", "requests_per_second: 100000,")).unwrap();
    }
    let clock = Arc::new(SystemClock);
    let prepared = prepare_in(Start::Anew, &neighbours.config_file(), clock, Timing::default(), variables).unwrap();
    let stage = Stage { world: World { gateway: prepared.serve().unwrap(), neighbours }, _dir: dir };
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
        whole: Some(whole),
        never,
    };
    vec![
        asking(&neighbours.treatment, "/Condition?patient=amara-osei", "amara-opioid-use", "bruno-"),
        // Without a consent the same search hides the same record, whatever happens.
        asking(&neighbours.research, "/Condition?patient=amara-osei", "searchset", "amara-opioid-use"),
        asking(&neighbours.treatment, "/Patient/bruno-vale", "bruno-vale", "amara"),
    ]
}

/// One with a revoked token, and one with a token that was stolen from another.
async fn turned_away(stage: &Stage) -> Vec<Asking> {
    let neighbours = stage.neighbours();
    let app = &neighbours.patient;
    let token = neighbours.issuer.mint(&neighbours.grant(app)).unwrap();
    let what = serde_json::json!({"token": {"issuer": neighbours.issuer.issuer(), "id": claim(&token, "jti")}});
    let order = serde_json::json!({"what": what, "by": "security desk", "reason": "lost phone"});
    assert_eq!(stage.order(&order.to_string(), true).await.status, 204);
    let asking = |client: &HttpsClient, token: &str| Asking {
        client: client.clone(),
        token: token.to_owned(),
        url: stage.url("/Patient/amara-osei"),
        whole: None,
        never: "\"Patient\"",
    };
    vec![asking(&app.client, &token), asking(&neighbours.research.client, &neighbours.treatment.token)]
}

/// Apps that ask all the while, and what they heard.
struct Load {
    apps: Vec<JoinHandle<()>>,
    done: Arc<AtomicBool>,
    heard: Arc<Heard>,
}

impl Load {
    async fn on(stage: &Stage) -> Self {
        let (done, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(Heard::default()));
        let mut all = apps(stage);
        all.extend(turned_away(stage).await);
        let apps = all.into_iter().map(|app| {
            let (done, heard) = (Arc::clone(&done), Arc::clone(&heard));
            tokio::spawn(async move { app.until(&done, &heard).await })
        });
        Self { apps: apps.collect(), done, heard }
    }

    /// Waits for a whole answer to a question that was asked from now on, and for what else is said to be `back`.
    async fn returned(&self, from: &str, back: impl AsyncFn() -> bool) {
        let returned = Instant::now();
        let asked = || self.heard.latest.lock().unwrap().is_some_and(|asked| asked >= returned);
        while !(asked() && back().await) {
            assert!(self.apps.iter().all(|app| !app.is_finished()), "an app met what it may not, under {from}");
            assert!(returned.elapsed() < RETURN, "not back {RETURN:?} after {from}; an answer: {}", asked());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets the neighbour behind `way` fail in every way.
    async fn under(&self, way: &Way, back: impl AsyncFn() -> bool) {
        for fault in FAULTS {
            way.now(fault);
            tokio::time::sleep(lasting()).await;
            way.now(Fault::None);
            self.returned(&format!("{fault:?}"), &back).await;
        }
    }

    /// Holds every answer to the record; gives the decisions that were served. `must_refuse`: must any be a 5xx, or none?
    async fn over(self, stage: &Stage, must_refuse: Option<bool>) -> BTreeSet<String> {
        self.done.store(true, Ordering::Relaxed);
        for app in self.apps {
            app.await.expect("nothing but whole answers and refusals");
        }
        let filter = Filter { kinds: vec![Kind::Disclosure], ..Filter::default() };
        let recorded = entries(&stage.neighbours().audit_dir(), None, &filter).unwrap();
        let recorded: BTreeSet<String> =
            recorded.iter().filter_map(|entry| entry.record()).map(|record| record.decision).collect();
        let served = self.heard.served.lock().unwrap().clone();
        let missing: Vec<_> = served.difference(&recorded).collect();
        assert!(missing.is_empty(), "{} of {} answers are not on record", missing.len(), served.len());
        assert!(!served.is_empty());
        let refused = self.heard.refused.load(Ordering::Relaxed);
        let as_wished = must_refuse.is_none_or(|must| must == (refused > 0));
        assert!(as_wished, "{refused} refusals, {} answers", served.len());
        assert!(self.heard.turned_away.load(Ordering::Relaxed) > 0);
        served
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ehr_that_fails_in_every_way_costs_answers_and_never_a_leak() {
    let (stage, to_ehr, _to_issuer) = world().await;
    let load = Load::on(&stage).await;
    load.under(&to_ehr, async || true).await;
    load.over(&stage, Some(true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_fails_in_every_way_stops_nobody_whose_keys_are_known() {
    let (stage, _to_ehr, to_issuer) = world().await;
    for app in apps(&stage) {
        assert_eq!(app.client.get(&app.url, &app.token).await.unwrap().status, 200);
    }
    let load = Load::on(&stage).await;
    load.under(&to_issuer, async || true).await;
    load.over(&stage, Some(false)).await;
}
