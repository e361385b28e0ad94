//! The latest decisions, in memory, so that an operator's look-up needs no reading of the log.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::record::{AuditRecord, Kind};

/// A ring of the latest attempts, disclosures and refusals.
#[derive(Debug)]
pub(super) struct Recent {
    ring: Mutex<VecDeque<(Kind, AuditRecord)>>,
    most: usize,
}

impl Recent {
    pub(super) fn new(most: usize) -> Self {
        Self { ring: Mutex::default(), most }
    }

    pub(super) fn push(&self, kind: Kind, mut record: AuditRecord) {
        // Whose and which is in the log; the ring answers why, and stays small whatever an answer held.
        record.patients.truncate(16);
        record.instances.truncate(16);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        while ring.len() >= self.most {
            ring.pop_front();
        }
        if self.most > 0 {
            ring.push_back((kind, record));
        }
    }

    /// All of them, oldest first.
    pub(super) fn all(&self) -> Vec<(Kind, AuditRecord)> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The latest record of this decision.
    pub(super) fn find(&self, decision: &str) -> Option<(Kind, AuditRecord)> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().rev().find(|(_, record)| record.decision == decision).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_decision_leaves_first() {
        let recent = Recent::new(2);
        for id in ["a", "b", "c"] {
            recent.push(Kind::Refusal, AuditRecord { decision: id.to_owned(), ..AuditRecord::default() });
        }
        assert!(recent.find("a").is_none());
        assert_eq!(recent.find("c").map(|(_, record)| record.decision), Some("c".to_owned()));
    }
}
