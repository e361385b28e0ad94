//! The latest decisions, by their ids, for `GET /decisions/{id}`. Older ones are in the audit log.

use quick_cache::sync::Cache;

use crate::audit::Record;

/// Decisions kept in memory.
const KEPT: usize = 10_000;

/// The latest decision records.
#[derive(Debug)]
pub struct Decisions(Cache<String, std::sync::Arc<serde_json::Value>>);

impl Default for Decisions {
    fn default() -> Self {
        Self(Cache::new(KEPT))
    }
}

impl Decisions {
    /// Keeps what a record says.
    pub fn keep(&self, record: &Record) {
        if let Some(content) = record.content()
            && let Ok(value) = serde_json::to_value(content)
        {
            self.0.insert(content.decision.clone(), std::sync::Arc::new(value));
        }
    }

    pub fn get(&self, id: &str) -> Option<serde_json::Value> {
        self.0.get(id).map(|value| (*value).clone())
    }
}
