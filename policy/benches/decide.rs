//! What a decision costs with 1,000 partners loaded: the request, and each kind of record in its answer, asked for the first
//! time and remembered. Prints every goal beside what was measured; the median of many rounds of one run.
//!
//! `cargo bench -p fhirwall-policy --bench decide`

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement may stop at the first surprise, and prints what it finds"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use fhir_profiles::engine::{Place, ResourceFacts};
use fhir_profiles::interaction::Interaction;
use fhir_profiles::label::{Label, LabelSet};
use fhir_profiles::reference::Reference;
use fhir_profiles::search::Query;
use fhirwall_policy::cedar::{Ceiling, PolicySet};
use fhirwall_policy::consent::{ConsentOutcome, ConsentReading};
use fhirwall_policy::decide::{Asked, EndpointFacts, EndpointRole, Risk, decide};
use fhirwall_policy::partner::{Part2, Part2Basis, Partner, Redaction, Status};
use fhirwall_policy::permit::{DisclosureFacts, Memo, Permit};
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::subject::{Authentication, Subject};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
const PARTNERS: usize = 1_000;
const ROUNDS: usize = 301;

fn main() {
    let set = loaded();
    let endpoint = EndpointFacts {
        name: "main".into(),
        role: EndpointRole::Program,
        bases: vec!["https://fhir.example.org/fhir".into(), "https://ehr.internal/fhir".into()],
        consents: ConsentReading::default(),
    };
    let search = Interaction::SearchType {
        kind: "Observation".parse().unwrap(),
        query: Query::default().with("category", "laboratory"),
    };
    let mut fresh = 0_u64;
    // A caller nobody asked as before: nothing is remembered of it.
    let mut stranger = || {
        fresh += 1;
        subject(&format!("X{fresh}"))
    };
    let known = subject("US");
    let ask = |subject: &Subject| {
        let asked = Asked { subject, interaction: &search, endpoint: &endpoint, risk: Risk::Low, now: NOW };
        decide(&set, &asked).unwrap_or_else(|denial| panic!("{denial:?}"))
    };

    println!("{PARTNERS} partners, {} policies", set.policies().count());
    let strangers: Vec<Subject> = (0..ROUNDS).map(|_| stranger()).collect();
    let mut next = strangers.iter().cycle();
    tell("decide on a plain search, asked for the first time", 30_000.0, 1, || {
        drop(black_box(ask(next.next().unwrap())))
    });
    ask(&known);
    tell("decide on a plain search, remembered", 30_000.0, 1, || drop(black_box(ask(&known))));

    let records = records();
    let permits: Vec<Permit> = (0..ROUNDS).map(|_| ask(&stranger())).collect();
    let mut next = permits.iter().cycle();
    let matches = |_: &_| true;
    let show = |permit: &Permit, memo: &mut Memo, (facts, consent): &(ResourceFacts, ConsentOutcome)| {
        let question = DisclosureFacts { consent, matches: &matches };
        black_box(permit.disclose(&set, memo, facts, &question));
    };
    tell("a (type, labels, consents) tuple, asked for the first time", 15_000.0, records.len(), || {
        let (permit, mut memo) = (next.next().unwrap(), Memo::default());
        records.iter().for_each(|record| show(permit, &mut memo, record));
    });
    let permit = ask(&known);
    let mut memo = Memo::default();
    records.iter().for_each(|record| show(&permit, &mut memo, record));
    tell("the same, remembered within the request", 50.0, records.len(), || {
        records.iter().for_each(|record| show(&permit, &mut memo, record));
    });
    tell("the same, remembered from another request", f64::NAN, records.len(), || {
        let mut memo = Memo::default();
        records.iter().for_each(|record| show(&permit, &mut memo, record));
    });
}

/// Prints the median of the rounds, by item, in nanoseconds.
fn tell(what: &str, goal: f64, items: usize, mut round: impl FnMut()) {
    let mut taken: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            round();
            began.elapsed().as_nanos() as f64 / items as f64
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    let median = taken[ROUNDS / 2];
    let verdict = match (goal.is_nan(), median <= goal) {
        (true, _) => String::new(),
        (false, true) => format!("  goal {goal:.0} ns: met"),
        (false, false) => format!("  goal {goal:.0} ns: MISSED"),
    };
    println!("{median:>9.0} ns  {what}{verdict}");
}

/// The shipped set with every partner under a ceiling of its own.
fn loaded() -> PolicySet {
    let files: Vec<(String, String)> =
        PolicySet::shipped_files().iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let under = |number| Ceiling { template: "reads-only".to_owned(), app: format!("partner-{number}") };
    let ceilings: Vec<Ceiling> = (0..PARTNERS).map(under).collect();
    let began = Instant::now();
    let set = PolicySet::load_with(&files, &ceilings).unwrap_or_else(|problems| panic!("{problems:?}"));
    println!("loaded in {} ms", began.elapsed().as_millis());
    set
}

fn subject(jurisdiction: &str) -> Subject {
    let partner = Partner {
        client_id: "partner-500".into(),
        name: "Partner".into(),
        status: Status::Active,
        scopes: ["Observation", "Condition", "MedicationRequest", "AllergyIntolerance", "Patient"]
            .map(|kind| format!("user/{kind}.rs"))
            .to_vec()
            .into(),
        purposes_of_use: vec![PurposeOfUse::Treat],
        part2: Part2 { basis: Part2Basis::Consent, redaction: Redaction::Marked },
        consent_recipients: Vec::new(),
        jurisdiction: jurisdiction.to_owned(),
        baa_expires: Some(NOW + Duration::days(30)),
        assessment_expires: Some(NOW + Duration::days(30)),
        court_orders: Vec::new(),
    };
    Subject {
        partner: Arc::new(partner),
        issuer: "https://idp.example.org".into(),
        sub: "user".into(),
        fhir_user: Some(Reference::parse("Practitioner/p")),
        patient: None,
        scopes: ["openid", "fhirUser", "user/Observation.rs", "user/Condition.rs"].map(str::to_owned).into(),
        purpose: Some(PurposeOfUse::Treat),
        authentication: Authentication { mtls: true, sender_constrained: true, ..Authentication::default() },
        token_id: "jti".into(),
        expires: NOW + Duration::minutes(5),
        emergency: None,
        organization: None,
    }
}

/// Records that policies tell apart: by label and by what the patient's consents say.
fn records() -> Vec<(ResourceFacts, ConsentOutcome)> {
    let consents = [ConsentOutcome::Silent, ConsentOutcome::Permit { consents: vec!["c".parse().unwrap()] }];
    let labels: Vec<Label> = Label::all().take(32).collect();
    let facts = |label: Label| ResourceFacts {
        parent: None,
        place: Place::Entry,
        kind: "Observation".parse().unwrap(),
        id: Some("r1".parse().unwrap()),
        search_mode: None,
        labels: [label].into_iter().collect::<LabelSet>(),
        provenance: Vec::new(),
        unknown_labels: 0,
        patients: std::iter::once(Arc::new(Reference::parse("Patient/a"))).collect(),
        inline: Vec::new(),
    };
    labels.iter().flat_map(|label| consents.iter().map(move |consent| (facts(*label), consent.clone()))).collect()
}
