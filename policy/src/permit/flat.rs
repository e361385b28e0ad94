//! Flat forbids: labels under which no record is shown to a caller, whatever else is true of the record.
//!
//! A search may leave such records out at the source. The answer errs on one side only: a label is named when every record
//! that carries it would be withheld, and is left out in any doubt.

use fhir_profiles::ids::ResourceType;
use fhir_profiles::label::{Label, LabelSet};

use super::{Disclosure, Memo, Permit};
use crate::cedar::PolicySet;
use crate::question::{ConsentState, Record, Relation};

/// The labels asked about: those that the law protects by themselves (42 CFR 2.13, 45 CFR 164.508).
const CANDIDATES: [&str; 7] = ["42CFRPart2", "SUD", "ETH", "ETHUD", "OPIOIDUD", "PSYTHPN", "HIPAAPsyNotes"];

impl Permit {
    /// The labels under which this caller is shown no record of these types: each is forbidden by a policy that further
    /// labels cannot lift, whatever consents, patients, emergencies and orders there may be.
    pub fn never_shown(&self, set: &PolicySet, kinds: &[ResourceType]) -> Vec<Label> {
        if kinds.is_empty() || set.epoch() != self.epoch {
            return Vec::new();
        }
        let mut memo = Memo::default();
        let mut forbids = |record: Record| match self.remember(set, &mut memo, record) {
            Disclosure::Show { .. } => false,
            // Where nothing permits, nothing forbids: with another label something might permit.
            Disclosure::Withhold { policies, .. } => policies.iter().any(|id| set.holds_for_more_labels(id)),
        };
        let candidates = Label::all().filter(|label| CANDIDATES.contains(&label.code()));
        candidates
            .filter(|label| {
                let labels = LabelSet::EMPTY.with(*label);
                kinds.iter().all(|kind| self.every_record(*kind, labels).into_iter().all(&mut forbids))
            })
            .collect()
    }

    /// Every record of a type with these labels that policies can tell apart for this caller.
    fn every_record(&self, kind: ResourceType, labels: LabelSet) -> Vec<Record> {
        let either = |may_be: bool| if may_be { [false, true].as_slice() } else { [false].as_slice() };
        let mut all = Vec::new();
        for consent in ConsentState::ALL.iter().copied() {
            let permits = consent == ConsentState::Permits;
            for patient in Relation::ALL.iter().copied() {
                for notes_consent in either(permits).iter().copied() {
                    for proceedings_consent in either(permits).iter().copied() {
                        for emergency_patient in either(self.judge.emergency.is_some()).iter().copied() {
                            for court_order in either(!self.partner.court_orders.is_empty()).iter().copied() {
                                all.push(Record {
                                    kind,
                                    labels,
                                    consent,
                                    notes_consent,
                                    proceedings_consent,
                                    patient,
                                    emergency_patient,
                                    court_order,
                                });
                            }
                        }
                    }
                }
            }
        }
        all
    }
}
