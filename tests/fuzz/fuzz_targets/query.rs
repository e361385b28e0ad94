//! Any query on a type: no panic; what is sent has one decoding and touches the same; a held search stays held.
#![no_main]

use fhir_profiles::ids::ResourceType;
use fhir_profiles::search::{PatientConstraint, Query};
use fhir_profiles::interaction::{RequestParts, interpret};
use libfuzzer_sys::fuzz_target;

const KINDS: &[&str] = &["Observation", "Patient", "Condition", "Coverage", "Appointment", "Group", "Practitioner", "AuditEvent"];

fuzz_target!(|input: (u8, &str)| {
    let (kind, text) = input;
    let name = KINDS[usize::from(kind) % KINDS.len()];
    let path = format!("/{name}");
    let ask = |query: &str| interpret(&RequestParts { method: "GET", path: &path, query: Some(query), base: "https://b/fhir", ..RequestParts::default() });
    let Ok(interaction) = ask(text) else { return };
    let sent = interaction.upstream().expect("a search is sent");
    assert!(sent.query.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'+' | b';' | b'\\' | b'|')));
    let again = ask(&sent.query).expect("what is sent parses");
    assert_eq!(again.touched(), interaction.touched());
    assert_eq!(again.upstream().map(|again| again.query), Some(sent.query));
    let query = interaction.query().expect("a search has a query");
    assert!(ask(&query.client()).is_ok(), "the self link can be followed");
    let kind: ResourceType = name.parse().expect("a type");
    let patient = "held".parse().expect("an id");
    if let Some(held) = query.with_patient(kind, &patient) {
        match held.patient_constraint(kind) {
            PatientConstraint::Exactly(named) => assert!(named.iter().all(|id| *id == patient)),
            PatientConstraint::Unusable => {}
            PatientConstraint::None => panic!("a held search is held"),
        }
    }
    let _ = query.reads(kind);
    let _ = Query::criteria(kind, text);
});
