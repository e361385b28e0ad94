//! `fhirwall consent eval`: the examples of docs/consent.md, forms of input, exit codes.
#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const GUIDE: &str = include_str!("../../docs/consent.md");

fn fhirwall(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fhirwall")).current_dir(dir).args(arguments).output().unwrap()
}

/// The fenced blocks of a Markdown text, with their language.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (language, after) = after.split_once('\n').unwrap();
        let (body, after) = after.split_once("```").unwrap();
        blocks.push((language, body));
        rest = after;
    }
    blocks
}

#[test]
fn every_example_of_the_guide_says_what_it_prints() {
    let dir = TempDir::new().unwrap();
    let mut run = 0;
    for (language, body) in blocks(GUIDE) {
        match language {
            "json" => std::fs::write(dir.path().join("consents.json"), body).unwrap(),
            "console" => {
                let (command, expected) = body.split_once('\n').unwrap();
                let command = command.strip_prefix("$ fhirwall ").unwrap();
                let output = fhirwall(dir.path(), &command.split(' ').collect::<Vec<_>>());
                let printed = String::from_utf8(output.stdout).unwrap();
                assert_eq!(printed.trim_end(), expected.trim_end(), "{command}");
                let permitted = expected.contains("PERMITTED");
                assert_eq!(output.status.code(), Some(i32::from(!permitted)), "{command}");
                run += 1;
            }
            other => panic!("a block of `{other}` that nothing runs"),
        }
    }
    assert!(run >= 9, "{run}");
}

const CONSENT: &str = r#"{"resourceType":"Consent","id":"c1","status":"active",
 "scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},
 "category":[{"coding":[{"system":"http://loinc.org","code":"59284-0"}]}],
 "patient":{"reference":"Patient/a"},
 "provision":{"type":"permit","actor":[{"role":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP"}]},
  "reference":{"identifier":{"system":"urn:npi","value":"1"}}}]}}"#;

#[test]
fn json_output_names_the_outcome_the_consents_and_the_scope() {
    let dir = TempDir::new().unwrap();
    let bundle = format!(r#"{{"resourceType":"Bundle","type":"collection","entry":[{{"resource":{CONSENT}}}]}}"#);
    std::fs::write(dir.path().join("consents.json"), bundle).unwrap();
    let output = fhirwall(
        dir.path(),
        &[
            "consent",
            "eval",
            "--consents",
            "consents.json",
            "--recipient",
            "urn:npi|1",
            "--patient",
            "a",
            "--purpose",
            "TREAT",
            "--at",
            "2026-03-01T10:00:00Z",
            "-o",
            "json",
        ],
    );
    assert_eq!(output.status.code(), Some(0));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["outcome"], "permit");
    assert_eq!(json["consents"], serde_json::json!(["c1"]));
    assert_eq!(json["findings"][0]["says"], "permit");
    assert_eq!(json["scopes"][0]["recipients"], serde_json::json!(["urn:npi|1"]));
}

#[test]
fn wrong_usage_exits_2_and_says_what_to_write() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("consents.json"), CONSENT).unwrap();
    std::fs::write(dir.path().join("other.json"), "nothing of the kind").unwrap();
    let good = ["--consents", "consents.json", "--recipient", "Organization/x", "--patient", "a", "--purpose", "TREAT"];
    for (at, wrong, says) in [
        (1, "missing.json", "cannot read `missing.json`"),
        (1, "other.json", "not a Bundle"),
        (3, "nobody", "names nobody"),
        (5, "Patient/a", "--patient takes a FHIR id"),
        (7, "FooBar", "is not one of TREAT"),
    ] {
        let mut arguments = vec!["consent", "eval"];
        arguments
            .extend(good.iter().enumerate().map(|(position, argument)| if position == at { wrong } else { argument }));
        let output = fhirwall(dir.path(), &arguments);
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}: {printed}");
        assert!(printed.contains(says), "{wrong}: {printed}");
    }
}
