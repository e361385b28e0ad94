//! What would have to change: single facts first, then pairs.

use crate::cedar::PolicySet;
use crate::decide::{EndpointRole, Risk, UserKind};
use crate::partner::Part2Basis;
use crate::purpose::PurposeOfUse;
use crate::question::{About, ConsentState, Decision, Question, Record, Relation};

struct Change {
    words: String,
    apply: Box<dyn Fn(&mut Question)>,
}

/// At most this many ways are told.
const MOST: usize = 8;

/// Changes of one fact that would permit; where there is none, of two.
pub(super) fn towards_permit(set: &PolicySet, question: &Question) -> Vec<String> {
    let candidates = candidates();
    let permits = |question: &Question| set.rule(question).decision == Decision::Allow;
    let with = |changes: &[&Change]| {
        let mut changed = question.clone();
        for change in changes {
            (change.apply)(&mut changed);
        }
        changed
    };
    let single: Vec<String> = candidates
        .iter()
        .filter(|change| permits(&with(&[change])))
        .map(|change| change.words.clone())
        .take(MOST)
        .collect();
    if !single.is_empty() {
        return single;
    }
    let pairs = candidates
        .iter()
        .enumerate()
        .flat_map(|(at, one)| candidates.iter().skip(at + 1).map(move |other| (one, other)));
    pairs
        .filter(|(one, other)| permits(&with(&[one, other])))
        .map(|(one, other)| format!("{}, and {}", one.words, other.words))
        .take(MOST)
        .collect()
}

fn change(words: impl Into<String>, apply: impl Fn(&mut Question) + 'static) -> Change {
    Change { words: words.into(), apply: Box::new(apply) }
}

/// A fact of a record; it changes nothing in a question about a request.
fn of_record(words: &str, apply: impl Fn(&mut Record) + 'static) -> Change {
    change(words, move |question| match &mut question.about {
        About::Record(record) => apply(record),
        About::Target(_) => {}
    })
}

fn candidates() -> Vec<Change> {
    let mut changes = vec![
        change("the partner were active", |question| question.caller.active = true),
        change("the partner's agreement and assessment were current", |question| {
            question.caller.evidence_current = true
        }),
        change("the caller were not rated high risk", |question| question.caller.risk = Risk::Low),
        of_record("the patient's consent permitted it", |record| record.consent = ConsentState::Permits),
        of_record("the patient's consent did not deny it", |record| record.consent = ConsentState::Silent),
        of_record("a consent for such notes alone permitted it", |record| {
            record.consent = ConsentState::Permits;
            record.notes_consent = true;
        }),
        of_record("a consent for proceedings alone permitted it", |record| {
            record.consent = ConsentState::Permits;
            record.proceedings_consent = true;
        }),
        of_record("a court order covered the patient", |record| record.court_order = true),
        of_record("it were the record of the caller's own patient", |record| record.patient = Relation::Own),
        change("a complete emergency claim for this patient came with it", |question| {
            question.caller.emergency = true;
            if let About::Record(record) = &mut question.about {
                record.emergency_patient = true;
            }
        }),
        change("the user's authentication were fresh and multi-factor", |question| question.caller.strong = true),
        change("the user were a practitioner", |question| question.caller.user = UserKind::Practitioner),
        change("what is withheld were marked for this partner, not silent", |question| question.caller.silent = false),
        change("the endpoint held the records as a recipient", |question| {
            question.caller.endpoint = EndpointRole::Recipient;
        }),
    ];
    changes.extend(Part2Basis::ALL.iter().filter(|basis| **basis != Part2Basis::None).map(|basis| {
        let basis = *basis;
        change(format!("the partner were registered with Part 2 basis `{}`", basis.code()), move |question| {
            question.caller.basis = basis;
        })
    }));
    changes.extend(PurposeOfUse::ALL.iter().map(|purpose| {
        let purpose = *purpose;
        change(format!("the partner were registered for {0} and asked for {0}", purpose.code()), move |question| {
            question.caller.purpose = purpose;
            question.caller.purposes = vec![purpose];
        })
    }));
    changes
}
