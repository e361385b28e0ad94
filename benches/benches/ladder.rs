//! `cargo bench -p fhirwall-benches --bench ladder`: CPU per request of the gateway's shell and of the whole journey,
//! beside nginx, HAProxy and a minimal pingora, all with TLS 1.3, client certificates and TLS to the EHR, in one run.
//!
//! Each proxy runs alone on CPU 0 with one worker; the client, the EHR and the issuer run on CPU 1. CPU time is the
//! proxy's own, from the scheduler. Rows are interleaved in rounds, and the medians are shown with their spread.

#![expect(clippy::print_stdout, reason = "the bench's output")]

#[path = "ladder/peers.rs"]
mod peers;
#[path = "ladder/rungs.rs"]
mod rungs;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use fhirwall::demo::ehr::Misbehaviour;
use fhirwall::demo::world::Neighbours;
use fhirwall_benches::answers::searchset;
use fhirwall_benches::load::{Target, closed_loop};
use fhirwall_benches::meter::{family, median, on_cpu_nanoseconds};

const CONNECTIONS: usize = 16;
const ROUNDS: usize = 3;
const SECONDS: u64 = 3;

fn main() -> anyhow::Result<()> {
    // Nobody may have installed another provider; if so, that one is used.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    if let (Some(role), Some(dir)) = (arguments.next(), arguments.next()) {
        return rungs::serve(&role, Path::new(&dir));
    }
    if std::env::var_os("FHIRWALL_PINNED").is_none() {
        return peers::again_pinned();
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(climb())
}

struct Row {
    name: &'static str,
    proxy: peers::Proxy,
    cpu: Vec<f64>,
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

async fn climb() -> anyhow::Result<()> {
    let dir = tempfile::tempdir().context("no temporary directory")?;
    let neighbours = Neighbours::start(dir.path(), None).await?;
    peers::unlimit(&neighbours)?;
    let site = peers::Site::of(&neighbours)?;
    println!(
        "{:<28} {:>9} {:>14} {:>9} {:>9} {:>9} {:>8}",
        "", "CPU µs", "spread", "req/s", "p50 ms", "p99 ms", "ratio"
    );
    for (title, bytes) in [("10 KiB answers", 10 * 1024), ("100 KiB answers", 100 * 1024)] {
        neighbours.ehr.misbehave(Some("Observation"), Misbehaviour::Body(searchset(bytes)));
        let mut rows = start_all(&site)?;
        for _ in 0..ROUNDS {
            for row in &mut rows {
                measure(row, &neighbours, &site).await.with_context(|| row.name.to_owned())?;
            }
        }
        println!("{title}");
        let reference = rows.iter().find(|row| row.name == rungs::MINIMAL).map(|row| median(row.cpu.clone()));
        for row in &rows {
            let cpu = median(row.cpu.clone());
            let least = row.cpu.iter().copied().fold(f64::INFINITY, f64::min);
            let most = row.cpu.iter().copied().fold(0.0, f64::max);
            println!(
                "  {:<26} {:>9.1} {:>6.1} – {:<5.1} {:>9.0} {:>9.2} {:>9.2} {:>7.2}x",
                row.name,
                cpu,
                least,
                most,
                median(row.rate.clone()),
                median(row.p50.clone()),
                median(row.p99.clone()),
                cpu / reference.unwrap_or(f64::NAN),
            );
        }
    }
    println!(
        "ratio: CPU per request to minimal pingora with mTLS in this run; {CONNECTIONS} connections, {ROUNDS} rounds of {SECONDS} s"
    );
    Ok(())
}

fn start_all(site: &peers::Site) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, start) in rungs::ALL {
        match start(site) {
            Ok(proxy) => rows.push(Row { name, proxy, cpu: vec![], rate: vec![], p50: vec![], p99: vec![] }),
            Err(error) => println!("  {name}: not measured: {error:#}"),
        }
    }
    Ok(rows)
}

async fn measure(row: &mut Row, neighbours: &Neighbours, site: &peers::Site) -> anyhow::Result<()> {
    let target = Target {
        address: row.proxy.address,
        tls: site.client_tls.clone(),
        path: "/fhir/Observation?patient=amara-osei".to_owned(),
        token: neighbours.treatment.token.clone(),
    };
    // Warm: connections, caches, tokens.
    closed_loop(&target, CONNECTIONS, Duration::from_millis(500)).await?;
    let pids = family(row.proxy.pid());
    let before = on_cpu_nanoseconds(&pids);
    let run = closed_loop(&target, CONNECTIONS, Duration::from_secs(SECONDS)).await?;
    let spent = on_cpu_nanoseconds(&pids).saturating_sub(before);
    neighbours.ehr.forget();
    row.cpu.push(spent as f64 / 1_000.0 / run.requests.max(1) as f64);
    row.rate.push(run.requests as f64 / run.seconds);
    row.p50.push(run.percentile(50).as_secs_f64() * 1_000.0);
    row.p99.push(run.percentile(99).as_secs_f64() * 1_000.0);
    Ok(())
}
