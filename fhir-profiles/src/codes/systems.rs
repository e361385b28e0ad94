//! The names under which the code systems of the lists travel.

use std::sync::LazyLock;

use crate::known::Known;

/// The name that lists use for a code system, for every name that is known of it; `None` for a system of no list.
///
/// Ground: R4 terminologies-systems.html and its OIDs; CMS Blue Button 2.0 and BFD for the CMS URIs; THO for HCPCS.
pub fn canonical_system(name: &str) -> Option<&'static str> {
    let name = name.trim().trim_end_matches('/');
    if let Some((_, canonical)) = KNOWN_ALIASES.find(name).and_then(|at| ALIASES.get(at)) {
        return Some(canonical);
    }
    ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name)).map(|(_, canonical)| *canonical)
}

pub(super) const ICD10CM: &str = "http://hl7.org/fhir/sid/icd-10-cm";
pub(super) const ICD9CM: &str = "http://hl7.org/fhir/sid/icd-9-cm";
pub(super) const ICD10PCS: &str = "http://www.cms.gov/Medicare/Coding/ICD10";
pub(super) const ICD9PCS: &str = "http://www.cms.gov/Medicare/Coding/ICD9";
pub(super) const HCPCS: &str = "https://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets";
pub(super) const MS_DRG: &str = "https://www.cms.gov/Medicare/Medicare-Fee-for-Service-Payment/AcuteInpatientPPS/MS-DRG-Classifications-and-Software";
pub(super) const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
pub(super) const LOINC: &str = "http://loinc.org";
pub(super) const SNOMED: &str = "http://snomed.info/sct";

static KNOWN_ALIASES: LazyLock<Known> = LazyLock::new(|| Known::of(ALIASES.iter().map(|(alias, _)| *alias)));

/// Every alias, and every canonical name as an alias of itself.
pub(crate) const ALIASES: &[(&str, &str)] = &[
    (ICD10CM, ICD10CM),
    ("http://hl7.org/fhir/sid/icd-10", ICD10CM),
    ("http://hl7.org/fhir/sid/icd-10-us", ICD10CM),
    ("urn:oid:2.16.840.1.113883.6.90", ICD10CM),
    ("urn:oid:2.16.840.1.113883.6.3", ICD10CM),
    ("http://terminology.hl7.org/CodeSystem/icd10CM", ICD10CM),
    ("http://terminology.hl7.org/CodeSystem/icd10", ICD10CM),
    (ICD9CM, ICD9CM),
    ("http://hl7.org/fhir/sid/icd-9-cm/diagnosis", ICD9CM),
    ("http://hl7.org/fhir/sid/icd-9", ICD9CM),
    ("urn:oid:2.16.840.1.113883.6.103", ICD9CM),
    ("urn:oid:2.16.840.1.113883.6.2", ICD9CM),
    ("http://terminology.hl7.org/CodeSystem/icd9cm", ICD9CM),
    (ICD10PCS, ICD10PCS),
    ("http://hl7.org/fhir/sid/icd-10-pcs", ICD10PCS),
    ("urn:oid:2.16.840.1.113883.6.4", ICD10PCS),
    ("http://terminology.hl7.org/CodeSystem/icd10PCS", ICD10PCS),
    (ICD9PCS, ICD9PCS),
    ("http://hl7.org/fhir/sid/icd-9-cm/procedure", ICD9PCS),
    ("urn:oid:2.16.840.1.113883.6.104", ICD9PCS),
    (HCPCS, HCPCS),
    ("http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets", HCPCS),
    ("http://www.cms.gov/Medicare/Coding/MedHCPCSGenInfo", HCPCS),
    ("https://bluebutton.cms.gov/resources/codesystem/hcpcs", HCPCS),
    ("https://www.cms.gov/Medicare/Coding/MedHCPCSGenInfo", HCPCS),
    ("http://terminology.hl7.org/CodeSystem/HCPCS", HCPCS),
    ("http://terminology.hl7.org/CodeSystem/hcpcs-Level-II", HCPCS),
    ("urn:oid:2.16.840.1.113883.6.285", HCPCS),
    ("urn:oid:2.16.840.1.113883.6.14", HCPCS),
    (MS_DRG, MS_DRG),
    ("https://bluebutton.cms.gov/resources/variables/clm_drg_cd", MS_DRG),
    ("urn:oid:2.16.840.1.113883.6.329", MS_DRG),
    (RXNORM, RXNORM),
    ("urn:oid:2.16.840.1.113883.6.88", RXNORM),
    (LOINC, LOINC),
    ("https://loinc.org", LOINC),
    ("urn:oid:2.16.840.1.113883.6.1", LOINC),
    (SNOMED, SNOMED),
    ("urn:oid:2.16.840.1.113883.6.96", SNOMED),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alias_leads_to_a_name_that_leads_to_itself() {
        for (alias, canonical) in ALIASES {
            assert_eq!(canonical_system(alias), Some(*canonical), "{alias}");
            assert_eq!(canonical_system(canonical), Some(*canonical));
        }
        assert_eq!(canonical_system("http://snomed.info/sct/"), Some(SNOMED));
        assert_eq!(canonical_system("http://example.org"), None);
    }
}
