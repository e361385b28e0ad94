//! Records sealed at rest: whoever holds the disk reads none, whoever holds the key reads all, and the chain is checked
//! without it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fhirwall::audit::read::{Filter, entries};
use fhirwall::audit::verify::{Anchors, verify};
use fhirwall::audit::{EncryptionKey, Kind};
use http::Method;

use crate::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn records_are_sealed_at_rest_and_open_with_the_key_alone() {
    let text = STANDARD.encode([7; 32]);
    let stage = Stage::set_on(|neighbours| {
        let key = neighbours.dir().join("keys/audit.key");
        std::fs::write(&key, &text).unwrap();
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        let file = neighbours.config_file();
        let config = std::fs::read_to_string(&file).unwrap();
        let sealed = config.replace("keys:\n", "keys:\n  audit_encryption_file: keys/audit.key\n");
        assert_ne!(config, sealed);
        std::fs::write(&file, sealed).unwrap();
    })
    .await;
    let read = stage.treatment("/Patient/amara-osei").await;
    assert_eq!(read.status, 200);
    let refused = stage.research("/Encounter?patient=amara-osei").await;
    assert_eq!(refused.status, 403);
    // A decision that memory holds no longer is read from the sealed log by the gateway, which has the key.
    let id = read.header("x-request-id");
    let found = stage.world.gateway.shared.audit.decision(id).unwrap();
    assert_eq!(found.unwrap().0, Kind::Disclosure);
    let url = format!("{}/decisions/{id}", stage.neighbours().admin_url());
    let shown = stage.neighbours().anonymous().unwrap().send(Method::GET, &url, &[], "").await.unwrap();
    assert!(shown.text().contains("Patient/amara-osei"), "{}", shown.text());

    let dir = stage.neighbours().audit_dir();
    let Stage { world, _dir } = stage;
    world.gateway.shutdown(Duration::from_secs(5)).await;
    let bytes = std::fs::read(dir.join("audit-00000001.ndjson")).unwrap();
    let raw = String::from_utf8_lossy(&bytes);
    for word in ["amara", "recovery-path", "noor", "Encounter", "Patient"] {
        assert!(!raw.contains(word), "{word} stands in the clear");
    }
    let whole = verify(&dir, &Anchors::default()).unwrap();
    assert!(whole.finding.is_none() && whole.kinds["disclosure"] == 1, "{whole:?}");
    let of_patient = || Filter { patient: Some("amara-osei".to_owned()), ..Filter::default() };
    let key = EncryptionKey::from_base64(&text).unwrap();
    let other = EncryptionKey::from_base64(&STANDARD.encode([8; 32])).unwrap();
    assert!(!entries(&dir, Some(&key), &of_patient()).unwrap().is_empty());
    for key in [None, Some(&other)] {
        assert!(entries(&dir, key, &of_patient()).unwrap().is_empty());
    }
}
