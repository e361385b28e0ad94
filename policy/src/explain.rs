//! Why a decision came out as it did, in words, and what would have to change for another outcome.
//!
//! What would have to change is found by trying: each fact of the question in turn, then in pairs, against the same
//! policies. The words carry codes and policy texts, never an identifier of a patient.

mod changes;

use core::fmt::Write as _;

use serde::Serialize;

use crate::cedar::{PolicyMeta, PolicySet};
use crate::question::{About, Caller, Decision, Question, Record, Ruling};
use crate::reason::Reason;
use crate::record::{DecisionRecord, Said};

/// The explanation of one question.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Who asked what, in a sentence.
    pub asked: String,
    pub ruling: Ruling,
    /// The policies that decided; for a denial that nothing forbade, the permits that came nearest.
    pub policies: Vec<Explained>,
    /// What would have to change for the opposite of a denial: each line suffices alone.
    pub changes: Vec<String>,
}

/// One policy and the facts it looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    pub id: String,
    pub effect: &'static str,
    pub says: String,
    pub cites: String,
    /// It decided; otherwise it is a permit that did not apply.
    pub decided: bool,
    pub facts: Vec<Fact>,
}

/// One condition, in Cedar's words, and whether it held.
#[derive(Clone, Debug, Serialize)]
pub struct Fact {
    pub condition: String,
    pub held: bool,
    /// It stands in an `unless`.
    pub exception: bool,
}

/// Explains one question to this set.
pub fn explain(set: &PolicySet, question: &Question) -> Explanation {
    let ruling = set.rule(question);
    let deciding: Vec<&PolicyMeta> = ruling.policies.iter().filter_map(|id| set.policy(id)).collect();
    let policies = if deciding.is_empty() {
        nearest(set, question)
    } else {
        deciding.into_iter().map(|policy| explained(set, policy, question, true)).collect()
    };
    let changes = match ruling.decision {
        Decision::Allow => Vec::new(),
        Decision::Deny | Decision::Error => changes::towards_permit(set, question),
    };
    Explanation { asked: asked(question), ruling, policies, changes }
}

fn explained(set: &PolicySet, policy: &PolicyMeta, question: &Question, decided: bool) -> Explained {
    let facts = set.conditions(policy).into_iter().filter_map(|condition| {
        let held = set.holds(&condition, question)?;
        Some(Fact { condition: condition.text, held, exception: condition.negated })
    });
    Explained {
        id: policy.id.clone(),
        effect: if policy.permits { "permit" } else { "forbid" },
        says: policy.says.clone(),
        cites: policy.cites.clone(),
        decided,
        facts: facts.collect(),
    }
}

/// How many permits to show when none applied.
const NEAREST: usize = 3;

/// The permits of this moment that fail by the fewest conditions.
fn nearest(set: &PolicySet, question: &Question) -> Vec<Explained> {
    let permits = set.policies().filter(|policy| policy.permits && set.scope_fits(policy, question));
    let mut candidates: Vec<Explained> = permits.map(|policy| explained(set, policy, question, false)).collect();
    candidates.sort_by_key(|policy| policy.facts.iter().filter(|fact| fact.held == fact.exception).count());
    candidates.truncate(NEAREST);
    candidates
}

fn asked(question: &Question) -> String {
    let Caller { app, basis, purpose, user, .. } = &question.caller;
    let what = match &question.about {
        About::Target(target) => format!("to {} {} (reached as {})", target.action, target.kind, target.path),
        About::Record(record) => format!("to see {}", described(record)),
    };
    format!(
        "Partner `{app}` (Part 2 basis: {}) asked, for {}, with user type {}, {what}.",
        basis.code(),
        purpose.code(),
        user.code()
    )
}

fn described(record: &Record) -> String {
    let labels: Vec<&str> = record.labels.iter().map(fhir_profiles::label::Label::code).collect();
    let labels =
        if labels.is_empty() { "without labels".to_owned() } else { format!("labelled {}", labels.join(", ")) };
    let whose = match record.patient {
        crate::question::Relation::Own => "of the caller's patient",
        crate::question::Relation::Other => "of another patient than the caller's, or of any where the caller has none",
        crate::question::Relation::None => "about no patient",
    };
    let consent = match record.consent {
        crate::question::ConsentState::Permits => "the consents permit",
        crate::question::ConsentState::Denies => "the consents deny",
        crate::question::ConsentState::Silent => "the consents are silent",
    };
    format!("a {} {labels}, {whose}; {consent}", record.kind)
}

impl core::fmt::Display for Explanation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        writeln!(f, "{}", self.asked)?;
        writeln!(f, "Ruling: {}.", self.ruling)?;
        for policy in &self.policies {
            let role = if policy.decided { "decided" } else { "did not apply" };
            writeln!(f, "  {} `{}` {role}: {}", policy.effect, policy.id, policy.says)?;
            writeln!(f, "    rests on {}", policy.cites)?;
            for fact in &policy.facts {
                let word = if fact.held { "yes" } else { "no " };
                let clause = if fact.exception { "unless" } else { "when" };
                writeln!(f, "    {word} {clause} {}", fact.condition)?;
            }
        }
        for (at, change) in self.changes.iter().enumerate() {
            let head = if at == 0 { "It would be permitted if" } else { "                      or if" };
            writeln!(f, "{head} {change}.")?;
        }
        if self.ruling.decision != Decision::Allow && self.changes.is_empty() {
            writeln!(f, "No change of one or two facts would permit it.")?;
        }
        Ok(())
    }
}

/// Explains a recorded decision to this set, which may be another than the one that decided.
pub fn explain_record(set: &PolicySet, record: &DecisionRecord) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "Decision {} at {}: {} of {} on endpoint `{}`, user {}.",
        record.decision,
        record.time,
        record.interaction,
        record.targets.iter().map(|target| target.kind.as_str()).collect::<Vec<_>>().join(", "),
        record.endpoint,
        record.user
    );
    if record.epoch != set.epoch() {
        let _ = writeln!(out, "It was decided by policy set {}; this explanation is by {}.", record.epoch, set.epoch());
    }
    if let Some(reason) = record.reason {
        let _ = writeln!(out, "Refused: {}. {}", reason.code(), in_words(reason));
        if let Some(scope) = &record.needed_scope {
            let _ = writeln!(
                out,
                "The scope `{scope}`, in the token and in the partner's registration, would have covered it."
            );
        }
    }
    if !record.scopes.is_empty() {
        let _ = writeln!(out, "Scopes used: {}.", record.scopes.join(" "));
    }
    if !record.consents.is_empty() {
        let _ = writeln!(out, "Consents that spoke: {}.", record.consents.join(", "));
    }
    for (question, said) in record.questions() {
        if said == Said::PerhapsDenied && !decided_by_policy(record.reason) {
            continue;
        }
        let _ = write!(out, "\n{}", explain(set, &question));
    }
    out
}

/// Was a policy asked before the request was refused?
const fn decided_by_policy(reason: Option<Reason>) -> bool {
    !matches!(
        reason,
        Some(
            Reason::PartnerSuspended
                | Reason::EvidenceExpired
                | Reason::PurposeNotAllowed
                | Reason::InsufficientScope
                | Reason::PatientMismatch
        )
    )
}

/// What a reason means, for whoever answers for it.
const fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::PartnerSuspended => "The partner file says `status: suspended`.",
        Reason::EvidenceExpired => {
            "The partner's agreement or security assessment is past its date; renew it in the partner file."
        }
        Reason::PurposeNotAllowed => {
            "The token claims no purpose of use, or one that the partner is not registered for."
        }
        Reason::InsufficientScope => {
            "No scope that both the token carries and the partner is registered for covers this."
        }
        Reason::PatientMismatch => "The request names another patient than the one the token is for.",
        Reason::PolicyForbids => "A policy forbids it, or none permits it.",
        Reason::PolicyError => "A policy could not be evaluated; that always denies, and is a defect to be fixed.",
        Reason::ParameterNotAllowed => "A search parameter reads records that may be hidden from this caller.",
        Reason::RiskTerminated => "The caller's behaviour was rated high risk.",
        Reason::MisdirectedRequest => "The TLS handshake named another host than the request did.",
        Reason::MalformedRequest
        | Reason::UnknownParameter
        | Reason::UnsupportedParameter
        | Reason::UnsupportedInteraction
        | Reason::UnknownInteraction
        | Reason::MethodNotAllowed
        | Reason::UnknownOperation
        | Reason::OperationNotAllowed
        | Reason::NotAcceptable
        | Reason::UnsupportedMediaType
        | Reason::RequestTooLarge => "The request could not be read as one FHIR interaction that this gateway serves.",
        Reason::NoCredentials
        | Reason::InvalidToken
        | Reason::CertificateMismatch
        | Reason::StrongerAuthenticationNeeded
        | Reason::PartnerUnknown => "The caller was not identified, or not strongly enough.",
        Reason::NotFound
        | Reason::LabelWithheld
        | Reason::ConsentDenies
        | Reason::OutsideCompartment
        | Reason::OutsideGranularScope => "Stored data decided; the client saw the answer for what does not exist.",
        Reason::RateLimited | Reason::Overloaded | Reason::RiskThrottled | Reason::Lockdown => "A limit was reached.",
        Reason::VersionConflict | Reason::PreconditionRequired | Reason::LabelWouldBeLowered => {
            "The write does not fit what is stored."
        }
        Reason::UpstreamUnintelligible
        | Reason::UpstreamBusy
        | Reason::UpstreamUnavailable
        | Reason::ConsentSourceUnavailable
        | Reason::IssuerUnavailable
        | Reason::AuditUnavailable
        | Reason::StateUnavailable => "A service that the decision needs was out of reach or not to be understood.",
    }
}
