//! Overload: who is turned away first when this process is at its bound.
//!
//! What this process can hold (requests under way, bytes of answers) is given out by rank: bulk work and long searches may
//! fill half of it, other work three quarters, treatment nine tenths, and the last tenth is for emergencies alone
//! (45 CFR 164.312(a)(2)(ii); 42 CFR 2.51). So a crowd of one rank never takes what a higher rank needs, and nobody has to
//! guess at the moment of overload who is important.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fhir_profiles::interaction::Interaction;
use fhir_profiles::operation::Operation;
use fhir_profiles::search::PatientConstraint;
use fhirwall_policy::purpose::PurposeOfUse;
use fhirwall_policy::subject::Subject;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How much an interaction asks of the EHR and of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effort {
    /// One record, one patient's records, one write.
    Short,
    /// A search over many patients, a history, `$everything`.
    Long,
    /// An export.
    Bulk,
}

impl Effort {
    /// The effort of an interaction, by its form alone.
    pub fn of(interaction: &Interaction) -> Self {
        match interaction {
            Interaction::Capabilities
            | Interaction::Read { .. }
            | Interaction::Vread { .. }
            | Interaction::HistoryInstance { .. }
            | Interaction::SearchCompartment { .. }
            | Interaction::Page { .. }
            | Interaction::Create { .. }
            | Interaction::Update { .. }
            | Interaction::Patch { .. }
            | Interaction::Delete { .. }
            | Interaction::ConditionalCreate { .. }
            | Interaction::ConditionalUpdate { .. }
            | Interaction::ConditionalPatch { .. }
            | Interaction::ConditionalDelete { .. }
            | Interaction::ExportStatus { .. }
            | Interaction::ExportDelete { .. } => Self::Short,
            Interaction::SearchType { kind, query } => {
                let one = matches!(query.patient_constraint(*kind), PatientConstraint::Exactly(_));
                if one || query.value("_id").is_some() || query.value("identifier").is_some() {
                    Self::Short
                } else {
                    Self::Long
                }
            }
            Interaction::Batch { .. }
            | Interaction::Transaction { .. }
            | Interaction::SearchSystem { .. }
            | Interaction::HistoryType { .. }
            | Interaction::HistorySystem { .. } => Self::Long,
            Interaction::Operation { operation: Operation::Export, .. } | Interaction::ExportFile { .. } => Self::Bulk,
            Interaction::Operation { .. } => Self::Long,
        }
    }
}

/// The rank of a request, the highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rank {
    Emergency,
    Treatment,
    Ordinary,
    Bulk,
}

impl Rank {
    /// An emergency is one that the token states and identification verified; an export is bulk for whoever asks for it.
    pub fn of(subject: &Subject, effort: Effort) -> Self {
        let treats = match subject.purpose {
            Some(PurposeOfUse::Treat | PurposeOfUse::Etreat | PurposeOfUse::Btg | PurposeOfUse::Coc) => true,
            Some(
                PurposeOfUse::Hpaymt
                | PurposeOfUse::Hoperat
                | PurposeOfUse::Hlegal
                | PurposeOfUse::Hresch
                | PurposeOfUse::Patrqt
                | PurposeOfUse::Famrqt
                | PurposeOfUse::Publhlth
                | PurposeOfUse::Hmarkt
                | PurposeOfUse::Caremgt
                | PurposeOfUse::Hqualimp,
            )
            | None => false,
        };
        match (effort, subject.emergency.is_some(), treats) {
            (Effort::Bulk, _, _) => Self::Bulk,
            (Effort::Short | Effort::Long, true, _) => Self::Emergency,
            (Effort::Short, false, true) => Self::Treatment,
            (Effort::Long, false, true) | (Effort::Short, false, false) => Self::Ordinary,
            (Effort::Long, false, false) => Self::Bulk,
        }
    }

    /// How much of the whole this rank and those below it may fill together, in percent.
    const fn share(self) -> u64 {
        match self {
            Self::Emergency => 100,
            Self::Treatment => 90,
            Self::Ordinary => 75,
            Self::Bulk => 50,
        }
    }

    /// When somebody who was turned away may come back: the dearer the request, the later.
    pub const fn comes_back_after(self) -> Duration {
        Duration::from_secs(match self {
            Self::Emergency | Self::Treatment => 1,
            Self::Ordinary => 5,
            Self::Bulk => 30,
        })
    }
}

tokio::task_local! {
    static RANK: Cell<Rank>;
}

/// Does the work of one request; its rank is known from its admission on, wherever room is taken on its behalf.
pub async fn as_one_request<T>(work: impl Future<Output = T>) -> T {
    RANK.scope(Cell::new(Rank::Bulk), work).await
}

/// The request of this task has this rank.
pub(super) fn set_rank(rank: Rank) {
    // Outside of a request there is nobody whose rank it is.
    let _outside = RANK.try_with(|current| current.set(rank));
}

/// The rank of the request of this task. What the gateway does of its own accord is never turned away for others.
pub(super) fn rank() -> Rank {
    RANK.try_with(Cell::get).unwrap_or(Rank::Emergency)
}

/// Something of which this process has so much.
pub(super) struct Budget {
    size: AtomicU64,
    used: Mutex<u64>,
    freed: Notify,
}

/// A part of a budget, given back when dropped.
pub(super) struct Held {
    budget: Arc<Budget>,
    amount: u64,
}

impl Budget {
    pub(super) fn new(size: u64) -> Arc<Self> {
        Arc::new(Self { size: AtomicU64::new(size), used: Mutex::new(0), freed: Notify::new() })
    }

    /// What is out stays out; the new size holds for what is asked from now on.
    pub(super) fn resize(&self, size: u64) {
        self.size.store(size, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// Takes so much at once, or nothing.
    pub(super) fn try_take(self: &Arc<Self>, amount: u64, rank: Rank) -> Option<Held> {
        // Rounded up, so that a budget of one serves everybody, one at a time.
        let share = self.size.load(Ordering::Relaxed).saturating_mul(rank.share()).div_ceil(100);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let after = used.checked_add(amount).filter(|after| *after <= share)?;
        *used = after;
        Some(Held { budget: Arc::clone(self), amount })
    }

    /// Takes so much as soon as it is there, if that is within `patience`. Nobody queues in front of a higher rank.
    pub(super) async fn take(self: &Arc<Self>, amount: u64, rank: Rank, patience: Duration) -> Option<Held> {
        let deadline = Instant::now().checked_add(patience)?;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on no release is missed.
            freed.as_mut().enable();
            if let Some(held) = self.try_take(amount, rank) {
                return Some(held);
            }
            timeout_at(deadline, freed).await.ok()?;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        {
            let mut used = self.budget.used.lock().unwrap_or_else(PoisonError::into_inner);
            *used = used.saturating_sub(self.amount);
        }
        self.budget.freed.notify_waiters();
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({})", self.amount)
    }
}

#[cfg(test)]
mod tests {
    use fhir_profiles::interaction::{RequestParts, interpret};

    use super::*;

    const RANKS: [Rank; 4] = [Rank::Emergency, Rank::Treatment, Rank::Ordinary, Rank::Bulk];

    /// Takes all that a rank gets.
    fn fill(budget: &Arc<Budget>, rank: Rank) -> Vec<Held> {
        std::iter::from_fn(|| budget.try_take(1, rank)).collect()
    }

    #[test]
    fn each_rank_is_turned_away_before_the_one_above_it() {
        let budget = Budget::new(100);
        let mut held = Vec::new();
        for (rank, filled) in [(Rank::Bulk, 50), (Rank::Ordinary, 75), (Rank::Treatment, 90), (Rank::Emergency, 100)] {
            held.extend(fill(&budget, rank));
            assert_eq!(held.len(), filled, "{rank:?}");
            for other in RANKS {
                assert_eq!(budget.try_take(1, other).is_some(), other < rank, "{other:?} once {rank:?} is full");
            }
        }
    }

    #[test]
    fn whatever_comes_in_whatever_order_an_emergency_finds_room() {
        proptest::proptest!(|(crowd in proptest::collection::vec((1u64..40, 1usize..4), 0..200))| {
            let budget = Budget::new(1_000);
            let held: Vec<Option<Held>> =
                crowd.iter().map(|(amount, rank)| budget.try_take(*amount, RANKS[*rank])).collect();
            proptest::prop_assert!(budget.try_take(100, Rank::Emergency).is_some());
            drop(held);
            proptest::prop_assert!(budget.try_take(1_000, Rank::Emergency).is_some());
        });
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_room_when_some_is_given_back_and_the_higher_rank_is_not_behind() {
        let budget = Budget::new(100);
        let held = budget.try_take(90, Rank::Treatment).unwrap();
        let patience = Duration::from_millis(500);
        let waiting = {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move { budget.take(60, Rank::Treatment, patience).await })
        };
        tokio::task::yield_now().await;
        assert!(budget.take(10, Rank::Emergency, Duration::ZERO).await.is_some());
        drop(held);
        assert!(waiting.await.unwrap().is_some());
        let _held = budget.try_take(90, Rank::Treatment).unwrap();
        assert!(budget.take(20, Rank::Treatment, patience).await.is_none());
    }

    #[test]
    fn a_budget_of_one_serves_everybody() {
        for rank in RANKS {
            assert!(Budget::new(1).try_take(1, rank).is_some(), "{rank:?}");
        }
    }

    #[test]
    fn a_smaller_budget_holds_from_the_next_request() {
        let budget = Budget::new(10);
        let held = budget.try_take(9, Rank::Emergency).unwrap();
        budget.resize(5);
        assert!(budget.try_take(1, Rank::Emergency).is_none());
        drop(held);
        assert!(budget.try_take(5, Rank::Emergency).is_some());
    }

    #[tokio::test]
    async fn the_rank_is_the_requests_own() {
        assert_eq!(rank(), Rank::Emergency, "the gateway's own work");
        as_one_request(async {
            assert_eq!(rank(), Rank::Bulk, "who is not admitted yet");
            set_rank(Rank::Treatment);
            assert_eq!(rank(), Rank::Treatment);
        })
        .await;
        set_rank(Rank::Bulk);
        assert_eq!(rank(), Rank::Emergency);
    }

    #[test]
    fn effort_follows_the_form_of_the_request() {
        for (method, path, query, effort) in [
            ("GET", "/Patient/1", "", Effort::Short),
            ("GET", "/Observation", "patient=1", Effort::Short),
            ("GET", "/Patient", "_id=1", Effort::Short),
            ("GET", "/Patient/1/Observation", "", Effort::Short),
            ("DELETE", "/Observation/1", "", Effort::Short),
            ("GET", "/Observation", "code=8867-4", Effort::Long),
            ("GET", "/Observation", "patient.name=x", Effort::Long),
            ("GET", "/Patient/1/$everything", "", Effort::Long),
            ("GET", "/$export", "", Effort::Bulk),
        ] {
            let parts = RequestParts {
                method,
                path,
                query: (!query.is_empty()).then_some(query),
                base: "https://fhir.example.org/fhir",
                ..RequestParts::default()
            };
            let interaction = interpret(&parts).unwrap_or_else(|error| panic!("{path}?{query}: {error:?}"));
            assert_eq!(Effort::of(&interaction), effort, "{method} {path}?{query}");
        }
    }
}
