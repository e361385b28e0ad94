//! The sample patients: invented people, each resource tagged HTEST (v3-ActReason, "test health data").
//!
//! - Amara Osei has records of a substance use disorder program, and consents to the treating partner.
//! - Bruno Vale has such records and has consented to nothing.
//! - Celia Moss has such records and has denied the treating partner.
//! - Dov Hart has nothing of the kind.

mod chart;
pub(crate) mod consents;

use serde_json::{Value, json};
use time::OffsetDateTime;

/// The types that the sample EHR holds.
pub(crate) const KINDS: &[&str] = &[
    "AllergyIntolerance",
    "Binary",
    "Composition",
    "Condition",
    "Consent",
    "DocumentReference",
    "Encounter",
    "List",
    "MedicationRequest",
    "Observation",
    "Organization",
    "Patient",
    "Practitioner",
    "Provenance",
];

const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";

/// All sample resources, with dates relative to `now`.
pub(crate) fn resources(now: OffsetDateTime) -> Vec<Value> {
    let mut all = institutions();
    for person in PEOPLE {
        all.extend(chart::of(person));
    }
    all.extend(consents::all(now));
    all.iter_mut().for_each(tag_as_test_data);
    all
}

pub(crate) struct Person {
    pub(crate) id: &'static str,
    given: &'static str,
    family: &'static str,
    gender: &'static str,
    birth_date: &'static str,
    /// Has records of the program.
    in_program: bool,
}

pub(crate) const PEOPLE: &[Person] = &[
    Person {
        id: "amara-osei",
        given: "Amara",
        family: "Osei",
        gender: "female",
        birth_date: "1987-03-14",
        in_program: true,
    },
    Person {
        id: "bruno-vale",
        given: "Bruno",
        family: "Vale",
        gender: "male",
        birth_date: "1979-11-02",
        in_program: true,
    },
    Person {
        id: "celia-moss",
        given: "Celia",
        family: "Moss",
        gender: "female",
        birth_date: "1994-06-30",
        in_program: true,
    },
    Person {
        id: "dov-hart",
        given: "Dov",
        family: "Hart",
        gender: "male",
        birth_date: "1961-01-19",
        in_program: false,
    },
];

fn institutions() -> Vec<Value> {
    vec![
        json!({
            "resourceType": "Organization", "id": "mill-street-clinic", "active": true,
            "name": "Mill Street Family Clinic",
        }),
        // That a patient meets this organization is itself protected: 42 CFR 2.13(c).
        json!({
            "resourceType": "Organization", "id": "harbor-house", "active": true,
            "meta": {"security": part2_labels(&[])},
            "name": "Harbor House Recovery Program",
        }),
        json!({
            "resourceType": "Organization", "id": "recovery-path", "active": true,
            "identifier": [{"system": "urn:ietf:rfc:3986", "value": "https://recovery.example"}],
            "name": "Recovery Path Inc.",
        }),
        json!({
            "resourceType": "Practitioner", "id": "noor-haddad", "active": true,
            "name": [{"use": "official", "family": "Haddad", "given": ["Noor"], "prefix": ["Dr."]}],
        }),
        json!({
            "resourceType": "Practitioner", "id": "ines-okafor", "active": true,
            "name": [{"use": "official", "family": "Okafor", "given": ["Ines"], "prefix": ["Dr."]}],
        }),
        json!({
            "resourceType": "Practitioner", "id": "sten-lindqvist", "active": true,
            "meta": {"security": part2_labels(&[])},
            "name": [{"use": "official", "family": "Lindqvist", "given": ["Sten"]}],
            "qualification": [{"code": {"text": "Licensed alcohol and drug counselor"}}],
        }),
    ]
}

/// The labels of a program's record: the law, the high confidentiality, the refrain, and what it is about.
fn part2_labels(about: &[&str]) -> Value {
    let mut labels = vec![
        json!({"system": CONFIDENTIALITY, "code": "R", "display": "restricted"}),
        json!({"system": ACT_CODE, "code": "42CFRPart2", "display": "42 CFR Part2"}),
        json!({"system": ACT_CODE, "code": "NORDSCLCD"}),
    ];
    labels.extend(about.iter().map(|code| json!({"system": ACT_CODE, "code": code})));
    Value::from(labels)
}

fn tag_as_test_data(resource: &mut Value) {
    let tag = json!([{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]);
    let Some(resource) = resource.as_object_mut() else { return };
    let meta = resource.entry("meta").or_insert_with(|| json!({}));
    if let Some(meta) = meta.as_object_mut() {
        meta.insert("tag".to_owned(), tag);
    }
}

/// A sample record, as seen from outside.
pub(crate) struct Record {
    pub(crate) kind: &'static str,
    pub(crate) reference: String,
    pub(crate) patient: Option<&'static str>,
    /// Protected by 42 CFR Part 2: by its label, its code, or what it belongs to.
    pub(crate) protected: bool,
}

/// All sample records.
pub(crate) fn references() -> Vec<Record> {
    resources(OffsetDateTime::UNIX_EPOCH).iter().filter_map(record).collect()
}

fn record(resource: &Value) -> Option<Record> {
    let kind = resource.get("resourceType")?.as_str()?;
    let id = resource.get("id")?.as_str()?;
    let about = |key: &str| resource.get(key).and_then(|value| value.get("reference")).and_then(Value::as_str);
    let text = resource.to_string();
    let labelled = text.contains(r#""code":"42CFRPart2""#) && !text.contains("PROCESSINLINELABEL");
    let by_code = kind == "Condition" && text.contains(r#""code":"F11."#);
    let patient = PEOPLE.iter().map(|person| person.id).find(|person| {
        let short = person.split('-').next().unwrap_or(person);
        id == *person
            || id.strip_prefix(short).is_some_and(|rest| rest.starts_with('-'))
            || [about("subject"), about("patient")].contains(&Some(&format!("Patient/{person}")))
    });
    Some(Record {
        kind: KINDS.iter().find(|known| **known == kind)?,
        reference: format!("{kind}/{id}"),
        patient,
        protected: labelled || by_code || kind == "Binary",
    })
}
