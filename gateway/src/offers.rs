//! What the EHR says that it offers: its CapabilityStatement, read when first needed and again after a while
//! (R4 capabilitystatement.html).
//!
//! No transaction is sent to an EHR that does not claim to carry them out, and the gateway's own statement claims nothing
//! that the EHR does not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use fhir_profiles::ids::ResourceType;
use serde::Deserialize;
use time::{Duration, OffsetDateTime};
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::forward::{Upstream, UpstreamFailure, UpstreamRequest};

/// How long what was read is taken as true.
const KEPT: Duration = Duration::minutes(10);
/// How long an EHR that did not say is not asked again by who can do without.
const PAUSE: Duration = Duration::seconds(10);

/// What one EHR offers.
pub struct Offers {
    upstream: Arc<Upstream>,
    clock: Arc<dyn Clock>,
    known: ArcSwapOption<Known>,
    /// Held while the EHR is asked: until when nobody asks again who can do without.
    asking: Mutex<Option<OffsetDateTime>>,
    written: ArcSwapOption<Written>,
}

struct Known {
    offered: Arc<Offered>,
    until: OffsetDateTime,
}

/// The gateway's own statement, as written from what the EHR offered.
struct Written {
    from: Option<Arc<Offered>>,
    statement: Bytes,
}

impl fmt::Debug for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Offers(..)")
    }
}

/// What an EHR's CapabilityStatement says, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    system: BTreeSet<String>,
    types: BTreeMap<String, BTreeSet<String>>,
    operations: BTreeSet<String>,
}

impl Offered {
    /// Does it offer this interaction on the whole system (`transaction`)?
    pub fn on_system(&self, code: &str) -> bool {
        self.system.contains(code)
    }

    /// Does it offer this interaction on this type (`read`)?
    pub fn on_type(&self, kind: ResourceType, code: &str) -> bool {
        self.types.get(kind.as_str()).is_some_and(|codes| codes.contains(code))
    }

    /// Does it name this type at all?
    pub fn names(&self, kind: ResourceType) -> bool {
        self.types.contains_key(kind.as_str())
    }

    /// Does it offer an operation of this name, on whatever level?
    pub fn operation(&self, name: &str) -> bool {
        self.operations.contains(name)
    }

    fn read(statement: &[u8]) -> Option<Self> {
        let statement: Statement = serde_json::from_slice(statement).ok()?;
        let mut offered = Self::default();
        // What it does as a client of others is no offer.
        for rest in statement.rest.into_iter().filter(|rest| rest.mode.as_deref() != Some("client")) {
            offered.system.extend(rest.interaction.into_iter().map(|one| one.code));
            offered.operations.extend(rest.operation.into_iter().map(Named::name));
            for resource in rest.resource {
                offered.operations.extend(resource.operation.into_iter().map(Named::name));
                let codes = offered.types.entry(resource.kind).or_default();
                codes.extend(resource.interaction.into_iter().map(|one| one.code));
            }
        }
        Some(offered)
    }
}

#[derive(Deserialize)]
struct Statement {
    #[serde(default)]
    rest: Vec<Rest>,
}

#[derive(Deserialize)]
struct Rest {
    mode: Option<String>,
    #[serde(default)]
    resource: Vec<Resource>,
    #[serde(default)]
    interaction: Vec<Code>,
    #[serde(default)]
    operation: Vec<Named>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    interaction: Vec<Code>,
    #[serde(default)]
    operation: Vec<Named>,
}

#[derive(Deserialize)]
struct Code {
    #[serde(default)]
    code: String,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

impl Named {
    /// R4 wants the name without `$`; some servers write it.
    fn name(self) -> String {
        self.name.trim_start_matches('$').to_owned()
    }
}

impl Offers {
    pub fn new(upstream: Arc<Upstream>, clock: Arc<dyn Clock>) -> Self {
        let (known, written) = (ArcSwapOption::empty(), ArcSwapOption::empty());
        Self { upstream, clock, known, asking: Mutex::new(None), written }
    }

    /// Does it carry out transactions?
    ///
    /// # Errors
    /// When it does not say: nothing is sent that it may carry out by halves.
    pub async fn transactions(&self) -> Result<bool, UpstreamFailure> {
        let offered = match self.fresh() {
            Some(offered) => offered,
            None => self.ask().await?,
        };
        Ok(offered.on_system("transaction"))
    }

    /// What it offers, as far as it is known: what it last said, where it says nothing now; `None` if it never did.
    pub async fn known(&self) -> Option<Arc<Offered>> {
        if let Some(offered) = self.fresh() {
            return Some(offered);
        }
        // Anybody may read our statement: many who do are one question to the EHR.
        let mut paused = self.asking.lock().await;
        let now = self.clock.now();
        if self.fresh().is_none() && paused.is_none_or(|until| until <= now) {
            *paused = self.ask().await.is_err().then(|| now.saturating_add(PAUSE));
        }
        self.known.load().as_ref().map(|known| Arc::clone(&known.offered))
    }

    /// The gateway's own statement, written anew by `write` when the EHR offers something else than before.
    pub async fn statement(&self, write: impl FnOnce(Option<&Offered>) -> Bytes) -> Bytes {
        let offered = self.known().await;
        if let Some(written) = self.written.load().as_ref()
            && written.from == offered
        {
            return written.statement.clone();
        }
        let statement = write(offered.as_deref());
        self.written.store(Some(Arc::new(Written { from: offered, statement: statement.clone() })));
        statement
    }

    fn fresh(&self) -> Option<Arc<Offered>> {
        let now = self.clock.now();
        self.known.load().as_ref().filter(|known| now < known.until).map(|known| Arc::clone(&known.offered))
    }

    async fn ask(&self) -> Result<Arc<Offered>, UpstreamFailure> {
        let answer = self.upstream.exchange(&UpstreamRequest::get("/metadata", "")).await?;
        let offered = Offered::read(&answer.body).ok_or(UpstreamFailure::Unintelligible)?;
        let offered = Arc::new(offered);
        let until = self.clock.now().saturating_add(KEPT);
        self.known.store(Some(Arc::new(Known { offered: Arc::clone(&offered), until })));
        Ok(offered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_offers_is_read_from_its_statement() {
        let statement = br#"{"resourceType":"CapabilityStatement","rest":[
            {"mode":"server","interaction":[{"code":"transaction"}],"operation":[{"name":"export"}],
             "resource":[{"type":"Patient","interaction":[{"code":"read"}],"operation":[{"name":"$everything"}]},
                         {"type":"Patient","interaction":[{"code":"vread"}]},{"type":"Group"}]},
            {"mode":"client","interaction":[{"code":"batch"}],"resource":[{"type":"Patient","interaction":[{"code":"delete"}]}]}]}"#;
        let offered = Offered::read(statement).unwrap();
        let group: ResourceType = "Group".parse().unwrap();
        for (said, expected) in [
            (offered.on_system("transaction"), true),
            (offered.on_system("batch"), false),
            (offered.on_type(ResourceType::PATIENT, "read"), true),
            (offered.on_type(ResourceType::PATIENT, "vread"), true),
            (offered.on_type(ResourceType::PATIENT, "delete"), false),
            (offered.on_type(group, "read"), false),
            (offered.names(group), true),
            (offered.names(ResourceType::BUNDLE), false),
            (offered.operation("export"), true),
            (offered.operation("everything"), true),
            (offered.operation("lastn"), false),
        ] {
            assert_eq!(said, expected, "{offered:?}");
        }
        assert_eq!(Offered::read(b"{}"), Some(Offered::default()));
        assert_eq!(Offered::read(b"<html>"), None);
    }
}
