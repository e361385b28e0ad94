//! The committed decision tables hold for the shipped set, and exercise all of it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use fhirwall_policy::cedar::PolicySet;
use fhirwall_policy::tables::Tables;

fn shipped() -> PolicySet {
    PolicySet::shipped().unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn committed() -> Tables {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decisions");
    let mut files: Vec<(String, String)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    Tables::read(&files).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[test]
fn every_row_gets_the_ruling_and_the_reasons_it_expects() {
    let failures: Vec<String> = committed().failures(&shipped()).iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_policy_and_every_condition_is_exercised() {
    let uncovered: Vec<String> = committed().uncovered(&shipped()).iter().map(ToString::to_string).collect();
    assert!(uncovered.is_empty(), "{}", uncovered.join("\n"));
}
