//! `cargo bench -p fhirwall-benches --bench ladder`: CPU per request of the gateway's shell and of the whole journey,
//! beside nginx, HAProxy and a minimal pingora, all with TLS 1.3, client certificates and TLS to the EHR, in one run.
//!
//! Each proxy runs alone on CPU 0 with one worker; the client, the EHR and the issuer run on CPU 1. CPU time is the
//! proxy's own, from the scheduler. Rows are interleaved in rounds, and the medians are shown with their spread.
//!
//! With `-- alternatives FILE`: the journey beside what else a site could put there, and a page with plots in the file.

#![expect(clippy::print_stdout, reason = "the bench's output")]
#![expect(clippy::indexing_slicing, reason = "configurations and answers of known shape")]

#[path = "ladder/alternatives.rs"]
mod alternatives;
#[path = "ladder/configs.rs"]
mod configs;
#[path = "ladder/page.rs"]
mod page;
#[path = "ladder/peers.rs"]
mod peers;
#[path = "ladder/rows.rs"]
mod rows;
#[path = "ladder/rungs.rs"]
mod rungs;

use std::path::Path;

use anyhow::Context as _;
use fhirwall::demo::ehr::Misbehaviour;
use fhirwall::demo::world::Neighbours;
use fhirwall_benches::answers::searchset;
use rows::{CONNECTIONS, Row};

/// As the gateway's binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 3;
const SECONDS: u64 = 3;

/// The answers that are measured.
const SIZES: [(&str, usize); 2] = [("10 KiB answers", 10 * 1024), ("100 KiB answers", 100 * 1024)];

fn main() -> anyhow::Result<()> {
    // Nobody may have installed another provider; if so, that one is used.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let alternatives = match words.as_slice() {
        [] => None,
        ["alternatives", page] => Some(Path::new(page)),
        [role, dir] => return rungs::serve(role, Path::new(dir)),
        _ => anyhow::bail!("nothing, or `alternatives` and a file for the page with plots"),
    };
    if std::env::var_os("FHIRWALL_PINNED").is_none() {
        return peers::again_pinned();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match alternatives {
        Some(page) => runtime.block_on(alternatives::compare(page)),
        None => runtime.block_on(climb()),
    }
}

async fn climb() -> anyhow::Result<()> {
    let dir = tempfile::tempdir().context("no temporary directory")?;
    let neighbours = Neighbours::start(dir.path(), None).await?;
    peers::unlimit(&neighbours)?;
    let site = peers::Site::of(&neighbours, &neighbours.treatment)?;
    println!(
        "{:<28} {:>9} {:>14} {:>9} {:>9} {:>9} {:>8}",
        "", "CPU µs", "spread", "req/s", "p50 ms", "p99 ms", "ratio"
    );
    for (title, bytes) in SIZES {
        neighbours.ehr.misbehave(Some("Observation"), Misbehaviour::Body(searchset(bytes)));
        let mut rows = start_all(&site, &neighbours.treatment.token);
        for _ in 0..ROUNDS {
            for row in &mut rows {
                row.saturate(&neighbours, SECONDS).await.with_context(|| row.name.to_owned())?;
            }
        }
        println!("{title}");
        let reference = rows.iter().find(|row| row.name == rungs::MINIMAL).map(Row::cpu);
        for row in &rows {
            let (least, most) = row.spread();
            println!(
                "  {:<26} {:>9.1} {:>6.1} – {:<5.1} {:>9.0} {:>9.2} {:>9.2} {:>7.2}x",
                row.name,
                row.cpu(),
                least,
                most,
                row.rate(),
                row.p50(),
                row.p99(),
                row.cpu() / reference.unwrap_or(f64::NAN),
            );
        }
    }
    println!(
        "ratio: CPU per request to minimal pingora with mTLS in this run; {CONNECTIONS} connections, {ROUNDS} rounds of {SECONDS} s"
    );
    Ok(())
}

fn start_all(site: &peers::Site, token: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, start) in rungs::ALL {
        match start(site) {
            Ok(proxy) => rows.push(Row::new(name, proxy, site.target(token))),
            Err(error) => println!("  {name}: not measured: {error:#}"),
        }
    }
    rows
}
