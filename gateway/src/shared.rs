//! What outlives a generation of the configuration: the clock, the audit log, counters, state, and the record of decisions.

use std::fmt;
use std::sync::Arc;

use crate::admit::Admission;
use crate::alerts::Alerts;
use crate::audit::AuditLog;
use crate::behaviour::Behaviour;
use crate::clock::Clock;
use crate::forward::Pools;
use crate::identify::keys::KnownKeys;
use crate::identify::state::{ReplayCache, Revocations};
use crate::listen::InFlight;
use crate::lockdown::Orders;
use crate::state::{EmbeddedState, RedisState, StateStore};
use crate::telemetry::Metrics;

/// One per process.
pub struct Shared {
    pub clock: Arc<dyn Clock>,
    pub audit: Arc<AuditLog>,
    pub metrics: Arc<Metrics>,
    pub admission: Arc<Admission>,
    pub replays: Arc<dyn ReplayCache>,
    pub revocations: Arc<dyn Revocations>,
    /// The issuers' keys, over all generations.
    pub known_keys: KnownKeys,
    pub state: Arc<dyn StateStore>,
    /// What this process keeps of it by itself.
    pub kept: Arc<EmbeddedState>,
    /// The same, where replicas share it.
    pub redis: Option<Arc<RedisState>>,
    pub behaviour: Behaviour,
    pub alerts: Alerts,
    pub lockdowns: Orders,
    pub in_flight: Arc<InFlight>,
    /// What is known of the EHRs' URLs.
    pub upstreams: Pools,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared(..)")
    }
}
