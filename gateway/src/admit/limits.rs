//! The limits as configured, and what each class of interaction costs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The limits of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub user: Rate,
    pub address: Rate,
    /// Attempts to get in, from one address or with one certificate.
    pub address_failures_per_minute: u32,
    pub emergency: Rate,
    pub user_concurrent: u32,
    pub user_patients_per_hour: u32,
    /// Requests under way in this process.
    pub concurrent: u32,
    pub in_flight_bytes: u64,
    /// How long a request may wait for room in the bytes in flight.
    pub in_flight_wait: Duration,
    /// For partners that state no limits of their own.
    pub partner: PartnerLimits,
    pub partners: HashMap<Arc<str>, PartnerLimits>,
    /// How many replicas share the limits: while the shared store is away, each allows its share.
    pub replicas: u32,
}

/// The limits of one partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartnerLimits {
    pub rate: Rate,
    pub concurrent: u32,
    pub distinct_patients_per_hour: u32,
    pub kib_per_hour: u32,
    pub bulk_jobs_per_hour: u32,
    /// What the partner's own file says of distinct patients: this much is usual for it.
    pub stated_patients_per_hour: Option<u32>,
}

/// So many per second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

impl Rate {
    /// How long an empty allowance takes to be full again.
    pub fn window(&self) -> Duration {
        Duration::from_secs_f64(f64::from(self.burst) / f64::from(self.per_second.max(1)))
    }
}

impl Limits {
    pub fn of(&self, client_id: &str) -> PartnerLimits {
        self.partners.get(client_id).copied().unwrap_or(self.partner)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            user: Rate { per_second: 20, burst: 60 },
            address: Rate { per_second: 50, burst: 200 },
            address_failures_per_minute: 30,
            emergency: Rate { per_second: 10, burst: 60 },
            user_concurrent: 16,
            user_patients_per_hour: 200,
            concurrent: 512,
            in_flight_bytes: 512 << 20,
            in_flight_wait: Duration::from_millis(500),
            partner: PartnerLimits::default(),
            partners: HashMap::new(),
            replicas: 1,
        }
    }
}

impl Default for PartnerLimits {
    fn default() -> Self {
        Self {
            rate: Rate { per_second: 50, burst: 200 },
            concurrent: 64,
            distinct_patients_per_hour: 1000,
            kib_per_hour: 4 << 20,
            bulk_jobs_per_hour: 2,
            stated_patients_per_hour: None,
        }
    }
}

/// What kind of work a request is for the EHR and how much it can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteClass {
    Metadata,
    Read,
    Search,
    History,
    Write,
    /// `$everything`, `$document`, and the like.
    Operation,
    Bulk,
}

impl RouteClass {
    pub const fn cost(self) -> u32 {
        match self {
            Self::Metadata | Self::Read => 1,
            Self::Write => 2,
            Self::Search => 3,
            Self::History => 5,
            Self::Operation => 10,
            Self::Bulk => 50,
        }
    }
}
