//! The audit log on a disk that loses, tears and refuses: what was acknowledged is there, and the chain verifies.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "tests may stop at the first surprise"
)]

#[path = "audit_disk/model.rs"]
mod model;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fhirwall::audit::verify::{Anchors, Verification, verify};
use fhirwall::audit::{
    AuditConfig, AuditLog, AuditRecord, AuditUnavailable, EmergencyAccess, End, Receipt, Record, SigningKey,
};
use fhirwall::clock::FixedClock;
use model::{Fault, ModelDisk, Random};

fn config(key: &str, segment_bytes: u64) -> AuditConfig {
    let key = SigningKey::from_pem(key.as_bytes()).unwrap();
    AuditConfig { segment_bytes, reserve_bytes: 8192, ..AuditConfig::new("unused", key) }
}

fn open(disk: &ModelDisk, key: &str, clock: &FixedClock) -> Arc<AuditLog> {
    let opened = AuditLog::open_on(Arc::new(disk.clone()), config(key, 3000), Arc::new(clock.clone()));
    opened.unwrap_or_else(|error| panic!("{error}"))
}

fn clock() -> FixedClock {
    FixedClock::at(1_767_225_600)
}

fn key() -> String {
    SigningKey::generate().unwrap().1
}

fn disclosure(n: u64) -> Record {
    let record = AuditRecord { decision: format!("d{n}"), patients: vec![format!("p{n}")], ..AuditRecord::default() };
    Record::disclosure(record)
}

fn emergency(n: u64) -> Record {
    let emergency = Some(EmergencyAccess { reason: "unconscious".to_owned(), ..EmergencyAccess::default() });
    Record::disclosure(AuditRecord { decision: format!("d{n}"), emergency, ..AuditRecord::default() })
}

/// What the disk holds, checked by the public verifier.
fn verified(disk: &ModelDisk) -> (Verification, BTreeMap<u64, String>) {
    let dir = tempfile::tempdir().unwrap();
    disk.write_to(dir.path());
    let result = verify(dir.path(), &Anchors::default()).unwrap();
    let mut hashes = BTreeMap::new();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "ndjson") {
            for line in String::from_utf8_lossy(&fs::read(path).unwrap()).lines() {
                if let Ok(line) = fhirwall::audit::Line::parse(line) {
                    hashes.insert(line.seq, line.hash.to_owned());
                }
            }
        }
    }
    (result, hashes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes from several tasks at once until the disk dies; returns what was acknowledged.
async fn write_until_dead(log: &Arc<AuditLog>, random: &mut Random, life: u64) -> Vec<Receipt> {
    let mut tasks = Vec::new();
    for task in 0..4 {
        let (log, count) = (Arc::clone(log), 10 + random.below(30));
        tasks.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0..count {
                if n % 3 == 0 {
                    log.note(Record::end(End::default()));
                }
                match log.record(disclosure(life * 10_000 + task * 1000 + n)).await {
                    Ok(receipt) => acknowledged.push(receipt),
                    Err(_) => break,
                }
            }
            acknowledged
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all
}

#[tokio::test]
async fn every_acknowledged_record_survives_a_loss_of_power() {
    for seed in 0..200 {
        let (mut random, key, clock) = (Random::new(seed), key(), clock());
        let mut disk = ModelDisk::new();
        let mut acknowledged: Vec<Receipt> = Vec::new();
        for life in 0..3 {
            let log = open(&disk, &key, &clock);
            disk.die_after(random.below(40));
            acknowledged.extend(write_until_dead(&log, &mut random, life).await);
            log.close().await;
            disk = disk.after_power_loss(&mut random);
            clock.advance_seconds(2);
        }
        let log = open(&disk, &key, &clock);
        acknowledged.push(log.record(disclosure(99)).await.unwrap());
        log.close().await;
        let (result, hashes) = verified(&disk);
        assert_eq!(result.finding, None, "seed {seed}");
        for receipt in &acknowledged {
            assert_eq!(hashes.get(&receipt.seq), Some(&hex(&receipt.hash)), "seed {seed}: {}", receipt.seq);
        }
    }
}

#[tokio::test]
async fn a_process_that_dies_at_any_operation_comes_back() {
    // Every early operation in turn: directory, segment, reserve, head, rotation.
    for died_at in 0..60 {
        let (mut random, key, clock) = (Random::new(died_at), key(), clock());
        let disk = ModelDisk::new();
        disk.die_after(died_at);
        let opened = AuditLog::open_on(Arc::new(disk.clone()), config(&key, 1500), Arc::new(clock.clone()));
        let mut acknowledged = Vec::new();
        if let Ok(log) = opened {
            acknowledged = write_until_dead(&log, &mut random, 0).await;
            log.close().await;
        }
        let disk = disk.after_power_loss(&mut random);
        open(&disk, &key, &clock).close().await;
        let (result, hashes) = verified(&disk);
        assert_eq!(result.finding, None, "operation {died_at}");
        for receipt in &acknowledged {
            assert_eq!(hashes.get(&receipt.seq), Some(&hex(&receipt.hash)), "operation {died_at}");
        }
    }
}

async fn survives(fault: Fault, kind: io::ErrorKind) {
    let (key, clock, disk) = (key(), clock(), ModelDisk::new());
    let log = open(&disk, &key, &clock);
    let before = log.record(disclosure(1)).await.unwrap();
    disk.fault(Some(fault));
    for n in 2..5 {
        assert_eq!(log.record(disclosure(n)).await, Err(AuditUnavailable::Disk(kind)), "{fault:?}");
        assert!(!log.is_available(), "{fault:?}");
    }
    disk.fault(None);
    let after = log.record(disclosure(5)).await.unwrap();
    assert!(log.is_available());
    log.close().await;
    let (result, hashes) = verified(&disk);
    assert_eq!(result.finding, None, "{fault:?}");
    assert_eq!(result.kinds.get("gap"), Some(&1), "{fault:?}");
    for receipt in [before, after] {
        assert_eq!(hashes.get(&receipt.seq), Some(&hex(&receipt.hash)), "{fault:?}");
    }
    assert_eq!(result.kinds.get("disclosure"), Some(&2), "{fault:?}: what was refused must not stand in the log");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_refuses_and_comes_back() {
    survives(Fault::WriteFails, io::ErrorKind::Other).await;
    survives(Fault::SyncFails, io::ErrorKind::Other).await;
    survives(Fault::ReadOnly, io::ErrorKind::ReadOnlyFilesystem).await;
    survives(Fault::Full, io::ErrorKind::StorageFull).await;
}

#[tokio::test]
async fn a_full_disk_still_records_emergency_access() {
    let (key, clock, disk) = (key(), clock(), ModelDisk::new());
    let log = open(&disk, &key, &clock);
    log.record(disclosure(1)).await.unwrap();
    disk.fault(Some(Fault::Full));
    let full = Err(AuditUnavailable::Disk(io::ErrorKind::StorageFull));
    assert_eq!(log.record(disclosure(2)).await, full);
    let mut receipts = vec![log.record(emergency(3)).await.unwrap()];
    assert_eq!(log.record(disclosure(4)).await, full, "the reserve is for emergencies alone");
    receipts.push(log.record(emergency(5)).await.unwrap());
    let mut spent = 0_u32;
    while log.record(emergency(6)).await.is_ok() {
        spent += 1;
        assert!(spent < 1000, "the reserve has an end");
    }
    disk.fault(None);
    receipts.push(log.record(disclosure(7)).await.unwrap());
    log.close().await;
    let (result, hashes) = verified(&disk);
    assert_eq!(result.finding, None);
    for receipt in &receipts {
        assert_eq!(hashes.get(&receipt.seq), Some(&hex(&receipt.hash)));
    }
    // The next full disk finds a new reserve.
    let log = open(&disk, &key, &clock);
    disk.fault(Some(Fault::Full));
    assert!(log.record(emergency(8)).await.is_ok());
}

#[tokio::test]
async fn a_power_loss_in_the_reserve_loses_no_emergency() {
    let (key, clock, disk) = (key(), clock(), ModelDisk::new());
    let log = open(&disk, &key, &clock);
    disk.fault(Some(Fault::Full));
    let receipt = log.record(emergency(1)).await.unwrap();
    disk.die_after(0);
    log.close().await;
    let disk = disk.after_power_loss(&mut Random::new(7));
    disk.fault(None);
    open(&disk, &key, &clock).close().await;
    let (result, hashes) = verified(&disk);
    assert_eq!((result.finding, hashes.get(&receipt.seq)), (None, Some(&hex(&receipt.hash))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_before_a_slow_sync_returns() {
    let (key, clock, disk) = (key(), clock(), ModelDisk::new());
    let log = open(&disk, &key, &clock);
    let release = disk.hold_syncs();
    let write = tokio::spawn({
        let log = Arc::clone(&log);
        async move { log.record(disclosure(1)).await }
    });
    disk.wait_for_a_held_sync();
    assert!(!write.is_finished());
    release.release();
    assert!(write.await.unwrap().is_ok());
    log.close().await;
}

#[tokio::test]
async fn a_disk_that_stalls_for_longer_than_the_patience_refuses() {
    let (key, clock, disk) = (key(), clock(), ModelDisk::new());
    let config = AuditConfig { patience: Duration::from_millis(1), ..config(&key, 3000) };
    let log = AuditLog::open_on(Arc::new(disk.clone()), config, Arc::new(clock)).unwrap();
    let release = disk.hold_syncs();
    assert_eq!(log.record(disclosure(1)).await, Err(AuditUnavailable::Slow));
    release.release();
    log.close().await;
    assert_eq!(verified(&disk).0.finding, None);
}

#[tokio::test]
async fn what_waits_is_bounded_and_lost_ends_are_counted() {
    let (key, clock, disk) = (key(), clock(), ModelDisk::new());
    let config = AuditConfig { queue_bytes: 1000, patience: Duration::from_millis(1), ..config(&key, 3000) };
    let log = AuditLog::open_on(Arc::new(disk.clone()), config, Arc::new(clock)).unwrap();
    let release = disk.hold_syncs();
    for _ in 0..100 {
        log.note(Record::end(End::default()));
    }
    assert_eq!(log.record(disclosure(1)).await, Err(AuditUnavailable::Slow));
    release.release();
    log.close().await;
    let (result, _) = verified(&disk);
    assert!(result.kinds.get("end").is_some_and(|ends| *ends < 100));
    assert!(result.kinds.contains_key("gap"), "{:?}", result.kinds);
}
