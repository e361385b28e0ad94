//! How far a caller reaches: in which scope contexts it stands, and whose compartment each of them ends at.
//!
//! SMART 2.2 leaves open what `patient/` means for a resource. Here it means: the Patient compartment of R4 by its
//! subject-type parameters alone. Membership as author, performer or recipient would show another person's record.

use fhir_profiles::engine::ResourceFacts;
use fhir_profiles::ids::{InstanceId, LogicalId, ResourceType};
use fhir_profiles::interaction::{Interaction, Touched};
use fhir_profiles::operation::{Operation, Target};
use fhir_profiles::reference::Reference;
use fhir_profiles::search::{PatientConstraint, Query};

use crate::decide::EndpointFacts;
use crate::scope::{Grant, ScopeContext, ScopeSet};
use crate::subject::Subject;
use crate::touched;

/// One context the caller stands in, and the patient it is bound to, if it is bound to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) context: ScopeContext,
    pub(crate) patient: Option<LogicalId>,
}

/// The contexts of a caller. `patient/` needs a patient in the launch context; `user/` needs a known user, and binds a
/// patient-user to the own record; `system/` is for clients without either. None of them: no scope counts.
pub(crate) fn reaches(subject: &Subject, endpoint: &EndpointFacts) -> Vec<Reach> {
    let mut reaches = Vec::new();
    if let Some(patient) = &subject.patient {
        reaches.push(Reach { context: ScopeContext::Patient, patient: Some(patient.clone()) });
    }
    if let Some(user) = &subject.fhir_user {
        if let Some(reach) = user_reach(user, endpoint) {
            reaches.push(reach);
        }
    } else if subject.patient.is_none() {
        reaches.push(Reach { context: ScopeContext::System, patient: None });
    }
    reaches
}

fn user_reach(user: &Reference, endpoint: &EndpointFacts) -> Option<Reach> {
    let unbound = Reach { context: ScopeContext::User, patient: None };
    match instance(user)?.kind.as_str() {
        "Practitioner" | "PractitionerRole" => Some(unbound),
        "Patient" => Some(Reach { patient: Some(on_endpoint(user, endpoint)?.id.clone()), ..unbound }),
        // Whom a RelatedPerson or a Person speaks for is stored data; until it is resolved they reach nobody.
        _ => None,
    }
}

/// The instance that a reference names, wherever it is.
pub(crate) const fn instance(reference: &Reference) -> Option<&InstanceId> {
    match reference {
        Reference::Relative { instance, .. } | Reference::Absolute { instance, .. } => Some(instance),
        Reference::Contained(_) | Reference::Urn(_) | Reference::Opaque => None,
    }
}

fn on_endpoint<'a>(reference: &'a Reference, endpoint: &EndpointFacts) -> Option<&'a InstanceId> {
    let bases: Vec<&str> = endpoint.bases.iter().map(String::as_str).collect();
    reference.on_server(&bases)
}

/// The request names another patient than the one the caller is bound to, or names one in a way that cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OtherPatient;

/// The request as it is to be forwarded: bound to the caller's patient, unless a wider context grants it.
pub(crate) fn constrain(
    interaction: &Interaction,
    touched: &[Touched],
    scopes: &ScopeSet,
    reaches: &[Reach],
) -> Result<Interaction, OtherPatient> {
    let granting = |reach: &&Reach| {
        touched
            .iter()
            .filter(|fact| touched::refuses(fact))
            .all(|fact| scopes.grants(fact.access, fact.kind, reach.context) != Grant::None)
    };
    let contexts: Vec<&Reach> = reaches.iter().filter(granting).collect();
    if contexts.iter().any(|reach| reach.patient.is_none()) {
        return Ok(interaction.clone());
    }
    let Some(patient) =
        contexts.iter().chain(&reaches.iter().collect::<Vec<_>>()).find_map(|reach| reach.patient.as_ref())
    else {
        return Ok(interaction.clone());
    };
    bound(interaction, patient)
}

fn bound(interaction: &Interaction, patient: &LogicalId) -> Result<Interaction, OtherPatient> {
    let kept = || Ok(interaction.clone());
    match interaction {
        Interaction::Read { kind, id, .. }
        | Interaction::Vread { kind, id, .. }
        | Interaction::HistoryInstance { kind, id, .. }
        | Interaction::Update { kind, id }
        | Interaction::Patch { kind, id }
        | Interaction::Delete { kind, id } => {
            if *kind == ResourceType::PATIENT && id != patient {
                Err(OtherPatient)
            } else {
                kept()
            }
        }
        Interaction::SearchType { kind, query } => {
            Ok(Interaction::SearchType { kind: *kind, query: constrained(*kind, query, patient)? })
        }
        Interaction::SearchCompartment { patient: asked, kind, query } => {
            if asked != patient {
                return Err(OtherPatient);
            }
            let query = constrained(*kind, query, patient)?;
            Ok(Interaction::SearchCompartment { patient: asked.clone(), kind: *kind, query })
        }
        Interaction::ConditionalCreate { kind, condition } => {
            let condition = constrained(*kind, condition, patient)?;
            Ok(Interaction::ConditionalCreate { kind: *kind, condition })
        }
        Interaction::ConditionalUpdate { kind, condition } => {
            let condition = constrained(*kind, condition, patient)?;
            Ok(Interaction::ConditionalUpdate { kind: *kind, condition })
        }
        Interaction::ConditionalPatch { kind, condition } => {
            let condition = constrained(*kind, condition, patient)?;
            Ok(Interaction::ConditionalPatch { kind: *kind, condition })
        }
        Interaction::ConditionalDelete { kind, condition } => {
            let condition = constrained(*kind, condition, patient)?;
            Ok(Interaction::ConditionalDelete { kind: *kind, condition })
        }
        Interaction::Operation { operation, target, query } => {
            let query = called_for(*operation, target, query, patient)?;
            Ok(Interaction::Operation { operation: *operation, target: target.clone(), query })
        }
        Interaction::Transaction { entries } => {
            let mut entries = entries.clone();
            for request in entries.iter_mut().filter_map(|entry| entry.request.as_mut().ok()) {
                *request = bound(request, patient)?;
            }
            Ok(Interaction::Transaction { entries })
        }
        // No search parameter holds the history of a type to a patient, and nobody asks an EHR for all to get one's own.
        Interaction::HistoryType { .. } | Interaction::HistorySystem { .. } => Err(OtherPatient),
        // A batch is decided entry by entry; rows of the others are judged as they come; sealed tokens are opened first.
        Interaction::Batch { .. }
        | Interaction::Capabilities
        | Interaction::Create { .. }
        | Interaction::SearchSystem { .. }
        | Interaction::Page { .. }
        | Interaction::ExportStatus { .. }
        | Interaction::ExportDelete { .. }
        | Interaction::ExportFile { .. } => kept(),
    }
}

/// An operation for one patient names that patient, and none is started for many.
fn called_for(
    operation: Operation,
    target: &Target,
    query: &Query,
    patient: &LogicalId,
) -> Result<Query, OtherPatient> {
    let on_own = target.instance().is_some_and(|on| on.kind == ResourceType::PATIENT && on.id == *patient);
    match (operation, target.resource_type()) {
        (Operation::Everything, _) if on_own => Ok(query.clone()),
        (Operation::Lastn | Operation::Docref, Some(kind)) => constrained(kind, query, patient),
        (Operation::Expand | Operation::Lookup | Operation::ValidateCode | Operation::Translate, _) => {
            Ok(query.clone())
        }
        (Operation::Everything | Operation::Lastn | Operation::Docref | Operation::Export, _) => Err(OtherPatient),
    }
}

fn constrained(kind: ResourceType, query: &Query, patient: &LogicalId) -> Result<Query, OtherPatient> {
    match query.patient_constraint(kind) {
        PatientConstraint::None => {}
        PatientConstraint::Exactly(asked) if asked.iter().all(|id| id == patient) => {}
        PatientConstraint::Exactly(_) | PatientConstraint::Unusable => return Err(OtherPatient),
    }
    Ok(query.with_patient(kind, patient).unwrap_or_else(|| query.clone()))
}

/// Types that describe the world, not a patient: a `patient/` scope shows them without a compartment.
fn is_about_nobody(name: &str) -> bool {
    const NOBODY: &[&str] = &[
        "ActivityDefinition",
        "CapabilityStatement",
        "CodeSystem",
        "CompartmentDefinition",
        "ConceptMap",
        "DeviceDefinition",
        "Endpoint",
        "HealthcareService",
        "ImplementationGuide",
        "InsurancePlan",
        "Library",
        "Location",
        "Measure",
        "Medication",
        "MedicationKnowledge",
        "NamingSystem",
        "OperationDefinition",
        "OperationOutcome",
        "Organization",
        "OrganizationAffiliation",
        "PlanDefinition",
        "Practitioner",
        "PractitionerRole",
        "Questionnaire",
        "ResearchStudy",
        "SearchParameter",
        "StructureDefinition",
        "Substance",
        "ValueSet",
    ];
    NOBODY.binary_search(&name).is_ok()
}

/// Whose record a resource is, for a caller bound to a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// In the patient's compartment, and in no other's.
    Own,
    /// Not provably in the patient's compartment.
    Other,
    /// About no patient at all.
    Nobody,
}

/// Compares by parsed reference, whole: `Patient/12` is not `Patient/123`, and another server's `Patient/12` is not ours.
pub(crate) fn membership(facts: &ResourceFacts, patient: &LogicalId, bases: &[&str]) -> Membership {
    let is_own = |instance: &InstanceId| instance.kind == ResourceType::PATIENT && instance.id == *patient;
    if facts.kind == ResourceType::PATIENT {
        return if facts.id.as_ref() == Some(patient) { Membership::Own } else { Membership::Other };
    }
    if facts.patients.is_empty() {
        return if is_about_nobody(facts.kind.as_str()) { Membership::Nobody } else { Membership::Other };
    }
    let all_own = facts.patients.iter().all(|reference| reference.on_server(bases).is_some_and(is_own));
    if all_own { Membership::Own } else { Membership::Other }
}
