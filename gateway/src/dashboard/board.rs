//! What the page shows, collected beforehand.

use serde::Deserialize;
use time::OffsetDateTime;

use crate::admin::Check;

/// Everything on the page, as of one moment.
#[derive(Clone, Debug)]
pub struct Board {
    pub now: OffsetDateTime,
    pub version: &'static str,
    pub generation: u64,
    /// `enforce` or `observe`.
    pub mode: String,
    /// Why the files as they stand are not live.
    pub rejected: Option<String>,
    pub checks: Vec<Check>,
    pub findings: Vec<FindingLine>,
    pub partners: Vec<PartnerLine>,
    /// The latest decisions, newest first.
    pub decisions: Vec<DecisionLine>,
    /// The last hour, oldest first.
    pub minutes: Vec<Minute>,
    /// Refusals since the start, by reason.
    pub refusals: Vec<(String, u64)>,
    /// How long records took to be durable, since the start: counts up to each bound in seconds.
    pub audit_spread: Vec<(f64, u64)>,
    /// What was withheld since the start, by label.
    pub redactions: Vec<(String, u64)>,
    /// Consents evaluated since the start, by outcome.
    pub consents: Vec<(String, u64)>,
    /// Behaviour that stood out since the start: kind, answer, count.
    pub risks: Vec<(String, u64)>,
    /// Callers whose behaviour stood out, newest first.
    pub notices: Vec<RiskLine>,
    /// Do scores only show what they would bring?
    pub scores_in_shadow: bool,
    pub lockdowns: Vec<LockdownLine>,
    /// The last signed head of the audit chain: sequence number and digest.
    pub audit_head: Option<(u64, String)>,
}

/// A control that is not met.
#[derive(Clone, Debug)]
pub struct FindingLine {
    pub control: String,
    pub severity: String,
    pub subject: String,
    pub what: String,
    pub waived_until: Option<String>,
}

/// A partner's standing.
#[derive(Clone, Debug)]
pub struct PartnerLine {
    pub client_id: String,
    pub name: String,
    pub standing: Standing,
    pub purposes: String,
    /// Part 2 basis and how redaction looks.
    pub part2: String,
    /// The most it may be granted.
    pub scopes: Vec<String>,
    /// Interactions and types that it has used since the start.
    pub used: Vec<String>,
    /// Requests a second, patients an hour.
    pub quotas: String,
    pub requests: u64,
    pub refused: u64,
    /// The last days of agreement and assessment, and whether one has passed.
    pub agreement_until: Option<String>,
    pub assessment_until: Option<String>,
    pub evidence_ended: bool,
}

/// Is a partner served?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Active,
    /// By its file.
    Suspended,
    /// By a lockdown, until then.
    LockedDown(String),
}

/// A decision.
#[derive(Clone, Debug)]
pub struct DecisionLine {
    pub id: String,
    pub time: OffsetDateTime,
    /// `disclosure`, `attempt`, `refusal`.
    pub kind: String,
    pub partner: String,
    pub interaction: String,
    pub resource_type: String,
    pub status: Option<u16>,
    pub reason: Option<String>,
    pub patients: usize,
    pub withheld: u32,
    pub emergency: bool,
}

/// A caller whose behaviour stood out: an app, or a user of it, who is not named here.
#[derive(Clone, Debug)]
pub struct RiskLine {
    pub time: OffsetDateTime,
    pub partner: String,
    pub decision: String,
    /// 0 to 100.
    pub score: f64,
    /// What it called for, and what was done.
    pub called_for: String,
    pub done: String,
    /// Sentences with their numbers.
    pub reasons: Vec<String>,
}

/// What a viewer may do besides looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct May {
    /// Suspend, lock down, lift.
    pub act: bool,
    /// See a decision whole: it may name a patient.
    pub explain: bool,
}

/// A minute's decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    pub permitted: u64,
    pub refused: u64,
    pub withheld: u64,
}

/// A lockdown in force.
#[derive(Clone, Debug)]
pub struct LockdownLine {
    pub id: String,
    /// `all Part 2 data`, `partner x`, `endpoint y`, `a user`.
    pub what: String,
    pub until: String,
    pub reason: String,
    pub by: String,
}

/// What an operator can do here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// Stop a partner everywhere.
    Suspend { client_id: String, hours: u16, reason: String },
    /// Withhold all Part 2 data from everybody.
    WithholdPart2 { hours: u16, reason: String },
    /// End a lockdown before its time.
    Lift { id: String },
}

impl Act {
    /// The act's name in a form, and what is said when it was done.
    pub const DONE: [(&'static str, &'static str); 3] = [
        ("suspend", "Done: the partner is refused from now on. It stands under Lockdowns, where it can be lifted."),
        (
            "withhold-part2",
            "Done: all Part 2 data is withheld from now on. It stands under Lockdowns, where it can be lifted.",
        ),
        ("lift", "Done: the lockdown is lifted."),
    ];

    /// The act's name in a form.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Suspend { .. } => "suspend",
            Self::WithholdPart2 { .. } => "withhold-part2",
            Self::Lift { .. } => "lift",
        }
    }

    /// The act in a sentence, before it is confirmed.
    pub fn sentence(&self) -> String {
        match self {
            Self::Suspend { client_id, hours, .. } => {
                format!(
                    "Every request of partner {client_id} is refused from now on, on all replicas, for {hours} hours."
                )
            }
            Self::WithholdPart2 { hours, .. } => {
                format!("All 42 CFR Part 2 data is withheld from everybody, on all replicas, for {hours} hours.")
            }
            Self::Lift { id } => format!("Lockdown {id} ends now."),
        }
    }
}
