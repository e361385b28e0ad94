//! The surface in one committed table: interaction by caller by sensitivity, and what comes of it.
//!
//! `cargo test -p fhirwall-policy --test surface -- --nocapture` prints it. A new interaction does not compile until it is
//! named here, and fails the test until it has a row; a changed verdict no longer matches `surface.snap`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use fhir_profiles::engine::{Limits, scan};
use fhir_profiles::interaction::{Access, Interaction, Path, RequestParts, interpret};
use fhir_profiles::labeller::Labeller;
use fhirwall_policy::cedar::PolicySet;
use fhirwall_policy::consent::ConsentOutcome;
use fhirwall_policy::decide::{Asked, EndpointFacts, EndpointRole, Risk, decide};
use fhirwall_policy::partner::{Part2, Part2Basis, Partner, Redaction, Status};
use fhirwall_policy::permit::{Disclosure, DisclosureFacts, Memo, Permit};
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::subject::{Authentication, Subject};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

/// Every interaction of R4 that has a name here, with a request for it. The names are those of [`name`].
const REQUESTS: &[(&str, &str, &str)] = &[
    ("capabilities", "GET", "/metadata"),
    ("read", "GET", "/Condition/c"),
    ("vread", "GET", "/Condition/c/_history/1"),
    ("history-instance", "GET", "/Condition/c/_history"),
    ("history-type", "GET", "/Condition/_history"),
    ("history-system", "GET", "/_history"),
    ("search-type", "GET", "/Condition?patient=A"),
    ("search-type, no patient", "GET", "/Condition"),
    ("search-compartment", "GET", "/Patient/A/Condition"),
    ("search-system", "GET", "/?_type=Condition,Observation"),
    ("search, _include", "GET", "/Condition?patient=A&_include=Condition:patient"),
    ("search, _revinclude", "GET", "/Condition?patient=A&_revinclude=Provenance:target"),
    ("search, _has", "GET", "/Condition?patient=A&_has:Provenance:target:agent=x"),
    ("search, chain", "GET", "/Condition?patient.name=x"),
    ("search, other patient", "GET", "/Condition?patient=B"),
    ("create", "POST", "/Condition"),
    ("conditional create", "POST?", "/Condition"),
    ("update", "PUT", "/Condition/c"),
    ("conditional update", "PUT", "/Condition?identifier=x"),
    ("patch", "PATCH", "/Condition/c"),
    ("conditional patch", "PATCH", "/Condition?identifier=x"),
    ("delete", "DELETE", "/Condition/c"),
    ("conditional delete", "DELETE", "/Condition?identifier=x"),
    ("batch", "BATCH", "/"),
    ("transaction", "TRANSACTION", "/"),
    ("$everything", "GET", "/Patient/A/$everything"),
    ("$lastn", "GET", "/Observation/$lastn?patient=A"),
    ("$expand", "GET", "/ValueSet/$expand?url=http://x"),
    ("$export", "GET", "/Patient/$export"),
    ("page", "GET", "/_page/token"),
    ("export-status", "GET", "/_export/token"),
    ("export-delete", "DELETE", "/_export/token"),
    ("export-file", "GET", "/_export/token/1"),
];

/// The interaction's own name: a variant that is added has to be named, and then needs a row.
const fn name(interaction: &Interaction) -> &'static str {
    match interaction {
        Interaction::Capabilities => "capabilities",
        Interaction::Read { .. } => "read",
        Interaction::Vread { .. } => "vread",
        Interaction::HistoryInstance { .. } => "history-instance",
        Interaction::HistoryType { .. } => "history-type",
        Interaction::HistorySystem { .. } => "history-system",
        Interaction::SearchType { .. } => "search-type",
        Interaction::SearchCompartment { .. } => "search-compartment",
        Interaction::SearchSystem { .. } => "search-system",
        Interaction::Create { .. } => "create",
        Interaction::ConditionalCreate { .. } => "conditional create",
        Interaction::Update { .. } => "update",
        Interaction::ConditionalUpdate { .. } => "conditional update",
        Interaction::Patch { .. } => "patch",
        Interaction::ConditionalPatch { .. } => "conditional patch",
        Interaction::Delete { .. } => "delete",
        Interaction::ConditionalDelete { .. } => "conditional delete",
        Interaction::Batch { .. } => "batch",
        Interaction::Transaction { .. } => "transaction",
        Interaction::Operation { .. } => "operation",
        Interaction::Page { .. } => "page",
        Interaction::ExportStatus { .. } => "export-status",
        Interaction::ExportDelete { .. } => "export-delete",
        Interaction::ExportFile { .. } => "export-file",
    }
}

const NAMES: &[&str] = &[
    "capabilities",
    "read",
    "vread",
    "history-instance",
    "history-type",
    "history-system",
    "search-type",
    "search-compartment",
    "search-system",
    "create",
    "conditional create",
    "update",
    "conditional update",
    "patch",
    "conditional patch",
    "delete",
    "conditional delete",
    "batch",
    "transaction",
    "operation",
    "page",
    "export-status",
    "export-delete",
    "export-file",
];

fn interaction(method: &str, target: &str) -> Interaction {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let entries = r#""entry":[{"request":{"method":"GET","url":"Condition/c"}}]"#;
    let bundle = |kind: &str| format!(r#"{{"resourceType":"Bundle","type":"{kind}",{entries}}}"#).into_bytes();
    let (method, body, if_none_exist) = match method {
        "BATCH" => ("POST", Some(bundle("batch")), None),
        "TRANSACTION" => ("POST", Some(bundle("transaction")), None),
        "POST?" => ("POST", None, Some("identifier=x")),
        method => (method, None, None),
    };
    let content_type = match method {
        "POST" | "PUT" => Some("application/fhir+json"),
        "PATCH" => Some("application/json-patch+json"),
        _ => None,
    };
    let body = body.as_deref();
    let parts = RequestParts { method, path, query, content_type, if_none_exist, body, ..RequestParts::default() };
    interpret(&parts).unwrap_or_else(|error| panic!("{method} {target}: {error}"))
}

/// A kind of caller: basis, style, purpose, scope, user, and what the patient's consents say to it.
type CallerKind =
    (&'static str, Part2Basis, Redaction, PurposeOfUse, &'static str, Option<&'static str>, ConsentOutcomeKind);

/// Who asks: the kinds of callers that there are.
const CALLERS: &[CallerKind] = &[
    (
        "patient",
        Part2Basis::Patient,
        Redaction::Marked,
        PurposeOfUse::Patrqt,
        "patient/*.cruds",
        Some("Patient/A"),
        ConsentOutcomeKind::Silent,
    ),
    (
        "clinician",
        Part2Basis::Consent,
        Redaction::Marked,
        PurposeOfUse::Treat,
        "user/*.cruds",
        Some("Practitioner/p"),
        ConsentOutcomeKind::Silent,
    ),
    (
        "clinician+consent",
        Part2Basis::Consent,
        Redaction::Marked,
        PurposeOfUse::Treat,
        "user/*.cruds",
        Some("Practitioner/p"),
        ConsentOutcomeKind::Permits,
    ),
    (
        "backend",
        Part2Basis::None,
        Redaction::Marked,
        PurposeOfUse::Hpaymt,
        "system/*.cruds",
        None,
        ConsentOutcomeKind::Silent,
    ),
    (
        "research",
        Part2Basis::None,
        Redaction::Silent,
        PurposeOfUse::Hresch,
        "system/*.cruds",
        None,
        ConsentOutcomeKind::Silent,
    ),
    (
        "few scopes",
        Part2Basis::None,
        Redaction::Marked,
        PurposeOfUse::Treat,
        "user/Condition.rs",
        Some("Practitioner/p"),
        ConsentOutcomeKind::Silent,
    ),
];

#[derive(Clone, Copy)]
enum ConsentOutcomeKind {
    Silent,
    Permits,
}

/// How sensitive the record is, and by what.
const RECORDS: &[(&str, &str)] = &[
    ("none", r#""code":{"text":"sprain"}"#),
    (
        "part 2 by label",
        r#""meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"42CFRPart2"}]}"#,
    ),
    ("part 2 by code", r#""code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F11.20"}]}"#),
    (
        "inline",
        r#""meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PROCESSINLINELABEL"}]},"note":[{"extension":[{"url":"http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label","valueCoding":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"42CFRPart2"}}],"text":"x"}]"#,
    ),
    (
        "psychotherapy",
        r#""meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PSYTHPN"}]}"#,
    ),
    ("unknown label", r#""meta":{"security":[{"system":"http://example.org/labels","code":"local"}]}"#),
];

fn subject(basis: Part2Basis, redaction: Redaction, purpose: PurposeOfUse, scope: &str, user: Option<&str>) -> Subject {
    let partner = Partner {
        client_id: "app".into(),
        name: "App".into(),
        status: Status::Active,
        scopes: vec!["patient/*.cruds".into(), "user/*.cruds".into(), "system/*.cruds".into()].into(),
        purposes_of_use: vec![purpose],
        part2: Part2 { basis, redaction },
        consent_recipients: Vec::new(),
        jurisdiction: "US".into(),
        baa_expires: Some(NOW + Duration::days(30)),
        assessment_expires: Some(NOW + Duration::days(30)),
        court_orders: Vec::new(),
    };
    let user = user.map(fhir_profiles::reference::Reference::parse);
    Subject {
        partner: Arc::new(partner),
        issuer: "https://idp".into(),
        sub: "user".into(),
        patient: scope.starts_with("patient/").then(|| "A".parse().unwrap()),
        fhir_user: user,
        scopes: [scope.to_owned()].into(),
        purpose: Some(purpose),
        authentication: Authentication {
            acr: None,
            amr: Vec::new(),
            auth_time: None,
            stepped_up: false,
            mtls: true,
            sender_constrained: true,
        },
        token_id: "jti".into(),
        expires: NOW + Duration::minutes(5),
        emergency: None,
        organization: None,
    }
}

/// What becomes of a record of Patient/A: shown, shown with an element less, withheld.
fn shown(
    set: &PolicySet,
    permit: &Permit,
    interaction: &Interaction,
    record: &str,
    consent: &ConsentOutcome,
) -> &'static str {
    let text = format!(r#"{{"resourceType":"Condition","id":"c","subject":{{"reference":"Patient/A"}},{record}}}"#);
    let document = scan(text.as_bytes(), &Limits::default(), &Labeller::default(), "2026-06-01").unwrap();
    let facts = document.root().unwrap();
    let question = DisclosureFacts { consent, matches: &|_| true };
    let memo = &mut Memo::default();
    let writes = interaction
        .touched()
        .into_iter()
        .find(|fact| fact.path == Path::Target && !matches!(fact.access, Access::Read | Access::Search));
    let whole = match &writes {
        Some(write) => permit.touch(set, memo, facts, &question, write.access),
        None => permit.disclose(set, memo, facts, &question),
    };
    if matches!(whole, Disclosure::Withhold { .. }) {
        return "hidden";
    }
    let all = facts.inline.iter().all(|labels| permit.element(set, memo, facts, *labels, &question).is_shown());
    // Rule 12: who does not see all of a record does not change it; nor are its older versions shown.
    let of_versions = matches!(
        interaction,
        Interaction::Vread { .. }
            | Interaction::HistoryInstance { .. }
            | Interaction::HistoryType { .. }
            | Interaction::HistorySystem { .. }
    );
    match (all, writes.is_some() || of_versions) {
        (true, _) => "yes",
        (false, false) => "masked",
        (false, true) => "hidden",
    }
}

fn table(set: &PolicySet) -> (String, BTreeSet<&'static str>) {
    let endpoint = EndpointFacts {
        name: "main".into(),
        role: EndpointRole::Program,
        bases: vec!["https://ehr/fhir".into()],
        consents: Default::default(),
    };
    let consents = |kind| match kind {
        ConsentOutcomeKind::Silent => ConsentOutcome::Silent,
        ConsentOutcomeKind::Permits => ConsentOutcome::Permit { consents: vec!["c1".parse().unwrap()] },
    };
    let mut out = String::from(
        "# yes: shown or carried out; masked: without the labelled element; hidden: like a missing one; else refused\n",
    );
    let _ = writeln!(out, "# records: {}", RECORDS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | "));
    let mut seen = BTreeSet::new();
    for (title, method, target) in REQUESTS {
        let interaction = interaction(method, target);
        seen.insert(name(&interaction));
        for (caller, basis, redaction, purpose, scope, user, consent) in CALLERS {
            let subject = subject(*basis, *redaction, *purpose, scope, *user);
            let asked =
                Asked { subject: &subject, interaction: &interaction, endpoint: &endpoint, risk: Risk::Low, now: NOW };
            let cells = match decide(set, &asked) {
                Err(denial) => format!("403 {}", denial.reason.code()),
                Ok(_) if interaction == Interaction::Capabilities => "answered by the gateway, of no record".to_owned(),
                Ok(permit) => {
                    let consent = consents(*consent);
                    let cells: Vec<&str> =
                        RECORDS.iter().map(|(_, record)| shown(set, &permit, &interaction, record, &consent)).collect();
                    cells.join(" | ")
                }
            };
            let _ = writeln!(out, "{title:24} {caller:18} {cells}");
        }
    }
    (out, seen)
}

#[test]
fn the_surface_is_as_committed() {
    let set = PolicySet::shipped().unwrap_or_else(|problems| panic!("{problems:?}"));
    let (table, seen) = table(&set);
    println!("{table}");
    let missing: Vec<&&str> = NAMES.iter().filter(|name| !seen.contains(**name)).collect();
    assert!(missing.is_empty(), "no request for {missing:?}");
    assert!(seen.iter().all(|name| NAMES.contains(name)), "a name that is not in the list: {seen:?}");
    insta::with_settings!({ snapshot_path => ".", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("surface", table);
    });
}

#[test]
fn flat_forbids_are_named_for_those_whom_nothing_opens_them() {
    let set = PolicySet::shipped().unwrap_or_else(|problems| panic!("{problems:?}"));
    let endpoint = EndpointFacts {
        name: "main".into(),
        role: EndpointRole::Program,
        bases: Vec::new(),
        consents: Default::default(),
    };
    let interaction = interaction("GET", "/Condition?patient=A");
    let kinds = ["Condition".parse().unwrap()];
    let named = |at: usize, purposes: &str| {
        let (_, basis, redaction, purpose, scope, user, _) = CALLERS.get(at).unwrap();
        let subject = subject(*basis, *redaction, *purpose, scope, *user);
        let asked =
            Asked { subject: &subject, interaction: &interaction, endpoint: &endpoint, risk: Risk::Low, now: NOW };
        let permit = decide(&set, &asked).unwrap_or_else(|denial| panic!("{purposes}: {denial:?}"));
        permit.never_shown(&set, &kinds).iter().map(|label| label.code()).collect::<Vec<_>>()
    };
    // No basis: nothing opens a program's record. A consent for notes may open notes to anyone it names.
    let part2 = ["42CFRPart2", "ETH", "ETHUD", "OPIOIDUD", "SUD"];
    let mut research = named(4, "research");
    research.sort_unstable();
    assert_eq!(research, part2);
    // A patient sees the own record, a clinician what consent opens.
    assert!(!named(0, "patient").contains(&"42CFRPart2"));
    assert!(!named(1, "clinician").contains(&"42CFRPart2"));
}
