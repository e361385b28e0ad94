//! `fhirwall demo --once`, as a newcomer runs it.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::path::Path;
use std::process::{Command, Output};

fn demo(dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fhirwall")).args(["demo", "--once", "--dir"]).arg(dir).output().unwrap()
}

#[test]
fn the_tour_checks_itself_and_reads_well_in_a_hundred_columns() {
    let dir = tempfile::tempdir().unwrap();
    let output = demo(dir.path());
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    let widest = shown.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 100, "{widest}");
    assert!(!shown.contains('\u{1b}'), "no colours without a terminal");
    for told in ["- Condition/bruno-opioid-use", "insufficient-scope", "the chain is whole", "broken at record"] {
        assert!(shown.contains(told), "{told} is missing in\n{shown}");
    }

    let demo_json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("demo.json")).unwrap()).unwrap();
    for key in ["base_url", "ca", "audit_dir", "admin_url"] {
        assert!(demo_json[key].is_string(), "{key}");
    }
    let apps = demo_json["apps"].as_array().unwrap();
    assert_eq!(apps.len(), 3);
    for app in apps {
        for key in ["client_certificate", "key"] {
            assert!(Path::new(app[key].as_str().unwrap()).is_file(), "{key}");
        }
        assert!(
            app["client_id"].is_string() && app["token"].is_string() && !app["sees"].as_array().unwrap().is_empty()
        );
    }
}

#[test]
fn the_demo_clears_its_own_directory_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
    let output = demo(dir.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("thesis.txt"));
    assert!(dir.path().join("thesis.txt").is_file());
    std::fs::remove_file(dir.path().join("thesis.txt")).unwrap();
    assert!(demo(dir.path()).status.success());
    assert!(demo(dir.path()).status.success(), "a second time");
}
