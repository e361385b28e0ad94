//! The latest decisions, in memory, so that an operator's look-up needs no reading of the log.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::record::{AuditRecord, Kind};

/// A ring of the latest attempts, disclosures and refusals, as they were written.
#[derive(Debug)]
pub(super) struct Recent {
    ring: Mutex<VecDeque<Kept>>,
    most: usize,
}

/// Records do not print.
struct Kept {
    kind: Kind,
    decision: Box<str>,
    body: Bytes,
}

/// A larger record is kept without most of its names: the ring stays small whatever an answer held.
const LARGE: usize = 8 << 10;
const NAMES: usize = 16;

impl Recent {
    pub(super) fn new(most: usize) -> Self {
        Self { ring: Mutex::default(), most }
    }

    pub(super) fn push(&self, kind: Kind, decision: &str, body: &Bytes) {
        if self.most == 0 {
            return;
        }
        let body = if body.len() > LARGE { shortened(body) } else { Some(body.clone()) };
        let Some(body) = body else { return };
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        while ring.len() >= self.most {
            ring.pop_front();
        }
        ring.push_back(Kept { kind, decision: decision.into(), body });
    }

    /// All of them, oldest first.
    pub(super) fn all(&self) -> Vec<(Kind, AuditRecord)> {
        let kept: Vec<(Kind, Bytes)> = {
            let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            ring.iter().map(|kept| (kept.kind, kept.body.clone())).collect()
        };
        kept.into_iter().filter_map(|(kind, body)| Some((kind, read(&body)?))).collect()
    }

    /// The latest record of this decision. It may name fewer patients and instances than the one in the log.
    pub(super) fn find(&self, decision: &str) -> Option<(Kind, AuditRecord)> {
        let (kind, body) = {
            let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = ring.iter().rev().find(|kept| *kept.decision == *decision)?;
            (kept.kind, kept.body.clone())
        };
        Some((kind, read(&body)?))
    }
}

fn read(body: &[u8]) -> Option<AuditRecord> {
    serde_json::from_slice(body).ok()
}

/// Whose and which is in the log; the ring answers why.
fn shortened(body: &[u8]) -> Option<Bytes> {
    let mut record = read(body)?;
    record.patients.truncate(NAMES);
    record.instances.truncate(NAMES);
    serde_json::to_vec(&record).ok().map(Bytes::from)
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Record;

    fn push(recent: &Recent, record: AuditRecord) {
        let record = Record::refusal(record);
        let (decision, body) = record.decided().unwrap();
        recent.push(record.kind(), decision, body);
    }

    #[test]
    fn the_oldest_decision_leaves_first() {
        let recent = Recent::new(2);
        for id in ["a", "b", "c"] {
            push(&recent, AuditRecord { decision: id.to_owned(), ..AuditRecord::default() });
        }
        assert!(recent.find("a").is_none());
        assert_eq!(recent.find("c").map(|(_, record)| record.decision), Some("c".to_owned()));
        assert_eq!(recent.all().len(), 2);
    }

    #[test]
    fn a_large_answer_keeps_few_names() {
        let recent = Recent::new(2);
        let patients: Vec<String> = (0..2_000).map(|n| format!("p{n}")).collect();
        push(&recent, AuditRecord { decision: "a".into(), patients, status: Some(200), ..AuditRecord::default() });
        let (_, kept) = recent.find("a").unwrap();
        assert_eq!((kept.patients.len(), kept.status), (NAMES, Some(200)));
    }
}
