//! Consents and questions, with the outcome that each must have and why.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "tests may stop at the first surprise"
)]

#[path = "consent/case.rs"]
mod case;
#[path = "consent/ihe.rs"]
mod ihe;
#[path = "consent/laws.rs"]
mod laws;
#[path = "consent/model.rs"]
mod model;

use case::Case;
use fhirwall_policy::consent::ConsentRecord;

const TABLES: &[(&str, &str)] = &[
    ("who", include_str!("consent/who.json")),
    ("when", include_str!("consent/when.json")),
    ("what", include_str!("consent/what.json")),
    ("tree", include_str!("consent/tree.json")),
    ("part2", include_str!("consent/part2.json")),
    ("unreadable", include_str!("consent/unreadable.json")),
];

fn cases() -> impl Iterator<Item = (&'static str, Case)> {
    TABLES.iter().flat_map(|(table, text)| {
        let cases: Vec<Case> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{table}.json: {error}"));
        cases.into_iter().map(move |case| (*table, case))
    })
}

#[test]
fn every_case_comes_out_as_the_table_says() {
    let mut wrong = Vec::new();
    for (table, case) in cases() {
        let outcome = case.outcome();
        let by_matches = case.by.as_ref().is_none_or(|by| *by == case::ids(&outcome));
        if case::word(&outcome) != case.expect || !by_matches {
            wrong.push(format!(
                "{table}: {}: expected {} by {:?}, got {} by {:?}",
                case.name,
                case.expect,
                case.by,
                case::word(&outcome),
                case::ids(&outcome)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_slow_model_agrees_with_the_table() {
    let mut modelled = 0;
    for (table, case) in cases() {
        let texts = case.texts();
        if texts.iter().all(|text| ConsentRecord::parse(text.as_bytes()).is_ok()) {
            let parsed: Vec<serde_json::Value> = texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
            assert_eq!(model::word(model::outcome(&parsed, &case.ask)), case.expect, "{table}: {}", case.name);
            modelled += 1;
        }
    }
    assert!(modelled >= 200, "{modelled}");
}

#[test]
fn there_are_at_least_eighty_cases_of_every_outcome_and_no_name_twice() {
    let all: Vec<Case> = cases().map(|(_, case)| case).collect();
    assert!(all.len() >= 80, "{}", all.len());
    for outcome in ["permit", "deny", "silent"] {
        assert!(all.iter().filter(|case| case.expect == outcome).count() >= 20, "{outcome}");
    }
    let mut names: Vec<&str> = all.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len());
}
