//! What it costs to name a request and to decide on it: parse, facts, constraint, and the text that is sent; scopes and
//! compartment; and, apart, the question to Cedar that a decision holds. Time and allocations.
//!
//! The goal is 25 microseconds for a plain search, interpreted and decided, without Cedar: `decided` less `cedar_alone`.
//!
//! `cargo bench -p fhirwall-benches --bench interpret`

use std::sync::{Arc, LazyLock};

use divan::{AllocProfiler, Bencher, black_box};
use fhir_profiles::ids::LogicalId;
use fhir_profiles::interaction::{Interaction, RequestParts, interpret};
use fhirwall_policy::cedar::PolicySet;
use fhirwall_policy::decide::{Asked, EndpointFacts, EndpointRole, Risk, decide};
use fhirwall_policy::partner::{Part2, Part2Basis, Partner, Redaction, Status};
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::question::{About, Caller, Question, Target};
use fhirwall_policy::subject::{Authentication, Subject};
use time::OffsetDateTime;

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

static POLICIES: LazyLock<Option<PolicySet>> = LazyLock::new(|| PolicySet::shipped().ok());

fn subject() -> Subject {
    let partner = Partner {
        client_id: "app".into(),
        name: "App".into(),
        status: Status::Active,
        scopes: vec!["patient/*.rs".into(), "user/*.rs".into()].into(),
        purposes_of_use: vec![PurposeOfUse::Treat],
        part2: Part2 { basis: Part2Basis::Consent, redaction: Redaction::Marked },
        consent_recipients: Vec::new(),
        jurisdiction: "US".into(),
        baa_expires: None,
        assessment_expires: None,
        court_orders: Vec::new(),
    };
    Subject {
        partner: Arc::new(partner),
        issuer: "https://idp".into(),
        sub: "user".into(),
        fhir_user: None,
        patient: "a".parse().ok(),
        scopes: ["patient/*.rs".to_owned()].into(),
        purpose: Some(PurposeOfUse::Treat),
        authentication: Authentication {
            acr: None,
            amr: Vec::new(),
            auth_time: None,
            stepped_up: false,
            mtls: true,
            sender_constrained: true,
        },
        token_id: "jti".into(),
        expires: OffsetDateTime::UNIX_EPOCH,
        emergency: None,
        organization: None,
    }
}

/// A plain search (`/Observation?patient=…`), interpreted and decided.
#[divan::bench]
fn decided(bencher: Bencher<'_, '_>) {
    let subject = subject();
    let endpoint = EndpointFacts {
        name: "main".into(),
        role: EndpointRole::Program,
        bases: Vec::new(),
        consents: Default::default(),
    };
    bencher.bench(|| {
        let interaction = interpret(black_box(&parts(1))).ok()?;
        let asked = Asked {
            subject: &subject,
            interaction: &interaction,
            endpoint: &endpoint,
            risk: Risk::Low,
            now: OffsetDateTime::UNIX_EPOCH,
        };
        decide(POLICIES.as_ref()?, &asked).ok()
    });
}

/// What Cedar takes of it: one question for each fact, here the type and its order.
#[divan::bench]
fn cedar_alone(bencher: Bencher<'_, '_>) {
    let about = |path: &str| {
        let kind = "Observation".parse().ok()?;
        Some(About::Target(Target { action: "search-type".to_owned(), kind, path: path.to_owned() }))
    };
    let caller = || Caller { basis: Part2Basis::Consent, ..Caller::default() };
    let questions: Vec<Question> = ["target", "sort"]
        .into_iter()
        .filter_map(|path| Some(Question { caller: caller(), about: about(path)? }))
        .collect();
    bencher.bench(|| {
        let set = POLICIES.as_ref()?;
        Some(questions.iter().map(|question| set.rule(black_box(question))).collect::<Vec<_>>())
    });
}
