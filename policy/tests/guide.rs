//! The examples of docs/policy-guide.md, run: each Cedar block loads beside the shipped set, each table holds with the
//! policies of its own section.
#![expect(clippy::panic, reason = "tests may stop at the first surprise")]

use fhirwall_policy::cedar::PolicySet;
use fhirwall_policy::tables::Tables;

const GUIDE: &str = include_str!("../../docs/policy-guide.md");

/// The fenced blocks of one language, in one section.
fn blocks<'a>(section: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    section
        .split(&fence)
        .skip(1)
        .map(|rest| rest.split_once("```").map_or_else(|| panic!("a block without an end"), |(block, _)| block))
        .collect()
}

fn with_shipped(examples: &[&str]) -> PolicySet {
    let shipped = PolicySet::shipped_files().iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let own = examples.iter().map(|text| ("example.cedar".to_owned(), (*text).to_owned()));
    let files: Vec<(String, String)> = shipped.chain(own).collect();
    PolicySet::load(&files).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[test]
fn every_example_does_what_the_guide_says() {
    let (mut policies, mut rows) = (0, 0);
    for section in GUIDE.split("\n## ") {
        // A section shows one example after another: a table belongs to the policy shown before it.
        for part in section.split("```cedar\n").enumerate().map(|(at, part)| (at > 0, part)) {
            let (has_policy, part) = part;
            let policy = has_policy.then(|| part.split_once("```").map_or(part, |(policy, _)| policy));
            let set = with_shipped(&policy.into_iter().collect::<Vec<_>>());
            policies += usize::from(has_policy);
            for table in blocks(part, "json") {
                let tables = Tables::read(&[("guide".to_owned(), table.to_owned())])
                    .unwrap_or_else(|problems| panic!("{problems:#?}"));
                rows += tables.len();
                let failures: Vec<String> = tables.failures(&set).iter().map(ToString::to_string).collect();
                assert!(failures.is_empty(), "{}", failures.join("\n"));
            }
        }
    }
    assert!(policies >= 5 && rows >= 15, "{policies} policies and {rows} rows: are the blocks still found?");
}

#[test]
fn a_shadowed_forbid_reports_and_decides_nothing() {
    let section = GUIDE.split("\n## ").find(|section| section.starts_with("4.")).unwrap_or_default();
    let set = with_shipped(&blocks(section, "cedar"));
    let question = |risk: &str| {
        let text = format!(r#"{{"caller":{{"risk":"{risk}"}},"target":{{"action":"operation","kind":"Patient"}}}}"#);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}"))
    };
    assert_eq!(set.rule(&question("elevated")).would_deny, ["no-elevated-risk-exports"]);
    assert!(set.rule(&question("low")).would_deny.is_empty());
}
