//! Writes: judged on the record as it is and as it would be, recorded before the EHR is asked, and versioned.
//!
//! Rule 12: a write may not touch what its writer cannot see. Update, patch and delete carry `If-Match` of the very version
//! that was judged; a change in between is found by the EHR (412) and judged once more. Labels that are stored stay.

use bytes::Bytes;
use fhir_profiles::bundle::{if_match, version};
use fhir_profiles::ids::{InstanceId, LogicalId, ResourceType};
use fhir_profiles::interaction::{Access, Interaction};
use fhir_profiles::patch::{Patch, PatchError};
use fhir_profiles::preserve::{self, Added, LabelError};
use fhir_profiles::search::Query;
use fhirwall_policy::partner::Redaction;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::Subject;
use http::header::{CONTENT_TYPE, ETAG, IF_MATCH, LOCATION};
use http::{HeaderValue, Method, StatusCode};

use super::{Journey, Outcome, check_status, failure, served};
use crate::forward::{UpstreamAnswer, UpstreamRequest};
use crate::listen::{Answer, Request};
use crate::redact::Stage;
use crate::refusal::{FHIR_JSON, Refusal};

const JSON_PATCH: HeaderValue = HeaderValue::from_static("application/json-patch+json");

/// What a write does to one record.
#[derive(Clone, Copy)]
enum Change<'r> {
    Update(&'r [u8]),
    Patch(&'r Patch),
    Delete,
}

impl Change<'_> {
    const fn access(self) -> Access {
        match self {
            Self::Update(_) | Self::Patch(_) => Access::Update,
            Self::Delete => Access::Delete,
        }
    }
}

/// The record as it is, judged and whole to this writer.
struct PreImage {
    body: Bytes,
    version: LogicalId,
    patients: Vec<LogicalId>,
}

/// What is to be sent, judged.
struct PostImage {
    body: Option<(HeaderValue, Bytes)>,
    patients: Vec<LogicalId>,
}

impl Journey<'_> {
    /// Carries out a permitted write.
    pub(super) async fn write(
        &mut self,
        stage: &Stage<'_>,
        subject: &Subject,
        request: &Request,
    ) -> Result<Outcome, Refusal> {
        let interaction = stage.permit.interaction().clone();
        if !matches!(interaction, Interaction::Create { .. }) && stage.permit.redaction() == Redaction::Silent {
            // A silent partner could be told by a write that something is there (product.md section 4): known at load.
            return Err(Refusal::from(Reason::PolicyForbids));
        }
        let patches = matches!(interaction, Interaction::Patch { .. } | Interaction::ConditionalPatch { .. });
        let patch = patches.then(|| Patch::parse(&request.body)).transpose().map_err(patch_refused)?;
        match &interaction {
            Interaction::Create { kind } => self.create(stage, subject, request, *kind).await,
            Interaction::Update { kind, id } | Interaction::Patch { kind, id } | Interaction::Delete { kind, id } => {
                let instance = InstanceId { kind: *kind, id: id.clone() };
                let change = change_of(&interaction, patch.as_ref(), request);
                self.change(stage, subject, request, &instance, change).await
            }
            Interaction::ConditionalCreate { kind, condition } => {
                match self.single_match(stage, *kind, condition).await? {
                    None => self.create(stage, subject, request, *kind).await,
                    Some(instance) => Ok(Outcome::Disclosure(self.located(stage, StatusCode::OK, &instance, None))),
                }
            }
            Interaction::ConditionalUpdate { kind, condition }
            | Interaction::ConditionalPatch { kind, condition }
            | Interaction::ConditionalDelete { kind, condition } => {
                let Some(instance) = self.single_match(stage, *kind, condition).await? else {
                    return Err(Refusal::from(Reason::NotFound));
                };
                let change = change_of(&interaction, patch.as_ref(), request);
                self.change(stage, subject, request, &instance, change).await
            }
            // Bundles and bulk exports are not carried out yet, and what reads does not come here.
            Interaction::Batch { .. }
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
            | Interaction::Page { .. } => Err(Refusal::from(Reason::UnsupportedInteraction)),
        }
    }

    async fn create(
        &mut self,
        stage: &Stage<'_>,
        subject: &Subject,
        request: &Request,
        kind: ResourceType,
    ) -> Result<Outcome, Refusal> {
        let preserved = preserve::update(None, &request.body).map_err(labels_refused)?;
        adds_no_label(preserved.adds)?;
        let body = preserved.body;
        let patients = self.judge_post(stage, body.as_bytes(), kind, None, Access::Create).await?;
        let record = self.journal.attempt(None, &patients);
        self.record(record).await.map_err(|_| Refusal::from(Reason::AuditUnavailable))?;
        let upstream = UpstreamRequest {
            method: Method::POST,
            path: format!("/{kind}"),
            query: String::new(),
            if_match: None,
            if_none_exist: None,
            body: Some((FHIR_JSON, Bytes::from(body))),
        };
        let answer = self.stage("forward", stage.endpoint.upstream.exchange(&upstream)).await;
        changed(stage, kind, None, &patients);
        let answer = answer.map_err(failure)?;
        self.written(stage, subject, request, kind, None, answer).await
    }

    /// Update, patch or delete of one record: judged, recorded, sent with the version that was judged.
    async fn change(
        &mut self,
        stage: &Stage<'_>,
        subject: &Subject,
        request: &Request,
        instance: &InstanceId,
        change: Change<'_>,
    ) -> Result<Outcome, Refusal> {
        let stated = stated_version(request)?;
        let mut judged_before = false;
        loop {
            let pre = self.pre_image(stage, instance, change.access()).await?;
            if stated.as_ref().is_some_and(|stated| *stated != pre.version) {
                return Err(Refusal::from(Reason::VersionConflict));
            }
            let post = self.post_image(stage, instance, change, &pre).await?;
            let mut patients = pre.patients.clone();
            patients.extend(post.patients.iter().cloned());
            patients.sort();
            patients.dedup();
            let record = self.journal.attempt(Some(instance), &patients);
            self.record(record).await.map_err(|_| Refusal::from(Reason::AuditUnavailable))?;
            let upstream = UpstreamRequest {
                method: match change {
                    Change::Update(_) => Method::PUT,
                    Change::Patch(_) => Method::PATCH,
                    Change::Delete => Method::DELETE,
                },
                path: format!("/{}", instance.relative()),
                query: String::new(),
                if_match: Some(if_match(&pre.version)),
                if_none_exist: None,
                body: post.body,
            };
            let answer = self.stage("forward", stage.endpoint.upstream.exchange(&upstream)).await;
            // Also when the answer is lost: the EHR may have carried it out.
            changed(stage, instance.kind, Some(instance), &patients);
            let answer = answer.map_err(failure)?;
            let conflict = matches!(answer.status, StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT);
            if conflict && stated.is_none() && !judged_before {
                judged_before = true;
                continue;
            }
            return self.written(stage, subject, request, instance.kind, Some(instance), answer).await;
        }
    }

    /// The record as the EHR has it, if this writer may see all of it and touch it.
    async fn pre_image(
        &mut self,
        stage: &Stage<'_>,
        instance: &InstanceId,
        access: Access,
    ) -> Result<PreImage, Refusal> {
        let upstream = UpstreamRequest::get(format!("/{}", instance.relative()), "");
        let answer = self.stage("forward", stage.endpoint.upstream.exchange(&upstream)).await.map_err(failure)?;
        check_status(&answer)?;
        let image = Stage { write: Some(access), ..*stage };
        let judged = self.stage("redact", image.judge(&answer.body)).await?;
        let facts = judged.root().ok_or(Reason::UpstreamUnintelligible)?;
        if facts.kind != instance.kind || facts.id.as_ref() != Some(&instance.id) {
            return Err(Refusal::from(Reason::UpstreamUnintelligible));
        }
        let tag = answer.etag.as_deref().and_then(version);
        let own = facts.version.as_deref().and_then(|version| version.parse().ok());
        let bases: Vec<&str> = stage.endpoint.facts.bases.iter().map(String::as_str).collect();
        let patients = judged.patients(&bases);
        let shown = image.write(judged, |_, _| None).map_err(|withheld| {
            let (refusal, account) = *withheld;
            self.journal.account(account);
            refusal
        })?;
        if shown.account.reduced {
            self.journal.account(shown.account);
            return Err(Refusal::from(Reason::LabelWithheld));
        }
        // Without versions nothing can be judged and then written: another write may come between.
        let version = tag.or(own).ok_or(Reason::UnsupportedInteraction)?;
        Ok(PreImage { body: answer.body, version, patients })
    }

    async fn post_image(
        &self,
        stage: &Stage<'_>,
        instance: &InstanceId,
        change: Change<'_>,
        pre: &PreImage,
    ) -> Result<PostImage, Refusal> {
        match change {
            Change::Delete => Ok(PostImage { body: None, patients: Vec::new() }),
            Change::Update(body) => {
                let preserved = preserve::update(Some(&pre.body), body).map_err(labels_refused)?;
                adds_no_label(preserved.adds)?;
                let kept = preserved.body;
                let patients =
                    self.judge_post(stage, kept.as_bytes(), instance.kind, Some(&instance.id), Access::Update).await?;
                Ok(PostImage { body: Some((FHIR_JSON, Bytes::from(kept))), patients })
            }
            Change::Patch(patch) => {
                let unreadable = || Refusal::from(Reason::UpstreamUnintelligible);
                let before = fhir_profiles::json::parse(&pre.body).map_err(|_| unreadable())?;
                let after = patch.apply(&before).map_err(patch_refused)?;
                adds_no_label(preserve::patch(&before, &after).map_err(labels_refused)?)?;
                let image = serde_json::to_vec(&after).map_err(|_| unreadable())?;
                let patients =
                    self.judge_post(stage, &image, instance.kind, Some(&instance.id), Access::Update).await?;
                let body = Bytes::from(patch.canonical().to_owned().into_bytes());
                Ok(PostImage { body: Some((JSON_PATCH, body)), patients })
            }
        }
    }

    /// Judges what would be stored. It came with the request, so that a refusal of it is told as such.
    async fn judge_post(
        &self,
        stage: &Stage<'_>,
        body: &[u8],
        kind: ResourceType,
        id: Option<&LogicalId>,
        access: Access,
    ) -> Result<Vec<LogicalId>, Refusal> {
        let image = Stage { write: Some(access), ..*stage };
        let malformed = |refusal: Refusal| {
            let unread = refusal.reason == Reason::UpstreamUnintelligible;
            if unread { Refusal::from(Reason::MalformedRequest) } else { refusal }
        };
        let judged = image.judge(body).await.map_err(malformed)?;
        let facts = judged.root().ok_or(Reason::MalformedRequest)?;
        let id_fits = id.is_none_or(|id| facts.id.as_ref() == Some(id));
        if facts.kind != kind || !id_fits {
            return Err(Refusal::from(Reason::MalformedRequest));
        }
        let bases: Vec<&str> = stage.endpoint.facts.bases.iter().map(String::as_str).collect();
        let patients = judged.patients(&bases);
        match image.write(judged, |_, _| None) {
            Ok(_) => Ok(patients),
            Err(withheld) => {
                let (refusal, _) = *withheld;
                let reason = if refusal.reason == Reason::OutsideCompartment {
                    Reason::PatientMismatch
                } else if refusal.reason == Reason::OutsideGranularScope {
                    Reason::InsufficientScope
                } else {
                    Reason::PolicyForbids
                };
                Err(Refusal { policies: refusal.policies, ..Refusal::from(reason) })
            }
        }
    }

    /// The one record that a condition names, among those that this caller may see.
    async fn single_match(
        &mut self,
        stage: &Stage<'_>,
        kind: ResourceType,
        condition: &Query,
    ) -> Result<Option<InstanceId>, Refusal> {
        let upstream = UpstreamRequest::get(format!("/{kind}"), condition.upstream());
        let answer = self.stage("forward", stage.endpoint.upstream.exchange(&upstream)).await.map_err(failure)?;
        check_status(&answer)?;
        let judged = self.stage("redact", stage.judge(&answer.body)).await?;
        let shown = stage.write(judged, |_, _| None).map_err(|withheld| withheld.0)?;
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

    /// The answer to a write: what was stored, if the writer may read it and wants it.
    async fn written(
        &mut self,
        stage: &Stage<'_>,
        subject: &Subject,
        request: &Request,
        kind: ResourceType,
        instance: Option<&InstanceId>,
        answer: UpstreamAnswer,
    ) -> Result<Outcome, Refusal> {
        match answer.status {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => {}
            StatusCode::UNPROCESSABLE_ENTITY => return Err(Refusal::from(Reason::MalformedRequest)),
            _ => check_status(&answer)?,
        }
        let deleted =
            matches!(stage.permit.interaction(), Interaction::Delete { .. } | Interaction::ConditionalDelete { .. });
        if deleted {
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
        let named = instance.cloned().or_else(|| created(&answer, kind));
        let named = named.or_else(|| stored.as_ref().map(|(_, id)| InstanceId { kind, id: id.clone() }));
        let Some(named) = named else { return Err(Refusal::from(Reason::UpstreamUnintelligible)) };
        let tag = answer.etag.as_deref().and_then(version);
        let mut served = self.located(stage, status, &named, tag);
        if let Some((shown, _)) = stored.filter(|_| !wants_minimal(request)) {
            self.admit_disclosure(subject, &shown.account, shown.body.len()).await?;
            self.journal.account(shown.account);
            served.headers.insert(CONTENT_TYPE, FHIR_JSON);
            served.body = Bytes::from(shown.body);
        }
        Ok(Outcome::Disclosure(served))
    }

    /// An answer without a body that says where the record is.
    fn located(
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

fn change_of<'r>(interaction: &Interaction, patch: Option<&'r Patch>, request: &'r Request) -> Change<'r> {
    match patch {
        Some(patch) => Change::Patch(patch),
        None if matches!(interaction, Interaction::Delete { .. } | Interaction::ConditionalDelete { .. }) => {
            Change::Delete
        }
        None => Change::Update(&request.body),
    }
}

/// Caches that must not outlive a write: the labels of the record, and the consents of its patients.
fn changed(stage: &Stage<'_>, kind: ResourceType, instance: Option<&InstanceId>, patients: &[LogicalId]) {
    if let Some(instance) = instance {
        stage.endpoint.resolver.changed(instance);
    }
    if kind == ResourceType::CONSENT {
        for patient in patients {
            stage.endpoint.consents.changed(patient);
        }
        if patients.is_empty() {
            stage.endpoint.consents.changed_all();
        }
    }
}

/// The version in the client's `If-Match`, where it sent one.
fn stated_version(request: &Request) -> Result<Option<LogicalId>, Refusal> {
    match request.headers.get(IF_MATCH) {
        None => Ok(None),
        Some(value) => {
            let stated = value.to_str().ok().and_then(version);
            stated.map(Some).ok_or_else(|| Refusal::from(Reason::MalformedRequest))
        }
    }
}

/// `Prefer: return=minimal` (R4 http.html#ops).
fn wants_minimal(request: &Request) -> bool {
    request
        .headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .any(|preference| preference.trim().eq_ignore_ascii_case("return=minimal"))
}

/// The instance in the EHR's `Location`.
fn created(answer: &UpstreamAnswer, kind: ResourceType) -> Option<InstanceId> {
    let location = answer.location.as_deref()?;
    let location = location.split_once("/_history/").map_or(location, |(before, _)| before);
    let mut segments = location.rsplit('/');
    let (id, named) = (segments.next()?, segments.next()?);
    (named == kind.as_str()).then_some(())?;
    Some(InstanceId { kind, id: id.parse().ok()? })
}

fn patch_refused(error: PatchError) -> Refusal {
    Refusal::from(match error {
        PatchError::Malformed | PatchError::DoesNotApply => Reason::MalformedRequest,
        PatchError::NotAllowed => Reason::OperationNotAllowed,
    })
}

/// Labels and tags are given by those who classify: a writer that adds one could hide a record from its readers (attack
/// case 19). A profile is the writer's own claim about its resource, and is its own.
fn adds_no_label(added: Added) -> Result<(), Refusal> {
    if added.labels || added.tags { Err(Refusal::from(Reason::PolicyForbids)) } else { Ok(()) }
}

fn labels_refused(error: LabelError) -> Refusal {
    Refusal::from(match error {
        LabelError::Unreadable => Reason::MalformedRequest,
        LabelError::Lowered => Reason::LabelWouldBeLowered,
    })
}
