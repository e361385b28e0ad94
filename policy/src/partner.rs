//! What is known of a partner, checked once when its file is loaded.

use std::sync::Arc;

use fhir_profiles::ids::LogicalId;
use time::OffsetDateTime;

use crate::purpose::PurposeOfUse;
use crate::scope::ScopeSet;

/// The facts of one partner file that decisions rest on. Built by `gateway::config` from a checked file.
#[derive(Clone, Debug)]
pub struct Partner {
    pub client_id: Arc<str>,
    pub name: String,
    pub status: Status,
    /// The registered scope ceiling; a token's scopes never reach beyond it.
    pub scopes: ScopeCeiling,
    pub purposes_of_use: Vec<PurposeOfUse>,
    pub part2: Part2,
    /// How a Consent's actor may name this partner.
    pub consent_recipients: Vec<Recipient>,
    pub jurisdiction: String,
    /// When the business associate agreement (45 CFR 164.504(e)) or QSOA stops to be valid.
    pub baa_expires: Option<OffsetDateTime>,
    pub assessment_expires: Option<OffsetDateTime>,
    /// Court orders of 42 CFR Part 2, subpart E, under which this partner gets records.
    pub court_orders: Vec<CourtOrder>,
}

/// The scopes that a partner is registered for, in SMART v2 text, read once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeCeiling {
    texts: Vec<String>,
    set: ScopeSet,
}

impl ScopeCeiling {
    /// What decisions judge by.
    pub const fn set(&self) -> &ScopeSet {
        &self.set
    }
}

impl From<Vec<String>> for ScopeCeiling {
    fn from(texts: Vec<String>) -> Self {
        Self { set: ScopeSet::parse(&texts), texts }
    }
}

impl core::ops::Deref for ScopeCeiling {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.texts
    }
}

/// One court order, as the privacy officer entered it in the partner file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CourtOrder {
    pub patient: LogicalId,
    pub expires: OffsetDateTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    Active,
    Suspended,
}

/// On which lawful basis a partner may get Part 2 records, and how what is withheld looks to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part2 {
    pub basis: Part2Basis,
    pub redaction: Redaction,
}

/// The lawful bases of 42 CFR Part 2 that a partner may be registered under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part2Basis {
    /// No basis: Part 2 records are never disclosed to this partner.
    None,
    /// The patient's written consent (2.31, 2.33).
    Consent,
    /// The patient's own access (2.23).
    Patient,
    /// Within the program, or its qualified service organization (2.12(c)(3), (4)).
    Program,
    /// Research (2.52).
    Research,
    /// Audit and evaluation (2.53).
    Audit,
    /// A court order of subpart E (2.61 to 2.67), for the patients it covers.
    CourtOrder,
}

impl Part2Basis {
    pub const ALL: &'static [Self] =
        &[Self::None, Self::Consent, Self::Patient, Self::Program, Self::Research, Self::Audit, Self::CourtOrder];

    /// The word of the partner file and of the policies.
    pub const fn code(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Consent => "consent",
            Self::Patient => "patient",
            Self::Program => "program",
            Self::Research => "research",
            Self::Audit => "audit",
            Self::CourtOrder => "court-order",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|basis| basis.code() == code)
    }
}

/// How a redaction shows (product.md section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Redaction {
    Marked,
    Silent,
}

/// One way in which a Consent's `provision.actor.reference` names a recipient.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// A literal reference, `Organization/x`.
    Reference(String),
    /// A logical reference by identifier.
    Identifier { system: String, value: String },
}
