//! The two images of a write: the record as the EHR has it, and the record as it would be. Both are judged (rule 12).

use bytes::Bytes;
use fhir_profiles::bundle::version;
use fhir_profiles::ids::{InstanceId, LogicalId, ResourceType};
use fhir_profiles::interaction::{Access, Interaction};
use fhir_profiles::json;
use fhir_profiles::patch::{Patch, PatchError};
use fhir_profiles::preserve::{self, Added, LabelError};
use fhirwall_policy::reason::Reason;
use http::{HeaderValue, Method};

use super::read::check_status;
use super::write::JudgedWrite;
use super::{Journey, failure};
use crate::forward::UpstreamRequest;
use crate::redact::Stage;
use crate::refusal::{FHIR_JSON, Refusal};

const JSON_PATCH: HeaderValue = HeaderValue::from_static("application/json-patch+json");

/// What a write does to a record that is there.
#[derive(Clone, Copy)]
pub(super) enum Change<'r> {
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

    const fn method(self) -> Method {
        match self {
            Self::Update(_) => Method::PUT,
            Self::Patch(_) => Method::PATCH,
            Self::Delete => Method::DELETE,
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
    /// A create: only what would be is judged.
    pub(super) async fn judge_create(
        &mut self,
        stage: &Stage<'_>,
        kind: ResourceType,
        body: &[u8],
    ) -> Result<JudgedWrite, Refusal> {
        let preserved = preserve::update(None, body).map_err(labels_refused)?;
        adds_no_label(preserved.adds)?;
        let body = preserved.body;
        let patients = self.judge_post(stage, body.as_bytes(), kind, None, Access::Create).await?;
        let body = Some((FHIR_JSON, Bytes::from(body)));
        Ok(JudgedWrite { method: Method::POST, kind, instance: None, version: None, body, patients })
    }

    /// A change of one record: both images are judged, and the version of the first is kept.
    pub(super) async fn judge_change(
        &mut self,
        stage: &Stage<'_>,
        instance: &InstanceId,
        change: Change<'_>,
        stated: Option<&LogicalId>,
    ) -> Result<JudgedWrite, Refusal> {
        let pre = self.pre_image(stage, instance, change.access()).await?;
        if stated.is_some_and(|stated| *stated != pre.version) {
            return Err(Refusal::from(Reason::VersionConflict));
        }
        let post = self.post_image(stage, instance, change, &pre).await?;
        let mut patients = pre.patients;
        patients.extend(post.patients);
        patients.sort();
        patients.dedup();
        Ok(JudgedWrite {
            method: change.method(),
            kind: instance.kind,
            instance: Some(instance.clone()),
            version: Some(pre.version),
            body: post.body,
            patients,
        })
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
        let own = judged.version().and_then(|version| version.parse().ok());
        let bases: Vec<&str> = stage.endpoint.facts.bases.iter().map(String::as_str).collect();
        let patients = judged.patients(&bases);
        let shown = image.write(judged, |_, _| None).map_err(|withheld| {
            let (refusal, account) = *withheld;
            self.journal.account(account);
            refusal
        })?;
        self.seen_whole(shown.account)?;
        // Without versions nothing can be judged and then written: another write may come between.
        let version = tag.or(own).ok_or(Reason::UnsupportedInteraction)?;
        Ok(PreImage { body: answer.body, version, patients })
    }

    async fn post_image(
        &mut self,
        stage: &Stage<'_>,
        instance: &InstanceId,
        change: Change<'_>,
        pre: &PreImage,
    ) -> Result<PostImage, Refusal> {
        match change {
            Change::Delete => Ok(PostImage { body: None, patients: Vec::new() }),
            Change::Update(body) => {
                let named = named(stage.permit.interaction(), body, &instance.id)?;
                let body = named.as_deref().unwrap_or(body);
                let preserved = preserve::update(Some(&pre.body), body).map_err(labels_refused)?;
                adds_no_label(preserved.adds)?;
                let kept = preserved.body;
                let patients =
                    self.judge_post(stage, kept.as_bytes(), instance.kind, Some(&instance.id), Access::Update).await?;
                Ok(PostImage { body: Some((FHIR_JSON, Bytes::from(kept))), patients })
            }
            Change::Patch(patch) => {
                let unreadable = || Refusal::from(Reason::UpstreamUnintelligible);
                let before = json::parse(&pre.body).map_err(|_| unreadable())?;
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
        &mut self,
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
            Ok(shown) => {
                if let Some(refusal) = shown.account.enforced.and_then(|enforced| enforced.refusal) {
                    self.journal.would_refuse(&post_refused(refusal));
                }
                Ok(patients)
            }
            Err(withheld) => Err(post_refused(withheld.0)),
        }
    }
}

/// Why what would be stored is refused, in terms of the request that brought it.
fn post_refused(refusal: Refusal) -> Refusal {
    let reason = if refusal.reason == Reason::OutsideCompartment {
        Reason::PatientMismatch
    } else if refusal.reason == Reason::OutsideGranularScope {
        Reason::InsufficientScope
    } else {
        Reason::PolicyForbids
    };
    Refusal { policies: refusal.policies, ..Refusal::from(reason) }
}

/// The body of a conditional update may leave the id to the condition (R4 http.html#cond-update).
fn named(interaction: &Interaction, body: &[u8], id: &LogicalId) -> Result<Option<Vec<u8>>, Refusal> {
    if !matches!(interaction, Interaction::ConditionalUpdate { .. }) {
        return Ok(None);
    }
    let members = json::members(body).map_err(|_| Refusal::from(Reason::MalformedRequest))?;
    if members.iter().any(|(name, _)| name == "id") {
        return Ok(None);
    }
    let id = format!("\"{}\"", id.as_str());
    let members = members.iter().map(|(name, text)| (name.as_str(), text.get()));
    Ok(Some(json::object(std::iter::once(("id", id.as_str())).chain(members)).into_bytes()))
}

pub(super) fn patch_refused(error: PatchError) -> Refusal {
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
