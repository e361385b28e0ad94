//! What is kept of patients' consents, and which of it a change has made stale.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fhir_profiles::ids::LogicalId;
use fhirwall_policy::consent::ConsentBook;
use quick_cache::sync::Cache;
use time::OffsetDateTime;

/// Changes that are remembered one by one; a fetch that began before the oldest of them is kept for nobody.
const REMEMBERED: usize = 1_024;

pub(super) struct Ledger {
    books: Cache<LogicalId, Kept>,
    ttl: Duration,
    changes: Mutex<Changes>,
}

#[derive(Clone)]
struct Kept {
    book: Arc<ConsentBook>,
    asked: OffsetDateTime,
}

#[derive(Default)]
struct Changes {
    epoch: u64,
    /// The change that made each of the latest epochs; `None` concerns all patients.
    latest: VecDeque<Option<LogicalId>>,
}

impl Ledger {
    pub(super) fn new(capacity: usize, ttl: Duration) -> Self {
        Self { books: Cache::new(capacity), ttl, changes: Mutex::default() }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// The patient's book, if it was asked for less than the time to live ago.
    pub(super) fn fresh(&self, patient: &LogicalId, now: OffsetDateTime) -> Option<Arc<ConsentBook>> {
        let kept = self.books.get(patient)?;
        // A clock that was set back makes nothing fresh.
        (kept.asked <= now && now - kept.asked < self.ttl).then_some(kept.book)
    }

    /// Keeps a book whose fetch began at `asked`, in `epoch`, unless the patient's consents changed since.
    pub(super) fn keep(&self, book: Arc<ConsentBook>, asked: OffsetDateTime, epoch: u64) {
        // The lock is held over the insertion, so that no change can fall between the question and the keeping.
        let changes = self.lock();
        if !self.ttl.is_zero() && !changes.concern(book.patient(), epoch) {
            self.books.insert(book.patient().clone(), Kept { book, asked });
        }
    }

    pub(super) fn changed(&self, patient: Option<&LogicalId>) {
        let mut changes = self.lock();
        changes.epoch = changes.epoch.saturating_add(1);
        changes.latest.push_back(patient.cloned());
        if changes.latest.len() > REMEMBERED {
            changes.latest.pop_front();
        }
        match patient {
            Some(patient) => drop(self.books.remove(patient)),
            None => self.books.clear(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Changes> {
        // Nothing in here can panic half-way: a poisoned lock guards a whole value.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changes {
    /// Was there, after `epoch`, a change to this patient's consents, or one that is no longer remembered?
    fn concern(&self, patient: &LogicalId, epoch: u64) -> bool {
        let since = usize::try_from(self.epoch.saturating_sub(epoch)).unwrap_or(usize::MAX);
        since > self.latest.len()
            || self
                .latest
                .iter()
                .rev()
                .take(since)
                .any(|change| change.as_ref().is_none_or(|changed| changed == patient))
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("books", &self.books.len()).finish_non_exhaustive()
    }
}
