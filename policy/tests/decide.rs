//! Who may ask what, and who may see what: one sentence a case.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use std::sync::Arc;

use fhir_profiles::engine::{Place, ResourceFacts};
use fhir_profiles::ids::{LogicalId, ResourceType};
use fhir_profiles::interaction::Interaction;
use fhir_profiles::label::{Label, LabelKind, LabelSet};
use fhir_profiles::reference::Reference;
use fhir_profiles::search::{Presentation, Query};
use fhirwall_policy::cedar::{Ceiling, PolicySet};
use fhirwall_policy::consent::{ConsentOutcome, ConsentReading};
use fhirwall_policy::decide::{Asked, Denial, EndpointFacts, EndpointRole, Risk, decide, observe};
use fhirwall_policy::partner::{CourtOrder, Part2, Part2Basis, Partner, Redaction, Status};
use fhirwall_policy::permit::{Disclosure, DisclosureFacts, Memo, Permit};
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::{Authentication, Emergency, Subject};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

fn id(text: &str) -> LogicalId {
    text.parse().unwrap()
}

fn kind(text: &str) -> ResourceType {
    text.parse().unwrap()
}

/// A caller that may do most things; each case takes away or adds one.
#[derive(Clone)]
struct Caller {
    partner: Partner,
    subject: Subject,
    endpoint: EndpointFacts,
    risk: Risk,
}

fn caller(basis: Part2Basis, purpose: PurposeOfUse, scopes: &[&str]) -> Caller {
    let partner = Partner {
        client_id: "app".into(),
        name: "App".into(),
        status: Status::Active,
        scopes: vec!["patient/*.cruds".into(), "user/*.cruds".into(), "system/*.cruds".into()].into(),
        purposes_of_use: vec![purpose],
        part2: Part2 { basis, redaction: Redaction::Marked },
        consent_recipients: Vec::new(),
        jurisdiction: "US".into(),
        baa_expires: Some(NOW + Duration::days(30)),
        assessment_expires: Some(NOW + Duration::days(30)),
        court_orders: vec![CourtOrder { patient: id("A"), expires: NOW + Duration::days(1) }],
    };
    let subject = Subject {
        partner: Arc::new(partner.clone()),
        issuer: "https://idp".into(),
        sub: "user".into(),
        fhir_user: None,
        patient: Some(id("A")),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        purpose: Some(purpose),
        authentication: Authentication {
            acr: None,
            amr: vec!["mfa".into()],
            auth_time: Some(NOW - Duration::minutes(5)),
            stepped_up: false,
            mtls: true,
            sender_constrained: true,
        },
        token_id: "jti".into(),
        expires: NOW + Duration::minutes(5),
        emergency: None,
        organization: None,
    };
    let bases = vec!["https://ehr/fhir".into()];
    let endpoint =
        EndpointFacts { name: "main".into(), role: EndpointRole::Program, bases, consents: ConsentReading::default() };
    Caller { partner, subject, endpoint, risk: Risk::Low }
}

impl Caller {
    fn asks(&self, set: &PolicySet, interaction: &Interaction) -> Result<Permit, Denial> {
        let mut subject = self.subject.clone();
        subject.partner = Arc::new(self.partner.clone());
        let asked = Asked { subject: &subject, interaction, endpoint: &self.endpoint, risk: self.risk, now: NOW };
        decide(set, &asked)
    }
}

fn shipped() -> PolicySet {
    PolicySet::shipped().unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn search(name: &str, parameters: &[(&str, &str)]) -> Interaction {
    // The parser refuses some of what is tried here before policy sees it; these are for the second line.
    let query = parameters.iter().fold(Query::default(), |query, (name, value)| query.with(name, value));
    Interaction::SearchType { kind: kind(name), query }
}

fn read(name: &str, of: &str) -> Interaction {
    Interaction::Read { kind: kind(name), id: id(of), presentation: Presentation::default() }
}

fn label(code: &str) -> Label {
    Label::all().find(|label| label.code() == code && label.kind() != LabelKind::Mark).unwrap()
}

fn facts(name: &str, patient: Option<&str>, labels: &[&str]) -> ResourceFacts {
    ResourceFacts {
        parent: None,
        place: Place::Entry,
        kind: kind(name),
        id: Some(id("r1")),
        search_mode: None,
        labels: labels.iter().map(|code| label(code)).collect::<LabelSet>(),
        provenance: Vec::new(),
        unknown_labels: 0,
        patients: patient
            .into_iter()
            .map(|patient| Arc::new(Reference::parse(&format!("Patient/{patient}"))))
            .collect(),
        inline: Vec::new(),
    }
}

fn permits() -> ConsentOutcome {
    ConsentOutcome::Permit { consents: vec![id("c1")] }
}

fn denies() -> ConsentOutcome {
    ConsentOutcome::Deny { consents: vec![id("c1")] }
}

fn sees(set: &PolicySet, permit: &Permit, facts: &ResourceFacts, consent: &ConsentOutcome) -> Result<String, Reason> {
    let question = DisclosureFacts { consent, matches: &|_| false };
    match permit.disclose(set, &mut Memo::default(), facts, &question) {
        Disclosure::Show { basis, .. } => Ok(basis.to_string()),
        Disclosure::Withhold { reason, .. } => Err(reason),
    }
}

#[track_caller]
fn refused(caller: &Caller, interaction: &Interaction, reason: Reason) {
    match caller.asks(&shipped(), interaction) {
        Ok(_) => panic!("permitted"),
        Err(denial) => assert_eq!(denial.reason, reason, "{denial:?}"),
    }
}

#[test]
fn the_shipped_set_loads_and_every_policy_says_what_it_rests_on() {
    let set = shipped();
    assert!(set.policies().count() > 20);
    assert!(set.policies().all(|policy| !policy.says.is_empty() && !policy.cites.is_empty()));
    assert_eq!(set.epoch(), shipped().epoch());
}

#[test]
fn a_search_under_a_patient_scope_is_bound_to_the_patient() {
    let set = shipped();
    let app = caller(Part2Basis::Consent, PurposeOfUse::Treat, &["patient/Observation.rs"]);
    let permit = app.asks(&set, &search("Observation", &[("code", "x")])).unwrap();
    let Interaction::SearchType { query, .. } = permit.interaction() else { panic!("not a search") };
    assert_eq!(query.upstream(), "code=x&patient=Patient/A");
    assert_eq!(permit.policies(), ["registered-purpose"]);
    assert!(permit.needs_consents());
}

#[test]
fn refusals_come_in_a_fixed_order() {
    let asked = search("Observation", &[]);
    let mut app = caller(Part2Basis::Consent, PurposeOfUse::Treat, &[]);
    app.partner.status = Status::Suspended;
    app.partner.baa_expires = Some(NOW);
    app.subject.purpose = Some(PurposeOfUse::Hmarkt);
    refused(&app, &asked, Reason::PartnerSuspended);
    app.partner.status = Status::Active;
    refused(&app, &asked, Reason::EvidenceExpired);
    app.partner.baa_expires = None;
    app.partner.assessment_expires = Some(NOW - Duration::days(1));
    refused(&app, &asked, Reason::EvidenceExpired);
    app.partner.assessment_expires = Some(NOW + Duration::days(1));
    refused(&app, &asked, Reason::PurposeNotAllowed);
    app.subject.purpose = None;
    refused(&app, &asked, Reason::PurposeNotAllowed);
    app.subject.purpose = Some(PurposeOfUse::Treat);
    refused(&app, &asked, Reason::InsufficientScope);
    app.subject.scopes = ["patient/Observation.rs".to_owned()].into();
    refused(&app, &search("Observation", &[("patient", "B")]), Reason::PatientMismatch);
    app.risk = Risk::High;
    refused(&app, &asked, Reason::RiskTerminated);
    app.risk = Risk::Low;
    assert!(app.asks(&shipped(), &asked).is_ok());
}

#[test]
fn the_scope_that_was_missing_is_named() {
    let app = caller(Part2Basis::Consent, PurposeOfUse::Treat, &["patient/Observation.r"]);
    let denial = app.asks(&shipped(), &search("Observation", &[])).unwrap_err();
    assert_eq!(denial.needed_scope.as_deref(), Some("patient/Observation.s"));
}

#[test]
fn another_patient_is_refused_however_it_is_named() {
    let app = caller(Part2Basis::Consent, PurposeOfUse::Treat, &["patient/*.rs"]);
    for (name, value) in [
        ("patient", "B"),
        ("patient", "A,B"),
        ("subject", "Patient/B"),
        ("subject:not", "A"),
        ("subject:missing", "true"),
        ("patient:identifier", "A"),
        ("subject", "https://other/Patient/A"),
        ("patient", "AB"),
    ] {
        refused(&app, &search("Observation", &[(name, value)]), Reason::PatientMismatch);
    }
    refused(&app, &search("Observation", &[("patient.name", "Al")]), Reason::ParameterNotAllowed);
    refused(&app, &search("Patient", &[("_id", "B")]), Reason::PatientMismatch);
    refused(&app, &read("Patient", "B"), Reason::PatientMismatch);
    let set = shipped();
    for own in [("patient", "A"), ("subject", "Patient/A"), ("subject:Patient", "A")] {
        assert!(app.asks(&set, &search("Observation", &[own])).is_ok(), "{own:?}");
    }
    assert!(app.asks(&set, &search("Patient", &[("_id", "A")])).is_ok());
    assert!(app.asks(&set, &read("Patient", "A")).is_ok());
}

#[test]
fn each_scope_is_judged_in_its_own_context_alone() {
    let set = shipped();
    let mut app = caller(Part2Basis::None, PurposeOfUse::Treat, &["patient/Observation.r", "user/Condition.r"]);
    app.subject.fhir_user = Some(Reference::parse("Practitioner/p"));
    let silent = ConsentOutcome::Silent;
    let permit = app.asks(&set, &read("Observation", "o")).unwrap();
    assert_eq!(sees(&set, &permit, &facts("Observation", Some("A"), &[]), &silent).as_deref(), Ok("ordinary"));
    let others = facts("Observation", Some("B"), &[]);
    assert_eq!(sees(&set, &permit, &others, &silent), Err(Reason::OutsideCompartment));
    let permit = app.asks(&set, &read("Condition", "c")).unwrap();
    assert_eq!(sees(&set, &permit, &facts("Condition", Some("B"), &[]), &silent).as_deref(), Ok("ordinary"));
}

#[test]
fn ids_are_compared_whole_and_on_this_server_only() {
    let set = shipped();
    let app = caller(Part2Basis::None, PurposeOfUse::Treat, &["patient/*.rs"]);
    let permit = app.asks(&set, &search("Observation", &[])).unwrap();
    let about = |references: &[&str]| {
        let mut facts = facts("Observation", None, &[]);
        facts.patients = references.iter().map(|reference| Arc::new(Reference::parse(reference))).collect();
        sees(&set, &permit, &facts, &ConsentOutcome::Silent)
    };
    for own in ["Patient/A", "Patient/A/_history/2", "https://ehr/fhir/Patient/A"] {
        assert_eq!(about(&[own]).as_deref(), Ok("ordinary"), "{own}");
    }
    for other in ["Patient/AB", "Patient/a", "https://other/fhir/Patient/A", "urn:uuid:A", "#A", "Practitioner/A"] {
        assert_eq!(about(&[other]), Err(Reason::OutsideCompartment), "{other}");
    }
    assert_eq!(about(&["Patient/A", "Patient/B"]), Err(Reason::OutsideCompartment));
    assert_eq!(about(&[]), Err(Reason::OutsideCompartment));
    let practitioner = facts("Practitioner", None, &[]);
    assert_eq!(sees(&set, &permit, &practitioner, &ConsentOutcome::Silent).as_deref(), Ok("ordinary"));
}

#[test]
fn a_part_2_record_is_shown_on_a_lawful_basis_and_on_no_other() {
    use Part2Basis as Basis;
    use PurposeOfUse as Purpose;
    let set = shipped();
    let part2 = facts("Condition", Some("A"), &["42CFRPart2", "SUD"]);
    let as_seen_by = |basis, purpose, consent: &ConsentOutcome| {
        let app = caller(basis, purpose, &["patient/*.rs"]);
        let permit = app.asks(&set, &search("Condition", &[])).unwrap();
        sees(&set, &permit, &part2, consent)
    };
    let silent = &ConsentOutcome::Silent;
    for (basis, purpose, consent, expected) in [
        (Basis::Consent, Purpose::Treat, &permits(), Ok("consent")),
        (Basis::Consent, Purpose::Hpaymt, &permits(), Ok("consent")),
        (Basis::Consent, Purpose::Treat, silent, Err(Reason::LabelWithheld)),
        (Basis::Consent, Purpose::Treat, &denies(), Err(Reason::LabelWithheld)),
        (Basis::None, Purpose::Treat, &permits(), Err(Reason::LabelWithheld)),
        (Basis::Patient, Purpose::Patrqt, silent, Ok("patient-access")),
        (Basis::Patient, Purpose::Treat, silent, Err(Reason::LabelWithheld)),
        (Basis::Program, Purpose::Treat, silent, Ok("program")),
        (Basis::Program, Purpose::Publhlth, silent, Err(Reason::LabelWithheld)),
        (Basis::Research, Purpose::Hresch, silent, Ok("research")),
        (Basis::Research, Purpose::Treat, silent, Err(Reason::LabelWithheld)),
        (Basis::Audit, Purpose::Hqualimp, silent, Ok("audit")),
        (Basis::CourtOrder, Purpose::Hlegal, silent, Ok("court-order")),
        (Basis::CourtOrder, Purpose::Treat, silent, Err(Reason::LabelWithheld)),
    ] {
        let got = as_seen_by(basis, purpose, consent);
        assert_eq!(got.as_deref(), expected.as_ref().copied(), "{basis:?} {purpose:?} {consent:?}");
    }
}

#[test]
fn an_unknown_label_is_restricted() {
    let set = shipped();
    let app = caller(Part2Basis::None, PurposeOfUse::Treat, &["patient/*.rs"]);
    let permit = app.asks(&set, &search("Condition", &[])).unwrap();
    let mut unknown = facts("Condition", Some("A"), &[]);
    unknown.unknown_labels = 1;
    assert_eq!(sees(&set, &permit, &unknown, &ConsentOutcome::Silent), Err(Reason::LabelWithheld));
    let normal = facts("Condition", Some("A"), &["N"]);
    assert_eq!(sees(&set, &permit, &normal, &ConsentOutcome::Silent).as_deref(), Ok("ordinary"));
}

#[test]
fn an_inline_label_hides_its_element_and_not_its_resource() {
    let set = shipped();
    let app = caller(Part2Basis::None, PurposeOfUse::Treat, &["patient/*.rs"]);
    let permit = app.asks(&set, &search("Patient", &[])).unwrap();
    let mut patient = facts("Patient", None, &["PROCESSINLINELABEL"]);
    patient.id = Some(id("A"));
    let silent = ConsentOutcome::Silent;
    let question = DisclosureFacts { consent: &silent, matches: &|_| false };
    let memo = &mut Memo::default();
    assert!(permit.disclose(&set, memo, &patient, &question).is_shown());
    let labelled = LabelSet::EMPTY.with(Label::ETH);
    assert!(!permit.element(&set, memo, &patient, labelled, &question).is_shown());
}

#[test]
fn a_granular_scope_shows_only_what_matches_it() {
    let set = shipped();
    let app = caller(Part2Basis::None, PurposeOfUse::Treat, &["patient/Observation.rs?category=laboratory"]);
    let permit = app.asks(&set, &search("Observation", &[])).unwrap();
    assert_eq!(permit.constraints(kind("Observation")).len(), 1);
    let silent = ConsentOutcome::Silent;
    let row = facts("Observation", Some("A"), &[]);
    let judge = |matches: bool| {
        let matches = move |_: &_| matches;
        permit.disclose(&set, &mut Memo::default(), &row, &DisclosureFacts { consent: &silent, matches: &matches })
    };
    assert!(judge(true).is_shown());
    assert!(matches!(judge(false), Disclosure::Withhold { reason: Reason::OutsideGranularScope, .. }));
}

#[test]
fn an_emergency_opens_one_patient_to_a_clinician_and_ends() {
    let set = shipped();
    let mut app = caller(Part2Basis::Consent, PurposeOfUse::Btg, &["user/*.rs"]);
    app.subject.patient = None;
    app.subject.fhir_user = Some(Reference::parse("Practitioner/p"));
    let claim = Emergency {
        reason: "unconscious".into(),
        patient: id("A"),
        until: NOW + Duration::hours(1),
        name: None,
        affiliation: None,
    };
    app.subject.emergency = Some(claim.clone());
    let part2 = |patient| facts("Condition", Some(patient), &["42CFRPart2"]);
    let asked = search("Condition", &[]);
    let permit = app.asks(&set, &asked).unwrap();
    assert!(!permit.needs_consents());
    let silent = ConsentOutcome::Silent;
    assert_eq!(sees(&set, &permit, &part2("A"), &silent).as_deref(), Ok("emergency"));
    assert!(sees(&set, &permit, &part2("B"), &silent).is_err());
    // Nor is anybody else's ordinary record, but what is about nobody is.
    assert_eq!(sees(&set, &permit, &facts("Condition", Some("B"), &[]), &silent), Err(Reason::OutsideCompartment));
    assert_eq!(sees(&set, &permit, &facts("Organization", None, &[]), &silent).as_deref(), Ok("ordinary"));
    app.subject.emergency = Some(Emergency { until: NOW, ..claim.clone() });
    refused(&app, &asked, Reason::PolicyForbids);
    app.subject.emergency = Some(Emergency { reason: " ".into(), ..claim.clone() });
    refused(&app, &asked, Reason::PolicyForbids);
    app.subject.emergency = Some(claim);
    // A claim under another purpose lifts nothing, and spares no consent.
    app.partner.purposes_of_use = vec![PurposeOfUse::Btg, PurposeOfUse::Treat];
    app.subject.purpose = Some(PurposeOfUse::Treat);
    let permit = app.asks(&set, &asked).unwrap();
    assert!(permit.needs_consents());
    assert_eq!(sees(&set, &permit, &part2("A"), &silent), Err(Reason::LabelWithheld));
    app.subject.purpose = Some(PurposeOfUse::Btg);
    // The authentication: too old, then by one factor alone, then by a strength that the configuration names.
    app.subject.authentication.auth_time = Some(NOW - Duration::hours(2));
    refused(&app, &asked, Reason::StrongerAuthenticationNeeded);
    app.subject.authentication.auth_time = Some(NOW);
    app.subject.authentication.amr = vec!["pwd".into()];
    refused(&app, &asked, Reason::StrongerAuthenticationNeeded);
    app.subject.authentication.stepped_up = true;
    assert!(app.asks(&set, &asked).is_ok());
    // The user: nobody, then a patient.
    app.subject.scopes = ["system/*.rs".to_owned(), "user/*.rs".to_owned()].into();
    app.subject.fhir_user = None;
    refused(&app, &asked, Reason::PolicyForbids);
    app.subject.fhir_user = Some(Reference::parse("https://ehr/fhir/Patient/A"));
    refused(&app, &asked, Reason::PolicyForbids);
}

#[test]
fn a_partner_under_a_ceiling_stays_under_it_and_the_others_do_not_notice() {
    let files: Vec<(String, String)> =
        PolicySet::shipped_files().iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let under = |template: &str| Ceiling { template: template.into(), app: "app".into() };
    let set = PolicySet::load_with(&files, &[under("reads-only"), under("laboratory-results-only")])
        .unwrap_or_else(|problems| panic!("{problems:?}"));
    let app = caller(Part2Basis::Program, PurposeOfUse::Treat, &["patient/*.cruds"]);
    let update = Interaction::Update { kind: kind("Observation"), id: id("o") };
    let denial = app.asks(&set, &update).unwrap_err();
    assert_eq!((denial.reason, denial.policies), (Reason::PolicyForbids, vec!["reads-only@app".to_owned()]));
    let permit = app.asks(&set, &search("Condition", &[])).unwrap();
    let silent = ConsentOutcome::Silent;
    let condition = facts("Condition", Some("A"), &[]);
    assert_eq!(sees(&set, &permit, &condition, &silent), Err(Reason::LabelWithheld));
    let mut other = app.clone();
    other.partner.client_id = "other".into();
    assert!(other.asks(&set, &update).is_ok());
    let permit = other.asks(&set, &search("Condition", &[])).unwrap();
    assert!(sees(&set, &permit, &condition, &silent).is_ok());
    // Proofs are about the texts; records and caches are about who stands under them too.
    assert_eq!(set.text_epoch(), shipped().text_epoch());
    assert_ne!(set.epoch(), shipped().epoch());
    let problems = PolicySet::load_with(&files, &[under("reads-nothing")]).unwrap_err();
    assert!(problems.iter().any(|problem| problem.to_string().contains("no such template")), "{problems:?}");
}

#[test]
fn verdicts_outlive_a_request_only_for_the_same_facts_and_only_if_no_policy_reads_the_time() {
    let set = shipped();
    assert!(set.verdicts_outlive_the_request());
    let part2 = facts("Condition", Some("A"), &["42CFRPart2"]);
    let asked = search("Condition", &[]);
    let silent = ConsentOutcome::Silent;
    let mut app = caller(Part2Basis::Program, PurposeOfUse::Treat, &["patient/*.rs"]);
    for _ in 0..2 {
        let permit = app.asks(&set, &asked).unwrap();
        assert_eq!(sees(&set, &permit, &part2, &silent).as_deref(), Ok("program"));
    }
    // The same app under another registration is another caller.
    app.partner.part2.basis = Part2Basis::None;
    let permit = app.asks(&set, &asked).unwrap();
    assert_eq!(sees(&set, &permit, &part2, &silent), Err(Reason::LabelWithheld));

    let by_day = r#"@id("by-day") @cites("x") @says("Not in 2027.") @reason("label-withheld")
        forbid (principal, action == Action::"disclose", resource)
        when { context.time >= datetime("2027-01-01T00:00:00Z") };"#;
    let files = PolicySet::shipped_files().iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let files: Vec<(String, String)> = files.chain([("by-day.cedar".to_owned(), by_day.to_owned())]).collect();
    let set = PolicySet::load(&files).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(!set.verdicts_outlive_the_request());
    app.partner.part2.basis = Part2Basis::Program;
    let permit = app.asks(&set, &asked).unwrap();
    assert_eq!(sees(&set, &permit, &part2, &silent).as_deref(), Ok("program"));
}

#[track_caller]
fn does_not_load(text: &str, expected: &str) {
    let problems = PolicySet::load(&[("x.cedar".into(), text.into())]).unwrap_err();
    let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_set_with_a_fault_does_not_load() {
    let head = r#"@id("a") @cites("x") @says("x")"#;
    let all = "(principal, action, resource)";
    does_not_load("", "holds no policy");
    does_not_load("permit (principal, action", "x.cedar");
    does_not_load(&format!("permit {all};"), "@id");
    does_not_load(&format!(r#"@id("a") permit {all};"#), "@cites");
    does_not_load(&format!("{head} permit {all}; {head} forbid {all};"), "already in use");
    does_not_load(&format!("{head} permit {all} when {{ principal.nothing }};"), "nothing");
    does_not_load(&format!(r#"{head} permit {all} when {{ resource.kind == Kind::"Patiend" }};"#), "Patiend");
    does_not_load(&format!(r#"{head} @mode("observe") forbid {all};"#), "@mode");
    does_not_load(&format!(r#"{head} @reason("because") forbid {all};"#), "reason code");
    does_not_load(&format!(r#"{head} @ciites("x") forbid {all};"#), "not known");
    let part2 = r#"when { resource.labels.contains(Label::"42CFRPart2") }"#;
    does_not_load(
        &format!(r#"{head} @mode("shadow") forbid (principal, action == Action::"disclose", resource) {part2};"#),
        "cannot run in shadow mode",
    );
    // Counseling notes, and whatever says that it rests on 42 CFR Part 2.
    let notes = r#"when { resource.labels.contains(Label::"PSYTHPN") }"#;
    does_not_load(
        &format!(r#"{head} @mode("shadow") forbid (principal, action == Action::"disclose", resource) {notes};"#),
        "cannot run in shadow mode",
    );
    does_not_load(
        r#"@id("a") @cites("42 CFR 2.13(a)") @says("x") @mode("shadow") forbid (principal, action, resource);"#,
        "cannot run in shadow mode",
    );
    let template = |effect: &str, scope: &str| format!("{head} {effect} ({scope}, action, resource);");
    does_not_load(&template("permit", "principal == ?principal"), "a ceiling forbids");
    does_not_load(&template("forbid", "principal in ?principal"), "has one slot");
    does_not_load(&format!("{head} forbid (principal == ?principal, action, resource == ?resource);"), "has one slot");
    let shadowed = format!(r#"{head} @mode("shadow") forbid (principal == ?principal, action, resource);"#);
    does_not_load(&shadowed, "cannot run in shadow mode");
}

#[test]
fn no_shipped_forbid_that_rests_on_part_2_can_be_put_into_shadow_mode() {
    let shipped = shipped();
    let resting = shipped.policies().filter(|policy| !policy.permits && policy.cites.contains("42 CFR 2."));
    let mut tried = 0;
    for policy in resting.filter(|policy| policy.template.is_none()) {
        let header = format!("@id(\"{}\")", policy.id);
        let files: Vec<(String, String)> = PolicySet::shipped_files()
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.replace(&header, &format!("{header} @mode(\"shadow\")"))))
            .collect();
        let problems = PolicySet::load(&files).unwrap_err();
        assert!(problems.iter().any(|problem| problem.message.contains("shadow mode")), "{}: {problems:?}", policy.id);
        tried += 1;
    }
    assert!(tried >= 9, "{tried}");
}

#[test]
fn a_trial_run_lets_refusals_be_but_for_those_that_protect_part_2_and_for_suspension() {
    let set = shipped();
    let observed = |caller: &Caller, interaction: &Interaction| {
        let mut subject = caller.subject.clone();
        subject.partner = Arc::new(caller.partner.clone());
        let asked = Asked { subject: &subject, interaction, endpoint: &caller.endpoint, risk: caller.risk, now: NOW };
        observe(&set, &asked).map(|observed| (observed.would.map(|denial| denial.reason), observed.narrowed))
    };
    let mut user = caller(Part2Basis::Consent, PurposeOfUse::Treat, &["system/Patient.rs"]);
    user.subject.patient = None;
    assert_eq!(observed(&user, &read("Patient", "B")), Ok((None, false)));
    assert_eq!(observed(&user, &read("Condition", "c")), Ok((Some(Reason::InsufficientScope), false)));
    let own = caller(Part2Basis::Patient, PurposeOfUse::Patrqt, &["patient/*.rs"]);
    assert_eq!(observed(&own, &read("Patient", "B")), Ok((Some(Reason::PatientMismatch), false)));
    assert_eq!(observed(&own, &search("Observation", &[])), Ok((None, true)));
    let mut expired = user.clone();
    expired.partner.baa_expires = Some(NOW - Duration::days(1));
    assert_eq!(observed(&expired, &read("Patient", "B")), Ok((Some(Reason::EvidenceExpired), false)));
    let mut suspended = user.clone();
    suspended.partner.status = Status::Suspended;
    assert_eq!(observed(&suspended, &read("Patient", "B")).unwrap_err().reason, Reason::PartnerSuspended);
    let mut silent = user;
    silent.partner.part2.redaction = Redaction::Silent;
    let versions = Interaction::HistoryInstance { kind: kind("Patient"), id: id("B"), query: Query::default() };
    assert_eq!(observed(&silent, &versions).unwrap_err().reason, Reason::PolicyForbids);
}

#[test]
fn what_protects_part_2_holds_in_a_trial_run_whatever_scopes_say() {
    let set = shipped();
    let mut user = caller(Part2Basis::Consent, PurposeOfUse::Treat, &["system/*.rs"]);
    user.subject.patient = None;
    let permit = user.asks(&set, &search("Condition", &[])).unwrap();
    let holds = |labels: &[&str], consent: &ConsentOutcome| {
        let facts = facts("Condition", Some("B"), labels);
        permit.part2_forbids(&set, &mut Memo::default(), &facts, facts.labels, consent)
    };
    for label in ["42CFRPart2", "SUD", "ETH", "ETHUD", "OPIOIDUD", "PSYTHPN"] {
        assert!(holds(&[label], &ConsentOutcome::Silent), "{label}");
        assert!(holds(&[label], &denies()), "{label}");
    }
    assert!(!holds(&["42CFRPart2"], &permits()));
    for label in ["HIV", "R", "SPI", "TBOO"] {
        assert!(!holds(&[label], &ConsentOutcome::Silent), "{label}");
        assert!(!holds(&[label], &denies()), "{label}");
    }
}

#[test]
fn the_organization_on_whose_behalf_an_app_asks_is_a_fact_for_policies() {
    let policy = "@id(\"one-hospital\")\n@cites(\"site rule\")\n@says(\"One hospital's apps alone.\")\n\
        @reason(\"policy-forbids\")\nforbid (principal, action in Action::\"interact\", resource)\n\
        when { context.organization != \"https://hospital.example\" };";
    let shipped = PolicySet::shipped_files().iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let texts: Vec<_> = shipped
        .filter(|(name, _)| name.ends_with(".cedar"))
        .chain([("own.cedar".to_owned(), policy.to_owned())])
        .collect();
    let set = PolicySet::load(&texts)
        .unwrap_or_else(|problems| panic!("{}", problems.iter().map(ToString::to_string).collect::<String>()));
    let mut caller = caller(Part2Basis::Consent, PurposeOfUse::Treat, &["patient/*.rs"]);
    let asked = read("Observation", "r1");
    for (organization, allowed) in
        [(Some("https://hospital.example"), true), (Some("https://other.example"), false), (None, false)]
    {
        caller.subject.organization = organization.map(Into::into);
        let reason = caller.asks(&set, &asked).err().map(|denial| denial.reason);
        assert_eq!(reason, (!allowed).then_some(Reason::PolicyForbids), "{organization:?}");
    }
}
