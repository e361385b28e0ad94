//! What people were last told of behaviour that stood out, kept for the dashboard; the record of it is in the audit log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use time::OffsetDateTime;

use super::{Behaviour, RiskNote};

/// How many are kept.
const KEPT: usize = 100;

/// A caller whose behaviour stood out. It names an app, no user and no patient.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub at: OffsetDateTime,
    pub partner: Arc<str>,
    /// The decision of the exchange that brought it up.
    pub decision: String,
    /// What was done; `note.answer` is what was called for.
    pub done: &'static str,
    pub note: RiskNote,
}

impl Behaviour {
    /// Keeps what people were told.
    pub fn keep(&self, told: Told) {
        self.notices.keep(told);
    }

    /// What people were told, newest first.
    pub fn told(&self, most: usize) -> Vec<Told> {
        self.notices.latest(most)
    }
}

/// The latest of them.
#[derive(Debug, Default)]
pub(super) struct Notices(Mutex<VecDeque<Told>>);

impl Notices {
    pub(super) fn keep(&self, told: Told) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while ring.len() >= KEPT {
            ring.pop_front();
        }
        ring.push_back(told);
    }

    /// Newest first.
    pub(super) fn latest(&self, most: usize) -> Vec<Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().take(most).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_come_first_and_the_oldest_leaves() {
        let notices = Notices::default();
        for number in 0..KEPT + 2 {
            notices.keep(Told {
                at: OffsetDateTime::UNIX_EPOCH,
                partner: "app".into(),
                decision: number.to_string(),
                done: "observe",
                note: RiskNote::default(),
            });
        }
        let kept = notices.latest(usize::MAX);
        assert_eq!((kept.len(), kept[0].decision.as_str()), (KEPT, "101"));
        assert_eq!(kept[KEPT - 1].decision, "2");
    }
}
