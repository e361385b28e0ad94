//! `docs/smart-conformance.md` names every server-side requirement of SMART App Launch 2.2, and tests that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The numbers of a cell such as `48-49`.
fn numbers(cell: &str) -> Vec<u32> {
    let (first, last) = cell.split_once('-').unwrap_or((cell, cell));
    (first.parse().unwrap()..=last.parse().unwrap()).collect()
}

fn rows() -> Vec<(Vec<u32>, String)> {
    let page = std::fs::read_to_string(root().join("docs/smart-conformance.md")).unwrap();
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    cells
        .filter(|(ids, _)| ids.starts_with(|first: char| first.is_ascii_digit()))
        .map(|(ids, shown)| (numbers(ids), shown.to_owned()))
        .collect()
}

/// The source of every crate and test, as one text.
fn sources(dir: &Path, text: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != "fuzz" && name != ".git" {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_page_names_exists() {
    let mut text = String::new();
    for member in ["gateway", "policy", "fhir-profiles", "certs", "tests"] {
        sources(&root().join(member), &mut text);
    }
    let mut named = 0;
    for (ids, shown) in rows() {
        assert!(shown.len() > 5, "{ids:?} says nothing");
        for name in shown.split('`').skip(1).step_by(2).filter(|name| name.contains('_')) {
            assert!(text.contains(&format!("fn {name}(")), "{ids:?} names {name}, which does not exist");
            named += 1;
        }
    }
    assert!(named > 70, "{named}");
}

/// The rows about Inferno's checks: the check's own name, and what is said of it.
fn checks() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(root().join("docs/smart-conformance.md")).unwrap();
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "));
    cells.map(|(check, shown)| (check.to_owned(), shown.to_owned())).collect()
}

#[test]
fn every_check_of_inferno_that_the_page_lists_is_made_and_every_one_made_is_listed() {
    let text = std::fs::read_to_string(root().join("tests/peers/inferno.rs")).unwrap();
    let mut all = String::new();
    for member in ["gateway", "tests"] {
        sources(&root().join(member), &mut all);
    }
    let mut listed = BTreeSet::new();
    for (check, shown) in checks() {
        assert!(listed.insert(check.clone()), "{check} has two rows");
        if shown.starts_with("Not") {
            continue;
        }
        let tests: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{check} names no test");
        for name in &tests {
            assert!(all.contains(&format!("fn {name}(")), "{check} names {name}, which does not exist");
        }
        let here = tests.iter().any(|name| text.contains(&format!("fn {name}(")));
        assert!(!here || text.contains(&format!("\"{check}\"")), "{check} is not made");
    }
    assert!(listed.len() >= 45, "{}", listed.len());
    let named = text.split('"').skip(1).step_by(2);
    let made = named.filter(|text| ["smart_", "well_known_", "g10_"].iter().any(|start| text.starts_with(start)));
    for check in made {
        assert!(listed.contains(check), "{check} is made and not listed");
    }
}

#[test]
fn every_server_requirement_has_one_row() {
    let shared = std::env::var("FHIRWALL_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared").to_owned());
    let path = PathBuf::from(shared).join("data/smart-app-launch/inferno_smart_app_launch_requirements.csv");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no {}", path.display());
        return;
    };
    let mut wanted = BTreeSet::new();
    for record in records(&text) {
        let of = |at: usize| record.get(at).map(String::as_str).unwrap_or_default();
        let binds = of(4) == "SHALL" || of(4) == "SHALL NOT";
        if of(0) == "hl7.fhir.uv.smart-app-launch_2.2.0" && of(5) == "Server" && binds {
            wanted.insert(of(1).parse::<u32>().unwrap());
        }
    }
    assert!(wanted.len() > 150, "{}", wanted.len());
    let mut seen = BTreeSet::new();
    for id in rows().into_iter().flat_map(|(ids, _)| ids) {
        assert!(seen.insert(id), "{id} has two rows");
    }
    let missing: Vec<_> = wanted.difference(&seen).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
}

/// RFC 4180, as far as this file needs it.
fn records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut rest = text.trim_start_matches('\u{feff}').chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                field.push('"');
                rest.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            '\r' if !quoted => {}
            other => field.push(other),
        }
    }
    records
}
