//! A slow, obvious reading of the rules beside the policies: both must say the same to any question.
#![expect(clippy::panic, reason = "tests may stop at the first surprise")]

use fhir_profiles::ids::ResourceType;
use fhir_profiles::label::{Label, LabelSet};
use fhirwall_policy::cedar::PolicySet;
use fhirwall_policy::decide::{EndpointRole, Risk, UserKind};
use fhirwall_policy::partner::Part2Basis;
use fhirwall_policy::purpose::PurposeOfUse as Purpose;
use fhirwall_policy::question::{About, Caller, ConsentState, Decision, Question, Record, Relation, Target};
use proptest::prelude::*;
use proptest::sample::select;

fn has(record: &Record, codes: &[&str]) -> bool {
    record.labels.iter().any(|label| codes.contains(&label.code()))
}

/// Standing: suspended, expired or high-risk callers get nothing.
fn in_good_standing(caller: &Caller) -> bool {
    caller.active && caller.evidence_current && caller.risk != Risk::High
}

fn registered(caller: &Caller) -> bool {
    caller.registered().iter().any(|own| caller.purpose.is_a(*own))
}

/// 42 CFR 2.51, with what this gateway asks beyond it.
fn emergency(caller: &Caller, record: &Record) -> bool {
    caller.emergency && record.emergency_patient && caller.strong && caller.purpose.is_a(Purpose::Etreat)
}

fn tpo(caller: &Caller) -> bool {
    [Purpose::Treat, Purpose::Hpaymt, Purpose::Hoperat].iter().any(|purpose| caller.purpose.is_a(*purpose))
}

/// Is there a reason in law to show a record that is protected, Part 2 or not?
fn lawful(caller: &Caller, record: &Record) -> bool {
    let consented = record.consent == ConsentState::Permits
        && (tpo(caller)
            || [Purpose::Hresch, Purpose::Hmarkt, Purpose::Patrqt, Purpose::Famrqt, Purpose::Publhlth]
                .contains(&caller.purpose));
    let on_basis = match caller.basis {
        Part2Basis::None => false,
        Part2Basis::Consent => consented || (caller.endpoint == EndpointRole::Recipient && tpo(caller)),
        Part2Basis::Patient => record.patient == Relation::Own && caller.purpose.is_a(Purpose::Patrqt),
        Part2Basis::Program => tpo(caller),
        Part2Basis::Research => caller.purpose == Purpose::Hresch,
        Part2Basis::Audit => caller.purpose == Purpose::Hqualimp,
        Part2Basis::CourtOrder => record.court_order && caller.purpose == Purpose::Hlegal,
    };
    let clinician = matches!(caller.user, UserKind::Practitioner | UserKind::PractitionerRole);
    let registered = caller.registered().iter().any(|own| [Purpose::Etreat, Purpose::Btg].contains(own));
    on_basis || (emergency(caller, record) && clinician && registered)
}

const PART2: &[&str] = &["42CFRPart2", "SUD", "ETH", "ETHUD", "OPIOIDUD"];
const PLAIN: &[&str] = &[
    "U",
    "L",
    "M",
    "N",
    "CommonRule",
    "HIPAANOPP",
    "PROCESSINLINELABEL",
    "CPLYJPP",
    "ConfidentialMark",
    "REDACTED",
    "MASKED",
    "SUBSETTED",
];

fn shows(caller: &Caller, record: &Record) -> bool {
    let part2 = has(record, PART2);
    let plain = record.labels.iter().all(|label| PLAIN.contains(&label.code()));
    let internal = matches!(caller.basis, Part2Basis::Program | Part2Basis::Audit);
    if !in_good_standing(caller) {
        return false;
    }
    // What nothing lifts.
    if has(record, &["PSYTHPN", "HIPAAPsyNotes"]) && !record.notes_consent {
        return false;
    }
    if record.kind.as_str() == "AuditEvent" && !internal {
        return false;
    }
    if has(record, &["TBOO"]) && caller.basis == Part2Basis::Patient {
        return false;
    }
    if has(record, &["HIPAASelfPay"])
        && (caller.purpose.is_a(Purpose::Hpaymt) || caller.purpose.is_a(Purpose::Hoperat))
        && !internal
    {
        return false;
    }
    let emergency_purpose = caller.purpose.is_a(Purpose::Etreat);
    if emergency_purpose && record.patient != Relation::None && !record.emergency_patient {
        return false;
    }
    let ordered = caller.basis == Part2Basis::CourtOrder && record.court_order;
    if part2 && caller.purpose == Purpose::Hlegal && !record.proceedings_consent && !ordered {
        return false;
    }
    let consent_not_asked = match caller.basis {
        Part2Basis::Patient | Part2Basis::Program | Part2Basis::Audit | Part2Basis::CourtOrder => true,
        Part2Basis::None | Part2Basis::Consent | Part2Basis::Research => false,
    };
    if record.consent == ConsentState::Denies && !consent_not_asked && !emergency(caller, record) {
        return false;
    }
    // What is ordinary, what is reportable, and what there is a reason for.
    let ordinary = plain && registered(caller) && caller.purpose != Purpose::Hmarkt;
    let reportable = caller.purpose == Purpose::Publhlth
        && caller.registered().contains(&Purpose::Publhlth)
        && !has(record, &["unknown"])
        && !part2;
    ordinary || reportable || lawful(caller, record)
}

fn may_ask(caller: &Caller, target: &Target) -> bool {
    let action = target.action.as_str();
    let writes = ["create", "update", "patch", "delete"].contains(&action);
    let versions = action == "vread" || action.starts_with("history");
    let internal = matches!(caller.basis, Part2Basis::Program | Part2Basis::Audit);
    let worldly = ["Organization", "Practitioner", "PractitionerRole", "Location", "Medication"];
    let blind = ["chain", "has"].contains(&target.path.as_str()) && !worldly.contains(&target.kind.as_str());
    let emergency = caller.purpose.is_a(Purpose::Etreat);
    let clinician = matches!(caller.user, UserKind::Practitioner | UserKind::PractitionerRole);
    in_good_standing(caller)
        && registered(caller)
        && !(caller.silent && (versions || (writes && action != "create")))
        && !(emergency && (writes || !caller.emergency || !clinician || !caller.strong))
        && !(target.kind.as_str() == "AuditEvent" && (!internal || writes || action == "operation"))
        && (!blind || internal)
}

fn callers() -> impl Strategy<Value = Caller> {
    let standing = (prop::bool::weighted(0.9), prop::bool::weighted(0.9), select(Risk::ALL), any::<bool>());
    let purposes = (
        select(Part2Basis::ALL),
        select(Purpose::ALL),
        prop::collection::vec(select(Purpose::ALL), 0..3),
        select(UserKind::ALL),
    );
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), select(EndpointRole::ALL));
    (standing, purposes, flags).prop_map(
        |(
            (active, evidence_current, risk, silent),
            (basis, purpose, purposes, user),
            (strong, mtls, emergency, endpoint),
        )| {
            Caller {
                active,
                evidence_current,
                risk,
                silent,
                basis,
                purpose,
                purposes,
                user,
                strong,
                mtls,
                emergency,
                endpoint,
                ..Caller::default()
            }
        },
    )
}

fn records() -> impl Strategy<Value = Record> {
    let labels = prop::collection::vec(select(Label::all().collect::<Vec<_>>()), 0..3);
    let kinds = select(vec!["Condition", "AuditEvent", "AllergyIntolerance", "Practitioner"]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (kinds, labels, select(ConsentState::ALL), select(Relation::ALL), flags).prop_map(
        |(kind, labels, consent, patient, (notes_consent, proceedings_consent, emergency_patient, court_order))| {
            Record {
                kind: named(kind),
                labels: labels.into_iter().collect::<LabelSet>(),
                consent,
                patient,
                notes_consent,
                proceedings_consent,
                emergency_patient,
                court_order,
            }
        },
    )
}

fn targets() -> impl Strategy<Value = Target> {
    let actions = select(vec![
        "capabilities",
        "read",
        "search-type",
        "search-system",
        "search-compartment",
        "vread",
        "history-instance",
        "history-type",
        "history-system",
        "operation",
        "create",
        "update",
        "patch",
        "delete",
    ]);
    let kinds = select(vec!["Condition", "AuditEvent", "Organization", "Medication", "Patient"]);
    let paths = select(vec!["target", "include", "revinclude", "any-of", "chain", "has", "sort"]);
    (actions, kinds, paths).prop_map(|(action, kind, path)| Target {
        action: action.into(),
        kind: named(kind),
        path: path.into(),
    })
}

fn named(kind: &str) -> ResourceType {
    kind.parse().unwrap_or_else(|_| panic!("{kind}"))
}

fn decision(allows: bool) -> Decision {
    if allows { Decision::Allow } else { Decision::Deny }
}

#[test]
fn the_policies_say_what_the_plain_reading_says() {
    let set = PolicySet::shipped().unwrap_or_else(|problems| panic!("{problems:?}"));
    let config = ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let (mut shown, mut asked) = (0_u32, 0_u32);
    let seen = std::cell::RefCell::new((&mut shown, &mut asked));
    runner
        .run(&(callers(), records(), targets()), |(caller, record, target)| {
            let about = |about| Question { caller: caller.clone(), about };
            let (record_allowed, target_allowed) = (shows(&caller, &record), may_ask(&caller, &target));
            prop_assert_eq!(set.rule(&about(About::Record(record))).decision, decision(record_allowed));
            prop_assert_eq!(set.rule(&about(About::Target(target.clone()))).decision, decision(target_allowed));
            let mut seen = seen.borrow_mut();
            *seen.0 += u32::from(record_allowed);
            *seen.1 += u32::from(target_allowed);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert!(shown > 100 && asked > 100, "the questions are lopsided: {shown} shown, {asked} permitted of 3000");
}
