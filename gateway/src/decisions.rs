//! The latest decisions, by their ids, for `GET /decisions/{id}`. Older ones are in the audit log.

use std::fmt;

use bytes::Bytes;
use quick_cache::sync::Cache;

use crate::audit::Record;

/// Decisions kept in memory.
const KEPT: usize = 10_000;

/// The latest decision records.
pub struct Decisions(Cache<String, Bytes>);

impl Default for Decisions {
    fn default() -> Self {
        Self(Cache::new(KEPT))
    }
}

impl Decisions {
    /// Keeps what a record says.
    pub fn keep(&self, record: &Record) {
        if let Some((decision, body)) = record.decided() {
            self.0.insert(decision.to_owned(), body.clone());
        }
    }

    pub fn get(&self, id: &str) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.0.get(id)?).ok()
    }
}

/// Records do not print.
impl fmt::Debug for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decisions").field("kept", &self.0.len()).finish()
    }
}
