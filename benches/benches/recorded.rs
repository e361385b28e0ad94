//! What a request waits for its record, and what that costs the CPU.
//!
//! `cargo bench -p fhirwall-benches --bench recorded`. As in the gateway, a disclosure is waited for and the end of its answer
//! only chained. One request after another, then 64 at once; synced before the answer, then not synced; and beside them the
//! same bytes appended by hand. The directory is in `FHIRWALL_BENCH_DIR` (a tmpfs, a disk), else in the system's temporary one.
//! CPU is that of the whole process, from the scheduler's account.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program that measures may stop at the first surprise")]

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use fhirwall::audit::{AuditConfig, AuditLog, AuditRecord, Durability, End, Record, SigningKey};
use fhirwall::clock::SystemClock;
use fhirwall_benches::meter::{median, on_cpu_nanoseconds};

const REQUESTS: u32 = 4096;

fn main() {
    println!("{:34} {:>14} {:>14}", "", "p50 wait", "CPU a request");
    for at_once in [1, 64] {
        for durability in [Durability::BeforeResponse, Durability::DangerousUnsynced] {
            let (waits, cpu) = logged(durability, at_once);
            tell(&format!("{durability:?}, {at_once} at once"), waits, cpu);
        }
        for synced in [true, false] {
            let (waits, cpu) = plain(synced, at_once);
            tell(&format!("plain write, synced: {synced}, {at_once} at once"), waits, cpu);
        }
    }
}

fn tell(what: &str, waits: Vec<f64>, cpu: f64) {
    println!("{what:44} {:>9.1} µs {cpu:>9.2} µs", median(waits));
}

fn directory() -> tempfile::TempDir {
    std::env::var("FHIRWALL_BENCH_DIR").map_or_else(|_| tempfile::tempdir(), tempfile::tempdir_in).unwrap()
}

fn disclosure() -> Record {
    Record::disclosure(AuditRecord {
        decision: "0198c0de-0000-7000-8000-000000000000".to_owned(),
        interaction: "search-type".to_owned(),
        partner: "recovery-path".into(),
        issuer: "https://idp.example.org/realms/hospital".into(),
        user: "5f0c1b0e-7a55-4c1e-9a39-2f1f0f3ad7c1".into(),
        token: "jti-0123456789".into(),
        patients: vec!["p1".to_owned()],
        instances: (0..10).map(|n| format!("Observation/o{n}")).collect(),
        status: Some(200),
        ..AuditRecord::default()
    })
}

/// Microseconds that each request waited, and of CPU for each.
fn logged(durability: Durability, at_once: u32) -> (Vec<f64>, f64) {
    let dir = directory();
    let config = AuditConfig { durability, ..AuditConfig::new(dir.path(), SigningKey::generate().unwrap().0) };
    let log = AuditLog::open(config, Arc::new(SystemClock)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let before = on_cpu_nanoseconds(&[std::process::id()]);
    let waits = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..at_once {
            let log = Arc::clone(&log);
            tasks.spawn(async move {
                let mut waits = Vec::new();
                for _ in 0..REQUESTS / at_once {
                    let asked = Instant::now();
                    log.record(disclosure()).await.unwrap();
                    waits.push(asked.elapsed().as_secs_f64() * 1e6);
                    log.note(Record::end(End::default()));
                }
                waits
            });
        }
        let mut all = Vec::new();
        while let Some(waits) = tasks.join_next().await {
            all.extend(waits.unwrap());
        }
        log.sign_head().await;
        all
    });
    let cpu = on_cpu_nanoseconds(&[std::process::id()]).saturating_sub(before);
    runtime.block_on(log.close());
    (waits, per_request(cpu))
}

/// The same bytes, written and synced once for all that wait.
fn plain(synced: bool, at_once: u32) -> (Vec<f64>, f64) {
    let dir = directory();
    let mut file = std::fs::File::create(dir.path().join("plain")).unwrap();
    let batch = ("x".repeat(1000) + "\n").repeat(usize::try_from(at_once).unwrap());
    let before = on_cpu_nanoseconds(&[std::process::id()]);
    let mut waits = Vec::new();
    for _ in 0..REQUESTS / at_once {
        let asked = Instant::now();
        file.write_all(batch.as_bytes()).unwrap();
        if synced {
            file.sync_data().unwrap();
        }
        waits.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    let cpu = on_cpu_nanoseconds(&[std::process::id()]).saturating_sub(before);
    (waits, per_request(cpu))
}

fn per_request(nanoseconds: u64) -> f64 {
    let microseconds = std::time::Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6;
    microseconds / f64::from(REQUESTS)
}
