//! The public keys of clients that publish them (SMART App Launch 2.2, asymmetric authentication).
//!
//! Kept no longer than the client's `Cache-Control` allows and five minutes at most; asked for at most once a second.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::header::CACHE_CONTROL;
use serde_json::{Map, Value};
use time::{Duration, OffsetDateTime};
use tokio::sync::Mutex;
use url::Url;

use crate::identify::fetch::Fetch;
use crate::identify::json::unique_object;

const LONGEST: Duration = Duration::minutes(5);
const PAUSE: Duration = Duration::seconds(1);

/// A client's key set, where it can be had.
pub struct PublishedKeys {
    fetch: Arc<dyn Fetch>,
    known: Mutex<HashMap<Url, Known>>,
}

struct Known {
    keys: Arc<[Map<String, Value>]>,
    until: OffsetDateTime,
    asked: OffsetDateTime,
}

/// The client's keys cannot be had now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfReach;

impl PublishedKeys {
    pub fn new(fetch: Arc<dyn Fetch>) -> Self {
        Self { fetch, known: Mutex::new(HashMap::new()) }
    }

    /// The keys at a registered URL. Holding the lock while asking is holding the one flight.
    pub async fn at(&self, url: &Url, now: OffsetDateTime) -> Result<Arc<[Map<String, Value>]>, OutOfReach> {
        let mut known = self.known.lock().await;
        if let Some(entry) = known.get(url) {
            if now < entry.until {
                return Ok(Arc::clone(&entry.keys));
            }
            if now < entry.asked + PAUSE {
                return Err(OutOfReach);
            }
        }
        let asked = self.ask(url).await;
        let (keys, lifetime) = match &asked {
            Ok((keys, lifetime)) => (Arc::clone(keys), *lifetime),
            Err(OutOfReach) => (Arc::from([]), Duration::ZERO),
        };
        known.insert(url.clone(), Known { keys, until: now + lifetime, asked: now });
        asked.map(|(keys, _)| keys)
    }

    async fn ask(&self, url: &Url) -> Result<(Arc<[Map<String, Value>]>, Duration), OutOfReach> {
        let request = http::Request::get(url.as_str())
            .header(http::header::ACCEPT, "application/json")
            .body(Vec::new())
            .map_err(|_| OutOfReach)?;
        let response = self.fetch.fetch(request).await.map_err(|_| OutOfReach)?;
        if response.status() != http::StatusCode::OK {
            return Err(OutOfReach);
        }
        let lifetime = response
            .headers()
            .get(CACHE_CONTROL)
            .map_or(LONGEST, |value| lifetime(value.to_str().unwrap_or("no-store")));
        let mut set = unique_object(response.body()).map_err(|_| OutOfReach)?;
        let Some(Value::Array(keys)) = set.remove("keys") else { return Err(OutOfReach) };
        let keys = keys.into_iter().filter_map(|key| if let Value::Object(key) = key { Some(key) } else { None });
        Ok((keys.collect(), lifetime))
    }
}

impl fmt::Debug for PublishedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublishedKeys(..)")
    }
}

/// RFC 9111 section 5.2.2, as far as it shortens.
fn lifetime(cache_control: &str) -> Duration {
    let mut lifetime = LONGEST;
    for directive in cache_control.split(',').map(|directive| directive.trim().to_ascii_lowercase()) {
        if directive == "no-store" || directive == "no-cache" {
            return Duration::ZERO;
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            let seconds = seconds.trim_matches('"').parse().map_or(Duration::ZERO, Duration::seconds);
            lifetime = lifetime.min(seconds);
        }
    }
    lifetime
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_no_longer_than_the_client_says() {
        assert_eq!(lifetime("max-age=60"), Duration::seconds(60));
        assert_eq!(lifetime("public, max-age=86400"), LONGEST);
        assert_eq!(lifetime("max-age=60, no-cache"), Duration::ZERO);
        assert_eq!(lifetime("no-store"), Duration::ZERO);
        assert_eq!(lifetime("max-age=x"), Duration::ZERO);
        assert_eq!(lifetime("public"), LONGEST);
    }
}
