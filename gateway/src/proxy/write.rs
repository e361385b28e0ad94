//! Writes: judged on the record as it is and as it would be, recorded before the EHR is asked, and versioned.
//!
//! Rule 12: a write may not touch what its writer cannot see. Update, patch and delete carry `If-Match` of the very version
//! that was judged; a change in between is found by the EHR (412) and judged once more. Labels that are stored stay.

use bytes::Bytes;
use fhir_profiles::bundle::if_match;
use fhir_profiles::ids::{InstanceId, LogicalId, ResourceType};
use fhir_profiles::interaction::Interaction;
use fhir_profiles::patch::Patch;
use fhir_profiles::search::Query;
use fhirwall_policy::partner::Redaction;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::Subject;
use http::{HeaderValue, Method, StatusCode};

use super::brought::Brought;
use super::image::{Change, patch_refused};
use super::read::check_status;
use super::{Journey, Outcome, failure};
use crate::forward::{UpstreamAnswer, UpstreamRequest};
use crate::generation::Endpoint;
use crate::redact::Stage;
use crate::redact::rows::{Asked, Window};
use crate::refusal::Refusal;

/// A write that was judged on both images and may be sent as it is.
#[derive(Clone)]
pub(super) struct JudgedWrite {
    pub(super) method: Method,
    pub(super) kind: ResourceType,
    /// `None` for a create.
    pub(super) instance: Option<InstanceId>,
    /// The version that was judged.
    pub(super) version: Option<LogicalId>,
    pub(super) body: Option<(HeaderValue, Bytes)>,
    /// Whose records it touches, before and after.
    pub(super) patients: Vec<LogicalId>,
}

impl JudgedWrite {
    /// `Type/id`, or the type alone of what has no id yet.
    pub(super) fn named(&self) -> String {
        self.instance.as_ref().map_or_else(|| self.kind.to_string(), InstanceId::relative)
    }
}

/// What the judgement of a write came to.
pub(super) enum Planned {
    Write(JudgedWrite),
    /// The condition of a create names a record that is there already: nothing is to be written.
    There(InstanceId),
}

impl Journey<'_> {
    /// Carries out a permitted write.
    pub(super) async fn write(
        &mut self,
        stage: &Stage<'_>,
        subject: &Subject,
        brought: &Brought<'_>,
    ) -> Result<Outcome, Refusal> {
        let patch = patch_of(stage.permit.interaction(), brought)?;
        let mut judged_before = false;
        loop {
            let matched = self.matched(stage).await?;
            let write = match self.judge_write(stage, brought, patch.as_ref(), matched).await? {
                Planned::Write(write) => write,
                Planned::There(instance) => {
                    return Ok(Outcome::Disclosure(self.located(stage, StatusCode::OK, &instance, None)));
                }
            };
            let answer = self.send(stage, &write).await?;
            let conflict = matches!(answer.status, StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT);
            if conflict && write.version.is_some() && brought.if_match.is_none() && !judged_before {
                judged_before = true;
                continue;
            }
            return self.written(stage, subject, brought, write.kind, write.instance.as_ref(), answer).await;
        }
    }

    /// The record that a write is for: the one it names, or the one its condition finds among those that the writer may see.
    pub(super) async fn matched(&mut self, stage: &Stage<'_>) -> Result<Option<InstanceId>, Refusal> {
        let interaction = stage.permit.interaction();
        if !matches!(interaction, Interaction::Create { .. }) && stage.permit.redaction() == Redaction::Silent {
            // A silent partner could be told by a write that something is there (product.md section 4): known at load.
            return Err(Refusal::from(Reason::PolicyForbids));
        }
        let (Interaction::ConditionalCreate { kind, condition }
        | Interaction::ConditionalUpdate { kind, condition }
        | Interaction::ConditionalPatch { kind, condition }
        | Interaction::ConditionalDelete { kind, condition }) = interaction
        else {
            return Ok(interaction.instance());
        };
        let found = self.single_match(stage, *kind, condition).await?;
        let creates = matches!(interaction, Interaction::ConditionalCreate { .. });
        match found {
            // There is none, or none that may be seen: search, consents and create take as long as they may.
            None if creates => {
                self.journal.keep_quiet(3);
                Ok(None)
            }
            None => Err(Refusal::from(Reason::NotFound)),
            Some(_) => Ok(found),
        }
    }

    /// Judges a write on the record as it is and as it would be. Nothing is changed by it.
    pub(super) async fn judge_write(
        &mut self,
        stage: &Stage<'_>,
        brought: &Brought<'_>,
        patch: Option<&Patch>,
        matched: Option<InstanceId>,
    ) -> Result<Planned, Refusal> {
        let interaction = stage.permit.interaction();
        let change = match patch {
            Some(patch) => Change::Patch(patch),
            None if deletes(interaction) => Change::Delete,
            None => Change::Update(brought.body),
        };
        let write = match (interaction, matched) {
            (Interaction::ConditionalCreate { .. }, Some(instance)) => return Ok(Planned::There(instance)),
            (Interaction::Create { kind } | Interaction::ConditionalCreate { kind, .. }, _) => {
                self.judge_create(stage, *kind, brought.body).await?
            }
            (
                Interaction::Update { .. }
                | Interaction::Patch { .. }
                | Interaction::Delete { .. }
                | Interaction::ConditionalUpdate { .. }
                | Interaction::ConditionalPatch { .. }
                | Interaction::ConditionalDelete { .. },
                Some(instance),
            ) => self.judge_change(stage, &instance, change, brought.if_match.as_ref()).await?,
            // Bundles are carried out by their entries, exports go their own way, and what reads does not come here.
            (
                Interaction::Update { .. }
                | Interaction::Patch { .. }
                | Interaction::Delete { .. }
                | Interaction::ConditionalUpdate { .. }
                | Interaction::ConditionalPatch { .. }
                | Interaction::ConditionalDelete { .. }
                | Interaction::Batch { .. }
                | Interaction::Transaction { .. }
                | Interaction::Operation { .. }
                | Interaction::ExportStatus { .. }
                | Interaction::ExportDelete { .. }
                | Interaction::ExportFile { .. }
                | Interaction::Capabilities
                | Interaction::Read { .. }
                | Interaction::Vread { .. }
                | Interaction::HistoryInstance { .. }
                | Interaction::HistoryType { .. }
                | Interaction::HistorySystem { .. }
                | Interaction::SearchType { .. }
                | Interaction::SearchSystem { .. }
                | Interaction::SearchCompartment { .. }
                | Interaction::Page { .. },
                _,
            ) => return Err(Refusal::from(Reason::UnsupportedInteraction)),
        };
        Ok(Planned::Write(write))
    }

    /// Records the attempt, and asks the EHR for the change.
    async fn send(&self, stage: &Stage<'_>, write: &JudgedWrite) -> Result<UpstreamAnswer, Refusal> {
        let record = self.journal.attempt(std::slice::from_ref(write));
        self.record(record).await.map_err(|_| Refusal::from(Reason::AuditUnavailable))?;
        let upstream = UpstreamRequest {
            method: write.method.clone(),
            path: format!("/{}", write.named()),
            query: String::new(),
            if_match: write.version.as_ref().map(if_match),
            if_none_exist: None,
            body: write.body.clone(),
        };
        let answer = self.stage("forward", stage.endpoint.upstream.exchange(&upstream)).await;
        // Also when the answer is lost: the EHR may have carried it out.
        changed(stage.endpoint, write);
        answer.map_err(failure)
    }

    /// The one record that a condition names, among those that this caller may see.
    pub(super) async fn single_match(
        &mut self,
        stage: &Stage<'_>,
        kind: ResourceType,
        condition: &Query,
    ) -> Result<Option<InstanceId>, Refusal> {
        let upstream = UpstreamRequest::get(format!("/{kind}"), condition.upstream());
        let answer = self.stage("forward", stage.endpoint.upstream.exchange(&upstream)).await.map_err(failure)?;
        check_status(&answer)?;
        let judged = self.stage("redact", stage.judge(&answer.body)).await?;
        if !judged.is_searchset() {
            return Err(Refusal::from(Reason::UpstreamUnintelligible));
        }
        // As a search of its own: what was found by what is hidden in it is not found (ADR 69).
        let asked = Asked { kinds: Some(&[kind]), query: condition, criteria: true };
        let all = Window { skip: 0, want: usize::MAX, whole: false };
        let shown = stage.rows(judged, &asked, all, |_, _| None).map_err(|withheld| withheld.0)?;
        let prefix = format!("{kind}/");
        let mut found = shown.account.instances.iter().filter_map(|instance| instance.strip_prefix(prefix.as_str()));
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(id), None) => {
                let id = id.parse().map_err(|_| Refusal::from(Reason::UpstreamUnintelligible))?;
                Ok(Some(InstanceId { kind, id }))
            }
            (Some(_), Some(_)) => Err(Refusal::from(Reason::VersionConflict)),
        }
    }
}

/// The patch that a request brings, understood before the EHR is asked for anything.
fn patch_of(interaction: &Interaction, brought: &Brought<'_>) -> Result<Option<Patch>, Refusal> {
    let patches = matches!(interaction, Interaction::Patch { .. } | Interaction::ConditionalPatch { .. });
    patches.then(|| Patch::parse(brought.body)).transpose().map_err(patch_refused)
}

pub(super) const fn deletes(interaction: &Interaction) -> bool {
    matches!(interaction, Interaction::Delete { .. } | Interaction::ConditionalDelete { .. })
}

/// Caches that must not outlive a write: the labels of the record, and the consents of its patients.
pub(super) fn changed(endpoint: &Endpoint, write: &JudgedWrite) {
    if let Some(instance) = &write.instance {
        endpoint.resolver.changed(instance);
    }
    if write.kind == ResourceType::CONSENT {
        for patient in &write.patients {
            endpoint.consents.changed(patient);
        }
        if write.patients.is_empty() {
            endpoint.consents.changed_all();
        }
    }
}
