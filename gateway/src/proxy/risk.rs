//! What a caller's behaviour brings: what its next request meets, and who is told.

use std::sync::Arc;

use fhirwall_policy::decide::Risk;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::Subject;
use serde_json::json;

use super::Journey;
use crate::alerts::Alert;
use crate::audit::{AuditRecord, Kind, Record};
use crate::behaviour::{Answer, Assessment, Assessments, Caller, Gate, Proof, RiskNote, Signal, Told};
use crate::config;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::state::Revocation;

impl Journey<'_> {
    /// How the caller stands: slowed down or asked to authenticate anew here, the rest is for policy. Emergency access
    /// passes, and policy knows of it.
    pub(super) fn risk(&mut self, subject: &Subject) -> Result<Risk, Refusal> {
        let settings = &self.generation.config.gateway.risk;
        let (own, wanted) = (&subject.authentication, &settings.step_up_acr_values);
        let suffices = wanted.is_empty() || own.acr.as_ref().is_some_and(|acr| wanted.contains(acr));
        let proof = Proof { at: own.auth_time, suffices };
        let caller = Caller { partner: &subject.partner.client_id, issuer: &subject.issuer, user: &subject.sub };
        let (risk, note) = match self.shared.behaviour.gate(caller, self.now, proof, subject.emergency.is_some()) {
            Gate::Open => return Ok(Risk::Low),
            Gate::Watched(note) => (Ok(Risk::Elevated), note),
            Gate::Closed(note) => (Ok(Risk::High), note),
            Gate::SlowDown(wait, note) => {
                (Err(Refusal { retry_after: Some(wait), ..Refusal::from(Reason::RiskThrottled) }), note)
            }
            Gate::StepUp(note) => (Err(step_up(settings)), note),
        };
        self.journal.risk(note);
        risk
    }
}

/// RFC 9470 section 3: which authentication would do, and how fresh it must be.
fn step_up(settings: &config::Risk) -> Refusal {
    let plain = |acr: &&String| !acr.contains(['"', '\\', ' ']);
    let acr: Vec<&str> = settings.step_up_acr_values.iter().filter(plain).map(String::as_str).collect();
    let acr = if acr.is_empty() { String::new() } else { format!(r#", acr_values="{}""#, acr.join(" ")) };
    let age = settings.step_up_max_age.as_secs();
    let challenge = format!(r#"Bearer error="insufficient_user_authentication"{acr}, max_age="{age}""#);
    Refusal { challenges: vec![challenge], ..Refusal::from(Reason::StrongerAuthenticationNeeded) }
}

/// Tells who is to be told, and ends what is to be ended.
pub(super) fn respond(shared: &Shared, record: &AuditRecord, assessed: &Assessments, refused: Option<Reason>) {
    let partner = &*record.partner;
    if refused == Some(Reason::PartnerSuspended) {
        shared.alerts.raise(Alert::SuspendedPartner, partner, "", "a suspended partner goes on asking");
    }
    if refused.is_none() && record.emergency.is_some() {
        let says = format!("records were disclosed in an emergency, first by decision {}", record.decision);
        shared.alerts.raise(Alert::EmergencyAccess, partner, &record.token, &says);
    }
    for assessment in std::iter::once(&assessed.user).chain(&assessed.app) {
        if assessment.would == Answer::Observe {
            continue;
        }
        for why in &assessment.reasons {
            shared.metrics.risk_event(why.signal.as_str(), assessment.would.as_str());
        }
        if assessment.rose {
            tell(shared, record, assessment);
        }
    }
    let (issuer, sub) = (Arc::clone(&record.issuer), Arc::clone(&record.user));
    if assessed.user.answer == Answer::Terminate && assessed.user.rose {
        end_user(shared, issuer, sub, sentences(&assessed.user));
    } else if assessed.token == Answer::Terminate {
        end_token(shared, issuer, Arc::clone(&record.token));
    }
}

fn sentences(assessment: &Assessment) -> String {
    let sentences: Vec<&str> = assessment.reasons.iter().map(|why| why.sentence.as_str()).collect();
    sentences.join("; ")
}

/// A record with every reason and its numbers, and an alert.
fn tell(shared: &Shared, record: &AuditRecord, assessment: &Assessment) {
    let sentences = sentences(assessment);
    let answer = assessment.answer.as_str();
    let note = RiskNote::of(assessment, assessment.would);
    let told = json!({
        "decision": record.decision, "partner": record.partner, "issuer": record.issuer, "user": record.user,
        "done": answer, "risk": note,
    });
    shared.audit.note(Record::of(Kind::Risk, told));
    shared.behaviour.keep(Told {
        at: shared.clock.now(),
        partner: Arc::clone(&record.partner),
        decision: record.decision.clone(),
        done: answer,
        note: note.clone(),
    });
    let alert = if assessment.names(Signal::Part2Access) {
        Alert::Part2Export
    } else if [Signal::DeniedRequests, Signal::Refusals, Signal::Enumeration].iter().any(|one| assessment.names(*one)) {
        Alert::Denials
    } else {
        Alert::Behaviour
    };
    let says = format!("score {:.0}, done: {answer}, called for: {}: {sentences}", assessment.score, note.answer);
    shared.alerts.raise(alert, &record.partner, &record.user, &says);
}

/// The user's tokens end everywhere, and the user is stopped until someone has looked; emergency access stays open to a
/// new token.
fn end_user(shared: &Shared, issuer: Arc<str>, sub: Arc<str>, reason: String) {
    let (state, orders) = (Arc::clone(&shared.state), shared.lockdowns.clone());
    let until = shared.clock.now() + time::Duration::days(1);
    tokio::spawn(async move {
        let revoked =
            state.revoke(Revocation::User { issuer: Arc::clone(&issuer), sub: Arc::clone(&sub) }, until).await;
        let reason: String = reason.chars().take(500).collect();
        if let (Err(error), _) | (Ok(()), Err(error)) = (
            revoked.map_err(|error| error.to_string()),
            orders.stop_user(&issuer, &sub, reason).await.map_err(|e| e.to_string()),
        ) {
            tracing::error!(error, "a user whose behaviour called for it could not be stopped everywhere");
        }
    });
}

fn end_token(shared: &Shared, issuer: Arc<str>, id: Arc<str>) {
    let (state, until) = (Arc::clone(&shared.state), shared.clock.now() + time::Duration::days(1));
    tokio::spawn(async move {
        if let Err(error) = state.revoke(Revocation::Token { issuer, id }, until).await {
            tracing::error!(%error, "a token that came from too many places could not be ended everywhere");
        }
    });
}
