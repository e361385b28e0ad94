//! What it costs to name a request: parse, facts, constraint, and the text that is sent. Time and allocations.
//!
//! `cargo bench -p fhirwall-benches --bench interpret`

use divan::{AllocProfiler, Bencher, black_box};
use fhir_profiles::ids::LogicalId;
use fhir_profiles::interaction::{Interaction, RequestParts, interpret};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const TARGETS: &[(&str, &str)] = &[
    ("/Patient/a", ""),
    ("/Observation", "patient=a&category=laboratory&date=ge2024-01-01&_count=50&_sort=-date"),
    ("/Observation", "patient=a&_include=Observation:subject&_revinclude=Provenance:target"),
    ("/Observation", "subject:Patient.name=x&_has:AuditEvent:entity:agent=x"),
    ("/Patient/a/$everything", ""),
];

fn parts(at: usize) -> RequestParts<'static> {
    let (path, query) = TARGETS.get(at).copied().unwrap_or_default();
    let query = (!query.is_empty()).then_some(query);
    RequestParts { method: "GET", path, query, base: "https://fhir.example.org/fhir", ..RequestParts::default() }
}

#[divan::bench(args = 0..TARGETS.len())]
fn interpret_alone(bencher: Bencher<'_, '_>, at: usize) {
    bencher.bench(|| interpret(black_box(&parts(at))));
}

#[divan::bench(args = 0..TARGETS.len())]
fn with_facts_and_upstream(bencher: Bencher<'_, '_>, at: usize) {
    bencher.bench(|| {
        let asked = interpret(black_box(&parts(at))).ok()?;
        Some((asked.touched(), asked.upstream()))
    });
}

#[divan::bench]
fn a_search_held_to_its_patient(bencher: Bencher<'_, '_>) {
    let patient: Option<LogicalId> = "a".parse().ok();
    bencher.bench(|| {
        let Ok(Interaction::SearchType { kind, query }) = interpret(black_box(&parts(1))) else { return None };
        let constraint = query.patient_constraint(kind);
        Some((constraint, query.with_patient(kind, patient.as_ref()?)))
    });
}
