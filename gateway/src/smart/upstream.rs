//! The gateway's own credential at the EHR: SMART Backend Services, or a header kept in a file.
//!
//! The client's token never goes upstream. A token of ours is renewed before it ends, by one request at a time; while
//! that fails, the one at hand serves until its last second.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use tokio::sync::Mutex;

use super::remote::{Asked, TokenEndpoint};
use crate::clock::Clock;
use crate::forward::{UpstreamCredential, UpstreamFailure};

/// A token is renewed when less than this is left of it.
const AHEAD: Duration = Duration::seconds(60);
/// What a token lives when the EHR does not say (SMART Backend Services: at most five minutes).
const UNSTATED: Duration = Duration::minutes(5);
/// After a failure the EHR's token endpoint is left alone for this long.
const PAUSE: Duration = Duration::seconds(5);

/// A backend-services client of the EHR.
pub struct BackendService {
    endpoint: TokenEndpoint,
    client_id: String,
    scopes: Vec<String>,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    token: Option<(HeaderValue, OffsetDateTime)>,
    failed: Option<OffsetDateTime>,
}

impl BackendService {
    pub fn new(endpoint: TokenEndpoint, client_id: String, scope: &str, clock: Arc<dyn Clock>) -> Self {
        let scopes = scope.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
        Self { endpoint, client_id, scopes, clock, held: Mutex::new(Held::default()) }
    }

    async fn renew(&self, now: OffsetDateTime) -> Result<(HeaderValue, OffsetDateTime), UpstreamFailure> {
        let asked = Asked::ClientCredentials { scopes: &self.scopes };
        let fields = self.endpoint.ask(&self.client_id, asked, now).await.map_err(|_| UpstreamFailure::Credential)?;
        let bearer =
            fields.get("token_type").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        let token = fields.get("access_token").and_then(Value::as_str).filter(|_| bearer);
        let mut value = token
            .and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok())
            .ok_or(UpstreamFailure::Credential)?;
        value.set_sensitive(true);
        let lifetime = fields.get("expires_in").and_then(Value::as_i64).map_or(UNSTATED, Duration::seconds);
        Ok((value, now + lifetime))
    }
}

#[async_trait]
impl UpstreamCredential for BackendService {
    async fn authorization(&self) -> Result<Option<HeaderValue>, UpstreamFailure> {
        // Holding the lock while asking is holding the one flight: whoever waits finds the new token.
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        let at_hand = held.token.as_ref().filter(|(_, ends)| now < *ends).cloned();
        if let Some((token, ends)) = &at_hand
            && now < *ends - AHEAD
        {
            return Ok(Some(token.clone()));
        }
        let resting = held.failed.is_some_and(|failed| now < failed + PAUSE);
        let renewed = if resting { Err(UpstreamFailure::Credential) } else { self.renew(now).await };
        match (renewed, at_hand) {
            (Ok((token, ends)), _) => {
                *held = Held { token: Some((token.clone(), ends)), failed: None };
                Ok(Some(token))
            }
            (Err(failure), at_hand) => {
                if !resting {
                    held.failed = Some(now);
                    tracing::warn!("the EHR gave no token");
                }
                at_hand.map(|(token, _)| Some(token)).ok_or(failure)
            }
        }
    }
}

impl fmt::Debug for BackendService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendService").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// A fixed `Authorization` value.
pub struct FixedHeader(HeaderValue);

impl FixedHeader {
    /// The text of the file; `None` when it cannot stand in a header.
    pub fn new(text: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(text.trim()).ok().filter(|value| !value.is_empty())?;
        value.set_sensitive(true);
        Some(Self(value))
    }
}

#[async_trait]
impl UpstreamCredential for FixedHeader {
    async fn authorization(&self) -> Result<Option<HeaderValue>, UpstreamFailure> {
        Ok(Some(self.0.clone()))
    }
}

impl fmt::Debug for FixedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FixedHeader(..)")
    }
}
