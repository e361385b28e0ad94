//! What identification must remember, or be told, between requests: replays and revocations.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use time::OffsetDateTime;

/// The store cannot say. Everything that needs it is answered 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shared state is out of reach")]
pub struct Unavailable;

/// Remembers what may be used once: DPoP proofs, client assertions, codes.
#[async_trait]
pub trait ReplayCache: Send + Sync + fmt::Debug {
    /// True the first time this key is seen, false afterwards, until at least `until`.
    async fn first_use(&self, key: &[u8; 32], until: OffsetDateTime) -> Result<bool, Unavailable>;
}

/// What a revocation may name.
#[derive(Clone, Copy, Debug)]
pub struct Revocable<'a> {
    pub issuer: &'a str,
    pub token_id: &'a str,
    pub sub: &'a str,
    pub client_id: &'a str,
    pub patient: Option<&'a str>,
    /// A revocation of a user, a partner or a patient's grant ends tokens issued before it. Unknown counts as before.
    pub issued_at: Option<OffsetDateTime>,
}

/// Tells whether a token was revoked: by itself, by its user, its partner, or at the patient's direction.
#[async_trait]
pub trait Revocations: Send + Sync + fmt::Debug {
    async fn is_revoked(&self, token: Revocable<'_>) -> Result<bool, Unavailable>;
}

/// Ends single tokens, or whole grants by their id, on every replica.
#[async_trait]
pub trait RevokeTokens: Send + Sync + fmt::Debug {
    /// From the next request on, until then (no token that it concerns lives longer).
    async fn revoke_token(&self, issuer: &str, token_id: &str, until: OffsetDateTime) -> Result<(), Unavailable>;
}

/// A replay cache in this process alone. Bounded: when it is full of live entries, it says that it cannot tell.
#[derive(Debug)]
pub struct LocalReplayCache {
    seen: Mutex<HashMap<[u8; 32], OffsetDateTime>>,
    capacity: usize,
    clock: std::sync::Arc<dyn crate::clock::Clock>,
}

impl LocalReplayCache {
    pub fn new(capacity: usize, clock: std::sync::Arc<dyn crate::clock::Clock>) -> Self {
        Self { seen: Mutex::new(HashMap::new()), capacity, clock }
    }
}

#[async_trait]
impl ReplayCache for LocalReplayCache {
    async fn first_use(&self, key: &[u8; 32], until: OffsetDateTime) -> Result<bool, Unavailable> {
        let now = self.clock.now();
        let mut seen = self.seen.lock().map_err(|_| Unavailable)?;
        if seen.get(key).is_some_and(|until| now <= *until) {
            return Ok(false);
        }
        if seen.len() >= self.capacity {
            seen.retain(|_, until| now <= *until);
        }
        if seen.len() >= self.capacity {
            return Err(Unavailable);
        }
        seen.insert(*key, until);
        Ok(true)
    }
}

/// Nothing is ever revoked: for issuers whose tokens are short-lived and a gateway without a state store.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRevocations;

#[async_trait]
impl Revocations for NoRevocations {
    async fn is_revoked(&self, _token: Revocable<'_>) -> Result<bool, Unavailable> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::{Clock as _, FixedClock};

    #[tokio::test]
    async fn a_key_counts_once_until_its_time_is_over() {
        let clock = FixedClock::at(1_000);
        let cache = LocalReplayCache::new(2, Arc::new(clock.clone()));
        let until = clock.now() + time::Duration::seconds(60);
        assert_eq!(cache.first_use(&[1; 32], until).await, Ok(true));
        assert_eq!(cache.first_use(&[1; 32], until).await, Ok(false));
        assert_eq!(cache.first_use(&[2; 32], until).await, Ok(true));
        assert_eq!(cache.first_use(&[3; 32], until).await, Err(Unavailable), "full of live entries");
        clock.advance_seconds(61);
        assert_eq!(cache.first_use(&[3; 32], until).await, Ok(true));
        assert_eq!(cache.first_use(&[1; 32], until).await, Ok(true));
    }
}
