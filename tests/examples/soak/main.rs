//! A soak: the gateway, as a process of its own, under a steady mixture of good and bad requests while its neighbours (EHR,
//! issuer, shared state, sink of the record) fail in turn in every way. Run by `.ci/parts/soak`:
//! `soak GATEWAY MINUTES`, where GATEWAY is the `fhirwall` binary.
//!
//! The load is open: requests are sent at a constant rate, whatever becomes of those before. Held throughout: no refused caller is
//! served, nobody is shown what is hidden from them, whoever is permitted gets a whole answer or a 5xx, each neighbour is used
//! again within five seconds of its return. Held at the end: every answer is on record, the chain verifies, the sink was
//! told every record, memory stopped growing after the warm-up, file descriptors are back.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement prints its numbers and stops at the first surprise"
)]

mod load;
mod measure;
mod site;
#[path = "../../journey/chaos/way.rs"]
mod way;

use std::sync::Arc;
use std::time::{Duration, Instant};

use load::{Heard, Load};
use measure::Samples;
use site::{Redis, Site};
use way::{Fault, Way};

/// How long a neighbour fails, and how long it is left in peace afterwards.
const LASTING: Duration = Duration::from_secs(2);
const PEACE: Duration = Duration::from_millis(500);
const RETURN: Duration = Duration::from_secs(5);
const FAULTS: [Fault; 8] = [
    Fault::Refused,
    Fault::Delay(Duration::from_millis(200)),
    Fault::Cut,
    Fault::Reset,
    Fault::Stalled,
    Fault::HalfClosed,
    Fault::Bandwidth(4_000),
    Fault::Garbage,
];

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(gateway), Some(minutes)) = (arguments.next(), arguments.next()) else { panic!("soak GATEWAY MINUTES") };
    let lasting = Duration::from_secs_f64(minutes.parse::<f64>().unwrap() * 60.0);
    let mut site = Site::start(&gateway).await;
    let heard = Arc::new(Heard::default());
    // Everything is asked once and its connections are let go: what stays open is the gateway's own.
    let load = Load::on(&site, &heard).await;
    load.once().await;
    drop(load);
    let begun_with = measure::settled(site.pid(), 0).await;
    println!("{} descriptors when nobody asks", begun_with.descriptors);
    let samples = Samples::of(site.pid(), Arc::clone(&heard));
    let load = Load::on(&site, &heard).await.begin();
    let (end, mut blows) = (Instant::now() + lasting, 0);
    while Instant::now() < end {
        blows += storm(&mut site, &heard, end).await;
    }
    load.end().await;
    let samples = samples.end().await;
    println!("{blows} times a neighbour failed");
    heard.print();
    let ended_with = measure::settled(site.pid(), begun_with.descriptors).await;
    println!("{} descriptors when nobody asks any more", ended_with.descriptors);
    println!("connections: {:?}", measure::connections_to(site.pid(), &site.ports()));
    // A pooled connection to each neighbour may stay where there was none before.
    assert!(ended_with.descriptors <= begun_with.descriptors + 4, "descriptors leak");
    samples.hold();
    site.end(&heard).await;
    println!("no finding");
}

/// Each neighbour fails in each way, one after the other.
async fn storm(site: &mut Site, heard: &Heard, end: Instant) -> usize {
    let mut blows = 0;
    for (name, of) in NEIGHBOURS {
        for fault in FAULTS {
            if Instant::now() >= end {
                return blows;
            }
            blows += 1;
            of(site).now(fault);
            tokio::time::sleep(LASTING).await;
            of(site).now(Fault::None);
            back(site, heard, &format!("{name}, {fault:?}")).await;
        }
    }
    site.neighbours.ehr.forget();
    site.restart_ehr(LASTING).await;
    back(site, heard, "the EHR, killed").await;
    blows += 1;
    if let Some(redis) = site.redis.take() {
        redis.signal("-STOP");
        tokio::time::sleep(LASTING).await;
        redis.signal("-CONT");
        back(site, heard, "the shared state, stopped").await;
        let address = redis.address();
        drop(redis);
        tokio::time::sleep(LASTING).await;
        site.redis = Redis::start_at(address);
        back(site, heard, "the shared state, killed and empty").await;
        blows += 2;
    }
    blows
}

type Of = fn(&Site) -> &Way;
const NEIGHBOURS: [(&str, Of); 4] = [
    ("the EHR", |site| &site.to_ehr),
    ("the issuer", |site| &site.to_issuer),
    ("the shared state", |site| &site.to_redis),
    ("the sink", |site| &site.to_sink),
];

/// Waits for a whole answer to a question asked after the return, and for the sink to be told on.
async fn back(site: &Site, heard: &Heard, after: &str) {
    let (returned, told) = (Instant::now(), site.sink.count());
    while !(heard.served_since(returned) && site.sink.count() > told) {
        heard.hold();
        assert!(returned.elapsed() < RETURN, "not back within {RETURN:?} after {after}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    heard.was_back(returned.elapsed());
    site.neighbours.ehr.forget();
    tokio::time::sleep(PEACE).await;
}
