//! A transaction: all of it or nothing (R4 http.html#trules).
//!
//! Every entry is decided before the EHR is asked for anything, and judged before it is asked to change anything: records as
//! they are and as they would be, conditions and conditional references as searches among what the caller may see. Then one
//! Bundle is sent, each change with the version that was judged. What comes back is judged entry by entry, as the answer to
//! a lone request, and reads are carried out last. A refusal of any entry is the refusal of the whole, and does not say which.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use fhir_profiles::bundle::{self, Entry, if_match, resolved};
use fhir_profiles::ids::InstanceId;
use fhir_profiles::interaction::Interaction;
use fhir_profiles::json;
use fhirwall_policy::permit::Permit;
use fhirwall_policy::reason::Reason;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::batch::{entry_of, response};
use super::brought::Brought;
use super::write::{JudgedWrite, Planned, changed};
use super::written::created;
use super::{Journey, Outcome, Visit, failure, served};
use crate::forward::{UpstreamAnswer, UpstreamRequest};
use crate::refusal::{FHIR_JSON, Refusal};

/// An entry that may be asked for, with the searches that stand in it.
struct Permitted<'e> {
    entry: &'e Entry,
    asked: &'e Interaction,
    permit: Permit,
    searches: Vec<(&'e str, Permit)>,
}

/// What is to be done for an entry.
enum Step {
    Write(JudgedWrite),
    /// Read before anything is changed, to be judged, and again when all is changed, to be shown.
    Read,
    /// A conditional create of what is there already: nothing is asked of the EHR.
    There(InstanceId),
}

#[derive(Deserialize)]
struct ResponseBundle<'a> {
    #[serde(rename = "resourceType")]
    resource_type: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    entry: Vec<ResponseEntry<'a>>,
}

#[derive(Deserialize)]
struct ResponseEntry<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    response: Option<Responded>,
}

#[derive(Deserialize)]
struct Responded {
    status: String,
    location: Option<String>,
    etag: Option<String>,
}

impl Journey<'_> {
    /// Carries out a transaction.
    pub(super) async fn transaction(
        &mut self,
        visit: &Visit<'_>,
        entries: &[Entry],
        brought: &Brought<'_>,
    ) -> Result<Outcome, Refusal> {
        let mut permitted = Vec::with_capacity(entries.len());
        for entry in entries {
            permitted.push(self.permitted(visit, entry)?);
        }
        let _room = self.room().await?;
        let changes = permitted.iter().any(|one| one.asked.changes());
        if changes && !visit.endpoint.offers.transactions().await.map_err(failure)? {
            return Err(Refusal::from(Reason::UnsupportedInteraction));
        }
        let mut judged_before = false;
        loop {
            let steps = match self.plan(visit, &permitted, brought).await {
                Ok(steps) => steps,
                Err(refusal) => {
                    if refusal.reason.depends_on_stored_data() {
                        // However many entries were judged before and after the one that is refused.
                        let rounds =
                            permitted.iter().map(|entry| entry.searches.len().saturating_add(1)).sum::<usize>();
                        self.release_on_schedule(u32::try_from(rounds).unwrap_or(u32::MAX)).await;
                    }
                    return Err(refusal);
                }
            };
            let answer = self.send_all(visit, &permitted, &steps).await?;
            let conflict = matches!(answer.status, StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT);
            let stated = entries.iter().any(|entry| entry.if_match.is_some());
            if conflict && !stated && !judged_before {
                judged_before = true;
                continue;
            }
            return self.answered(visit, &permitted, steps, &answer, brought).await;
        }
    }

    /// Decides on one entry, and on the searches that stand in it: from the request alone.
    fn permitted<'e>(&mut self, visit: &Visit<'_>, entry: &'e Entry) -> Result<Permitted<'e>, Refusal> {
        let asked = entry.request.as_ref().map_err(|error| Refusal::from(crate::interpret::reason(*error)))?;
        let permit = self.decide(visit, asked)?;
        let mut searches = Vec::with_capacity(entry.searches.len());
        for reference in &entry.searches {
            searches.push((&*reference.text, self.decide(visit, &reference.search)?));
        }
        Ok(Permitted { entry, asked, permit, searches })
    }

    /// Judges every entry, and only then says whether one of them is refused.
    async fn plan(
        &mut self,
        visit: &Visit<'_>,
        permitted: &[Permitted<'_>],
        bundle: &Brought<'_>,
    ) -> Result<Vec<Step>, Refusal> {
        let mut refusals = Vec::new();
        let mut known: HashMap<&str, String> = HashMap::new();
        let mut matches = Vec::with_capacity(permitted.len());
        for one in permitted {
            for (text, permit) in &one.searches {
                match self.referred(visit, permit).await {
                    Ok(instance) => drop(known.insert(text, instance.relative())),
                    Err(refusal) => refusals.push(refusal),
                }
            }
            let matched = if one.asked.changes() {
                self.matched(&self.stage_of(visit, &one.permit)).await
            } else {
                Ok(one.asked.instance())
            };
            let matched = matched.unwrap_or_else(|refusal| {
                refusals.push(refusal);
                None
            });
            if let (Some(name), Some(instance)) = (one.entry.full_url.as_deref(), &matched) {
                known.insert(name, instance.relative());
            }
            matches.push(matched);
        }
        first_to_tell(refusals)?;
        let mut refusals = Vec::new();
        let mut steps = Vec::with_capacity(permitted.len());
        for (one, matched) in permitted.iter().zip(matches) {
            match self.step(visit, one, matched, &known, bundle).await {
                Ok(step) => steps.push(step),
                Err(refusal) => refusals.push(refusal),
            }
        }
        first_to_tell(refusals)?;
        let mut written = BTreeSet::new();
        // R4 http.html#trules: a condition may lead to a record that another entry writes.
        if steps.iter().filter_map(Step::instance).all(|instance| written.insert(instance)) {
            Ok(steps)
        } else {
            Err(Refusal::from(Reason::MalformedRequest))
        }
    }

    /// The one record that a conditional reference finds.
    async fn referred(&mut self, visit: &Visit<'_>, permit: &Permit) -> Result<InstanceId, Refusal> {
        let Interaction::SearchType { kind, query } = permit.interaction() else {
            return Err(Refusal::from(Reason::UnsupportedInteraction));
        };
        let found = self.single_match(&self.stage_of(visit, permit), *kind, query).await?;
        found.ok_or_else(|| Refusal::from(Reason::NotFound))
    }

    async fn step(
        &mut self,
        visit: &Visit<'_>,
        one: &Permitted<'_>,
        matched: Option<InstanceId>,
        known: &HashMap<&str, String>,
        bundle: &Brought<'_>,
    ) -> Result<Step, Refusal> {
        let stage = self.stage_of(visit, &one.permit);
        let brought = Brought::with_entry(one.entry, bundle);
        if !one.asked.changes() {
            // What may not be read alone refuses the whole, before anything is changed.
            let mut journey = self.of_entry();
            return journey.read(&stage, visit.subject, one.asked, None, &brought).await.map(|_| Step::Read);
        }
        let resource =
            one.entry.resource.as_deref().map(|resource| resolved(resource, &|name| known.get(name).cloned()));
        let resource = resource.transpose().map_err(|_| Refusal::from(Reason::MalformedRequest))?;
        let brought = Brought { body: resource.as_deref().unwrap_or_default().as_bytes(), ..brought };
        match self.judge_write(&stage, &brought, None, matched).await? {
            Planned::Write(write) => Ok(Step::Write(write)),
            Planned::There(instance) => Ok(Step::There(instance)),
        }
    }

    /// Records the attempt, and sends what is to be sent as one Bundle.
    async fn send_all(
        &self,
        visit: &Visit<'_>,
        permitted: &[Permitted<'_>],
        steps: &[Step],
    ) -> Result<UpstreamAnswer, Refusal> {
        let sent: Vec<Entry> = permitted.iter().zip(steps).filter_map(|(one, step)| step.entry(one)).collect();
        let body = bundle::write(&sent).ok_or(Reason::UnsupportedInteraction)?;
        let writes: Vec<JudgedWrite> = steps.iter().filter_map(Step::write).cloned().collect();
        if !writes.is_empty() {
            let record = self.journal.attempt(&writes);
            self.record(record).await.map_err(|_| Refusal::from(Reason::AuditUnavailable))?;
        }
        if sent.is_empty() {
            return Ok(UpstreamAnswer {
                status: StatusCode::OK,
                body: response("transaction-response", &[]),
                etag: None,
                last_modified: None,
                location: None,
                room: None,
            });
        }
        let upstream = UpstreamRequest {
            method: Method::POST,
            path: String::new(),
            query: String::new(),
            if_match: None,
            if_none_exist: None,
            body: Some((FHIR_JSON, Bytes::from(body))),
        };
        let answer = self.stage("forward", visit.endpoint.upstream.exchange(&upstream)).await;
        writes.iter().for_each(|write| changed(visit.endpoint, write));
        answer.map_err(failure)
    }

    /// What the caller may see of the EHR's answer: of each entry, what it would see of the answer to a lone request.
    async fn answered(
        &mut self,
        visit: &Visit<'_>,
        permitted: &[Permitted<'_>],
        steps: Vec<Step>,
        answer: &UpstreamAnswer,
        bundle: &Brought<'_>,
    ) -> Result<Outcome, Refusal> {
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNPROCESSABLE_ENTITY => return Err(Refusal::from(Reason::MalformedRequest)),
            _ => super::read::check_status(answer)?,
        }
        let sent = steps.iter().filter_map(Step::write).count();
        let mut answers = answers(&answer.body, sent)?.into_iter();
        let (mut entries, mut instances) = (Vec::with_capacity(steps.len()), Vec::new());
        for (one, step) in permitted.iter().zip(&steps) {
            let mut journey = self.of_entry();
            journey.journal.interaction(one.asked);
            journey.keep_permit(&one.permit);
            let stage = self.stage_of(visit, &one.permit);
            let brought = Brought::with_entry(one.entry, bundle);
            let outcome = match step {
                Step::There(instance) => {
                    Ok(Outcome::Disclosure(journey.located(&stage, StatusCode::OK, instance, None)))
                }
                // R4 http.html#trules: reads come last.
                Step::Read => journey.read(&stage, visit.subject, one.asked, None, &brought).await,
                Step::Write(write) => match answers.next() {
                    Some(own) => {
                        let new = created(&own, write.kind).filter(|_| write.instance.is_none());
                        instances.push(new.map_or_else(|| write.named(), |new| new.relative()));
                        journey.written(&stage, visit.subject, &brought, write.kind, write.instance.as_ref(), own).await
                    }
                    None => Err(Refusal::from(Reason::UpstreamUnintelligible)),
                },
            };
            entries.push(entry_of(&journey.conclude(outcome).await.answer));
        }
        let touched = steps.iter().filter_map(Step::write).flat_map(|write| &write.patients);
        let patients: BTreeSet<String> = touched.map(|patient| patient.as_str().to_owned()).collect();
        self.journal.changed(instances, patients.into_iter().collect());
        Ok(Outcome::Disclosure(served::resource(self.journal.decision, response("transaction-response", &entries))))
    }
}

impl Step {
    const fn write(&self) -> Option<&JudgedWrite> {
        match self {
            Self::Write(write) => Some(write),
            Self::Read | Self::There(_) => None,
        }
    }

    fn instance(&self) -> Option<&InstanceId> {
        self.write().and_then(|write| write.instance.as_ref())
    }

    /// The entry to send: what was judged, with the version that was judged.
    fn entry(&self, one: &Permitted<'_>) -> Option<Entry> {
        let write = self.write()?;
        let (kind, instance) = (write.kind, write.instance.as_ref());
        let request = match instance.map(|instance| instance.id.clone()) {
            None => Interaction::Create { kind },
            Some(id) if write.method == Method::DELETE => Interaction::Delete { kind, id },
            Some(id) => Interaction::Update { kind, id },
        };
        let body = write.body.as_ref().and_then(|(_, body)| std::str::from_utf8(body).ok());
        Some(Entry {
            // Only a name within the Bundle is of use to the EHR; a URL would tell it ours.
            full_url: one.entry.full_url.clone().filter(|url| url.starts_with("urn:")),
            request: Ok(request),
            if_match: write.version.as_ref().map(|version| if_match(version).into()),
            if_none_match: None,
            resource: body.map(Into::into),
            searches: Vec::new(),
        })
    }
}

/// Of several refusals the one that follows from the request alone: it would have been told before the EHR was asked.
fn first_to_tell(refusals: Vec<Refusal>) -> Result<(), Refusal> {
    let stored = |refusal: &Refusal| refusal.reason.depends_on_stored_data();
    match refusals.iter().find(|refusal| !stored(refusal)).or_else(|| refusals.first()) {
        None => Ok(()),
        Some(refusal) => Err(refusal.clone()),
    }
}

/// The EHR's answers to the entries that were sent, in their order (R4 http.html#transaction-response).
fn answers(body: &[u8], sent: usize) -> Result<Vec<UpstreamAnswer>, Refusal> {
    let unread = || Refusal::from(Reason::UpstreamUnintelligible);
    json::parse(body).map_err(|_| unread())?;
    let bundle: ResponseBundle<'_> = serde_json::from_slice(body).map_err(|_| unread())?;
    if bundle.resource_type != "Bundle" || bundle.kind != "transaction-response" || bundle.entry.len() != sent {
        return Err(unread());
    }
    bundle
        .entry
        .into_iter()
        .map(|entry| {
            let responded = entry.response.ok_or_else(unread)?;
            let status = responded.status.split(' ').next().and_then(|code| code.parse().ok()).ok_or_else(unread)?;
            Ok(UpstreamAnswer {
                status,
                body: entry.resource.map(|resource| Bytes::from(resource.get().to_owned())).unwrap_or_default(),
                etag: responded.etag,
                last_modified: None,
                location: responded.location,
                room: None,
            })
        })
        .collect()
}
