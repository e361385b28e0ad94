//! The control catalogue: what a safe and lawful set-up holds to, each rule with the source it rests on.
//!
//! A violation keeps the gateway from starting; a waiver lifts that for a time, and is shown wherever findings are. What
//! time alone brings about (papers and certificates that run out) is never a violation: it stops its own partner or
//! listener when the time comes, and must not stop every patient's record at the next restart.

mod catalogue;
mod files;
mod identity;
mod network;
mod operation;
mod partner;
mod privacy;
mod volatile;

use std::fmt;

use fhirwall_policy::cedar::{PolicyProblem, PolicySet};
use time::OffsetDateTime;

use crate::config::{Config, Waiver};
pub use crate::control::catalogue::markdown;
pub(crate) use crate::control::files::expiries;

/// A rule.
#[derive(Debug)]
pub struct Control {
    /// Its id, for findings, waivers and reports; never used again for another rule.
    pub id: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// What it rests on.
    pub cites: &'static str,
    /// What it asks, in a sentence.
    pub asks: &'static str,
    /// What to do when it is not met.
    pub fix: &'static str,
    /// How it is held.
    pub held: Held,
}

/// How much a rule weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Good practice.
    Advice,
    /// A weakness that somebody should know of and decide on.
    Risk,
    /// What must not be: the gateway does not start.
    Violation,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Advice => "advice",
            Self::Risk => "risk",
            Self::Violation => "violation",
        })
    }
}

/// How a rule is held.
#[derive(Clone, Copy, Debug)]
pub enum Held {
    /// A configuration that breaks it does not load; the words by which the refusal is known.
    AtLoad(&'static str),
    /// A loaded configuration is looked at.
    ByCheck(fn(&Facts<'_>) -> Vec<Unmet>),
    /// The integration points are asked, by `fhirwall scan`.
    ByScan,
}

/// What the rules look at.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The policy set, or what is wrong with it.
    pub policies: Result<&'a PolicySet, &'a [PolicyProblem]>,
    /// The time.
    pub now: OffsetDateTime,
}

/// Where a rule is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// A key path, a file, or `partner x`.
    pub subject: String,
    /// How it is not met.
    pub what: String,
}

pub(crate) fn unmet(subject: impl Into<String>, what: impl Into<String>) -> Unmet {
    Unmet { subject: subject.into(), what: what.into() }
}

/// A rule that is not met somewhere.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule.
    pub control: &'static Control,
    /// Where it is not met.
    pub subject: String,
    /// How it is not met.
    pub what: String,
    /// The waiver that covers it today.
    pub waiver: Option<Waiver>,
}

impl Finding {
    /// Does it keep the gateway from starting?
    pub fn forbids_start(&self) -> bool {
        self.control.severity == Severity::Violation && self.waiver.is_none()
    }

    /// Does it ask for somebody's attention?
    pub fn counts(&self) -> bool {
        self.control.severity >= Severity::Risk && self.waiver.is_none()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { control, subject, what, waiver } = self;
        write!(f, "{} {}: {subject}: {what} ({})", control.severity, control.id, control.cites)?;
        match waiver {
            None => write!(f, "\n    fix: {}", control.fix),
            Some(waiver) => write!(f, "\n    waived until {} by {}: {}", waiver.until, waiver.owner, waiver.reason),
        }
    }
}

/// Every rule, by room.
pub fn controls() -> impl Iterator<Item = &'static Control> {
    [network::CONTROLS, files::CONTROLS, identity::CONTROLS, partner::CONTROLS, privacy::CONTROLS, operation::CONTROLS]
        .into_iter()
        .flatten()
        .chain(crate::scan::controls())
}

/// Holds a loaded configuration against every rule; the heaviest findings first.
pub fn findings(config: &Config, now: OffsetDateTime) -> Vec<Finding> {
    let policies = PolicySet::load_with(&config.policy_files(), &config.ceilings());
    findings_under(config, policies.as_ref().map_err(Vec::as_slice), now)
}

/// The same with the configuration's policy set as loaded before.
pub fn findings_under(
    config: &Config,
    policies: Result<&PolicySet, &[PolicyProblem]>,
    now: OffsetDateTime,
) -> Vec<Finding> {
    let facts = Facts { config, policies, now };
    let unmet = controls().flat_map(|control| {
        let unmet = match control.held {
            Held::AtLoad(_) | Held::ByScan => Vec::new(),
            Held::ByCheck(check) => check(&facts),
        };
        unmet.into_iter().map(move |unmet| (control, unmet))
    });
    findings_of(config, unmet.collect(), now)
}

/// Findings with the waivers that cover them today, the heaviest first.
pub(crate) fn findings_of(config: &Config, unmet: Vec<(&'static Control, Unmet)>, now: OffsetDateTime) -> Vec<Finding> {
    let finding = |(control, Unmet { subject, what }): (&'static Control, Unmet)| {
        let waiver = waiver(config, now, control, &subject).cloned();
        Finding { control, subject, what, waiver }
    };
    let mut findings: Vec<_> = unmet.into_iter().map(finding).collect();
    findings.sort_by_key(|finding| (finding.waiver.is_some(), std::cmp::Reverse(finding.control.severity)));
    findings
}

/// What keeps the gateway from starting, and a new generation from going live; `None` when nothing does.
pub fn start_forbidden_by(findings: &[Finding]) -> Option<String> {
    let violations: Vec<_> = findings.iter().filter(|one| one.forbids_start()).map(ToString::to_string).collect();
    (!violations.is_empty()).then(|| violations.join("\n"))
}

/// The waiver that covers this today: of the gateway's file, or of the partner's own.
fn waiver<'a>(config: &'a Config, now: OffsetDateTime, control: &Control, subject: &str) -> Option<&'a Waiver> {
    let today = now.date();
    let holds = |waiver: &&Waiver| waiver.control == control.id && waiver.until >= today;
    let everywhere_or_here = |waiver: &&Waiver| {
        waiver.subject.as_ref().is_none_or(|named| named == subject || subject == partner::subject(named))
    };
    let of_partner = || {
        let partner = config.partners.get(partner::named_by(subject)?)?;
        partner.file.waivers.iter().find(holds)
    };
    config.gateway.waivers.iter().find(|waiver| holds(waiver) && everywhere_or_here(waiver)).or_else(of_partner)
}

#[cfg(test)]
mod tests;
