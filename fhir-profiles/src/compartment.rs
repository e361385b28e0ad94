//! The R4 Patient compartment, and the narrower rule that this gateway keeps for `patient/` scopes.
//!
//! SMART App Launch 2.2 never says what "patient/ scopes are scoped to Patient 123" means. The rule here: **a resource is
//! a patient's by its subject-type references alone** ([`Role::Subject`]). Author, performer, asserter, recipient and
//! link roles ([`Role::Other`]) put another person's record into the compartment (a mother who asserts her child's
//! condition), so they admit nothing. Types that R4 leaves out of the compartment though they are about one patient
//! ([`Role::Beyond`]: a US Core implantable device, a task) are that patient's too: a consent must be asked for them.
//!
//! Facts: hl7.org/fhir/R4/compartmentdefinition-patient.html, as corrected against HL7's own R4 model.

use std::sync::LazyLock;

use crate::ids::{LogicalId, ResourceType};
use crate::known::Known;
use crate::reference::Reference;

/// What a parameter of the compartment says about the patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The resource is about the patient.
    Subject,
    /// In R4's compartment, but about what the patient did or got: no membership here.
    Other,
    /// Not in R4's compartment, but about the patient: membership here.
    Beyond,
}

struct Member {
    kind: &'static str,
    /// Search parameters of the compartment with their roles.
    parameters: &'static [(&'static str, Role)],
    /// Element paths of the subject-type references.
    subjects: &'static [&'static str],
}

const fn about(
    kind: &'static str,
    parameters: &'static [(&'static str, Role)],
    subjects: &'static [&'static str],
) -> Member {
    Member { kind, parameters, subjects }
}

use Role::{Beyond, Other, Subject};

#[rustfmt::skip]
static MEMBERS: &[Member] = &[
    about("Account", &[("subject", Subject)], &["subject"]),
    about("AdverseEvent", &[("subject", Subject)], &["subject"]),
    about("AllergyIntolerance", &[("patient", Subject), ("recorder", Other), ("asserter", Other)], &["patient"]),
    about("Appointment", &[("actor", Subject)], &["participant.actor"]),
    about("AppointmentResponse", &[("actor", Subject)], &["actor"]),
    about("AuditEvent", &[("patient", Subject)], &["agent.who", "entity.what"]),
    about("Basic", &[("patient", Subject), ("author", Other)], &["subject"]),
    about("BodyStructure", &[("patient", Subject)], &["patient"]),
    about("CarePlan", &[("patient", Subject), ("performer", Other)], &["subject"]),
    about("CareTeam", &[("patient", Subject), ("participant", Other)], &["subject"]),
    about("ChargeItem", &[("subject", Subject)], &["subject"]),
    about("Claim", &[("patient", Subject), ("payee", Other)], &["patient"]),
    about("ClaimResponse", &[("patient", Subject)], &["patient"]),
    about("ClinicalImpression", &[("subject", Subject)], &["subject"]),
    about("Communication", &[("subject", Subject), ("sender", Other), ("recipient", Other)], &["subject"]),
    about("CommunicationRequest", &[("subject", Subject), ("sender", Other), ("recipient", Other), ("requester", Other)], &["subject"]),
    about("Composition", &[("subject", Subject), ("author", Other), ("attester", Other)], &["subject"]),
    about("Condition", &[("patient", Subject), ("asserter", Other)], &["subject"]),
    about("Consent", &[("patient", Subject)], &["patient"]),
    about("Contract", &[("patient", Beyond)], &["subject"]),
    about("Coverage", &[("policy-holder", Other), ("subscriber", Other), ("beneficiary", Subject), ("payor", Other)], &["beneficiary"]),
    about("CoverageEligibilityRequest", &[("patient", Subject)], &["patient"]),
    about("CoverageEligibilityResponse", &[("patient", Subject)], &["patient"]),
    about("DetectedIssue", &[("patient", Subject)], &["patient"]),
    about("Device", &[("patient", Beyond)], &["patient"]),
    about("DeviceRequest", &[("subject", Subject), ("performer", Other)], &["subject"]),
    about("DeviceUseStatement", &[("subject", Subject)], &["subject"]),
    about("DiagnosticReport", &[("subject", Subject)], &["subject"]),
    about("DocumentManifest", &[("subject", Subject), ("author", Other), ("recipient", Other)], &["subject"]),
    about("DocumentReference", &[("subject", Subject), ("author", Other)], &["subject"]),
    about("Encounter", &[("patient", Subject)], &["subject"]),
    about("EnrollmentRequest", &[("subject", Subject)], &["candidate"]),
    about("EpisodeOfCare", &[("patient", Subject)], &["patient"]),
    about("ExplanationOfBenefit", &[("patient", Subject), ("payee", Other)], &["patient"]),
    about("FamilyMemberHistory", &[("patient", Subject)], &["patient"]),
    about("Flag", &[("patient", Subject)], &["subject"]),
    about("Goal", &[("patient", Subject)], &["subject"]),
    // A Group is about all of its members, so no one patient's: a group that names others would show them.
    about("Group", &[("member", Other)], &["member.entity"]),
    about("GuidanceResponse", &[("patient", Beyond)], &["subject"]),
    about("ImagingStudy", &[("patient", Subject)], &["subject"]),
    about("Immunization", &[("patient", Subject)], &["patient"]),
    about("ImmunizationEvaluation", &[("patient", Subject)], &["patient"]),
    about("ImmunizationRecommendation", &[("patient", Subject)], &["patient"]),
    about("Invoice", &[("subject", Subject), ("patient", Subject), ("recipient", Other)], &["subject"]),
    about("List", &[("subject", Subject), ("source", Other)], &["subject"]),
    about("MeasureReport", &[("patient", Subject)], &["subject"]),
    about("Media", &[("subject", Subject)], &["subject"]),
    about("MedicationAdministration", &[("patient", Subject), ("performer", Other), ("subject", Subject)], &["subject"]),
    about("MedicationDispense", &[("subject", Subject), ("patient", Subject), ("receiver", Other)], &["subject"]),
    about("MedicationRequest", &[("subject", Subject)], &["subject"]),
    about("MedicationStatement", &[("subject", Subject)], &["subject"]),
    about("MolecularSequence", &[("patient", Subject)], &["patient"]),
    about("NutritionOrder", &[("patient", Subject)], &["patient"]),
    about("Observation", &[("subject", Subject), ("performer", Other)], &["subject"]),
    // A Patient is its own compartment, by id; `link` reaches duplicates and relatives.
    about("Patient", &[("link", Other)], &[]),
    about("Person", &[("patient", Other)], &["link.target"]),
    about("Procedure", &[("patient", Subject), ("performer", Other)], &["subject"]),
    about("Provenance", &[("patient", Subject)], &["target"]),
    about("QuestionnaireResponse", &[("subject", Subject), ("author", Other)], &["subject"]),
    about("RelatedPerson", &[("patient", Subject)], &["patient"]),
    about("RequestGroup", &[("subject", Subject), ("participant", Other)], &["subject"]),
    about("ResearchSubject", &[("individual", Subject)], &["individual"]),
    about("RiskAssessment", &[("subject", Subject)], &["subject"]),
    about("Schedule", &[("actor", Subject)], &["actor"]),
    about("ServiceRequest", &[("subject", Subject), ("performer", Other)], &["subject"]),
    about("Specimen", &[("subject", Subject)], &["subject"]),
    about("SupplyDelivery", &[("patient", Subject)], &["patient"]),
    about("SupplyRequest", &[("subject", Subject)], &["deliverTo"]),
    about("Task", &[("patient", Beyond)], &["for"]),
    about("VisionPrescription", &[("patient", Subject)], &["patient"]),
];

fn member(kind: ResourceType) -> Option<&'static Member> {
    MEMBERS.get(KNOWN_MEMBERS.find(kind.as_str())?)
}

static KNOWN_MEMBERS: LazyLock<Known> = LazyLock::new(|| Known::of(MEMBERS.iter().map(|member| member.kind)));

/// The element paths whose references name the patients that a resource is about; dotted JSON names.
///
/// Empty for `Patient`, which is about itself, and for types that are about nobody. Whoever is named there is a patient
/// whose consent is asked, also where [`is_member`] grants nothing (`Group`, `Person`).
pub fn subject_paths(kind: ResourceType) -> &'static [&'static str] {
    member(kind).map_or(&[], |member| member.subjects)
}

/// The element paths at which a resource of any type may name a patient that it is about: those of the compartment, and
/// for the types outside it the names that R4 gives such elements. Whoever stands there is somebody's record.
pub(crate) fn named_subjects(kind: ResourceType) -> &'static [&'static str] {
    match (member(kind), kind.as_str()) {
        (Some(member), _) => member.subjects,
        (None, "Library" | "Measure" | "PlanDefinition" | "ActivityDefinition") => &["subjectReference"],
        (None, _) => &["subject", "patient"],
    }
}

/// Can a resource of this type be one patient's own? If not, no `patient/` scope reaches it through a compartment.
pub fn is_member(kind: ResourceType) -> bool {
    kind == ResourceType::PATIENT || subject_parameters(kind).next().is_some()
}

/// In R4's own compartment table, whatever the role: the types that `Patient/x/$everything` may bring.
pub fn in_r4_compartment(kind: ResourceType) -> bool {
    member(kind).is_some_and(|member| member.parameters.iter().any(|(_, role)| *role != Beyond))
}

/// Every type of the compartment, R4's and the additions.
pub fn types() -> impl Iterator<Item = ResourceType> {
    MEMBERS.iter().filter_map(|member| member.kind.parse().ok())
}

/// The search parameters that say whose a resource is. Beside R4's compartment table these are the parameters that read
/// the same elements: `patient` of Observation reads `subject`, as `subject` does.
pub fn subject_parameters(kind: ResourceType) -> impl Iterator<Item = &'static str> {
    let listed = member(kind).map_or(&[][..], |member| member.parameters);
    let subjects = subject_paths(kind);
    let grants = listed.iter().any(|(_, role)| *role != Other);
    crate::search::definitions(kind)
        .iter()
        .filter(move |row| {
            grants && row.kind == crate::search::Kind::Reference && row.targets.contain(ResourceType::PATIENT)
        })
        .filter(move |row| {
            row.paths().next().is_some() && row.paths().all(|path| subjects.contains(&without_filter(path)))
        })
        .map(|row| row.name)
        .filter(move |name| listed.iter().all(|(listed, role)| listed != name || *role != Other))
}

fn without_filter(path: &str) -> &str {
    path.split('[').next().unwrap_or(path)
}

/// The parameter with which a search on this type is constrained to one patient.
pub fn subject_parameter(kind: ResourceType) -> Option<&'static str> {
    if kind == ResourceType::PATIENT {
        return Some("_id");
    }
    subject_parameters(kind).find(|name| *name == "patient").or_else(|| subject_parameters(kind).next())
}

/// The role of a parameter in the compartment table, if it is listed there.
pub fn role(kind: ResourceType, parameter: &str) -> Option<Role> {
    member(kind)?.parameters.iter().find(|(name, _)| *name == parameter).map(|(_, role)| *role)
}

/// Is this reference the patient, on a server with one of these bases? Exact, by parts: `Patient/12` is not
/// `Patient/123`; a logical, contained, urn or foreign reference proves nothing.
pub fn is_patient(reference: &Reference, patient: &LogicalId, bases: &[&str]) -> bool {
    reference.on_server(bases).is_some_and(|named| named.kind == ResourceType::PATIENT && named.id == *patient)
}

/// Is a resource of this type, with this id and these subject references, the patient's own?
///
/// Every patient that it names must be this one: an appointment of two patients is neither's alone.
pub fn is_member_of(
    kind: ResourceType,
    id: Option<&LogicalId>,
    subjects: &[Reference],
    patient: &LogicalId,
    bases: &[&str],
) -> bool {
    if kind == ResourceType::PATIENT {
        return id == Some(patient);
    }
    let another = |reference: &Reference| match reference {
        Reference::Relative { instance, .. } | Reference::Absolute { instance, .. } => {
            instance.kind == ResourceType::PATIENT && !is_patient(reference, patient, bases)
        }
        // What is contained is judged where it stands, within the resource.
        Reference::Contained(_) => false,
        Reference::Urn(_) | Reference::Opaque => true,
    };
    is_member(kind)
        && subjects.iter().any(|reference| is_patient(reference, patient, bases))
        && !subjects.iter().any(another)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> ResourceType {
        name.parse().unwrap()
    }

    #[test]
    fn the_table_is_sorted_and_names_r4_types_and_parameters() {
        assert!(MEMBERS.is_sorted_by_key(|member| member.kind));
        assert_eq!(MEMBERS.iter().filter(|member| in_r4_compartment(kind(member.kind))).count(), 66);
        for member in MEMBERS {
            for (name, _) in member.parameters {
                assert!(crate::search::definition(kind(member.kind), name).is_some(), "{} {name}", member.kind);
            }
        }
    }

    #[test]
    fn every_type_with_a_subject_can_be_searched_by_it() {
        for member in MEMBERS {
            let grants = member.parameters.iter().any(|(_, role)| *role != Other);
            assert_eq!(
                subject_parameter(kind(member.kind)).is_some(),
                grants || member.kind == "Patient",
                "{}",
                member.kind
            );
        }
        assert_eq!(subject_parameter(kind("Coverage")), Some("patient"));
        assert_eq!(subject_parameter(kind("Observation")), Some("patient"));
        assert_eq!(subject_parameter(kind("Patient")), Some("_id"));
        assert_eq!(subject_parameter(kind("Practitioner")), None);
    }

    #[test]
    fn author_and_performer_roles_admit_nothing() {
        for (name, other) in
            [("Observation", "performer"), ("Coverage", "payor"), ("Condition", "asserter"), ("Patient", "link")]
        {
            assert!(!subject_parameters(kind(name)).any(|parameter| parameter == other), "{name}.{other}");
        }
    }

    #[test]
    fn ids_are_never_prefixes() {
        let a: LogicalId = "12".parse().unwrap();
        let named = |text: &str| is_patient(&Reference::parse(text), &a, &["https://ehr/fhir"]);
        for mine in ["Patient/12", "Patient/12/_history/2", "https://ehr/fhir/Patient/12"] {
            assert!(named(mine), "{mine}");
        }
        for other in [
            "Patient/1",
            "Patient/123",
            "patient/12",
            "Patient/12.",
            "Group/12",
            "#12",
            "urn:uuid:12",
            "12",
            "https://other/fhir/Patient/12",
            "https://ehr/fhir/Patient/12/",
        ] {
            assert!(!named(other), "{other}");
        }
    }

    #[test]
    fn a_resource_of_two_patients_is_neithers_alone() {
        let a: LogicalId = "a".parse().unwrap();
        let of = |texts: &[&str]| {
            let subjects: Vec<Reference> = texts.iter().map(|text| Reference::parse(text)).collect();
            is_member_of(kind("Appointment"), None, &subjects, &a, &[])
        };
        assert!(of(&["Patient/a"]));
        assert!(of(&["Patient/a", "Practitioner/p", "Location/l"]));
        assert!(!of(&["Patient/a", "Patient/b"]));
        assert!(!of(&["Practitioner/p"]));
        assert!(!of(&[]));
    }
}
