//! A gateway for outside suites to be turned on, run by `.ci/outside wire`.
//!
//! `wire ORIGIN` stands before a recording origin on that port of loopback, under the name and path that the smuggling cases
//! ask for; `wire` stands before the sample EHR while a partner keeps asking. It says where it is, as lines for a shell; each
//! line on its input asks how the partner was served since the last; the end of its input ends it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement prints its numbers and stops at the first surprise"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fhirwall::demo::client::HttpsClient;
use fhirwall::demo::world::{Neighbours, World};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// What the cases send: `Host: a`, and a path of their own.
const BASE: &str = "https://a/c";

#[derive(Default)]
struct Served {
    well: AtomicU64,
    not: AtomicU64,
    longest: Mutex<Duration>,
}

#[tokio::main]
async fn main() {
    let origin = std::env::args().nth(1);
    let dir = tempfile::TempDir::new().unwrap();
    let neighbours = Neighbours::start(dir.path(), None).await.unwrap();
    prepare(&neighbours, origin.as_deref());
    let world = World::between(neighbours).unwrap();
    world.write_demo_json().unwrap();
    let demo: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.dir().join("demo.json")).unwrap()).unwrap();
    let mut grant = world.grant(&world.treatment);
    if origin.is_some() {
        grant.claims.insert("aud".to_owned(), BASE.into());
    }
    println!("CA={}", demo["ca"].as_str().unwrap());
    println!("CERT={}", world.treatment.certificate.display());
    println!("KEY={}", world.treatment.key.display());
    println!("BEARER={}", world.issuer.mint(&grant).unwrap());
    println!("MTLS={}", world.gateway.addresses[0]);
    println!("OPEN={}", world.gateway.addresses[1]);
    println!("PID={}", std::process::id());
    println!("READY=yes");
    let served = Arc::new(Served::default());
    if origin.is_none() {
        tokio::spawn(ask_on(world_client(&world), url(&world), world.treatment.token.clone(), Arc::clone(&served)));
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(_)) = lines.next_line().await {
        let (well, not) = (served.well.swap(0, Ordering::AcqRel), served.not.swap(0, Ordering::AcqRel));
        let longest = std::mem::take(&mut *served.longest.lock().unwrap());
        println!("{well} served, {not} not, the longest in {} ms", longest.as_millis());
    }
    world.stop().await;
}

fn prepare(neighbours: &Neighbours, origin: Option<&str>) {
    let file = neighbours.config_file();
    let mut text = std::fs::read_to_string(&file).unwrap();
    let much = "requests_per_second: 5000";
    text.push_str(&format!("limits: {{user: {{{much}}}, address: {{{much}, failures_per_minute: 100000}}}}\n"));
    if let Some(port) = origin {
        let line = |start: &str| text.lines().find(|line| line.trim().starts_with(start)).unwrap().to_owned();
        let (base, audience, urls) = (line("base_url: "), line("audience: "), line("urls: "));
        let (ca, certificate, key) = (line("ca_file: "), line("client_certificate_file: "), line("client_key_file: "));
        text = text
            .replacen(&format!("{ca}\n{certificate}\n{key}\n"), "", 1)
            .replace(&base, &format!("    base_url: {BASE}"))
            .replace(&audience, &format!("    audience: [{BASE}]"))
            .replace(&urls, &format!("      urls: [\"http://127.0.0.1:{port}/fhir\"]"));
    }
    std::fs::write(&file, text).unwrap();
    for partner in std::fs::read_dir(neighbours.dir().join("partners")).unwrap() {
        let path = partner.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("requests_per_second: 50,", &format!("{much},"))).unwrap();
    }
}

fn world_client(world: &World) -> HttpsClient {
    let app = &world.treatment;
    let identity = (std::fs::read(&app.certificate).unwrap(), std::fs::read(&app.key).unwrap());
    HttpsClient::http1(&world.site_ca().unwrap(), Some(identity)).unwrap()
}

fn url(world: &World) -> String {
    format!("{}/Patient/amara-osei", world.base_url())
}

/// A partner that asks every 50 ms, whatever else happens.
async fn ask_on(client: HttpsClient, url: String, token: String, served: Arc<Served>) {
    let mut turns = tokio::time::interval(Duration::from_millis(50));
    loop {
        turns.tick().await;
        let begun = Instant::now();
        let answer = tokio::time::timeout(Duration::from_secs(10), client.get(&url, &token)).await;
        let well = matches!(answer, Ok(Ok(reply)) if reply.status == 200);
        (if well { &served.well } else { &served.not }).fetch_add(1, Ordering::AcqRel);
        let mut longest = served.longest.lock().unwrap();
        *longest = (*longest).max(begun.elapsed());
    }
}
