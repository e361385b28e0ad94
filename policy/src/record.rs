//! The record of one decision: enough to explain it and to put it again to another policy set.
//!
//! Identifiers and codes alone: the decision, the partner, the user as the audit log names it, types, label codes,
//! consent ids, policy ids, counts. Never a patient's id, never content, never a token.

use fhir_profiles::interaction::{Interaction, Touched};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::cedar::PolicySet;
use crate::decide::{self, Asked, Denial};
use crate::permit::{Disclosure, Memo, Permit};
use crate::purpose::PurposeOfUse;
use crate::question::{About, Caller, Decision, Question, Record, Ruling, Target, maybe_code};
use crate::reason::Reason;
use crate::scope::ScopeSet;
use crate::touched;

/// The version this code writes. It reads this one alone: another is refused, not guessed at.
pub const VERSION: u32 = 1;

/// One decision, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRecord {
    pub version: u32,
    /// The decision's id, which a refused client was told.
    pub decision: String,
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    pub endpoint: String,
    /// The user, under the pseudonym that the caller of [`permitted`] or [`denied`] gave.
    pub user: String,
    /// The partner and the channel, as policies saw them.
    pub caller: Caller,
    /// The interaction's code (R4 restful-interaction).
    pub interaction: String,
    /// Every type that the request touched.
    pub targets: Vec<Target>,
    /// The effective scopes that cover what was touched, in SMART v2 text.
    pub scopes: Vec<String>,
    pub permitted: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_code")]
    pub reason: Option<Reason>,
    /// The scope that would have covered the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed_scope: Option<String>,
    /// The policies that decided on the request.
    pub policies: Vec<String>,
    /// Shadowed policies that would have refused it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_deny: Vec<String>,
    /// What was met in the answer, by all that policies can tell apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub met: Vec<Met>,
    /// The consents that spoke.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consents: Vec<String>,
    /// The configuration's generation, and the epoch of its policy set.
    pub generation: u64,
    pub epoch: String,
}

/// Records of an answer that are alike to every policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Met {
    pub record: Record,
    pub count: u32,
    pub shown: bool,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_code")]
    pub reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
    pub policies: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_withhold: Vec<String>,
}

/// What a record is kept under.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    /// The decision's id.
    pub decision: &'a str,
    /// The user's pseudonym.
    pub user: &'a str,
    pub generation: u64,
}

/// What one answer met: its records, labelled elements and references to others, those alike to policies together.
pub fn met(memo: &Memo) -> Vec<Met> {
    let mut met: Vec<Met> =
        memo.0.iter().map(|(record, (disclosure, count))| Met::of(*record, disclosure, *count)).collect();
    met.sort_by_key(|met| (met.record.kind, met.record.labels, met.record.consent, met.record.patient, met.shown));
    met
}

/// The record of a permitted request, with all that its answers met, and the ids of the consents that spoke.
pub fn permitted(permit: &Permit, met: Vec<Met>, consents: &[String], name: Name<'_>) -> DecisionRecord {
    let touched = touched::facts(permit.interaction());
    DecisionRecord {
        version: VERSION,
        decision: name.decision.to_owned(),
        time: permit.decided_at(),
        endpoint: permit.endpoint().to_owned(),
        user: name.user.to_owned(),
        caller: permit.caller().clone(),
        interaction: permit.interaction().code().to_owned(),
        scopes: covering(permit.scopes(), &touched),
        targets: targets(permit.interaction(), &touched),
        permitted: true,
        reason: None,
        needed_scope: None,
        policies: permit.policies().to_vec(),
        would_deny: permit.would_deny().to_vec(),
        met,
        consents: consents.to_vec(),
        generation: name.generation,
        epoch: permit.epoch().to_owned(),
    }
}

/// The record of a refused request.
pub fn denied(set: &PolicySet, asked: &Asked<'_>, denial: &Denial, name: Name<'_>) -> DecisionRecord {
    let subject = asked.subject;
    let touched = touched::facts(asked.interaction);
    let scopes = ScopeSet::parse(&subject.scopes).within(subject.partner.scopes.set());
    // Without a purpose the caller was refused before any policy was asked; the record needs some, and TREAT is the
    // one that a replay would find least to allow by.
    let purpose = subject.purpose.unwrap_or(PurposeOfUse::Treat);
    DecisionRecord {
        version: VERSION,
        decision: name.decision.to_owned(),
        time: asked.now,
        endpoint: asked.endpoint.name.clone(),
        user: name.user.to_owned(),
        caller: decide::caller(asked, purpose),
        interaction: asked.interaction.code().to_owned(),
        scopes: covering(&scopes, &touched),
        targets: targets(asked.interaction, &touched),
        permitted: false,
        reason: Some(denial.reason),
        needed_scope: denial.needed_scope.clone(),
        policies: denial.policies.clone(),
        would_deny: Vec::new(),
        met: Vec::new(),
        consents: Vec::new(),
        generation: name.generation,
        epoch: set.epoch().to_owned(),
    }
}

impl Met {
    fn of(record: Record, disclosure: &Disclosure, count: u32) -> Self {
        match disclosure {
            Disclosure::Show { basis, policies, would_withhold, .. } => Self {
                record,
                count,
                shown: true,
                reason: None,
                basis: Some(basis.to_string()),
                policies: policies.to_vec(),
                would_withhold: would_withhold.to_vec(),
            },
            Disclosure::Withhold { reason, policies } => Self {
                record,
                count,
                shown: false,
                reason: Some(*reason),
                basis: None,
                policies: policies.to_vec(),
                would_withhold: Vec::new(),
            },
        }
    }
}

impl DecisionRecord {
    /// Adds what a further answer of the same request met, and the consents that spoke to it.
    pub fn meet(&mut self, met: Vec<Met>, consents: &[String]) {
        for one in met {
            let alike = |known: &&mut Met| known.record == one.record && known.shown == one.shown;
            match self.met.iter_mut().find(alike) {
                Some(known) => known.count = known.count.saturating_add(one.count),
                None => self.met.push(one),
            }
        }
        for id in consents {
            if !self.consents.contains(id) {
                self.consents.push(id.clone());
            }
        }
    }

    /// How many records of the answer were withheld by policy.
    pub fn withheld(&self) -> u32 {
        self.met.iter().filter(|met| !met.shown).map(|met| met.count).sum()
    }

    /// Every question that policies were asked, with what they said then. Empty where scopes or standing decided alone.
    pub fn questions(&self) -> Vec<(Question, Said)> {
        let ask = |about| Question { caller: self.caller.clone(), about };
        let targets = self.targets.iter().map(|target| {
            let said = if self.permitted { Said::Allowed } else { Said::PerhapsDenied };
            (ask(About::Target(target.clone())), said)
        });
        let met = self.met.iter().map(|met| {
            let said = if met.shown { Said::Allowed } else { Said::Denied };
            (ask(About::Record(met.record)), said)
        });
        targets.chain(met).collect()
    }

    /// Reads a record from JSON.
    ///
    /// # Errors
    /// Refuses another version, unknown members and unknown codes.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let record: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if record.version == VERSION {
            Ok(record)
        } else {
            Err(format!("a decision record of version {}; this program reads version {VERSION}", record.version))
        }
    }
}

/// What was said to a question when it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Allowed,
    Denied,
    /// The request was refused, but by this type or another, or before policies were asked.
    PerhapsDenied,
}

impl Said {
    /// The ruling that it was, as far as it is known.
    pub fn as_ruling(self) -> Ruling {
        let decision = match self {
            Self::Allowed => Decision::Allow,
            Self::Denied | Self::PerhapsDenied => Decision::Deny,
        };
        Ruling { decision, policies: Vec::new(), reason: None, would_deny: Vec::new() }
    }

    /// Does a new ruling differ from what was said?
    pub const fn differs(self, ruling: &Ruling) -> bool {
        match (self, ruling.decision) {
            (Self::Allowed, Decision::Deny | Decision::Error) | (Self::Denied, Decision::Allow) => true,
            (Self::Allowed, Decision::Allow)
            | (Self::Denied, Decision::Deny | Decision::Error)
            | (Self::PerhapsDenied, Decision::Allow | Decision::Deny | Decision::Error) => false,
        }
    }
}

fn targets(interaction: &Interaction, touched: &[Touched]) -> Vec<Target> {
    let asked = touched.iter().filter(|fact| touched::refuses(fact));
    asked.map(|fact| touched::target(interaction, fact)).collect()
}

fn covering(scopes: &ScopeSet, touched: &[Touched]) -> Vec<String> {
    let mut covering: Vec<String> =
        touched.iter().flat_map(|fact| scopes.granting(fact.access, fact.kind)).map(ToString::to_string).collect();
    covering.sort_unstable();
    covering.dedup();
    covering
}
