//! Rates and counts within this process, by governor's GCRA, keyed by 64-bit hashes of verified identities.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use fhirwall_policy::subject::Subject;
use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{NotUntil, Quota, RateLimiter};

use super::failures::Failures;
use super::limits::{Limits, Rate};
use super::{Limit, Throttled};
use crate::clock::Clock;

/// What drives the limiters: a clock that never goes back, or in tests and replays a [`Clock`] of ours.
#[derive(Clone, Debug)]
pub enum Ticks {
    Monotonic(Instant),
    Given(Arc<dyn Clock>),
}

impl GovernorClock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let nanos = match self {
            Self::Monotonic(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Self::Given(clock) => u64::try_from(clock.now().unix_timestamp_nanos()).unwrap_or(0),
        };
        Nanos::new(nanos)
    }
}

impl Default for Ticks {
    fn default() -> Self {
        Self::Monotonic(Instant::now())
    }
}

type Keyed = RateLimiter<u64, DashMapStateStore<u64>, Ticks, StateInformationMiddleware>;

/// The limiters of one process.
pub(super) struct Rates {
    ticks: Ticks,
    /// Keyed at random, so that nobody can choose identities that share an allowance with another's.
    hasher: RandomState,
    user: ArcSwap<(Rate, Keyed)>,
    address: ArcSwap<(Rate, Keyed)>,
    emergency: ArcSwap<(Rate, Keyed)>,
    failures: Failures,
    /// One limiter a rate: partners with the same rate share one, keyed by partner.
    partners: Mutex<HashMap<(u32, u32), Arc<Keyed>>>,
}

/// Addresses are not verified: they share this many allowances, so that a flood of them fills no memory.
const ADDRESS_SLOTS: u64 = 1 << 16;

impl Rates {
    pub(super) fn new(limits: &Limits, ticks: Ticks) -> Self {
        let of = |rate: Rate| ArcSwap::from_pointee((rate, keyed(rate, &ticks)));
        Self {
            hasher: RandomState::new(),
            user: of(limits.user),
            address: of(limits.address),
            emergency: of(limits.emergency),
            failures: Failures::default(),
            partners: Mutex::default(),
            ticks,
        }
    }

    pub(super) fn reload(&self, limits: &Limits) {
        let new = [(&self.user, limits.user), (&self.address, limits.address), (&self.emergency, limits.emergency)];
        for (limiter, rate) in new {
            if limiter.load().0 != rate {
                limiter.store(Arc::new((rate, keyed(rate, &self.ticks))));
            }
        }
        let used: Vec<Rate> = limits.partners.values().chain([&limits.partner]).map(|partner| partner.rate).collect();
        let in_use = |key: &(u32, u32)| used.iter().any(|rate| (rate.per_second, rate.burst) == *key);
        locked(&self.partners).retain(|key, _| in_use(key));
    }

    pub(super) fn sweep(&self) {
        for limiter in [&self.user, &self.address, &self.emergency] {
            limiter.load().1.retain_recent();
        }
        self.failures.sweep(self.nanos());
        let partners: Vec<Arc<Keyed>> = locked(&self.partners).values().cloned().collect();
        for limiter in partners {
            limiter.retain_recent();
        }
    }

    pub(super) fn partner_key(&self, subject: &Subject) -> u64 {
        self.hasher.hash_one(("partner", &*subject.partner.client_id))
    }

    pub(super) fn user_key(&self, subject: &Subject) -> u64 {
        self.hasher.hash_one(("user", &*subject.partner.client_id, &*subject.issuer, &*subject.sub))
    }

    pub(super) fn emergency_key(&self, subject: &Subject) -> u64 {
        self.hasher.hash_one(("emergency", &*subject.partner.client_id, &*subject.issuer, &*subject.sub))
    }

    pub(super) fn failures(&self, address: IpAddr, certificate: Option<&[u8; 32]>, most: u32) -> Result<(), Throttled> {
        match self.failures.shut_out(self.origin(address, certificate), most, self.nanos()) {
            Some(retry_after) => Err(Throttled { limit: Limit::AddressFailures, retry_after }),
            None => Ok(()),
        }
    }

    pub(super) fn count_failure(&self, address: IpAddr, certificate: Option<&[u8; 32]>) {
        self.failures.count(self.origin(address, certificate), self.nanos());
    }

    /// Where failures come from: a certificate, wherever it is used from, or an address.
    fn origin(&self, address: IpAddr, certificate: Option<&[u8; 32]>) -> u64 {
        match certificate {
            Some(certificate) => self.hasher.hash_one(certificate),
            None => self.hasher.hash_one(network(address)).checked_rem(ADDRESS_SLOTS).unwrap_or(0),
        }
    }

    fn nanos(&self) -> u64 {
        self.ticks.now().as_u64()
    }

    pub(super) fn address(&self, address: IpAddr) -> Result<(), Throttled> {
        let limiter = self.address.load();
        let slot = self.hasher.hash_one(network(address)).checked_rem(ADDRESS_SLOTS).unwrap_or(0);
        spend(&limiter.1, slot, 1, limiter.0, Limit::AddressRequests).map(|_| ())
    }

    pub(super) fn user(&self, subject: &Subject, cost: u32) -> Result<u32, Throttled> {
        let limiter = self.user.load();
        spend(&limiter.1, self.user_key(subject), cost, limiter.0, Limit::UserRequests)
    }

    pub(super) fn emergency(&self, subject: &Subject, entries: u32) -> Result<u32, Throttled> {
        let limiter = self.emergency.load();
        spend(&limiter.1, self.user_key(subject), entries, limiter.0, Limit::EmergencyRequests)
    }

    pub(super) fn partner(&self, subject: &Subject, rate: Rate, cost: u32) -> Result<u32, Throttled> {
        let limiter = {
            let mut partners = locked(&self.partners);
            let known = partners.entry((rate.per_second, rate.burst));
            Arc::clone(known.or_insert_with(|| Arc::new(keyed(rate, &self.ticks))))
        };
        spend(&limiter, self.partner_key(subject), cost, rate, Limit::PartnerRequests)
    }
}

fn keyed(rate: Rate, ticks: &Ticks) -> Keyed {
    let one = NonZeroU32::MIN;
    let quota = Quota::per_second(NonZeroU32::new(rate.per_second).unwrap_or(one))
        .allow_burst(NonZeroU32::new(rate.burst).unwrap_or(one));
    Keyed::new(quota, DashMapStateStore::default(), ticks.clone())
}

fn spend(limiter: &Keyed, key: u64, cost: u32, rate: Rate, limit: Limit) -> Result<u32, Throttled> {
    // A limit of nothing allows nothing (rule 6); a request dearer than the whole allowance takes all of it.
    let (Some(cost), true) = (NonZeroU32::new(cost.min(rate.burst)), rate.per_second > 0) else {
        return Err(Throttled { limit, retry_after: Duration::from_secs(3600) });
    };
    let wait = |until: NotUntil<Nanos>| until.wait_time_from(limiter.clock().now());
    match limiter.check_key_n(&key, cost) {
        Ok(Ok(snapshot)) => Ok(snapshot.remaining_burst_capacity()),
        Ok(Err(until)) => Err(Throttled { limit, retry_after: wait(until) }),
        Err(_) => Err(Throttled { limit, retry_after: rate.window() }),
    }
}

/// Who holds an IPv6 /64 holds all its addresses.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        },
    }
}

/// Requests at once, by caller. Bounded by the requests that there are.
#[derive(Debug, Default)]
pub(super) struct Concurrent(Mutex<HashMap<u64, u32>>);

/// One place among the requests at once, given back when dropped.
pub(super) struct Inside {
    counts: Arc<Concurrent>,
    key: u64,
}

impl Concurrent {
    pub(super) fn enter(self: &Arc<Self>, key: u64, most: u32, limit: Limit) -> Result<Inside, Throttled> {
        let mut counts = locked(&self.0);
        let count = counts.get(&key).copied().unwrap_or(0);
        if count >= most {
            return Err(Throttled { limit, retry_after: Duration::from_secs(1) });
        }
        counts.insert(key, count.saturating_add(1));
        Ok(Inside { counts: Arc::clone(self), key })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut counts = locked(&self.counts.0);
        match counts.get(&self.key).copied() {
            Some(count) if count > 1 => {
                counts.insert(self.key, count.saturating_sub(1));
            }
            Some(_) | None => {
                counts.remove(&self.key);
            }
        }
    }
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inside")
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_one() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
