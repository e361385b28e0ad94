//! Resource types, logical ids and versions. The only way to own one is to have parsed it.

use core::fmt;
use core::str::FromStr;
use std::sync::LazyLock;

use crate::known::Known;

/// A FHIR R4 (4.0.1) resource type, by its exact name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceType(&'static str);

/// Refusal of a name that is not an R4 resource type. It does not carry the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownResourceType(());

impl ResourceType {
    pub const PATIENT: Self = Self("Patient");
    pub const BUNDLE: Self = Self("Bundle");
    pub const CONSENT: Self = Self("Consent");
    pub const BINARY: Self = Self("Binary");
    pub const OPERATION_OUTCOME: Self = Self("OperationOutcome");

    /// Every concrete R4 resource type, sorted.
    pub const fn all() -> &'static [&'static str] {
        RESOURCE_TYPES
    }

    /// Every concrete R4 resource type, as values.
    pub fn every() -> impl ExactSizeIterator<Item = Self> {
        RESOURCE_TYPES.iter().map(|name| Self(name))
    }

    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl FromStr for ResourceType {
    type Err = UnknownResourceType;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let named = KNOWN_TYPES.find(s).and_then(|at| RESOURCE_TYPES.get(at));
        named.map(|name| Self(name)).ok_or(UnknownResourceType(()))
    }
}

impl fmt::Debug for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for UnknownResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an R4 resource type")
    }
}

impl core::error::Error for UnknownResourceType {}

/// A FHIR logical id: `[A-Za-z0-9\-\.]{1,64}` (R4 datatypes.html#id). Compared exactly, case-sensitive.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogicalId(Box<str>);

/// Refusal of a text that is not a legal id. It does not carry the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidLogicalId(());

impl LogicalId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LogicalId {
    type Err = InvalidLogicalId;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let legal = |b: u8| LEGAL.get(usize::from(b)) == Some(&true);
        // "." and ".." are legal by the grammar and a path traversal by RFC 3986 5.2.4: no server can be asked for them.
        if s.is_empty() || s.len() > 64 || !s.bytes().all(legal) || s == "." || s == ".." {
            return Err(InvalidLogicalId(()));
        }
        Ok(Self(s.into()))
    }
}

/// By byte: may it stand in an id?
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
static LEGAL: [bool; 256] = {
    let (mut legal, mut byte) = ([false; 256], 0);
    while byte < 256 {
        legal[byte] = (byte as u8).is_ascii_alphanumeric() || byte as u8 == b'-' || byte as u8 == b'.';
        byte += 1;
    }
    legal
};

/// Identifiers of patients are PHI: they print as a placeholder in debug output, and are shown by `as_str` alone.
impl fmt::Debug for LogicalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogicalId(..)")
    }
}

impl fmt::Display for InvalidLogicalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a FHIR logical id")
    }
}

impl core::error::Error for InvalidLogicalId {}

/// One resource instance, such as `Patient/a`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId {
    pub kind: ResourceType,
    pub id: LogicalId,
}

impl InstanceId {
    /// `Type/id`, the relative reference form.
    pub fn relative(&self) -> String {
        format!("{}/{}", self.kind, self.id.as_str())
    }
}

static KNOWN_TYPES: LazyLock<Known> = LazyLock::new(|| Known::of(RESOURCE_TYPES.iter().copied()));

const RESOURCE_TYPES: &[&str] = &[
    "Account",
    "ActivityDefinition",
    "AdverseEvent",
    "AllergyIntolerance",
    "Appointment",
    "AppointmentResponse",
    "AuditEvent",
    "Basic",
    "Binary",
    "BiologicallyDerivedProduct",
    "BodyStructure",
    "Bundle",
    "CapabilityStatement",
    "CarePlan",
    "CareTeam",
    "CatalogEntry",
    "ChargeItem",
    "ChargeItemDefinition",
    "Claim",
    "ClaimResponse",
    "ClinicalImpression",
    "CodeSystem",
    "Communication",
    "CommunicationRequest",
    "CompartmentDefinition",
    "Composition",
    "ConceptMap",
    "Condition",
    "Consent",
    "Contract",
    "Coverage",
    "CoverageEligibilityRequest",
    "CoverageEligibilityResponse",
    "DetectedIssue",
    "Device",
    "DeviceDefinition",
    "DeviceMetric",
    "DeviceRequest",
    "DeviceUseStatement",
    "DiagnosticReport",
    "DocumentManifest",
    "DocumentReference",
    "EffectEvidenceSynthesis",
    "Encounter",
    "Endpoint",
    "EnrollmentRequest",
    "EnrollmentResponse",
    "EpisodeOfCare",
    "EventDefinition",
    "Evidence",
    "EvidenceVariable",
    "ExampleScenario",
    "ExplanationOfBenefit",
    "FamilyMemberHistory",
    "Flag",
    "Goal",
    "GraphDefinition",
    "Group",
    "GuidanceResponse",
    "HealthcareService",
    "ImagingStudy",
    "Immunization",
    "ImmunizationEvaluation",
    "ImmunizationRecommendation",
    "ImplementationGuide",
    "InsurancePlan",
    "Invoice",
    "Library",
    "Linkage",
    "List",
    "Location",
    "Measure",
    "MeasureReport",
    "Media",
    "Medication",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationKnowledge",
    "MedicationRequest",
    "MedicationStatement",
    "MedicinalProduct",
    "MedicinalProductAuthorization",
    "MedicinalProductContraindication",
    "MedicinalProductIndication",
    "MedicinalProductIngredient",
    "MedicinalProductInteraction",
    "MedicinalProductManufactured",
    "MedicinalProductPackaged",
    "MedicinalProductPharmaceutical",
    "MedicinalProductUndesirableEffect",
    "MessageDefinition",
    "MessageHeader",
    "MolecularSequence",
    "NamingSystem",
    "NutritionOrder",
    "Observation",
    "ObservationDefinition",
    "OperationDefinition",
    "OperationOutcome",
    "Organization",
    "OrganizationAffiliation",
    "Parameters",
    "Patient",
    "PaymentNotice",
    "PaymentReconciliation",
    "Person",
    "PlanDefinition",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
    "Provenance",
    "Questionnaire",
    "QuestionnaireResponse",
    "RelatedPerson",
    "RequestGroup",
    "ResearchDefinition",
    "ResearchElementDefinition",
    "ResearchStudy",
    "ResearchSubject",
    "RiskAssessment",
    "RiskEvidenceSynthesis",
    "Schedule",
    "SearchParameter",
    "ServiceRequest",
    "Slot",
    "Specimen",
    "SpecimenDefinition",
    "StructureDefinition",
    "StructureMap",
    "Subscription",
    "Substance",
    "SubstanceNucleicAcid",
    "SubstancePolymer",
    "SubstanceProtein",
    "SubstanceReferenceInformation",
    "SubstanceSourceMaterial",
    "SubstanceSpecification",
    "SupplyDelivery",
    "SupplyRequest",
    "Task",
    "TerminologyCapabilities",
    "TestReport",
    "TestScript",
    "ValueSet",
    "VerificationResult",
    "VisionPrescription",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_complete() {
        assert!(RESOURCE_TYPES.is_sorted());
        assert_eq!(RESOURCE_TYPES.len(), 146);
        for name in RESOURCE_TYPES {
            assert_eq!(name.parse::<ResourceType>().map(ResourceType::as_str), Ok(*name));
        }
    }

    #[test]
    fn a_type_is_matched_exactly() {
        for wrong in ["patient", "Patient ", "Resource", "DomainResource", "", "Patients"] {
            assert!(wrong.parse::<ResourceType>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn traversal_in_an_id_is_refused() {
        for wrong in ["", ".", "..", "a/b", "a b", "a%2e", "é", "a\0", &"x".repeat(65)] {
            assert!(wrong.parse::<LogicalId>().is_err(), "{wrong}");
        }
        for right in ["a", "A-1.b", "...", &"x".repeat(64)] {
            assert!(right.parse::<LogicalId>().is_ok(), "{right}");
        }
    }
}
