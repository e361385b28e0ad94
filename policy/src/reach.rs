//! How far a caller reaches: in which scope contexts it stands, and whose compartment each of them ends at.
//!
//! SMART 2.2 leaves open what `patient/` means for a resource. Here it means: the Patient compartment of R4 by its
//! subject-type parameters alone. Membership as author, performer or recipient would show another person's record.

use fhir_profiles::engine::ResourceFacts;
use fhir_profiles::ids::{InstanceId, LogicalId, ResourceType};
use fhir_profiles::interaction::{Interaction, Parameter, Query, Touched};
use fhir_profiles::reference::Reference;

use crate::decide::EndpointFacts;
use crate::scope::{Grant, ScopeContext, ScopeSet};
use crate::subject::Subject;

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
    let granting =
        |reach: &&Reach| touched.iter().all(|fact| scopes.grants(fact.access, fact.kind, reach.context) != Grant::None);
    let contexts: Vec<&Reach> = reaches.iter().filter(granting).collect();
    if contexts.iter().any(|reach| reach.patient.is_none()) {
        return Ok(interaction.clone());
    }
    let Some(patient) =
        contexts.iter().chain(&reaches.iter().collect::<Vec<_>>()).find_map(|reach| reach.patient.as_ref())
    else {
        return Ok(interaction.clone());
    };
    match interaction {
        Interaction::Capabilities => Ok(interaction.clone()),
        Interaction::Read { kind, id } if *kind == ResourceType::PATIENT && id != patient => Err(OtherPatient),
        Interaction::Read { .. } => Ok(interaction.clone()),
        Interaction::SearchType { kind, query } => {
            Ok(Interaction::SearchType { kind: *kind, query: constrained(*kind, query, patient)? })
        }
    }
}

fn constrained(kind: ResourceType, query: &Query, patient: &LogicalId) -> Result<Query, OtherPatient> {
    let Some(own) = patient_parameter(kind) else {
        return Ok(query.clone());
    };
    for parameter in query.0.iter().filter(|parameter| speaks_of_patients(kind, &parameter.name)) {
        let all_own = parameter.value.split(',').all(|value| names(value, patient));
        let plain = parameter.name == own
            || ["patient", "subject", "patient:Patient", "subject:Patient"].contains(&parameter.name.as_str());
        if !plain || !all_own {
            return Err(OtherPatient);
        }
    }
    let value = if kind == ResourceType::PATIENT {
        patient.as_str().to_owned()
    } else {
        format!("Patient/{}", patient.as_str())
    };
    let mut query = query.clone();
    query.0.push(Parameter { name: own.to_owned(), value });
    Ok(query)
}

fn speaks_of_patients(kind: ResourceType, name: &str) -> bool {
    let base = name.split([':', '.']).next().unwrap_or(name);
    base == "patient" || base == "subject" || (kind == ResourceType::PATIENT && base == "_id")
}

/// `A` or `Patient/A`, compared whole.
fn names(value: &str, patient: &LogicalId) -> bool {
    value.strip_prefix("Patient/").unwrap_or(value) == patient.as_str()
}

/// The search parameter that binds a type to one patient (R4 compartmentdefinition-patient.html and the parameters of
/// each type); `None` for types that are about no patient.
fn patient_parameter(kind: ResourceType) -> Option<&'static str> {
    match kind.as_str() {
        "Patient" => Some("_id"),
        "AdverseEvent" | "SupplyRequest" => Some("subject"),
        "Group" => Some("member"),
        "Schedule" => Some("actor"),
        "ResearchSubject" => Some("individual"),
        name if is_about_nobody(name) => None,
        _ => Some("patient"),
    }
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
