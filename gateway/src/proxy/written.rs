//! What a writer is told: where the record is, its version, and what was stored, if the writer may read it.

use bytes::Bytes;
use fhir_profiles::bundle::{if_match, version};
use fhir_profiles::ids::{InstanceId, LogicalId, ResourceType};
use fhirwall_policy::partner::Redaction;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::Subject;
use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderValue, StatusCode};

use super::brought::Brought;
use super::read::check_status;
use super::write::deletes;
use super::{Journey, Outcome, served};
use crate::forward::UpstreamAnswer;
use crate::listen::Answer;
use crate::redact::Stage;
use crate::refusal::{FHIR_JSON, Refusal};

impl Journey<'_> {
    /// The answer to a write: what was stored, if the writer may read it and wants it.
    pub(super) async fn written(
        &mut self,
        stage: &Stage<'_>,
        subject: &Subject,
        brought: &Brought<'_>,
        kind: ResourceType,
        instance: Option<&InstanceId>,
        answer: UpstreamAnswer,
    ) -> Result<Outcome, Refusal> {
        match answer.status {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => {}
            StatusCode::UNPROCESSABLE_ENTITY => return Err(Refusal::from(Reason::MalformedRequest)),
            _ => check_status(&answer)?,
        }
        if deletes(stage.permit.interaction()) {
            let mut answer = served::resource(self.journal.decision, Bytes::new());
            answer.status = StatusCode::NO_CONTENT;
            answer.headers.remove(CONTENT_TYPE);
            return Ok(Outcome::Disclosure(answer));
        }
        let status = if instance.is_none() { StatusCode::CREATED } else { StatusCode::OK };
        let stored = match stage.judge(&answer.body).await {
            Ok(judged) if judged.root().is_some_and(|facts| facts.kind == kind) => {
                let id = judged.root().and_then(|facts| facts.id.clone());
                stage.write(judged, |_, _| None).ok().zip(id)
            }
            Ok(_) | Err(_) => None,
        };
        // A record that was not written is no answer to the write of another.
        let stored = stored.filter(|(_, id)| instance.is_none_or(|instance| instance.id == *id));
        let named = instance.cloned().or_else(|| created(&answer, kind));
        let named = named.or_else(|| stored.as_ref().map(|(_, id)| InstanceId { kind, id: id.clone() }));
        let Some(named) = named else { return Err(Refusal::from(Reason::UpstreamUnintelligible)) };
        self.journal.names(&named);
        let tag = answer.etag.as_deref().and_then(version);
        let mut served = self.located(stage, status, &named, tag);
        if let Some((shown, _)) = stored.filter(|_| !brought.wants_minimal) {
            let within = self.admit_disclosure(subject, &shown.account, shown.body.len()).await;
            self.unless_observed(within)?;
            self.journal.account(shown.account);
            served.headers.insert(CONTENT_TYPE, FHIR_JSON);
            served.body = Bytes::from(shown.body);
        }
        Ok(Outcome::Disclosure(served))
    }

    /// An answer without a body that says where the record is.
    pub(super) fn located(
        &self,
        stage: &Stage<'_>,
        status: StatusCode,
        instance: &InstanceId,
        version: Option<LogicalId>,
    ) -> Answer {
        let mut answer = served::resource(self.journal.decision, Bytes::new());
        answer.status = status;
        answer.headers.remove(CONTENT_TYPE);
        let version = version.filter(|_| stage.permit.redaction() == Redaction::Marked);
        let mut location = format!("{}/{}", stage.endpoint.base_url, instance.relative());
        if let Some(version) = &version {
            location.push_str("/_history/");
            location.push_str(version.as_str());
            if let Ok(tag) = HeaderValue::from_str(&if_match(version)) {
                answer.headers.insert(ETAG, tag);
            }
        }
        if let Ok(location) = HeaderValue::from_str(&location) {
            answer.headers.insert(LOCATION, location);
        }
        answer
    }
}

/// The instance in the EHR's `Location`.
pub(super) fn created(answer: &UpstreamAnswer, kind: ResourceType) -> Option<InstanceId> {
    let location = answer.location.as_deref()?;
    let location = location.split_once("/_history/").map_or(location, |(before, _)| before);
    let mut segments = location.rsplit('/');
    let (id, named) = (segments.next()?, segments.next()?);
    (named == kind.as_str()).then_some(())?;
    Some(InstanceId { kind, id: id.parse().ok()? })
}
