//! A batch: each entry travels as the request it would be alone, and gets the answer it would get alone.
//!
//! R4 http.html#transaction: entries of a batch do not depend on each other. Deletes go first, then creates, updates and
//! patches, then reads (the order of a transaction), so that what a batch answers does not hang on the order of its
//! entries. Reads go a few at a time; writes one by one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use fhir_profiles::bundle::Entry;
use fhir_profiles::interaction::Interaction;
use fhir_profiles::json;
use fhirwall_policy::reason::Reason;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use http::header::{ETAG, LOCATION};

use super::brought::Brought;
use super::{Ended, Journey, Outcome, Visit, served};
use crate::admit::BytesInFlight;
use crate::interpret;
use crate::listen::Answer;
use crate::refusal::Refusal;

/// Reads of one batch that are under way at once.
const AT_ONCE: usize = 8;

/// An entry that has been carried out, and the room its answer takes until the batch is answered.
struct Carried {
    ended: Ended,
    _room: Option<BytesInFlight>,
}

impl<'a> Journey<'a> {
    /// Carries out a batch, entry by entry, and answers in the order of the entries.
    pub(super) async fn batch(
        &mut self,
        visit: &Visit<'_>,
        entries: &[Entry],
        brought: &Brought<'_>,
    ) -> Result<Outcome, Refusal> {
        let left = AtomicUsize::new(self.generation.limits.max_bytes);
        let mut order: Vec<(usize, &Entry)> = entries.iter().enumerate().collect();
        order.sort_by_key(|(_, entry)| turn(entry));
        let (writes, reads): (Vec<_>, Vec<_>) =
            order.into_iter().partition(|(_, entry)| entry.request.as_ref().is_ok_and(Interaction::changes));
        // A write is a search, a look at the record, and the change.
        let rounds = writes.len().saturating_mul(3).saturating_add(reads.len().div_ceil(AT_ONCE));
        let mut carried = BTreeMap::new();
        for (at, entry) in writes {
            carried.insert(at, self.carry_entry(visit, entry, brought, &left).await);
        }
        let this = &*self;
        let mut under_way: Vec<BoxFuture<'_, (usize, Carried)>> = Vec::with_capacity(reads.len());
        for (at, entry) in reads {
            let left = &left;
            under_way.push(Box::pin(async move { (at, this.carry_entry(visit, entry, brought, left).await) }));
        }
        carried.extend(stream::iter(under_way).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
        // Which entry is hidden and which is missing must not be told by how long the batch took.
        if carried.values().any(|carried| carried.ended.hidden) {
            self.release_on_schedule(u32::try_from(rounds).unwrap_or(u32::MAX)).await;
        }
        let written: Vec<String> = carried.values().map(|carried| entry_of(&carried.ended.answer)).collect();
        Ok(Outcome::Disclosure(served::resource(self.journal.decision, response("batch-response", &written))))
    }

    /// One entry's own journey, with its own record.
    async fn carry_entry(&self, visit: &Visit<'_>, entry: &Entry, bundle: &Brought<'_>, left: &AtomicUsize) -> Carried {
        let mut journey = self.of_entry();
        let outcome = match &entry.request {
            Ok(interaction) => {
                journey.journal.interaction(interaction);
                let brought = Brought::with_entry(entry, bundle);
                journey.carry_out(visit, interaction, None, &brought).await
            }
            Err(error) => Err(Refusal::from(interpret::reason(*error))),
        };
        let (outcome, room) = match outcome {
            Ok(outcome) => match journey.keep(outcome.size(), left).await {
                Ok(room) => (Ok(outcome), Some(room)),
                Err(refusal) => (Err(refusal), None),
            },
            Err(refusal) => (Err(refusal), None),
        };
        Carried { ended: journey.conclude(outcome).await, _room: room }
    }

    /// The journey of one entry of this Bundle: the same caller at the same time, with a decision of its own.
    pub(super) fn of_entry(&self) -> Self {
        Self {
            shared: self.shared,
            numbered: self.numbered,
            generation: self.generation,
            now: self.now,
            started: Instant::now(),
            journal: self.journal.of_entry(),
            place: None,
            judged: false,
        }
    }

    /// Room for an entry's answer: a batch is no greater than any other answer, and counts like one (rule 13).
    async fn keep(&self, size: usize, left: &AtomicUsize) -> Result<BytesInFlight, Refusal> {
        left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(size))
            .map_err(|_| Refusal::from(Reason::UpstreamUnintelligible))?;
        let bytes = u64::try_from(size).unwrap_or(u64::MAX);
        self.shared.admission.hold_bytes(bytes).await.map_err(|throttled| self.throttled(throttled))
    }
}

/// When an entry has its turn (R4 http.html#trules).
pub(super) fn turn(entry: &Entry) -> u8 {
    match &entry.request {
        Ok(Interaction::Delete { .. } | Interaction::ConditionalDelete { .. }) => 0,
        Ok(Interaction::Create { .. } | Interaction::ConditionalCreate { .. }) => 1,
        Ok(interaction) if interaction.changes() => 2,
        Ok(_) | Err(_) => 3,
    }
}

/// An answer as an entry of a response Bundle: what a lone request gets, with its headers as members.
pub(super) fn entry_of(answer: &Answer) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let header = |name: http::HeaderName| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(quoted);
    let status = quoted(
        answer
            .status
            .canonical_reason()
            .map_or_else(|| answer.status.as_str().to_owned(), |reason| format!("{} {reason}", answer.status.as_str()))
            .as_str(),
    );
    let (location, etag) = (header(LOCATION), header(ETAG));
    let body = std::str::from_utf8(&answer.body).ok().filter(|body| !body.is_empty());
    let refused = answer.status.is_client_error() || answer.status.is_server_error();
    let members = [
        ("status", Some(status.as_str())),
        ("location", location.as_deref()),
        ("etag", etag.as_deref()),
        ("outcome", body.filter(|_| refused)),
    ];
    let response = json::object(members.into_iter().filter_map(|(name, text)| Some((name, text?))));
    let members = [("resource", body.filter(|_| !refused)), ("response", Some(response.as_str()))];
    json::object(members.into_iter().filter_map(|(name, text)| Some((name, text?))))
}

/// A response Bundle of these entries.
pub(super) fn response(kind: &str, entries: &[String]) -> Bytes {
    let list = format!("[{}]", entries.join(","));
    let kind = format!("\"{kind}\"");
    let head = [("resourceType", "\"Bundle\""), ("type", kind.as_str())];
    // R4 json.html: an array is never empty.
    let entry = (!entries.is_empty()).then_some(("entry", list.as_str()));
    Bytes::from(json::object(head.into_iter().chain(entry)).into_bytes())
}
