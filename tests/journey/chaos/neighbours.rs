//! The shared state and the sinks of the record, failing in every way under load.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fhirwall::audit::verify::verify;

use super::way::{Fault, Way};
use super::{Load, lasting, world_with};
use crate::Stage;
use crate::receiver::Receiver;
use crate::sinks::sequence;

/// A redis-server of our own, without persistence.
struct Redis(Child, SocketAddr);

impl Redis {
    fn start_at(address: SocketAddr) -> Option<Self> {
        let port = address.port().to_string();
        let options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port];
        let Ok(child) = Command::new("redis-server").args(options).stdout(Stdio::null()).spawn() else {
            eprintln!("skipped: there is no redis-server (apt-get install redis-server)");
            return None;
        };
        while std::net::TcpStream::connect(address).is_err() {
            std::thread::yield_now();
        }
        Some(Self(child, address))
    }

    fn start() -> Option<Self> {
        Self::start_at(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The world whose replicas would share their state in this Redis, over a way.
async fn sharing(redis: &Redis) -> (Stage, Way, [Way; 2]) {
    let way = Way::to(redis.1).await;
    let url = format!("redis://{}/0", way.address);
    let shared = |text: String| text.replace("state: {dir: state}", "state: {dir: state, redis_url: \"${REDIS_URL}\"}");
    let (stage, to_ehr, to_issuer) =
        world_with(shared, Arc::new(move |name| (name == "REDIS_URL").then(|| url.clone()))).await;
    let state = stage.world.gateway.shared.redis.as_ref().unwrap();
    state.refresh().await.unwrap();
    (stage, way, [to_ehr, to_issuer])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_state_that_fails_in_every_way_stops_nobody_and_forgets_no_revocation() {
    let Some(redis) = Redis::start() else { return };
    let (stage, way, _others) = sharing(&redis).await;
    let state = stage.world.gateway.shared.redis.as_ref().unwrap();
    let load = Load::on(&stage).await;
    load.under(&way, async || state.refresh().await.is_ok()).await;
    load.over(&stage, Some(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_state_that_is_stalled_killed_and_comes_back_empty_stops_nobody_and_forgets_no_revocation() {
    let Some(redis) = Redis::start() else { return };
    let (stage, _way, _others) = sharing(&redis).await;
    let state = stage.world.gateway.shared.redis.as_ref().unwrap();
    let back = async || state.refresh().await.is_ok();
    let load = Load::on(&stage).await;
    redis.signal("-STOP");
    tokio::time::sleep(lasting()).await;
    redis.signal("-CONT");
    load.returned("a stalled process", back).await;
    let address = redis.1;
    drop(redis);
    tokio::time::sleep(lasting()).await;
    assert!(state.refresh().await.is_err(), "it is gone");
    let _redis = Redis::start_at(address).unwrap();
    load.returned("a killed process", back).await;
    load.over(&stage, Some(false)).await;
}

/// The world that tells its record to this receiver, over a way.
async fn telling(receiver: &Receiver, more: &str) -> (Stage, Way, [Way; 2]) {
    let way = Way::to(receiver.address).await;
    let sink = format!("{{kind: ocsf, url: \"http://{}/siem\"{more}}}", way.address);
    let told = |text: String| text.replace("audit: {dir: audit,", &format!("audit: {{sinks: [{sink}], dir: audit,"));
    let (stage, to_ehr, to_issuer) = world_with(told, Arc::new(|_| None)).await;
    (stage, way, [to_ehr, to_issuer])
}

/// What the sink took since the way was well again.
struct Progress<'r>(&'r Receiver, AtomicUsize);

impl Progress<'_> {
    fn mark(&self) {
        self.1.store(self.0.count(), Ordering::Relaxed);
    }

    fn is_made(&self) -> bool {
        self.0.count() > self.1.load(Ordering::Relaxed)
    }
}

/// Lets the sink fail in every way under load, then compares what it was told with the record.
async fn sink_storm(more: &str, must_refuse: Option<bool>) {
    let receiver = Receiver::start();
    let (stage, way, _others) = telling(&receiver, more).await;
    let load = Load::on(&stage).await;
    let progress = Progress(&receiver, AtomicUsize::new(0));
    for fault in super::FAULTS {
        way.now(fault);
        tokio::time::sleep(lasting()).await;
        way.now(Fault::None);
        progress.mark();
        load.returned(&format!("{fault:?}"), async || progress.is_made()).await;
    }
    let served = load.over(&stage, must_refuse).await;
    if must_refuse.is_none() {
        // Each was acknowledged before it was answered.
        let told = receiver.text();
        let untold: Vec<_> = served.iter().filter(|decision| !told.contains(decision.as_str())).collect();
        assert!(untold.is_empty(), "{} of {} answers left before the sink knew", untold.len(), served.len());
    }
    let Stage { world, _dir: dir } = stage;
    world.gateway.shutdown(Duration::from_secs(10)).await;
    let last = verify(&dir.path().join("audit"), &Default::default()).unwrap();
    assert!(last.finding.is_none(), "{:?}", last.finding);
    // Perhaps twice, and nothing not at all.
    let mut told = sequence(&receiver.text());
    told.sort_unstable();
    told.dedup();
    let missing: Vec<u64> = (1..=last.last_seq).filter(|seq| told.binary_search(seq).is_err()).collect();
    assert!(
        missing.is_empty(),
        "{} of {} records were never told, the first {:?}",
        missing.len(),
        last.last_seq,
        missing.first()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_in_every_way_holds_up_nobody_and_misses_nothing() {
    sink_storm("", Some(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_must_acknowledge_and_fails_in_every_way_knows_of_each_answer_first() {
    // While it is away an answer waits; one that waits too long is a 503.
    sink_storm(", acknowledged: true", None).await;
}
