//! Whose rows a search asks for, and how a search is held to one patient.

use std::collections::BTreeSet;

use crate::compartment;
use crate::ids::{LogicalId, ResourceType};
use crate::reference::Reference;
use crate::search::{Parameter, Query, value};

/// What the criteria of a search say about the patients in its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatientConstraint {
    /// Nothing: any patient's rows may come.
    None,
    /// Rows of these patients at most.
    Exactly(BTreeSet<LogicalId>),
    /// Something that cannot be held to: a modifier, a foreign or logical reference, two that exclude each other.
    Unusable,
}

impl Query {
    /// Reads every subject-type criterion of the type, the client's and the added ones. Several are an "and" in R4: what
    /// remains is their intersection, and an empty one is [`PatientConstraint::Unusable`].
    pub fn patient_constraint(&self, kind: ResourceType) -> PatientConstraint {
        let mut found: Option<BTreeSet<LogicalId>> = None;
        for parameter in self.all().filter(|parameter| says_whose(kind, parameter)) {
            let named = match patients(parameter) {
                PatientConstraint::None => continue,
                PatientConstraint::Exactly(named) => named,
                PatientConstraint::Unusable => return PatientConstraint::Unusable,
            };
            found = Some(match found {
                None => named,
                Some(earlier) => earlier.intersection(&named).cloned().collect(),
            });
        }
        match found {
            None => PatientConstraint::None,
            Some(named) if named.is_empty() => PatientConstraint::Unusable,
            Some(named) => PatientConstraint::Exactly(named),
        }
    }

    /// The same search held to one patient by the type's subject parameter; `None` where R4 gives the type no such
    /// parameter, so that only the rows themselves can tell.
    pub fn with_patient(&self, kind: ResourceType, patient: &LogicalId) -> Option<Self> {
        let name = compartment::subject_parameter(kind)?;
        Some(if kind == ResourceType::PATIENT {
            self.with(name, patient.as_str())
        } else {
            self.with(name, &format!("Patient/{}", patient.as_str()))
        })
    }
}

/// Chains from a subject parameter (`patient.identifier`) select patients by other facts, and name none.
fn says_whose(kind: ResourceType, parameter: &Parameter) -> bool {
    if parameter.is_chained() {
        return false;
    }
    let name = parameter.name();
    match kind == ResourceType::PATIENT {
        true => name == "_id",
        false => compartment::subject_parameters(kind).any(|subject| subject == name),
    }
}

/// What one criterion says: `actor=Practitioner/x` is about no patient, a mixture of both is about nobody we can name.
fn patients(parameter: &Parameter) -> PatientConstraint {
    // `:Patient` says what the value's type is; any other type modifier speaks of another type, and any other modifier
    // asks for something else than "is this patient".
    let elsewhere = match parameter.modifier() {
        None | Some("Patient") => false,
        Some(modifier) if modifier.parse::<ResourceType>().is_ok() => true,
        Some(_) => return PatientConstraint::Unusable,
    };
    let mut named = BTreeSet::new();
    let mut others = 0_usize;
    for one in parameter.values() {
        let Ok(one) = value::unescaped(one) else { return PatientConstraint::Unusable };
        // A bare id may also be a Group's or Device's; rows that are not the patient's go by their own subject.
        if let Ok(id) = one.parse::<LogicalId>() {
            if elsewhere {
                others = others.saturating_add(1)
            } else {
                named.insert(id);
            }
            continue;
        }
        match Reference::parse(&one) {
            Reference::Relative { instance, version: None } if instance.kind == ResourceType::PATIENT => {
                named.insert(instance.id);
            }
            Reference::Relative { version: None, .. } => others = others.saturating_add(1),
            Reference::Relative { .. }
            | Reference::Absolute { .. }
            | Reference::Contained(_)
            | Reference::Urn(_)
            | Reference::Opaque => return PatientConstraint::Unusable,
        }
    }
    match (named.is_empty(), others) {
        (true, _) => PatientConstraint::None,
        (false, 0) => PatientConstraint::Exactly(named),
        (false, _) => PatientConstraint::Unusable,
    }
}
