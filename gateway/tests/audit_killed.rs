//! A process that writes the audit log is killed again and again: what it told anyone was recorded is on the disk.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use fhirwall::audit::verify::{Anchors, verify};
use fhirwall::audit::{AuditConfig, AuditLog, AuditRecord, Line, Record, SigningKey};
use fhirwall::clock::SystemClock;

const CHILD: &str = "FHIRWALL_TEST_AUDIT_CHILD";
const KILLS: u64 = 200;

fn open(dir: &Path) -> Arc<AuditLog> {
    let key = SigningKey::from_pem(&fs::read(dir.join("key.pem")).unwrap()).unwrap();
    let config = AuditConfig { segment_bytes: 64 << 10, reserve_bytes: 4096, ..AuditConfig::new(dir.join("log"), key) };
    AuditLog::open(config, Arc::new(SystemClock)).unwrap()
}

/// Not a test of its own: what the killed process does. Without its variable set it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let log = open(Path::new(&dir));
    let mut tasks = Vec::new();
    for task in 0..4 {
        let log = Arc::clone(&log);
        tasks.push(tokio::spawn(async move {
            for n in 0.. {
                let patients = vec![format!("p{n}"); 20];
                let record = AuditRecord { decision: format!("{task}-{n}"), patients, ..AuditRecord::default() };
                let receipt = log.record(Record::disclosure(record)).await.unwrap();
                // The caller is told: from here on the record must be there.
                writeln!(std::io::stderr(), "acknowledged {receipt}").unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn whatever_was_acknowledged_before_a_kill_is_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("key.pem"), SigningKey::generate().unwrap().1).unwrap();
    let mut acknowledged = BTreeSet::new();
    let mut state = 0x9e37_79b9_u64;
    for _ in 0..KILLS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lines = (state >> 33) % 60;
        acknowledged.extend(killed_after(dir.path(), lines as usize));
    }
    let closed = tokio::runtime::Runtime::new().unwrap();
    closed.block_on(async { open(dir.path()).close().await });

    let log = dir.path().join("log");
    let result = verify(&log, &Anchors::default()).unwrap();
    assert_eq!(result.finding, None);
    assert!(acknowledged.len() > 1000, "{} acknowledged", acknowledged.len());
    let found = receipts(&log);
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// Runs the child, kills it (SIGKILL) after so many acknowledgements, and returns all that it gave.
fn killed_after(dir: &Path, lines: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes_until_killed", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    let receipt = |line: String| line.strip_prefix("acknowledged ").map(str::to_owned);
    acknowledged.extend(output.by_ref().take(lines).filter_map(|line| receipt(line.unwrap())));
    child.kill().unwrap();
    // A last line may have been cut off by the kill: then nobody was told.
    let whole = |line: &String| line.rsplit_once(':').is_some_and(|(_, hash)| hash.len() == 64);
    acknowledged.extend(output.map_while(Result::ok).filter_map(receipt).filter(whole));
    child.wait().unwrap();
    acknowledged
}

fn receipts(log: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(log).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "ndjson") {
            let text = fs::read_to_string(path).unwrap();
            found.extend(text.lines().filter_map(|l| Line::parse(l).ok()).map(|l| format!("{}:{}", l.seq, l.hash)));
        }
    }
    found
}
