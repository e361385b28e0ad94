//! Refusals of callers that were never identified: counted, never waited for, so that a flood of them fills no disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use fhirwall_policy::reason::Reason;
use time::OffsetDateTime;

use super::chain::timestamp;
use super::record::{Kind, Record, exception};

/// Counts by reason, with the first and last time. Bounded by the number of reasons.
#[derive(Debug, Default)]
pub struct RefusalCounts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_reason: BTreeMap<Reason, u64>,
    first: Option<OffsetDateTime>,
}

impl RefusalCounts {
    pub fn count(&self, reason: Reason, now: OffsetDateTime) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.first.get_or_insert(now);
        let count = counts.by_reason.entry(reason).or_default();
        *count = count.saturating_add(1);
    }

    /// One record of everything counted since the last call.
    pub(super) fn take(&self, now: OffsetDateTime) -> Option<Record> {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let first = counts.first?;
        let reasons: Vec<_> = counts
            .by_reason
            .into_iter()
            .map(|(reason, count)| {
                serde_json::json!({"reason": reason.code(), "count": count, "exception": exception(reason)})
            })
            .collect();
        let body = serde_json::json!({"from": timestamp(first), "to": timestamp(now), "refusals": reasons});
        Some(Record::of(Kind::RefusalAggregate, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_record() {
        let counts = RefusalCounts::default();
        let now = OffsetDateTime::UNIX_EPOCH;
        for _ in 0..10_000 {
            counts.count(Reason::NoCredentials, now);
        }
        counts.count(Reason::InvalidToken, now);
        let record = counts.take(now).unwrap();
        let body: serde_json::Value = serde_json::from_slice(record.body().unwrap()).unwrap();
        assert_eq!(body["refusals"][0]["count"], 10_000);
        assert_eq!(body["refusals"].as_array().unwrap().len(), 2);
        assert!(counts.take(now).is_none(), "nothing is told twice");
    }
}
