//! Consents by `GET Consent?patient=…`, many patients at once, each question asked once at a time.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fhir_profiles::ids::LogicalId;
use fhirwall_policy::consent::ConsentBook;
use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared, try_join_all};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::ledger::Ledger;
use super::searchset::{self, Found, Owner};
use super::{ConsentSource, ConsentUnavailable, UpstreamFetch};

/// Bounds, and how long consents are kept.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `consent.cache`: how long a patient's consents are used before they are asked for again. Zero keeps none.
    pub cache: Duration,
    /// How many patients' consents are kept.
    pub kept_patients: usize,
    /// How many patients one search asks for.
    pub patients_per_search: usize,
    /// `_count`.
    pub page_size: usize,
    /// How many pages of one search are read.
    pub max_pages: usize,
    /// How long one search may take, all of its pages together.
    pub deadline: Duration,
}

impl Settings {
    /// The largest page that a consent server's answer may be.
    pub const PAGE_BYTES: usize = 8 * 1024 * 1024;
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache: Duration::from_secs(30),
            kept_patients: 50_000,
            patients_per_search: 50,
            page_size: 200,
            max_pages: 50,
            deadline: Duration::from_secs(5),
        }
    }
}

/// Consents fetched from a FHIR server.
pub struct FetchedConsents {
    reader: Arc<Reader>,
    ledger: Arc<Ledger>,
    patients_per_search: usize,
    flights: Mutex<HashMap<FlightKey, WeakShared<Flight>>>,
}

/// Who asks after a change does not join a flight that began before it.
type FlightKey = (u64, Vec<LogicalId>);
type Books = Vec<Arc<ConsentBook>>;
type Flight = Pin<Box<dyn Future<Output = Result<Books, ConsentUnavailable>> + Send>>;

struct Reader {
    fetch: Arc<dyn UpstreamFetch>,
    /// The bases under which the server names its own instances and pages, without a trailing slash.
    bases: Arc<[Box<str>]>,
    settings: Settings,
}

impl FetchedConsents {
    /// `bases`: those under which the server names its own instances and pages.
    pub fn new(fetch: Arc<dyn UpstreamFetch>, bases: &[String], settings: Settings) -> Self {
        let bases = bases.iter().map(|base| base.trim_end_matches('/').into()).collect();
        Self {
            reader: Arc::new(Reader { fetch, bases, settings }),
            ledger: Arc::new(Ledger::new(settings.kept_patients, settings.cache)),
            patients_per_search: settings.patients_per_search.max(1),
            flights: Mutex::default(),
        }
    }

    /// The flight that fetches the books of these patients: the one under way, or a new one.
    fn flight(&self, epoch: u64, patients: &[LogicalId], now: OffsetDateTime) -> Shared<Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.upgrade().is_some_and(|flight| flight.peek().is_none()));
        let key = (epoch, patients.to_vec());
        if let Some(flight) = flights.get(&key).and_then(WeakShared::upgrade) {
            return flight;
        }
        let (reader, ledger, patients) = (Arc::clone(&self.reader), Arc::clone(&self.ledger), patients.to_vec());
        let flight: Flight = Box::pin(async move {
            let books = reader.books(&patients).await?;
            for book in &books {
                ledger.keep(Arc::clone(book), now, epoch);
            }
            Ok(books)
        });
        let flight = flight.shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key, weak);
        }
        flight
    }
}

#[async_trait]
impl ConsentSource for FetchedConsents {
    async fn consents(
        &self,
        patients: &[LogicalId],
        now: OffsetDateTime,
    ) -> Result<HashMap<LogicalId, Arc<ConsentBook>>, ConsentUnavailable> {
        // Before the cache is looked at: a change after this makes what is fetched be kept for nobody.
        let epoch = self.ledger.epoch();
        let mut books = HashMap::with_capacity(patients.len());
        let mut missing = Vec::new();
        for patient in patients {
            match self.ledger.fresh(patient, now) {
                Some(book) => drop(books.insert(patient.clone(), book)),
                None => missing.push(patient.clone()),
            }
        }
        missing.sort();
        missing.dedup();
        let flights = missing.chunks(self.patients_per_search).map(|chunk| self.flight(epoch, chunk, now));
        for fetched in try_join_all(flights).await?.into_iter().flatten() {
            books.insert(fetched.patient().clone(), fetched);
        }
        Ok(books)
    }

    fn changed(&self, patient: &LogicalId) {
        self.ledger.changed(Some(patient));
    }

    fn changed_all(&self) {
        self.ledger.changed(None);
    }

    fn epoch(&self) -> u64 {
        self.ledger.epoch()
    }
}

impl Reader {
    async fn books(&self, patients: &[LogicalId]) -> Result<Books, ConsentUnavailable> {
        let found = timeout(self.settings.deadline, self.search(patients)).await;
        let found = found.map_err(|_| ConsentUnavailable::TimedOut)??;
        self.by_patient(patients, found)
    }

    /// All pages of one search. Every page is read or none counts.
    async fn search(&self, patients: &[LogicalId]) -> Result<Vec<Found>, ConsentUnavailable> {
        // Ids are letters, digits, `-` and `.`: nothing in them needs escaping.
        let ids: Vec<&str> = patients.iter().map(LogicalId::as_str).collect();
        let first = ("/Consent".to_owned(), format!("patient={}&_count={}", ids.join(","), self.settings.page_size));
        let (mut found, mut total) = (Vec::new(), None);
        let mut seen = HashSet::new();
        let mut next = Some(first);
        while let Some((path, query)) = next.take() {
            let body = self.fetch.get(&path, &query).await?;
            if !seen.insert((path, query)) || seen.len() > self.settings.max_pages {
                return Err(ConsentUnavailable::EndlessPages);
            }
            let page = searchset::read(&body, &self.bases)?;
            found.extend(page.consents);
            total = page.total.or(total);
            next = page.next;
        }
        let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
        if total.is_some_and(|total| total != count) { Err(ConsentUnavailable::Truncated) } else { Ok(found) }
    }

    fn by_patient(&self, patients: &[LogicalId], found: Vec<Found>) -> Result<Books, ConsentUnavailable> {
        let bases: Vec<&str> = self.bases.iter().map(|base| &**base).collect();
        let mut books: Vec<ConsentBook> =
            patients.iter().map(|patient| ConsentBook::new(patient.clone(), Arc::clone(&self.bases))).collect();
        let mut ids = HashSet::new();
        for consent in found {
            // The same Consent on two pages: the result moved under the search, and another may be on none.
            if consent.id().is_some_and(|id| !ids.insert(id.clone())) {
                return Err(ConsentUnavailable::Truncated);
            }
            let owner = consent.owner(patients, &bases)?;
            match (consent, owner) {
                (_, Owner::Nobody) => {}
                (Found::Unreadable(unreadable), Owner::Any) => {
                    books.iter_mut().for_each(|book| book.add_unreadable(unreadable.clone()));
                }
                (Found::Read(_), Owner::Any) => return Err(ConsentUnavailable::ForeignConsent),
                (consent, Owner::One(patient)) => {
                    let book = books.iter_mut().find(|book| *book.patient() == patient);
                    consent.enter(book.ok_or(ConsentUnavailable::ForeignConsent)?)?;
                }
            }
        }
        Ok(books.into_iter().map(Arc::new).collect())
    }
}

impl Found {
    fn id(&self) -> Option<&LogicalId> {
        match self {
            Self::Read(record) => Some(record.id()),
            Self::Unreadable(unreadable) => unreadable.id.as_ref(),
        }
    }

    fn enter(self, book: &mut ConsentBook) -> Result<(), ConsentUnavailable> {
        match self {
            Self::Read(record) => book.add(record).map_err(|_| ConsentUnavailable::ForeignConsent),
            Self::Unreadable(unreadable) => {
                book.add_unreadable(unreadable);
                Ok(())
            }
        }
    }
}

impl fmt::Debug for FetchedConsents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedConsents").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}
