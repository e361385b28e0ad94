//! Bulk exports (Bulk Data Access 2.0): kick-off, status, manifest, files, deletion.
//!
//! For backend services alone, and for nobody's job but the caller's own: a job goes by a sealed name, and every request
//! under it is decided anew as the kick-off that it came from (attack case 23). The EHR's URLs are never shown, its counts,
//! deletions and errors neither: they would tell of what is withheld. Files are judged line by line on their way.

mod windows;

use bytes::Bytes;
use fhir_profiles::ids::{InstanceId, ResourceType};
use fhir_profiles::interaction::{Interaction, RequestParts, interpret};
use fhir_profiles::json;
use fhir_profiles::operation::{Operation, Target};
use fhirwall_policy::permit::Permit;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::Subject;
use http::header::{CONTENT_LOCATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::Value;

use super::brought::Brought;
use super::page::client_target;
use super::read::check_status;
use super::{Journey, Outcome, Visit, failure, served};
use crate::forward::{JobStatus, UpstreamRequest};
use crate::generation::Endpoint;
use crate::identify::partners::{ClientType, Partners as _};
use crate::jobs::{File, Job};
use crate::listen::Answer;
use crate::redact::Stage;
use crate::refusal::Refusal;
use windows::Windows;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NDJSON: HeaderValue = HeaderValue::from_static("application/fhir+ndjson");
/// For clients that poll a job whose EHR does not say when to come back.
const COME_BACK: u64 = 10;

/// What a request about an export is for.
pub(super) enum Export {
    KickOff,
    Status(Job),
    End(Job),
    File(File),
}

impl Journey<'_> {
    /// Opens the sealed name of a job or of a file: the kick-off it came from, and what is wanted of it now. Other
    /// interactions pass.
    pub(super) fn open_export(
        &self,
        endpoint: &Endpoint,
        subject: &Subject,
        interaction: Interaction,
    ) -> Result<(Interaction, Option<Export>), Refusal> {
        let missing = || Refusal::from(Reason::NotFound);
        let (sealer, name) = (&self.generation.sealer, endpoint.facts.name.as_str());
        let job = |token: &str| Job::open(sealer, token, subject, name, self.now).map_err(|_| missing());
        let export = if let Interaction::ExportStatus { token } = &interaction {
            Export::Status(job(token.reveal())?)
        } else if let Interaction::ExportDelete { token } = &interaction {
            Export::End(job(token.reveal())?)
        } else if let Interaction::ExportFile { token, .. } = &interaction {
            Export::File(File::open(sealer, token.reveal(), subject, name, self.now).map_err(|_| missing())?)
        } else if let Interaction::Operation { operation: Operation::Export, .. } = &interaction {
            return Ok((interaction, Some(Export::KickOff)));
        } else {
            return Ok((interaction, None));
        };
        let job = match &export {
            Export::Status(job) | Export::End(job) | Export::File(File { job, .. }) => job,
            Export::KickOff => return Err(missing()),
        };
        let parts = RequestParts {
            method: "GET",
            path: &job.path,
            query: (!job.query.is_empty()).then_some(job.query.as_str()),
            base: &endpoint.base_url,
            ..RequestParts::default()
        };
        let kick_off = interpret(&parts).map_err(|_| missing())?;
        Ok((kick_off, Some(export)))
    }

    /// Decides on the kick-off, and does what is wanted of it.
    pub(super) async fn export(
        &mut self,
        visit: &Visit<'_>,
        kick_off: &Interaction,
        export: Export,
        brought: &Brought<'_>,
    ) -> Result<Outcome, Refusal> {
        self.may_export(visit.subject)?;
        let permit = self.decide(visit, kick_off)?;
        match export {
            Export::KickOff => self.kick_off(visit, kick_off, &permit, brought).await,
            Export::Status(job) => self.status(visit, kick_off, &job).await,
            Export::End(job) => self.end_job(visit, &job).await,
            Export::File(file) => self.file(visit, permit, &file).await,
        }
    }

    /// A backend service, in nobody's name (Bulk Data 2.0: SMART Backend Services).
    fn may_export(&self, subject: &Subject) -> Result<(), Refusal> {
        let partner = self.generation.config.partners.by_client_id(&subject.partner.client_id);
        let service = partner.is_some_and(|partner| partner.kind == ClientType::BackendService);
        if service && subject.fhir_user.is_none() && subject.patient.is_none() {
            Ok(())
        } else {
            Err(Refusal::from(Reason::OperationNotAllowed))
        }
    }

    async fn kick_off(
        &mut self,
        visit: &Visit<'_>,
        kick_off: &Interaction,
        permit: &Permit,
        brought: &Brought<'_>,
    ) -> Result<Outcome, Refusal> {
        let Visit { endpoint, subject, .. } = visit;
        if !brought.responds_async {
            return Err(Refusal::from(Reason::MalformedRequest));
        }
        let upstream = permit.interaction().upstream().ok_or(Reason::UnsupportedInteraction)?;
        if let Interaction::Operation { target: Target::Instance(group), .. } = kick_off {
            self.may_read(&self.stage_of(visit, permit), group).await?;
        }
        self.shared.admission.bulk_job(subject).await.map_err(|throttled| self.throttled(throttled))?;
        self.record(self.journal.attempt(&[])).await.map_err(|_| Refusal::from(Reason::AuditUnavailable))?;
        let upstream = UpstreamRequest::get(upstream.path, upstream.query);
        let url = self.stage("forward", endpoint.upstream.kick_off(&upstream)).await.map_err(failure)?;
        let asked = client_target(kick_off).ok_or(Reason::UnsupportedInteraction)?;
        let job = Job::new(subject, &endpoint.facts.name, asked, url, self.now);
        let token = job.seal(&self.generation.sealer).map_err(|_| Refusal::from(Reason::StateUnavailable))?;
        let mut answer = self.accepted();
        if let Ok(location) = HeaderValue::from_str(&format!("{}/_export/{token}", endpoint.base_url)) {
            answer.headers.insert(CONTENT_LOCATION, location);
        }
        Ok(Outcome::Disclosure(answer))
    }

    /// Whose members are exported must be a group that the caller may read (Bulk Data 2.0, security considerations).
    async fn may_read(&mut self, stage: &Stage<'_>, group: &InstanceId) -> Result<(), Refusal> {
        let upstream = UpstreamRequest::get(format!("/{}", group.relative()), "");
        let answer = self.stage("forward", stage.endpoint.upstream.exchange(&upstream)).await.map_err(failure)?;
        check_status(&answer)?;
        let judged = self.stage("redact", stage.judge(&answer.body)).await?;
        stage.write(judged, |_, _| None).map(|_| ()).map_err(|withheld| {
            let (refusal, account) = *withheld;
            self.journal.account(account);
            refusal
        })
    }

    async fn status(&mut self, visit: &Visit<'_>, kick_off: &Interaction, job: &Job) -> Result<Outcome, Refusal> {
        let status = self.stage("forward", visit.endpoint.upstream.job(&job.url)).await.map_err(failure)?;
        match status {
            JobStatus::Gone => Err(Refusal::from(Reason::NotFound)),
            JobStatus::Running { retry_after } => {
                let mut answer = self.accepted();
                let wait = retry_after.map_or(COME_BACK, |wait| wait.as_secs());
                answer.headers.insert(RETRY_AFTER, HeaderValue::from(wait.max(1)));
                Ok(Outcome::Disclosure(answer))
            }
            JobStatus::Complete(manifest) => {
                let manifest = self.manifest(visit.endpoint, kick_off, job, &manifest)?;
                let mut answer = served::resource(self.journal.decision, Bytes::from(manifest.to_string()));
                answer.headers.insert(CONTENT_TYPE, JSON);
                Ok(Outcome::Disclosure(answer))
            }
        }
    }

    /// The client's manifest: its own request, the files of the types it asked for, each by a sealed name. No counts, since
    /// they are those of the EHR; no files of deletions and errors, since their lines name what may be withheld.
    fn manifest(
        &self,
        endpoint: &Endpoint,
        kick_off: &Interaction,
        job: &Job,
        manifest: &[u8],
    ) -> Result<Value, Refusal> {
        let unread = || Refusal::from(Reason::UpstreamUnintelligible);
        let manifest = json::parse(manifest).map_err(|_| unread())?;
        let time = manifest.get("transactionTime").and_then(Value::as_str).filter(|time| is_instant(time));
        let asked = kick_off.query().and_then(|query| query.value("_type"));
        let mut output = Vec::new();
        let files = manifest.get("output").and_then(Value::as_array).ok_or_else(unread)?;
        for (number, file) in files.iter().enumerate() {
            let text = |name: &str| file.get(name).and_then(Value::as_str);
            let kind: ResourceType = text("type").and_then(|kind| kind.parse().ok()).ok_or_else(unread)?;
            let url = text("url").filter(|url| endpoint.upstream.is_own(url)).ok_or_else(unread)?;
            if asked.is_some_and(|asked| asked.split(',').all(|asked| asked != kind.as_str())) {
                continue;
            }
            let file = File { job: job.clone(), kind: kind.to_string(), url: url.to_owned() };
            let token = file.seal(&self.generation.sealer).map_err(|_| Refusal::from(Reason::StateUnavailable))?;
            output.push(serde_json::json!({
                "type": kind.as_str(),
                "url": format!("{}/_export/{token}/{number}", endpoint.base_url),
            }));
        }
        let query = if job.query.is_empty() { String::new() } else { format!("?{}", job.query) };
        Ok(serde_json::json!({
            "transactionTime": time.ok_or_else(unread)?,
            "request": format!("{}{}{query}", endpoint.base_url, job.path),
            "requiresAccessToken": true,
            "output": output,
            "error": [],
        }))
    }

    async fn end_job(&mut self, visit: &Visit<'_>, job: &Job) -> Result<Outcome, Refusal> {
        self.record(self.journal.attempt(&[])).await.map_err(|_| Refusal::from(Reason::AuditUnavailable))?;
        let ended = self.stage("forward", visit.endpoint.upstream.end_job(&job.url)).await.map_err(failure)?;
        if ended { Ok(Outcome::Disclosure(self.accepted())) } else { Err(Refusal::from(Reason::NotFound)) }
    }

    /// A file, judged window by window. The first window is judged and recorded before anything is answered.
    async fn file(&mut self, visit: &Visit<'_>, permit: Permit, file: &File) -> Result<Outcome, Refusal> {
        let kind = file.kind.parse().map_err(|_| Refusal::from(Reason::NotFound))?;
        let room = Windows::room(self).await?;
        let body = self.stage("forward", visit.endpoint.upstream.file(&file.url)).await.map_err(failure)?;
        let body = body.ok_or_else(|| Refusal::from(Reason::NotFound))?;
        let mut windows = Windows::of(self, visit, permit, kind, body, room).ok_or(Reason::NotFound)?;
        let first = windows.piece().await?;
        let mut answer = served::resource(self.journal.decision, Bytes::new());
        answer.headers.insert(CONTENT_TYPE, NDJSON);
        let Some(first) = first else {
            // Nothing of it may be seen, or there is nothing in it: which of the two is not told.
            self.journal = windows.journal();
            return Ok(Outcome::Disclosure(answer));
        };
        answer.body = first;
        answer.ending = Some(windows.ending());
        answer.rest = Some(Box::new(windows));
        Ok(Outcome::Recorded(answer))
    }

    fn accepted(&self) -> Answer {
        let mut answer = served::resource(self.journal.decision, Bytes::new());
        answer.status = StatusCode::ACCEPTED;
        answer.headers.remove(CONTENT_TYPE);
        answer
    }
}

/// As R4 writes instants; nothing else is handed on.
fn is_instant(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'.' | b'+' | b'T' | b'Z');
    (20..=40).contains(&text.len()) && text.bytes().all(legal)
}
