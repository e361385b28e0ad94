//! What a record, a quota and a judgement cost.
//!
//! `cargo bench -p fhirwall-benches --bench audit`. Records go to a directory of `FHIRWALL_BENCH_DIR` (say, a tmpfs or a
//! disk), else of the system's temporary directory; 64 wait at once, as under load. Times are wall time a record.
#![expect(clippy::unwrap_used, reason = "a program that measures may stop at the first surprise")]

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use divan::Bencher;
use fhirwall::admit::{Admission, Limits, Rate, Ticks};
use fhirwall::audit::{AuditConfig, AuditLog, AuditRecord, Durability, Record, SigningKey};
use fhirwall::behaviour::{Behaviour, Observation, Settings};
use fhirwall::clock::{Clock, SystemClock};
use fhirwall::state::{EmbeddedState, Sizes};
use time::OffsetDateTime;

fn main() {
    divan::main();
}

const AT_ONCE: usize = 64;

fn record() -> Record {
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

#[divan::bench(args = [Durability::BeforeResponse, Durability::DangerousUnsynced])]
fn sixty_four_records(bencher: Bencher<'_, '_>, durability: &Durability) {
    let dir = std::env::var("FHIRWALL_BENCH_DIR").map_or_else(|_| tempfile::tempdir(), tempfile::tempdir_in).unwrap();
    let config =
        AuditConfig { durability: *durability, ..AuditConfig::new(dir.path(), SigningKey::generate().unwrap().0) };
    let log = AuditLog::open(config, Arc::new(SystemClock)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    bencher.counter(divan::counter::ItemsCount::new(AT_ONCE)).bench_local(|| {
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..AT_ONCE {
                let log = Arc::clone(&log);
                tasks.spawn(async move { log.record(record()).await });
            }
            while let Some(done) = tasks.join_next().await {
                done.unwrap().unwrap();
            }
        });
    });
    runtime.block_on(log.close());
}

/// The same bytes appended and synced by hand, 64 at once: what a disk takes, without chain, thread and waiting.
#[divan::bench]
fn sixty_four_plain_lines(bencher: Bencher<'_, '_>) {
    let dir = std::env::var("FHIRWALL_BENCH_DIR").map_or_else(|_| tempfile::tempdir(), tempfile::tempdir_in).unwrap();
    let mut file = std::fs::File::create(dir.path().join("plain")).unwrap();
    let lines = "x".repeat(700) + "\n";
    let batch = lines.repeat(AT_ONCE);
    bencher.counter(divan::counter::ItemsCount::new(AT_ONCE)).bench_local(|| {
        file.write_all(batch.as_bytes()).unwrap();
        file.sync_data().unwrap();
    });
}

/// The address limiter has as many slots as there can be; it is the same limiter as that of users.
#[divan::bench]
fn one_quota_among_many_addresses(bencher: Bencher<'_, '_>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let state = Arc::new(EmbeddedState::new(clock, Sizes::default()));
    let limits = Limits { address: Rate { per_second: 1000, burst: 1000 }, ..Limits::default() };
    let admission = Admission::new(limits, Ticks::default(), state.clone(), state);
    let mut next = 0_u32;
    bencher.bench_local(|| {
        next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        admission.unidentified(IpAddr::from(next.to_be_bytes()), None)
    });
}

#[divan::bench(args = [1_000, 100_000, 1_000_000])]
fn one_judgement_among(bencher: Bencher<'_, '_>, users: u64) {
    let behaviour = Behaviour::new(Settings::default());
    let names: Vec<String> = (0..users).map(|n| format!("user-{n}")).collect();
    let judge = |user: &str, at: OffsetDateTime| {
        behaviour.observe(&Observation {
            at,
            partner: "app",
            issuer: "https://idp.example",
            user,
            token: None,
            address: IpAddr::from([192, 0, 2, 1]),
            certificate: Some("c1"),
            patients: &["p1", "p2"],
            part2: false,
            refused: false,
            missing: false,
            bytes: 10_000,
            emergency: false,
            expected: None,
        })
    };
    let now = SystemClock.now();
    for name in &names {
        judge(name, now);
    }
    let mut next = 0_u64;
    bencher.bench_local(|| {
        next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from((next >> 33) % users).unwrap();
        names.get(at).map(|name| judge(name, now))
    });
}
