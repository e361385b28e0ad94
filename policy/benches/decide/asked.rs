//! What is asked: a plain search of a clinician's app, and records that policies tell apart.

use std::sync::Arc;

use fhir_profiles::engine::{Place, ResourceFacts};
use fhir_profiles::interaction::Interaction;
use fhir_profiles::label::{Label, LabelSet};
use fhir_profiles::reference::Reference;
use fhir_profiles::search::Query;
use fhirwall_policy::cedar::{Ceiling, PolicySet};
use fhirwall_policy::consent::{ConsentOutcome, ConsentReading};
use fhirwall_policy::decide::{Asked, EndpointFacts, EndpointRole, Risk, decide};
use fhirwall_policy::partner::{Part2, Part2Basis, Partner, Redaction, Status};
use fhirwall_policy::permit::Permit;
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::subject::{Authentication, Subject};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

/// A search of all laboratory results.
pub(crate) struct Search {
    endpoint: EndpointFacts,
    interaction: Interaction,
}

impl Search {
    pub(crate) fn new() -> Self {
        let endpoint = EndpointFacts {
            name: "main".into(),
            role: EndpointRole::Program,
            bases: vec!["https://fhir.example.org/fhir".into(), "https://ehr.internal/fhir".into()],
            consents: ConsentReading::default(),
        };
        let query = Query::default().with("category", "laboratory");
        Self { endpoint, interaction: Interaction::SearchType { kind: "Observation".parse().unwrap(), query } }
    }

    /// Decides on it by this caller.
    pub(crate) fn by(&self, subject: &Subject, set: &PolicySet) -> Permit {
        let Self { endpoint, interaction } = self;
        let asked = Asked { subject, interaction, endpoint, risk: Risk::Low, now: NOW };
        decide(set, &asked).unwrap_or_else(|denial| panic!("{denial:?}"))
    }
}

/// The shipped set with every partner under a ceiling of its own.
pub(crate) fn loaded(partners: usize) -> PolicySet {
    let files: Vec<(String, String)> =
        PolicySet::shipped_files().iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let under = |number| Ceiling { template: "reads-only".to_owned(), app: format!("partner-{number}") };
    let ceilings: Vec<Ceiling> = (0..partners).map(under).collect();
    PolicySet::load_with(&files, &ceilings).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// A caller, told from others by its jurisdiction.
pub(crate) fn subject(jurisdiction: &str) -> Subject {
    let partner = Partner {
        client_id: "partner-50".into(),
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
pub(crate) fn records() -> Vec<(ResourceFacts, ConsentOutcome)> {
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
