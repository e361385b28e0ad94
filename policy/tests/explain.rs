//! Explanations in words, and records that are put to another set.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use fhirwall_policy::cedar::PolicySet;
use fhirwall_policy::explain::{explain, explain_record};
use fhirwall_policy::question::{Decision, Question};
use fhirwall_policy::record::{DecisionRecord, Said};

fn shipped() -> PolicySet {
    PolicySet::shipped().unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn explained(question: &str) -> String {
    let question: Question = serde_json::from_str(question).unwrap();
    explain(&shipped(), &question).to_string()
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn a_missing_consent_is_what_would_have_to_change() {
    let text = explained(
        r#"{"caller":{"app":"acme","basis":"consent"},"record":{"kind":"Condition","labels":["42CFRPart2"]}}"#,
    );
    says(
        &text,
        &[
            "Partner `acme` (Part 2 basis: consent) asked, for TREAT",
            "a Condition labelled 42CFRPart2",
            "the consents are silent",
            "deny by part2-lawful-basis (label-withheld)",
            "rests on 42 CFR 2.13(a)",
            "yes when resource.labels.containsAny",
            "It would be permitted if the patient's consent permitted it.",
        ],
    );
}

#[test]
fn where_nothing_forbade_the_nearest_permits_are_shown() {
    let text = explained(r#"{"caller":{"basis":"consent"},"record":{"kind":"Condition","labels":["HIV"]}}"#);
    says(
        &text,
        &[
            "deny by no policy",
            "permit `treatment-with-consent` did not apply",
            "no  when resource.consent == ConsentState::\"permits\"",
        ],
    );
}

#[test]
fn two_facts_are_told_where_one_does_not_suffice() {
    let text =
        explained(r#"{"caller":{"active":false,"basis":"consent"},"record":{"kind":"Condition","labels":["HIV"]}}"#);
    says(&text, &["if the partner were active, and the patient's consent permitted it"]);
}

#[test]
fn notes_tell_that_only_their_own_consent_opens_them() {
    let text = explained(
        r#"{"caller":{"basis":"consent"},"record":{"kind":"DocumentReference","labels":["PSYTHPN"],"consent":"permits"}}"#,
    );
    says(&text, &["notes-need-own-consent", "if a consent for such notes alone permitted it"]);
}

const RECORD: &str = r#"{
  "version": 1, "decision": "d-1", "time": "2026-06-01T12:00:00Z", "endpoint": "main", "user": "u-7",
  "caller": { "app": "acme", "basis": "consent" },
  "interaction": "search-type", "targets": [ { "action": "search-type", "kind": "Condition" } ],
  "scopes": ["patient/Condition.rs"], "permitted": true, "policies": ["registered-purpose"],
  "met": [
    { "record": { "kind": "Condition", "labels": ["42CFRPart2"] }, "count": 2, "shown": false,
      "reason": "label-withheld", "policies": ["part2-lawful-basis"] },
    { "record": { "kind": "Condition", "labels": [] }, "count": 5, "shown": true,
      "basis": "ordinary", "policies": ["ordinary-records"] } ],
  "generation": 3, "epoch": "e"
}"#;

#[test]
fn a_record_is_explained_as_a_whole_and_says_when_another_set_decided() {
    let record = DecisionRecord::from_json(RECORD).unwrap();
    assert_eq!(record.withheld(), 2);
    let text = explain_record(&shipped(), &record);
    says(
        &text,
        &[
            "Decision d-1",
            "search-type of Condition",
            "user u-7",
            "decided by policy set e",
            "Scopes used: patient/Condition.rs",
            "part2-lawful-basis",
            "ordinary-records",
        ],
    );
}

#[test]
fn a_refusal_by_scope_names_the_scope_and_asks_no_policy() {
    let text = RECORD.replace(
        "\"permitted\": true",
        "\"permitted\": false, \"reason\": \"insufficient-scope\", \"needed_scope\": \"patient/Condition.s\"",
    );
    let text = text.split("\"met\"").next().unwrap().to_owned() + "\"generation\": 3, \"epoch\": \"e\" }";
    let text = explain_record(&shipped(), &DecisionRecord::from_json(&text).unwrap());
    says(&text, &["Refused: insufficient-scope", "The scope `patient/Condition.s`"]);
    assert!(!text.contains("Ruling"), "{text}");
}

#[test]
fn a_record_of_another_version_or_with_unknown_members_is_refused() {
    assert!(DecisionRecord::from_json(&RECORD.replace("\"version\": 1", "\"version\": 2")).is_err());
    assert!(DecisionRecord::from_json(&RECORD.replace("\"decision\"", "\"patient\": \"x\", \"decision\"")).is_err());
    let record = DecisionRecord::from_json(RECORD).unwrap();
    let again = DecisionRecord::from_json(&serde_json::to_string(&record).unwrap()).unwrap();
    assert_eq!(record, again);
}

#[test]
fn a_replay_finds_what_a_new_set_would_decide_otherwise() {
    let own = r#"@id("own") @cites("x") @says("x") @reason("label-withheld")
        forbid (principal == App::"acme", action == Action::"disclose", resource);"#;
    let mut files: Vec<(String, String)> =
        PolicySet::shipped_files().iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let record = DecisionRecord::from_json(RECORD).unwrap();
    let differing = |set: &PolicySet| {
        let asked = record.questions();
        asked.iter().filter(|(question, said)| said.differs(&set.rule(question))).count()
    };
    assert_eq!(differing(&shipped()), 0);
    files.push(("own.cedar".to_owned(), own.to_owned()));
    assert_eq!(differing(&PolicySet::load(&files).unwrap_or_else(|problems| panic!("{problems:?}"))), 1);
    assert_eq!(Said::Denied.as_ruling().decision, Decision::Deny);
}
