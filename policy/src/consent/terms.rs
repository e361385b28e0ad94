//! The codes a Consent is written in, by (system, code). A code that this table does not know stays known as unknown:
//! in a permit it matches nothing, in a denial it matches everything.

use fhir_profiles::label::{self, Label};

use crate::purpose::PurposeOfUse;

pub(super) const CONSENT_SCOPE: &str = "http://terminology.hl7.org/CodeSystem/consentscope";
pub(super) const CONSENT_CATEGORY: &str = "http://terminology.hl7.org/CodeSystem/consentcategorycodes";
pub(super) const CONSENT_ACTION: &str = "http://terminology.hl7.org/CodeSystem/consentaction";
pub(super) const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
pub(super) const RESOURCE_TYPES: &str = "http://hl7.org/fhir/resource-types";

/// A `Coding`, as far as it names a concept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code {
    /// `Coding.system`, compared exactly.
    pub system: Box<str>,
    /// `Coding.code`, compared exactly.
    pub code: Box<str>,
}

impl Code {
    /// A code of a system.
    pub fn new(system: &str, code: &str) -> Self {
        Self { system: system.into(), code: code.into() }
    }

    pub(super) fn is(&self, system: &str, code: &str) -> bool {
        &*self.system == system && &*self.code == code
    }
}

/// A `CodeableConcept`: its codings, which say the same thing in several systems. Text alone names no concept.
pub(super) type Concept = Vec<Code>;

/// One `provision.securityLabel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LabelTerm {
    Known(Label),
    Unknown,
}

impl LabelTerm {
    pub(super) fn of(coding: Option<&Code>) -> Self {
        coding.and_then(|c| Label::from_coding(&c.system, &c.code)).map_or(Self::Unknown, Self::Known)
    }
}

/// One `provision.purpose`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PurposeTerm {
    Known(PurposeOfUse),
    /// A narrower purpose than any that a request can state.
    Under(PurposeOfUse),
    Unknown,
}

/// Codes of v3-ActReason (version 4.0.0) that no request states, by the closest purpose above them that one can.
const NARROWER: &[(&str, PurposeOfUse)] = &[
    ("CLINTRL", PurposeOfUse::Treat),
    ("POPHLTH", PurposeOfUse::Treat),
    ("TREATDS", PurposeOfUse::Treat),
    ("ERTREAT", PurposeOfUse::Etreat),
    ("CLMATTCH", PurposeOfUse::Hpaymt),
    ("COVAUTH", PurposeOfUse::Hpaymt),
    ("COVERAGE", PurposeOfUse::Hpaymt),
    ("ELIGDTRM", PurposeOfUse::Hpaymt),
    ("ELIGVER", PurposeOfUse::Hpaymt),
    ("ENROLLM", PurposeOfUse::Hpaymt),
    ("MILDCRG", PurposeOfUse::Hpaymt),
    ("PMTDS", PurposeOfUse::Hpaymt),
    ("REMITADV", PurposeOfUse::Hpaymt),
    ("DONAT", PurposeOfUse::Hoperat),
    ("FRAUD", PurposeOfUse::Hoperat),
    ("GOV", PurposeOfUse::Hoperat),
    ("HACCRED", PurposeOfUse::Hoperat),
    ("HCOMPL", PurposeOfUse::Hoperat),
    ("HDECD", PurposeOfUse::Hoperat),
    ("HDIRECT", PurposeOfUse::Hoperat),
    ("HDM", PurposeOfUse::Hoperat),
    ("HOUTCOMS", PurposeOfUse::Hoperat),
    ("HPRGRP", PurposeOfUse::Hoperat),
    ("HSYSADMIN", PurposeOfUse::Hoperat),
    ("HTEST", PurposeOfUse::Hoperat),
    ("LABELING", PurposeOfUse::Hoperat),
    ("MEMADMIN", PurposeOfUse::Hoperat),
    ("METAMGT", PurposeOfUse::Hoperat),
    ("MILCDM", PurposeOfUse::Hoperat),
    ("MLTRAINING", PurposeOfUse::Hoperat),
    ("PATADMIN", PurposeOfUse::Hoperat),
    ("PATSFTY", PurposeOfUse::Hoperat),
    ("PERFMSR", PurposeOfUse::Hoperat),
    ("RECORDMGT", PurposeOfUse::Hoperat),
    ("SYSDEV", PurposeOfUse::Hoperat),
    ("TRAIN", PurposeOfUse::Hoperat),
    ("BIORCH", PurposeOfUse::Hresch),
    ("CLINTRCH", PurposeOfUse::Hresch),
    ("CLINTRCHNPC", PurposeOfUse::Hresch),
    ("CLINTRCHPC", PurposeOfUse::Hresch),
    ("DSRCH", PurposeOfUse::Hresch),
    ("POARCH", PurposeOfUse::Hresch),
    ("PRECLINTRCH", PurposeOfUse::Hresch),
    ("TRANSRCH", PurposeOfUse::Hresch),
    ("PWATRNY", PurposeOfUse::Patrqt),
    ("SUPNWK", PurposeOfUse::Patrqt),
    ("DISASTER", PurposeOfUse::Publhlth),
    ("THREAT", PurposeOfUse::Publhlth),
];

impl PurposeTerm {
    pub(super) fn of(coding: Option<&Code>) -> Self {
        let Some(coding) = coding.filter(|c| &*c.system == label::ACT_REASON) else { return Self::Unknown };
        if let Some(purpose) = PurposeOfUse::from_code(&coding.code) {
            return Self::Known(purpose);
        }
        NARROWER.iter().find(|(code, _)| *code == &*coding.code).map_or(Self::Unknown, |(_, above)| Self::Under(*above))
    }
}

/// What the recipient does with the information (consentaction).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConsentAction {
    Collect,
    Access,
    Use,
    /// The answer to a partner's read or search: a disclosure by the source, and an access by the partner.
    Disclose,
    Correct,
}

impl ConsentAction {
    const ALL: [Self; 5] = [Self::Collect, Self::Access, Self::Use, Self::Disclose, Self::Correct];

    /// The code of consentaction.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Collect => "collect",
            Self::Access => "access",
            Self::Use => "use",
            Self::Disclose => "disclose",
            Self::Correct => "correct",
        }
    }

    pub(super) fn of(concept: &Concept) -> Option<Self> {
        let named = |action: &Self| concept.iter().any(|c| c.is(CONSENT_ACTION, action.code()));
        Self::ALL.into_iter().find(named)
    }
}

/// The part that an actor plays in a provision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// `IRCP`, or `PRCP` under it: who receives.
    Recipient,
    /// `CST`: who holds, and so discloses.
    Custodian,
    /// Any other, which grants nothing.
    Other,
}

impl Role {
    pub(super) fn of(concept: &Concept) -> Self {
        if concept.iter().any(|c| c.is(PARTICIPATION, "IRCP") || c.is(PARTICIPATION, "PRCP")) {
            Self::Recipient
        } else if concept.iter().any(|c| c.is(PARTICIPATION, "CST")) {
            Self::Custodian
        } else {
            Self::Other
        }
    }
}

/// `Consent.scope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    PatientPrivacy,
    Research,
    /// `treatment` and `adr`: consent to be treated, and advance directives, not to disclosure.
    NotDisclosure,
    Unknown,
}

impl Scope {
    pub(super) fn of(concept: &Concept) -> Self {
        let named = |code: &str| concept.iter().any(|c| c.is(CONSENT_SCOPE, code));
        if named("patient-privacy") {
            Self::PatientPrivacy
        } else if named("research") {
            Self::Research
        } else if named("treatment") || named("adr") {
            Self::NotDisclosure
        } else {
            Self::Unknown
        }
    }
}

/// What a Consent's categories leave its permits to reach. Ordered: the narrowest of several rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// Advance directives and acknowledgements of a notice permit no disclosure.
    Nothing,
    /// `emrgonly`.
    Emergency,
    /// `research`, `rsdid`, `rsreid`.
    Research,
    Anything,
}

impl Reach {
    pub(super) fn of(category: &Concept) -> Self {
        let reach = |code: &Code| match (&*code.system, &*code.code) {
            (CONSENT_CATEGORY, "acd" | "dnr" | "hcd" | "polst" | "npp") => Self::Nothing,
            (CONSENT_CATEGORY, "emrgonly") => Self::Emergency,
            (CONSENT_CATEGORY, "research" | "rsdid" | "rsreid") => Self::Research,
            _ => Self::Anything,
        };
        category.iter().map(reach).min().unwrap_or(Self::Anything)
    }

    pub(super) fn includes(self, purpose: PurposeOfUse) -> bool {
        match self {
            Self::Nothing => false,
            Self::Emergency => purpose.is_a(PurposeOfUse::Etreat),
            Self::Research => purpose.is_a(PurposeOfUse::Hresch),
            Self::Anything => true,
        }
    }
}

/// What a rule decides where it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Permit,
    Deny,
    /// Permit for emergency treatment, else deny: `EMRGONLY`.
    EmergencyOnly,
    /// The root says neither, and the policy rule neither opts in nor out.
    Unstated,
}

impl Effect {
    pub(super) fn of_policy_rule(concept: &Concept) -> Self {
        let named = |codes: &[&str]| concept.iter().any(|c| codes.iter().any(|code| c.is(label::ACT_CODE, code)));
        if named(&["OPTOUT", "OPTOUTE"]) {
            Self::Deny
        } else if named(&["EMRGONLY"]) {
            Self::EmergencyOnly
        } else if named(&["OPTIN", "OPTINR"]) {
            Self::Permit
        } else {
            Self::Unstated
        }
    }

    pub(super) fn for_purpose(self, purpose: PurposeOfUse) -> Self {
        match self {
            Self::EmergencyOnly if purpose.is_a(PurposeOfUse::Etreat) => Self::Permit,
            Self::EmergencyOnly => Self::Deny,
            Self::Permit | Self::Deny | Self::Unstated => self,
        }
    }
}

/// Does the concept name a consent directive that complies with 42 CFR 2.31?
pub(super) fn is_part2_directive(concept: &Concept) -> bool {
    concept.iter().any(|c| c.is(label::ACT_CODE, "42CFRPart2CD"))
}
