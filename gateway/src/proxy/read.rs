//! Reads and searches: asked of the EHR, judged, and shown as far as they may be.

use bytes::Bytes;
use fhir_profiles::ids::InstanceId;
use fhir_profiles::interaction::Interaction;
use fhirwall_policy::partner::Redaction;
use fhirwall_policy::permit::Permit;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::Subject;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderValue, StatusCode};

use super::brought::Brought;
use super::{Journey, Outcome, failure, history, page, refill, served};
use crate::forward::{UpstreamAnswer, UpstreamRequest};
use crate::links::Position;
use crate::redact::{Account, Judged, Stage};
use crate::refusal::Refusal;

impl Journey<'_> {
    /// Carries out a permitted interaction that changes nothing. `asked` is the client's own form of it.
    pub(super) async fn read(
        &mut self,
        stage: &Stage<'_>,
        subject: &Subject,
        asked: &Interaction,
        position: Option<Position>,
        brought: &Brought<'_>,
    ) -> Result<Outcome, Refusal> {
        if refill::asked(stage.permit.interaction()).is_some() {
            return Box::pin(self.search(stage, subject, asked, position)).await;
        }
        if history::of_many(stage.permit.interaction()) {
            return Box::pin(self.history(stage, subject, asked, position)).await;
        }
        let cursor = position.and_then(|position| position.cursor);
        let upstream = page::upstream_request(stage.permit, cursor.as_ref()).ok_or(Reason::UnsupportedInteraction)?;
        let _room = self.room().await?;
        if let Some(instance) = page::versions_of(stage.permit.interaction()) {
            Box::pin(self.current(stage, &instance)).await?;
        }
        let answer = self.stage("forward", stage.endpoint.upstream.exchange(&upstream)).await.map_err(failure)?;
        Box::pin(self.show(stage, subject, asked, brought, &answer)).await
    }

    /// What of the EHR's answer this caller may see.
    pub(super) async fn show(
        &mut self,
        stage: &Stage<'_>,
        subject: &Subject,
        asked: &Interaction,
        brought: &Brought<'_>,
        answer: &UpstreamAnswer,
    ) -> Result<Outcome, Refusal> {
        check_status(answer)?;
        let judged = self.stage("redact", stage.judge(&answer.body)).await?;
        names_what_was_asked(asked, &judged)?;
        let link = |relation: &str, url: &str| {
            let next = page::beginning(url, stage.endpoint, None);
            self.link(stage.endpoint, subject, asked, relation, next.as_ref())
        };
        let redacted = stage.write(judged, link);
        self.judged = true;
        let shown = match redacted {
            Ok(shown) => shown,
            Err(withheld) => {
                let (refusal, account) = *withheld;
                self.journal.account(account);
                return Err(refusal);
            }
        };
        let within = self.admit_disclosure(subject, &shown.account, shown.body.len()).await;
        self.unless_observed(within)?;
        let tag = version_tag(stage.permit, answer, &shown.account);
        self.journal.account(shown.account);
        let body = presented(asked, shown.body)?;
        let mut served = served::resource(self.journal.decision, body);
        if let Some(tag) = tag {
            if brought.has_seen(&tag) {
                // RFC 9110 13.1.2, after the verdict: what may not be seen has no version to compare.
                served.status = StatusCode::NOT_MODIFIED;
                served.headers.remove(CONTENT_TYPE);
                served.body = Bytes::new();
            }
            served.headers.insert(ETAG, tag);
        }
        Ok(Outcome::Disclosure(served))
    }

    /// Older versions of a record are shown only to those who may see it as it is now, whole: a label that came later
    /// guards them too, and what was deleted stays hidden (attack case 24).
    pub(super) async fn current(&mut self, stage: &Stage<'_>, instance: &InstanceId) -> Result<(), Refusal> {
        let upstream = UpstreamRequest::get(format!("/{}", instance.relative()), "");
        let answer = self.stage("forward", stage.endpoint.upstream.exchange(&upstream)).await.map_err(failure)?;
        check_status(&answer)?;
        let judged = self.stage("redact", stage.judge(&answer.body)).await?;
        self.judged = true;
        match stage.write(judged, |_, _| None) {
            Ok(shown) => self.seen_whole(shown.account),
            Err(withheld) => {
                let (refusal, account) = *withheld;
                self.journal.account(account);
                Err(refusal)
            }
        }
    }
}

/// Cuts what is shown to what the client wants of it: `_elements`, `_summary`.
pub(super) fn presented(interaction: &Interaction, body: impl Into<Bytes>) -> Result<Bytes, Refusal> {
    let body = body.into();
    let Some(wanted) = interaction.presentation() else { return Ok(body) };
    match fhir_profiles::present::present(&body, wanted) {
        Ok(None) => Ok(body),
        Ok(Some(cut)) => Ok(Bytes::from(cut)),
        Err(_) => Err(Refusal::from(Reason::UpstreamUnintelligible)),
    }
}

/// A read is answered by the very record that was asked for: another one, of another patient perhaps, is no answer to it.
fn names_what_was_asked(interaction: &Interaction, judged: &Judged<'_>) -> Result<(), Refusal> {
    let (Interaction::Read { kind, id, .. } | Interaction::Vread { kind, id, .. }) = interaction else { return Ok(()) };
    let named = judged.root().is_some_and(|facts| facts.kind == *kind && facts.id.as_ref() == Some(id));
    if named { Ok(()) } else { Err(Refusal::from(Reason::UpstreamUnintelligible)) }
}

/// The version of one resource that is shown whole, for `If-Match`. A silent partner, to whom versions could tell that
/// something changed out of its sight, gets none.
fn version_tag(permit: &Permit, answer: &UpstreamAnswer, account: &Account) -> Option<HeaderValue> {
    match permit.redaction() {
        Redaction::Marked if !account.reduced => {
            let tag = answer.etag.as_deref()?;
            fhir_profiles::bundle::version(tag)?;
            HeaderValue::from_str(tag).ok()
        }
        Redaction::Marked | Redaction::Silent => None,
    }
}

/// The EHR's own refusals, in our words: its OperationOutcomes may quote what they refuse.
pub(super) fn check_status(answer: &UpstreamAnswer) -> Result<(), Refusal> {
    match answer.status {
        StatusCode::OK | StatusCode::CREATED => Ok(()),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(Refusal::from(Reason::NotFound)),
        StatusCode::BAD_REQUEST => Err(Refusal::from(Reason::UnsupportedParameter)),
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Err(Refusal::from(Reason::VersionConflict)),
        _ => Err(Refusal::from(Reason::UpstreamUnavailable)),
    }
}
