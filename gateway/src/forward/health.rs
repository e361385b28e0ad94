//! The gateway's own question to each URL of each EHR: `GET {url}/metadata`, with the gateway's credential.
//!
//! R4 http.html#capabilities: every server answers it, and it names no patient. Any answer below 500 counts, 401 and 403
//! too: whether a server wants a token for its CapabilityStatement is its own affair. It is read whole, so that a server
//! that stalls in the middle of answers is found, and so that the connection stays of use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::pool::Pools;
use super::retry::retry_after;
use super::{Upstream, UpstreamRequest};

/// A health question is given up after this long, or after the endpoint's own timeout if that is shorter.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than this of a CapabilityStatement is not read.
const STATEMENT_BYTES: usize = 8 << 20;
/// How often the list of upstreams is looked at when nothing else happens.
const IDLE: Duration = Duration::from_secs(60);

/// What a health question came to.
enum Health {
    Answers,
    Silent {
        asked_to_wait: Option<Duration>,
    },
    /// The gateway had no credential to ask with: it says nothing of the URL.
    NotAsked,
}

/// Asks the URLs of `upstreams` for their health, for ever. `changes` tells when the list may have changed.
pub async fn keep_asking<T>(
    pools: &Pools,
    upstreams: impl Fn() -> Vec<Arc<Upstream>>,
    mut changes: watch::Receiver<T>,
) {
    let mut asking = JoinSet::new();
    loop {
        let current = upstreams();
        let now = Instant::now();
        for upstream in &current {
            for (index, base) in upstream.pool().due(now) {
                let upstream = Arc::clone(upstream);
                asking.spawn(async move { upstream.ask(index, &base).await });
            }
        }
        let next = current.iter().filter_map(|upstream| upstream.pool().next_question(now)).min();
        let next = next.unwrap_or_else(|| now.checked_add(IDLE).unwrap_or(now));
        tokio::select! {
            () = sleep_until(next.into()) => {}
            () = pools.woken() => {}
            Some(_) = asking.join_next() => {}
            Ok(()) = changes.changed() => {
                for upstream in upstreams() {
                    upstream.pool().try_all(Instant::now());
                }
            }
        }
    }
}

impl Upstream {
    async fn ask(&self, index: usize, base: &str) {
        let patience = PATIENCE.min(self.timeout);
        let health = timeout(patience, self.question(base)).await;
        let now = Instant::now();
        let next = now.checked_add(self.health_interval).unwrap_or(now);
        match health.unwrap_or(Health::Silent { asked_to_wait: None }) {
            Health::Answers => self.pool.answered(index, now, next),
            Health::Silent { asked_to_wait } => self.pool.silent(index, now, next, asked_to_wait),
            Health::NotAsked => self.pool.not_asked(index, now, next),
        }
    }

    async fn question(&self, base: &str) -> Health {
        let silent = Health::Silent { asked_to_wait: None };
        let Ok(authorization) = self.credential.authorization().await else { return Health::NotAsked };
        let request = UpstreamRequest::get("/metadata", "");
        let Ok(request) = super::build(base, &request, authorization) else { return silent };
        let Ok(answer) = self.wire.request(request).await else { return silent };
        if answer.status().is_server_error() {
            let waits = answer.status() == StatusCode::SERVICE_UNAVAILABLE;
            let asked_to_wait = waits.then(|| retry_after(answer.headers(), self.clock.now())).flatten();
            return Health::Silent { asked_to_wait };
        }
        match Limited::new(answer.into_body(), STATEMENT_BYTES).collect().await {
            Ok(_) => Health::Answers,
            // It answers, at length.
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Health::Answers,
            Err(_) => silent,
        }
    }
}
