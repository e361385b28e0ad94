//! The evidence pack: what an auditor is shown of this gateway, collected from its configuration, its policies and its
//! log, dated and signed.
//!
//! No patient, user or token is in it: identifiers of partners, controls, policies and counts (45 CFR 164.316(b)(1),
//! 164.308(a)(8); 42 CFR 2.16).

mod collect;
mod page;
mod sealed;
mod support;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use collect::{CollectError, Period, collect};
pub use page::page;
pub use sealed::{NotGenuine, SIGNATURE, Signature, sign, verify};
pub use support::{Running, support};

/// Everything that is shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// When it was collected, RFC 3339.
    pub made: String,
    /// The version of the gateway's program.
    pub version: String,
    pub configuration: ConfigurationState,
    pub controls: Vec<ControlState>,
    pub policies: PolicyState,
    pub partners: Vec<PartnerState>,
    pub audit: AuditState,
    pub decisions: DecisionCounts,
}

/// Which configuration it is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigurationState {
    /// SHA-256 of the configuration as the gateway understands it, secrets left out: the same files give the same digest.
    pub sha256: String,
    /// `enforce` or `observe`.
    pub mode: String,
    /// Each endpoint's name with the base URL that clients see.
    pub endpoints: Vec<(String, String)>,
    pub issuers: Vec<String>,
}

/// How a control stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Held, and nothing was found.
    Met,
    /// Not met, and somebody answers for it until a date.
    Waived,
    /// Not met.
    Unmet,
    /// Only a scan of the neighbours tells, and none was made.
    NotAsked,
}

impl State {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Waived => "waived",
            Self::Unmet => "unmet",
            Self::NotAsked => "not asked",
        }
    }
}

/// One control of the catalogue.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ControlState {
    pub id: String,
    pub severity: String,
    pub requirement: String,
    pub asks: String,
    pub state: State,
    pub findings: Vec<FindingState>,
}

/// Where a control is not met.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FindingState {
    pub subject: String,
    pub what: String,
    pub fix: String,
    pub waiver: Option<WaiverState>,
}

/// Who answers for what is not met, and until when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WaiverState {
    pub reason: String,
    pub owner: String,
    pub until: String,
}

/// The policy set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyState {
    /// The digest by which decisions name this set.
    pub epoch: String,
    pub policies: Vec<PolicyLine>,
    /// The shipped decision tables, run against this set just now.
    pub table_rows: usize,
    pub table_failures: Vec<String>,
    /// The saved proof, when it is about this very set.
    pub proof: Option<ProofState>,
}

/// One policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyLine {
    pub id: String,
    pub says: String,
    pub cites: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// `enforce` or `shadow`.
    pub mode: String,
}

/// What was proved of the set over all requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProofState {
    pub holds: bool,
    /// Each invariant's id, what it says, and whether it holds.
    pub invariants: Vec<(String, String, bool)>,
}

/// A partner's standing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartnerState {
    pub client_id: String,
    pub name: String,
    pub status: String,
    pub purposes: Vec<String>,
    pub part2_basis: String,
    pub redaction: String,
    pub scopes: Vec<String>,
    /// The last day of its agreement and of its assessment.
    pub agreement_until: Option<String>,
    pub assessment_until: Option<String>,
}

/// The audit log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditState {
    pub chain: String,
    pub records: u64,
    pub segments: u64,
    pub signed_heads: u64,
    /// Records after the last signed head.
    pub unsigned: u64,
    /// The first bad record, in words; `None` when the chain is whole.
    pub broken: Option<String>,
    /// Times at which records could not be written, or a write was cut off by a crash.
    pub gaps: u64,
    /// Records that are sealed with a key that was not given.
    pub unreadable: u64,
}

/// What was decided in the period.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DecisionCounts {
    pub from: Option<String>,
    pub to: Option<String>,
    pub disclosures: u64,
    /// Disclosures with 42 CFR Part 2 records among them.
    pub part2_disclosures: u64,
    pub emergency_disclosures: u64,
    pub changes_attempted: u64,
    pub refusals: u64,
    /// Refusals by reason code.
    pub by_reason: BTreeMap<String, u64>,
    /// Refusals by the information-blocking exception they rest on (45 CFR 171.201 to 205).
    pub by_exception: BTreeMap<String, u64>,
    /// Resources or elements withheld within answers, by rule.
    pub withheld: BTreeMap<String, u64>,
    /// Lockdowns, alerts and risk answers on record, by kind.
    pub events: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests;
