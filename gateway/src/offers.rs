//! What the EHR says that it offers, where it matters here: its CapabilityStatement, read when first needed and again after
//! a while (R4 capabilitystatement.html).

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use time::{Duration, OffsetDateTime};

use crate::clock::Clock;
use crate::forward::{Upstream, UpstreamFailure, UpstreamRequest};

/// How long what was read is taken as true.
const KEPT: Duration = Duration::minutes(10);

/// What one EHR offers on its system level.
pub struct Offers {
    upstream: Arc<Upstream>,
    clock: Arc<dyn Clock>,
    known: ArcSwapOption<Known>,
}

struct Known {
    transaction: bool,
    until: OffsetDateTime,
}

impl fmt::Debug for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Offers(..)")
    }
}

#[derive(Deserialize)]
struct Statement {
    #[serde(default)]
    rest: Vec<Rest>,
}

#[derive(Deserialize)]
struct Rest {
    #[serde(default)]
    interaction: Vec<Code>,
}

#[derive(Deserialize)]
struct Code {
    #[serde(default)]
    code: String,
}

impl Offers {
    pub fn new(upstream: Arc<Upstream>, clock: Arc<dyn Clock>) -> Self {
        Self { upstream, clock, known: ArcSwapOption::empty() }
    }

    /// Does it carry out transactions?
    ///
    /// # Errors
    /// When it does not say: nothing is sent that it may carry out by halves.
    pub async fn transactions(&self) -> Result<bool, UpstreamFailure> {
        let now = self.clock.now();
        if let Some(known) = self.known.load().as_ref().filter(|known| now < known.until) {
            return Ok(known.transaction);
        }
        let answer = self.upstream.exchange(&UpstreamRequest::get("/metadata", "")).await?;
        let statement: Statement = serde_json::from_slice(&answer.body).map_err(|_| UpstreamFailure::Unintelligible)?;
        let mut offered = statement.rest.iter().flat_map(|rest| &rest.interaction);
        let transaction = offered.any(|offered| offered.code == "transaction");
        self.known.store(Some(Arc::new(Known { transaction, until: now.saturating_add(KEPT) })));
        Ok(transaction)
    }
}
