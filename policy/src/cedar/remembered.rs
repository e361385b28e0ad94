//! Verdicts kept across requests, for sets in which no policy reads outside their key.
//!
//! The key is all that policies can read: the caller's facts but for the time, and the record's or the target's. A set that
//! reads the time keeps nothing ([`super::PolicySet::verdicts_outlive_the_request`]). They live in the set they were given
//! by, so a reload forgets them.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

use time::OffsetDateTime;

use super::{Answer, Verdict};
use crate::permit::Disclosure;
use crate::question::{Caller, Record, Target};

/// Beyond these bounds all is forgotten and begun anew.
#[derive(Clone, Copy)]
struct Bounds {
    callers: usize,
    verdicts: usize,
}

const BOUNDS: Bounds = Bounds { callers: 4_096, verdicts: 65_536 };

/// A caller's facts, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallerNumber(u64);

/// One series for all sets: a number that one set gave means nothing to another, and is never given twice.
static NEXT: AtomicU64 = AtomicU64::new(0);

pub(super) struct Remembered {
    kept: RwLock<Kept>,
    bounds: Bounds,
}

impl Default for Remembered {
    fn default() -> Self {
        Self { kept: RwLock::default(), bounds: BOUNDS }
    }
}

#[derive(Default)]
struct Kept {
    callers: HashMap<Caller, CallerNumber>,
    of: HashMap<CallerNumber, Verdicts>,
    verdicts: usize,
}

#[derive(Default)]
struct Verdicts {
    targets: HashMap<Target, Answer>,
    records: HashMap<Record, Disclosure>,
}

impl Remembered {
    /// The number of these facts. `None` if another thread died here: then nothing is remembered, and nothing is lost.
    pub(super) fn number(&self, caller: &Caller) -> Option<CallerNumber> {
        let timeless = Caller { time: OffsetDateTime::UNIX_EPOCH, ..caller.clone() };
        if let Some(number) = self.kept.read().ok()?.callers.get(&timeless) {
            return Some(*number);
        }
        let mut kept = self.kept.write().ok()?;
        if kept.callers.len() >= self.bounds.callers {
            *kept = Kept::default();
        }
        let number = CallerNumber(NEXT.fetch_add(1, Ordering::Relaxed));
        // Another thread may have been faster: then its number stands.
        Some(*kept.callers.entry(timeless).or_insert(number))
    }

    /// The answer kept for this caller and target, or else the one that `ask` gives, which is then kept.
    pub(super) fn target(&self, caller: Option<CallerNumber>, target: &Target, ask: impl FnOnce() -> Answer) -> Answer {
        let Some(caller) = caller else { return ask() };
        let known = |kept: &Kept| kept.of.get(&caller)?.targets.get(target).cloned();
        if let Some(answer) = self.kept.read().ok().and_then(|kept| known(&kept)) {
            return answer;
        }
        let answer = ask();
        // An error is a defect to be seen each time.
        if answer.verdict != Verdict::Error {
            self.keep(caller, |verdicts| drop(verdicts.targets.insert(target.clone(), answer.clone())));
        }
        answer
    }

    /// The verdict kept for this caller and record, or else the one that `ask` gives, which is then kept.
    pub(super) fn record(
        &self,
        caller: Option<CallerNumber>,
        record: &Record,
        ask: impl FnOnce() -> Disclosure,
    ) -> Disclosure {
        let Some(caller) = caller else { return ask() };
        let known = |kept: &Kept| kept.of.get(&caller)?.records.get(record).cloned();
        if let Some(verdict) = self.kept.read().ok().and_then(|kept| known(&kept)) {
            return verdict;
        }
        let verdict = ask();
        self.keep(caller, |verdicts| drop(verdicts.records.insert(*record, verdict.clone())));
        verdict
    }

    fn keep(&self, caller: CallerNumber, insert: impl FnOnce(&mut Verdicts)) {
        let Ok(mut kept) = self.kept.write() else { return };
        if kept.verdicts >= self.bounds.verdicts {
            kept.of.clear();
            kept.verdicts = 0;
        }
        insert(kept.of.entry(caller).or_default());
        kept.verdicts += 1;
    }
}

#[cfg(test)]
mod tests {
    use fhir_profiles::label::Label;
    use proptest::prelude::*;

    use super::*;
    use crate::cedar::{Asker, Asking, PolicySet};
    use crate::decide::{EndpointRole, UserKind};
    use crate::partner::Part2Basis;
    use crate::permit::disclosure;
    use crate::purpose::PurposeOfUse;
    use crate::question::{ConsentState, Relation};

    fn callers() -> impl Strategy<Value = Caller> {
        let purposes = [PurposeOfUse::Treat, PurposeOfUse::Btg, PurposeOfUse::Hresch];
        let users = [UserKind::None, UserKind::Practitioner];
        (
            prop::sample::select(Part2Basis::ALL.to_vec()),
            prop::sample::select(purposes.to_vec()),
            prop::sample::select(users.to_vec()),
            any::<(bool, bool, bool, i64)>(),
        )
            .prop_map(|(basis, purpose, user, (strong, emergency, recipient, seconds))| Caller {
                basis,
                purpose,
                purposes: vec![purpose],
                user,
                strong,
                emergency,
                endpoint: if recipient { EndpointRole::Recipient } else { EndpointRole::Program },
                time: Caller::default().time + time::Duration::seconds(seconds.rem_euclid(1_000)),
                ..Caller::default()
            })
    }

    fn records() -> impl Strategy<Value = Record> {
        let labels: Vec<Label> = Label::all().collect();
        let consents = [ConsentState::Permits, ConsentState::Denies, ConsentState::Silent];
        (prop::sample::subsequence(labels, 0..3), prop::sample::select(consents.to_vec()), any::<(bool, bool)>())
            .prop_map(|(labels, consent, (emergency_patient, own))| Record {
                kind: "Condition".parse().unwrap(),
                labels: labels.into_iter().collect(),
                consent,
                notes_consent: false,
                proceedings_consent: false,
                patient: if own { Relation::Own } else { Relation::Other },
                emergency_patient,
                court_order: false,
            })
    }

    fn targets() -> impl Strategy<Value = Target> {
        let actions: Vec<&str> = PolicySet::actions().collect();
        (prop::sample::select(actions), prop::sample::select(vec!["Condition", "AuditEvent"])).prop_map(
            |(action, kind)| Target {
                action: action.to_owned(),
                kind: kind.parse().unwrap(),
                path: "target".to_owned(),
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        /// Whatever was asked before, in whatever order, and however little room there is.
        #[test]
        fn what_is_remembered_is_what_would_be_said(
            asked in prop::collection::vec((callers(), records(), targets()), 1..12),
            room in (1_usize..4, 1_usize..6),
        ) {
            let mut set = PolicySet::shipped().unwrap();
            set.remembered.bounds = Bounds { callers: room.0, verdicts: room.1 };
            for (caller, record, target) in asked.iter().chain(&asked) {
                let asking = Asking::new(&set, caller).unwrap();
                let asker = Asker::new(&set, caller.clone());
                let plain = disclosure(&set.ask_record(&asking, record));
                prop_assert_eq!(set.record(&asker, record, |answer| disclosure(&answer)), plain);
                prop_assert_eq!(set.target(&asker, target), set.ask_target(&asking, target));
                let kept = set.remembered.kept.read().unwrap();
                prop_assert!(kept.callers.len() <= room.0 && kept.verdicts <= room.1);
            }
        }
    }

    #[test]
    fn a_number_of_one_set_is_no_number_of_another() {
        let (one, other) = (PolicySet::shipped().unwrap(), PolicySet::shipped().unwrap());
        let caller = Caller::default();
        assert_eq!(one.epoch(), other.epoch());
        assert_ne!(one.remembered.number(&caller), other.remembered.number(&caller));
        assert_eq!(one.remembered.number(&caller), one.remembered.number(&caller));
    }
}
