//! A sealed log is opened by the configured key wherever a verb reads it, and by no other.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhirwall::audit::{AuditConfig, AuditLog, AuditRecord, EncryptionKey, Record, SigningKey};
use fhirwall::clock::SystemClock;
use fhirwall::demo::world::Neighbours;
use serde_json::Value;

fn key(path: &Path, byte: u8) -> EncryptionKey {
    let text = STANDARD.encode([byte; 32]);
    fs::write(path, &text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    EncryptionKey::from_base64(&text).unwrap()
}

/// A site whose log holds one sealed disclosure, and whose configuration names the key.
async fn sealed_site(dir: &Path) -> Neighbours {
    let neighbours = Neighbours::start(dir, None).await.unwrap();
    let sealing = key(&dir.join("keys/audit-at-rest.key"), 7);
    key(&dir.join("keys/other.key"), 8);
    let file = neighbours.config_file();
    let config = fs::read_to_string(&file).unwrap();
    let naming = config.replace("keys:\n", "keys:\n  audit_encryption_file: keys/audit-at-rest.key\n");
    assert_ne!(config, naming);
    fs::write(&file, naming).unwrap();
    let settings = AuditConfig {
        encryption_key: Some(sealing),
        ..AuditConfig::new(neighbours.audit_dir(), SigningKey::generate().unwrap().0)
    };
    let log = AuditLog::open(settings, Arc::new(SystemClock)).unwrap();
    let disclosure = AuditRecord {
        decision: "0198c0de-0000-7000-8000-000000000000".to_owned(),
        interaction: "read".to_owned(),
        patients: vec!["amara-osei".to_owned()],
        status: Some(200),
        ..AuditRecord::default()
    };
    log.record(Record::disclosure(disclosure)).await.unwrap();
    log.close().await;
    neighbours
}

/// Runs a verb over the site; gives what it wrote to `file`.
fn written(dir: &Path, verb: &[&str], file: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_fhirwall")).args(verb).current_dir(dir).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&fs::read(dir.join(file)).unwrap_or_else(|error| panic!("{verb:?}: {error}: {told}")))
        .unwrap()
}

#[tokio::test]
async fn the_configured_key_opens_the_log_and_another_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let neighbours = sealed_site(dir.path()).await;
    let config = neighbours.config_file();
    let config = config.to_str().unwrap();
    for (verb, file, audit, decisions) in [
        (["report", "--out", "pack"], "pack/report.json", "/audit", "/decisions"),
        (["support", "--out", "support.json"], "support.json", "/evidence/audit", "/evidence/decisions"),
    ] {
        for (other, disclosures, unreadable) in [(None, 1, 0), (Some("keys/other.key"), 0, 1)] {
            let mut args = vec![verb[0], "--config", config];
            args.extend(&verb[1..]);
            args.extend(other.iter().flat_map(|other| ["--encryption-key", *other]));
            let document = written(dir.path(), &args, file);
            assert_eq!(document.pointer(decisions).unwrap()["disclosures"], disclosures, "{args:?}");
            assert_eq!(document.pointer(audit).unwrap()["unreadable"], unreadable, "{args:?}");
        }
    }
}
