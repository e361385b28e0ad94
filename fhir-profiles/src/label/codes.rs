//! The official codes that have no label of their own here: what each counts as, or that it protects nothing.
//!
//! Ground: THO v3-ActCode 11.0.0 (sensitivity, policy, obligation, refrain, mark, compartment, directive),
//! v3-Confidentiality 5.0.0, v3-ActReason 4.0.0, v3-ObservationValue 6.0.0. Where a code states a condition that this
//! gateway cannot check, it counts as the level that opens on a lawful basis alone (`R`), or on none in general (`V`).

use super::{ACT_CODE, ACT_REASON, ACT_US_PRIVACY_LAW, CONFIDENTIALITY, Label, LabelKind, LabelSet, OBSERVATION_VALUE};

/// The system, the codes, and the label that each of them counts as; without one, they say nothing about who may see.
type Row = (&'static str, &'static [&'static str], Option<&'static str>);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Abstract codes say that there is something, not what.
    (ACT_CODE, &["_InformationSensitivityPolicy", "_ActInformationSensitivityPolicy", "_EntitySensitivityPolicyType",
        "_RoleInformationSensitivityPolicy", "ObligationPolicy", "RefrainPolicy", "_ActUSPrivacyLaw", "PrivacyMark",
        "SecurityLabelMark", "_ActConsentDirective", "_ActUSPrivacyConsentDirective"], Some("R")),
    (CONFIDENTIALITY, &["_Confidentiality", "_ConfidentialityByAccessKind", "_ConfidentialityByInfoType",
        "_ConfidentialityModifiers"], Some("R")),
    (ACT_US_PRIVACY_LAW, &["_ActUSPrivacyLaw"], Some("R")),
    (ACT_REASON, &["PurposeOfUse"], Some("R")),

    // Retired codes of the information type and of modifiers, each replaced by the v3-ActCode of the same meaning.
    (CONFIDENTIALITY, &["ETH"], Some("ETH")),
    (CONFIDENTIALITY, &["HIV"], Some("HIV")),
    (CONFIDENTIALITY, &["PSY"], Some("PSY")),
    (CONFIDENTIALITY, &["SDV"], Some("SDV")),
    (CONFIDENTIALITY, &["C"], Some("CEL")),
    (CONFIDENTIALITY, &["S"], Some("PDS")),
    (CONFIDENTIALITY, &["T"], Some("TBOO")),
    // Access by kind: business, clinicians only, named individuals only.
    (CONFIDENTIALITY, &["B", "D"], Some("R")),
    (CONFIDENTIALITY, &["I"], Some("V")),
    (ACT_CODE, &["a) HIPAAConsent"], Some("HIPAAConsent")),
    (ACT_US_PRIVACY_LAW, &["a) HIPAAConsent"], Some("HIPAAConsent")),

    // Refrains on disclosure. The patient's and the celebrity's have a sensitivity of the same meaning; access lists,
    // agreements and originators are not known here.
    (ACT_CODE, &["NOAUTH"], Some("NODSCLCDS")),
    (ACT_CODE, &["NOPAT"], Some("TBOO")),
    (ACT_CODE, &["NOVIP"], Some("CEL")),
    (ACT_CODE, &["NOMOU", "NOORGPOL"], Some("R")),
    (ACT_CODE, &["NOLIST", "ORCON"], Some("V")),
    // Refrains on what a recipient does afterwards: they travel with the record.
    (ACT_CODE, &["NOCOLLECT", "NOINTEGRATE", "NOPERSISTP", "NORELINK", "NOREUSE"], None),

    // Obligations to alter the content before it leaves: not carried out here, so it does not leave as it is.
    (ACT_CODE, &["ANONY", "DEID", "PSEUD"], Some("MASK")),
    (ACT_CODE, &["HUAPRV"], Some("V")),
    (ACT_CODE, &["CPLYCUI", "CUIMark"], Some("R")),
    // Obligations that every answer meets (recorded, within scope, over TLS, consents evaluated) or that bind the
    // recipient.
    (ACT_CODE, &["AOD", "AUDIT", "AUDTR", "MINEC", "DELAU", "ENCRYPT", "ENCRYPTR", "ENCRYPTT", "ENCRYPTU", "LABEL",
        "PERSISTLABEL", "UPGRDLABEL", "DOWNGRDLABEL", "DECLASSIFYLABEL", "DRIVLABEL", "PRIVMARK", "CPLYPOL", "CPLYCC",
        "CPLYJSP", "CPLYOPP", "CPLYOSP"], None),

    // Marks: of federal controlled information, and of no consequence for who may see.
    (ACT_CODE, &["ControlledUnclassifiedInformation", "CONTROLLED", "CUI", "CUIHLTH", "CUIHLTHP", "CUIP", "CUIPRVCY",
        "CUIPRVCYP", "CUISP-HLTH", "CUISP-HLTHP", "CUISP-PRVCY", "CUISP-PRVCYP"], Some("R")),
    (ACT_CODE, &["UUI", "COPYMark", "DRAFTMark", "DeliverToAddresseeOnlyMark"], None),

    // Compartments: for members of a group that is not known here.
    (ACT_CODE, &["COMPT", "ACOCOMPT", "CDSSCOMPT", "CTCOMPT", "FMCOMPT", "HRCOMPT", "LRCOMPT", "PACOMPT", "RESCOMPT",
        "RMGTCOMPT"], Some("R")),

    // Kinds of consent directive. Those that restrict protect; the others say what the consent itself says better.
    (ACT_CODE, &["EMRGONLY", "OPTOUT", "OPTOUTE", "GRANTORCHOICE"], Some("R")),
    (ACT_CODE, &["OPTIN", "OPTINR", "IMPLIED", "IMPLIEDD", "NOCONSENT", "NOPP"], None),
    // A directive by the form that a law prescribes: the record is one under that law.
    (ACT_CODE, &["42CFRPart2CD", "MDHHS-5515Part2"], Some("42CFRPart2")),
    (ACT_CODE, &["MDHHS-5515"], Some("BH")),
    (ACT_CODE, &["MDHHS-5515MMHC"], Some("MH")),
    (ACT_CODE, &["HIPAAAuthCD", "HIPAAResearchAuthCD"], Some("HIPAAAuth")),
    (ACT_CODE, &["HIPAAConsentCD"], Some("HIPAAConsent")),
    (ACT_CODE, &["HIPAAROAD"], Some("HIPAAROA")),
    (ACT_CODE, &["CompoundResearchCD", "USResearchInformedAssent", "USResearchInformedConsent",
        "USBroadResearchConsent"], Some("CommonRule")),

    // Test data is for whoever may see the like.
    (ACT_REASON, &["HTEST"], None),
    // A record that is bound to a purpose.
    (ACT_REASON, &["HMARKT", "HOPERAT", "HPAYMT", "HRESCH", "PATRQT", "PUBHLTH", "TREAT", "CAREMGT", "DONAT", "FRAUD",
        "GOV", "HACCRED", "HCOMPL", "HDECD", "HDIRECT", "HDM", "HLEGAL", "HOUTCOMS", "HPRGRP", "HQUALIMP", "HSYSADMIN",
        "MEMADMIN", "MILCDM", "PATADMIN", "PATSFTY", "PERFMSR", "RECORDMGT", "SYSDEV", "TRAIN", "MLTRAINING",
        "CLMATTCH", "COVAUTH", "COVERAGE", "REMITADV", "PMTDS", "BIORCH", "CLINTRCH", "DSRCH", "POARCH", "TRANSRCH",
        "FAMRQT", "PWATRNY", "SUPNWK", "DISASTER", "THREAT", "CLINTRL", "COC", "ETREAT", "POPHLTH", "TREATDS",
        "LABELING", "METAMGT", "ELIGDTRM", "ELIGVER", "ENROLLM", "MILDCRG", "CLINTRCHNPC", "CLINTRCHPC", "PRECLINTRCH",
        "BTG", "ERTREAT"], Some("R")),

    // Integrity, reliability, provenance and trust: how good the content is, never how sensitive.
    (OBSERVATION_VALUE, &["ANONYED", "PSEUDED", "ABSTRED", "AGGRED", "VERSIONED", "MAPPED", "SYNTAC", "TRSLT",
        "CRYTOHASH", "DIGSIG", "HRELIABLE", "RELIABLE", "UNCERTREL", "UNRELIABLE", "CLINAST", "DEVAST", "HCPAST",
        "PACQAST", "PATAST", "PAYAST", "PROAST", "SDMAST", "AIAST", "DICTAST", "CLINRPT", "DEVRPT", "HCPRPT",
        "PACQRPT", "PATRPT", "PAYRPT", "PRORPT", "SDMRPT", "TRSTACCRDOBV", "TRSTAGREOBV", "TRSTCERTOBV"], None),
];

/// What an official code that has no label of its own counts as: no labels for one that protects nothing. `None` for a
/// code that is of no table.
pub(super) fn counts_as(system: &str, code: &str) -> Option<LabelSet> {
    let (_, _, counts) = ROWS.iter().find(|(of, codes, _)| *of == system && codes.contains(&code))?;
    let Some(counts) = counts else { return Some(LabelSet::EMPTY) };
    const KINDS: &[LabelKind] = &[
        LabelKind::Confidentiality,
        LabelKind::Law,
        LabelKind::Sensitivity,
        LabelKind::Obligation,
        LabelKind::Refrain,
    ];
    Some(LabelSet::EMPTY.with(Label::by_code(counts, KINDS).unwrap_or(Label::UNKNOWN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_stands_once_counts_as_a_label_that_exists_and_has_none_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for (system, codes, _) in ROWS {
            for code in *codes {
                assert!(seen.insert((system, code)), "{code} stands twice");
                assert_eq!(Label::from_coding(system, code), None, "{code} is a label itself");
                let counted = counts_as(system, code);
                assert!(counted.is_some_and(|labels| !labels.contains(Label::UNKNOWN)), "{code}");
            }
        }
    }

    #[test]
    fn a_code_counts_in_its_own_system_only() {
        assert_eq!(counts_as(ACT_REASON, "HTEST"), Some(LabelSet::EMPTY));
        assert_eq!(counts_as(ACT_CODE, "HTEST"), None);
        assert_eq!(counts_as(CONFIDENTIALITY, "ETH"), Some(LabelSet::EMPTY.with(Label::ETH)));
        assert_eq!(counts_as(ACT_CODE, "C"), None);
        assert_eq!(counts_as("urn:other", "HTEST"), None);
    }
}
