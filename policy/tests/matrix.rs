//! Who may do what, all of it, in one committed table: interaction by caller, and record by caller, purpose, consent
//! and label. A new basis, purpose, label or action adds lines, and the table no longer matches until someone has looked.
#![expect(clippy::panic, reason = "tests may stop at the first surprise")]

use std::fmt::Write as _;

use fhir_profiles::ids::ResourceType;
use fhir_profiles::label::{Label, LabelSet};
use fhirwall_policy::cedar::PolicySet;
use fhirwall_policy::decide::{EndpointRole, UserKind};
use fhirwall_policy::partner::Part2Basis;
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::question::{About, Caller, ConsentState, Decision, Question, Record, Relation, Target};

/// Label sets that the rules tell apart; every other label is in the last part of the table by itself.
const SENSITIVITIES: &[&[&str]] = &[
    &[],
    &["R"],
    &["HIV"],
    &["42CFRPart2"],
    &["PSYTHPN"],
    &["PSYTHPN", "42CFRPart2"],
    &["HIPAASelfPay"],
    &["TBOO"],
    &["unknown"],
];

fn labels(codes: &[&str]) -> LabelSet {
    codes.iter().map(|code| label(code)).collect()
}

fn label(code: &str) -> Label {
    Label::all().find(|label| label.code() == code).unwrap_or_else(|| panic!("{code}"))
}

fn kind(name: &str) -> ResourceType {
    name.parse().unwrap_or_else(|_| panic!("{name}"))
}

fn caller(basis: Part2Basis, purpose: PurposeOfUse) -> Caller {
    let emergency = purpose.is_a(PurposeOfUse::Etreat);
    let user = if emergency { UserKind::Practitioner } else { UserKind::None };
    Caller { basis, purpose, emergency, strong: emergency, user, ..Caller::default() }
}

fn mark(set: &PolicySet, caller: &Caller, about: About) -> char {
    match set.rule(&Question { caller: caller.clone(), about }).decision {
        Decision::Allow => '+',
        Decision::Deny => '-',
        Decision::Error => '!',
    }
}

fn interactions(set: &PolicySet, out: &mut String) {
    let _ = writeln!(out, "# interaction: marked/silent partner, by basis {}", bases());
    for action in PolicySet::actions() {
        for (name, purpose) in [("TREAT", PurposeOfUse::Treat), ("BTG", PurposeOfUse::Btg)] {
            for kind_name in ["Observation", "AuditEvent"] {
                let cells: Vec<String> = Part2Basis::ALL
                    .iter()
                    .map(|basis| {
                        let target = Target { action: action.to_owned(), kind: kind(kind_name), path: "target".into() };
                        let asks = |silent| {
                            mark(set, &Caller { silent, ..caller(*basis, purpose) }, About::Target(target.clone()))
                        };
                        format!("{}{}", asks(false), asks(true))
                    })
                    .collect();
                let _ = writeln!(out, "{action:20} {name:5} {kind_name:12} {}", cells.join(" "));
            }
        }
    }
}

fn bases() -> String {
    Part2Basis::ALL.iter().map(|basis| basis.code()).collect::<Vec<_>>().join(" ")
}

fn records(set: &PolicySet, out: &mut String) {
    let _ = writeln!(
        out,
        "\n# record of the own patient: consent permits/denies/silent, program endpoint then recipient, by basis {}",
        bases()
    );
    for codes in SENSITIVITIES {
        for purpose in PurposeOfUse::ALL {
            let cells: Vec<String> = Part2Basis::ALL.iter().map(|basis| cell(set, *basis, *purpose, codes)).collect();
            let shown = if codes.is_empty() { "no label".to_owned() } else { codes.join("+") };
            let _ = writeln!(out, "{shown:20} {:9} {}", purpose.code(), cells.join(" "));
        }
    }
}

fn cell(set: &PolicySet, basis: Part2Basis, purpose: PurposeOfUse, codes: &[&str]) -> String {
    let mut cell = String::new();
    for endpoint in EndpointRole::ALL {
        for consent in ConsentState::ALL {
            let record = Record {
                kind: kind("Condition"),
                labels: labels(codes),
                consent: *consent,
                notes_consent: false,
                proceedings_consent: false,
                patient: Relation::Own,
                emergency_patient: purpose.is_a(PurposeOfUse::Etreat),
                court_order: basis == Part2Basis::CourtOrder,
            };
            let caller = Caller { endpoint: *endpoint, ..caller(basis, purpose) };
            cell.push(mark(set, &caller, About::Record(record)));
        }
    }
    cell
}

fn each_label(set: &PolicySet, out: &mut String) {
    let _ = writeln!(out, "\n# each label alone, for treatment: without basis, and with consent");
    for label in Label::all() {
        let record = |consent| Record {
            kind: kind("Condition"),
            labels: LabelSet::EMPTY.with(label),
            consent,
            notes_consent: false,
            proceedings_consent: false,
            patient: Relation::Own,
            emergency_patient: false,
            court_order: false,
        };
        let without =
            mark(set, &caller(Part2Basis::None, PurposeOfUse::Treat), About::Record(record(ConsentState::Silent)));
        let with =
            mark(set, &caller(Part2Basis::Consent, PurposeOfUse::Treat), About::Record(record(ConsentState::Permits)));
        let _ = writeln!(out, "{:28} {without} {with}", label.code());
    }
}

#[test]
fn the_matrix_is_as_committed() {
    let set = PolicySet::shipped().unwrap_or_else(|problems| panic!("{problems:?}"));
    let mut out = String::new();
    interactions(&set, &mut out);
    records(&set, &mut out);
    each_label(&set, &mut out);
    assert!(!out.contains('!'), "a policy fails to evaluate");
    insta::with_settings!({ snapshot_path => ".", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("matrix", out);
    });
}
