//! The rules of the house, held by a test: who may depend on whom, where files stand, what must not be in the repository.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn normal_dependencies(package: &str) -> BTreeSet<String> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|p| p["name"] == package).unwrap_or_else(|| panic!("no package {package}"));
    let dependencies = package["dependencies"].as_array().unwrap();
    dependencies.iter().filter(|d| d["kind"].is_null()).map(|d| d["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn dependencies_point_inward_only() {
    let ours = |package: &str| -> BTreeSet<String> {
        let members =
            ["fhirwall", "fhirwall-policy", "fhir-profiles", "fhirwall-certs", "fhirwall-tests", "fhirwall-benches"];
        normal_dependencies(package).into_iter().filter(|name| members.contains(&name.as_str())).collect()
    };
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(ours("fhir-profiles"), set(&[]));
    assert_eq!(ours("fhirwall-policy"), set(&["fhir-profiles"]));
    assert_eq!(ours("fhirwall-certs"), set(&[]));
    assert_eq!(ours("fhirwall"), set(&["fhir-profiles", "fhirwall-policy", "fhirwall-certs"]));
}

#[test]
fn the_core_is_pure() {
    let impure =
        ["tokio", "hyper", "pingora", "tracing", "log", "notify", "redis", "rand", "getrandom", "reqwest", "ureq"];
    for package in ["fhir-profiles", "fhirwall-policy"] {
        for dependency in normal_dependencies(package) {
            assert!(!impure.contains(&dependency.as_str()), "{package} must not know {dependency}");
        }
    }
    for (folder, allowed) in [("fhir-profiles/src", &[][..]), ("policy/src", &[][..])] {
        for file in sources(&root().join(folder)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for word in ["std::fs", "std::net", "std::env", "SystemTime", "Instant::now", "now_utc", "std::process"] {
                let known: &[&str] = allowed;
                assert!(!text.contains(word) || known.contains(&word), "{} uses {word}", file.display());
            }
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

fn tracked() -> Vec<String> {
    let output = Command::new("git").args(["ls-files"]).current_dir(root()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_top_level_is_the_agreed_one() {
    let agreed = [
        "Cargo.toml",
        "gateway",
        "policy",
        "fhir-profiles",
        "certs",
        "tests",
        "benches",
        "deploy",
        "README.md",
        // tool files and docs may stand beside them
        "Cargo.lock",
        "LICENSE",
        "ARCHITECTURE.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "RELEASING.md",
        "docs",
        "deny.toml",
        "clippy.toml",
        "rustfmt.toml",
        "rust-toolchain.toml",
        ".cargo",
        ".ci",
        ".gitignore",
        ".dockerignore",
    ];
    for path in tracked() {
        let top = path.split('/').next().unwrap();
        assert!(agreed.contains(&top), "{top} does not belong at the top level");
    }
}

#[test]
fn no_module_is_called_mod_rs_and_no_folder_a_dump() {
    for path in tracked().iter().filter(|path| path.ends_with(".rs")) {
        let name = Path::new(path).file_stem().unwrap().to_str().unwrap();
        assert!(!["mod", "utils", "util", "common", "helpers", "misc"].contains(&name), "{path}");
    }
}

#[test]
fn no_key_no_machine_path_no_registry_host_is_committed() {
    // Put together here, so that this file does not match itself.
    let words = [["/work", "/"].concat(), ["/root", "/."].concat()];
    for path in tracked() {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        for word in &words {
            assert!(!text.contains(word.as_str()), "{path} contains {word}");
        }
        assert!(!holds_a_key(&text), "{path} holds a private key");
    }
}

/// A PEM header of a private key with key material behind it; the header alone is no secret.
fn holds_a_key(text: &str) -> bool {
    text.split("PRIVATE KEY-----").skip(1).any(|behind| {
        let behind = behind.replace("\\n", "");
        let material = behind.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c));
        material.count() >= 40
    })
}

#[test]
fn key_material_is_told_from_a_mere_header() {
    let header = ["-----BEGIN ", "PRIVATE KEY-----"].concat();
    assert!(!holds_a_key(&format!("{header}\nAAAA\n")));
    assert!(holds_a_key(&format!("{header}\n{}\n", "M".repeat(64))));
}

#[test]
fn every_adr_has_its_three_parts() {
    for path in tracked().iter().filter(|path| path.starts_with("docs/adr/")) {
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        for part in ["## Context", "## Decision", "## Consequences"] {
            assert!(text.contains(part), "{path} has no {part}");
        }
    }
}

#[test]
fn every_attack_row_names_tests_that_exist() {
    let page = std::fs::read_to_string(root().join("docs/attacks.md")).unwrap();
    let mut code = String::new();
    for folder in ["fhir-profiles", "policy", "gateway", "tests"] {
        for file in sources(&root().join(folder)) {
            code.push_str(&std::fs::read_to_string(file).unwrap());
        }
    }
    let mut rows = BTreeSet::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        let (Some(Ok(row)), Some(tests)) = (cells.first().map(|cell| cell.parse::<u32>()), cells.get(3)) else {
            continue;
        };
        rows.insert(row);
        let names: Vec<&str> = tests.split(", ").map(|name| name.trim_matches('`')).collect();
        for name in names {
            assert!(code.contains(&format!("fn {name}(")), "row {row} names `{name}`, and no test has that name");
        }
    }
    let expected: BTreeSet<u32> = (1..=27).chain([33, 38, 39, 44]).collect();
    assert_eq!(rows, expected);
}
