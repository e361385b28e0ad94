//! What is known of an instance that an answer refers to but does not hold (rule 14).
//!
//! A reference to a hidden record would tell that it exists, and its `display` often what it is. So references that leave
//! the answer are looked up in one bounded batch per type and judged like the records themselves. What is known is kept
//! for a short time; beyond the bound nothing is known, and the caller leaves the reference out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use fhir_profiles::engine::{Limits, Place, ResourceFacts, scan, spreads};
use fhir_profiles::ids::{InstanceId, ResourceType};
use fhir_profiles::label::LabelSet;
use fhir_profiles::labeller::Labeller;
use fhir_profiles::reference::Reference;
use http::StatusCode;
use quick_cache::sync::Cache;
use time::{Duration, OffsetDateTime};

use crate::clock::Clock;
use crate::forward::{Upstream, UpstreamRequest};

/// How long an instance's labels are taken as known.
const KEPT: Duration = Duration::seconds(30);
/// Instances remembered per endpoint.
const CAPACITY: usize = 50_000;
/// Requests for the visits of a Binary's documents: Encounters and EpisodesOfCare.
const VISITS: u32 = 2;
/// Ids asked for in one request.
const BATCH: usize = 100;

/// What the EHR says of an instance.
#[derive(Clone, Debug)]
pub enum Known {
    Facts(Arc<ResourceFacts>),
    /// The EHR does not have it.
    Missing,
}

impl Known {
    /// What it is labelled with. What the EHR does not have labels nothing.
    pub fn labels(&self) -> LabelSet {
        match self {
            Self::Facts(facts) => facts.labels,
            Self::Missing => LabelSet::EMPTY,
        }
    }
}

#[derive(Clone, Debug)]
struct Remembered {
    known: Known,
    until: OffsetDateTime,
}

/// Looks up instances, and remembers what it saw.
pub struct Resolver {
    upstream: Arc<Upstream>,
    clock: Arc<dyn Clock>,
    cache: Cache<InstanceId, Remembered>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver(..)")
    }
}

impl Resolver {
    pub fn new(upstream: Arc<Upstream>, clock: Arc<dyn Clock>) -> Self {
        Self { upstream, clock, cache: Cache::new(CAPACITY) }
    }

    /// What is known of each of these instances, with at most `fetches` requests to the EHR. Whoever is not in the answer
    /// is unknown.
    pub async fn resolve(
        &self,
        wanted: &HashSet<InstanceId>,
        labeller: &Labeller,
        limits: &Limits,
        fetches: u32,
    ) -> HashMap<InstanceId, Known> {
        let now = self.clock.now();
        let mut found = HashMap::with_capacity(wanted.len());
        let mut missing: BTreeMap<ResourceType, Vec<&InstanceId>> = BTreeMap::new();
        for instance in wanted {
            match self.cache.get(instance) {
                Some(remembered) if now < remembered.until => {
                    found.insert(instance.clone(), remembered.known);
                }
                Some(_) | None => missing.entry(instance.kind).or_default().push(instance),
            }
        }
        let mut batches: Vec<(ResourceType, &[&InstanceId])> =
            missing.iter().flat_map(|(kind, ids)| ids.chunks(BATCH).map(move |ids| (*kind, ids))).collect();
        // An unknown visit hides records, any other only the references to it.
        batches.sort_by_key(|(kind, _)| !spreads(*kind));
        for (kind, ids) in batches.into_iter().take(usize::try_from(fetches).unwrap_or(usize::MAX)) {
            let Some(answer) = self.batch(kind, ids, labeller, limits, now).await else { continue };
            for instance in ids {
                let known = answer.get(*instance).cloned().unwrap_or(Known::Missing);
                let remembered = Remembered { known: known.clone(), until: now.saturating_add(KEPT) };
                self.cache.insert((*instance).clone(), remembered);
                found.insert((*instance).clone(), known);
            }
        }
        found
    }

    /// The documents that refer to a Binary, as far as the EHR can find them (R4 DocumentReference, search `location`).
    /// `None` if it did not say: there may be one that nobody knows of. An EHR that refuses the search has none to find.
    pub async fn documents_of(
        &self,
        binary: &InstanceId,
        labeller: &Labeller,
        limits: &Limits,
    ) -> Option<Vec<Arc<ResourceFacts>>> {
        let location = format!("{}/{}", binary.kind, binary.id.as_str());
        let request =
            UpstreamRequest::get("/DocumentReference".to_owned(), format!("location={location}&_count={BATCH}"));
        let answer = self.upstream.exchange(&request).await.ok()?;
        if answer.status != StatusCode::OK {
            return answer.status.is_client_error().then(Vec::new);
        }
        let today = date(self.clock.now());
        let mut document = scan(&answer.body, limits, labeller, &today).ok()?;
        // A document of a visit at a program is the program's, and so is what it refers to.
        let visits: HashSet<InstanceId> = document.label_sources().into_iter().collect();
        if !visits.is_empty() {
            let known = self.resolve(&visits, labeller, limits, VISITS).await;
            document.take_over(&|visit| known.get(visit).map(Known::labels));
        }
        // A server that does not know the parameter may answer with other documents.
        let refers = |at: u32| {
            document.references_of(at).any(|reference| match reference {
                Reference::Relative { instance, .. } => instance == binary,
                Reference::Absolute { .. } | Reference::Contained(_) | Reference::Urn(_) | Reference::Opaque => false,
            })
        };
        let entries = document.resources().iter().zip(0u32..);
        let found = entries.filter(|(facts, at)| facts.place == Place::Entry && refers(*at));
        Some(found.map(|(facts, _)| Arc::new(facts.clone())).collect())
    }

    /// Forgets an instance: it was written through the gateway.
    pub fn changed(&self, instance: &InstanceId) {
        self.cache.remove(instance);
    }

    async fn batch(
        &self,
        kind: ResourceType,
        ids: &[&InstanceId],
        labeller: &Labeller,
        limits: &Limits,
        now: OffsetDateTime,
    ) -> Option<HashMap<InstanceId, Known>> {
        let list = ids.iter().map(|instance| instance.id.as_str()).collect::<Vec<_>>().join(",");
        let request = UpstreamRequest::get(format!("/{kind}"), format!("_id={list}&_count={}", ids.len()));
        let answer = self.upstream.exchange(&request).await.ok()?;
        if answer.status != StatusCode::OK {
            return None;
        }
        let document = scan(&answer.body, limits, labeller, &date(now)).ok()?;
        let mut found = HashMap::new();
        for facts in document.resources() {
            if facts.place == Place::Entry
                && facts.kind == kind
                && let Some(id) = &facts.id
            {
                let instance = InstanceId { kind, id: id.clone() };
                found.insert(instance, Known::Facts(Arc::new(facts.clone())));
            }
        }
        Some(found)
    }
}

/// Today, as FHIR writes dates.
pub fn date(now: OffsetDateTime) -> String {
    let date = now.date();
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}
