//! Quotas: how much a caller may ask for, and of how many patients, before anything is asked of the EHR.
//!
//! Rates by partner, user and address; requests at once; distinct patients disclosed; bytes in flight per process. What
//! is over a limit is [`Throttled`], with the limit's name and when to come back. Emergency access has an allowance of
//! its own, so that ordinary load never uses it up (42 CFR 2.51; 45 CFR 164.312(a)(2)(ii)).

mod failures;
mod headers;
mod limits;
mod rates;
mod shed;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use fhirwall_policy::reason::Reason;
use fhirwall_policy::subject::Subject;

pub use limits::{Limits, PartnerLimits, Rate, RouteClass};
pub use rates::Ticks;
pub use shed::{Effort, Rank, as_one_request};

use crate::identify::error::IdentifyError;
use crate::state::{Allowance, Distinct, Spending, StateStore};
use rates::{Concurrent, Inside, Rates};
use shed::{Budget, Held};

/// The quotas of this process.
pub struct Admission {
    limits: ArcSwap<Limits>,
    rates: Rates,
    concurrent: Arc<Concurrent>,
    /// Requests under way in this process.
    places: Arc<Budget>,
    /// Bytes of answers in this process.
    in_flight: Arc<Budget>,
    store: Arc<dyn StateStore>,
    /// Serves while a shared store is away.
    local: Arc<dyn StateStore>,
}

/// An admitted request. It counts as one at once until this is dropped.
#[derive(Debug)]
pub struct Admitted {
    /// Of the tightest allowance: its name, size, what is left of it.
    pub policy: &'static str,
    pub quota: u32,
    pub left: u32,
    pub window: Duration,
    _inside: Vec<Inside>,
    _place: Held,
}

/// Bytes of answers that may be held in memory, taken before the EHR is asked and given back when dropped.
#[derive(Debug)]
pub struct BytesInFlight(#[expect(dead_code, reason = "held for its drop")] Held);

/// A limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttled {
    pub limit: Limit,
    pub retry_after: Duration,
}

/// The limits, by the names that metrics and headers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    PartnerRequests,
    UserRequests,
    AddressRequests,
    EmergencyRequests,
    PartnerConcurrency,
    UserConcurrency,
    PartnerPatients,
    UserPatients,
    PartnerBytes,
    BulkJobs,
    InFlightBytes,
    AddressFailures,
    Overload,
}

impl Limit {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PartnerRequests => "partner-requests",
            Self::UserRequests => "user-requests",
            Self::AddressRequests => "address-requests",
            Self::EmergencyRequests => "emergency-requests",
            Self::PartnerConcurrency => "partner-concurrency",
            Self::UserConcurrency => "user-concurrency",
            Self::PartnerPatients => "partner-patients",
            Self::UserPatients => "user-patients",
            Self::PartnerBytes => "partner-bytes",
            Self::BulkJobs => "bulk-jobs",
            Self::InFlightBytes => "in-flight-bytes",
            Self::AddressFailures => "address-failures",
            Self::Overload => "overload",
        }
    }
}

impl Throttled {
    /// A caller over its own quota is told so; a process at its bound is overloaded.
    pub const fn reason(&self) -> Reason {
        match self.limit {
            Limit::InFlightBytes | Limit::Overload => Reason::Overloaded,
            Limit::PartnerRequests
            | Limit::UserRequests
            | Limit::AddressRequests
            | Limit::AddressFailures
            | Limit::EmergencyRequests
            | Limit::PartnerConcurrency
            | Limit::UserConcurrency
            | Limit::PartnerPatients
            | Limit::UserPatients
            | Limit::PartnerBytes
            | Limit::BulkJobs => Reason::RateLimited,
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

impl Admission {
    /// `store` holds the counts that replicas share; `local` serves while it is away.
    pub fn new(limits: Limits, ticks: Ticks, store: Arc<dyn StateStore>, local: Arc<dyn StateStore>) -> Self {
        Self {
            rates: Rates::new(&limits, ticks),
            places: Budget::new(limits.concurrent.into()),
            in_flight: Budget::new(limits.in_flight_bytes),
            limits: ArcSwap::from_pointee(limits),
            concurrent: Arc::default(),
            store,
            local,
        }
    }

    /// New limits of partners hold from the next request; what was spent stays spent.
    pub fn reload(&self, limits: Limits) {
        self.rates.reload(&limits);
        self.places.resize(limits.concurrent.into());
        self.in_flight.resize(limits.in_flight_bytes);
        self.limits.store(Arc::new(limits));
    }

    /// Forgets callers that have their full allowance again. To be called every few seconds: it bounds the memory to
    /// the callers seen in between.
    pub fn sweep(&self) {
        self.rates.sweep();
    }

    /// So many patients an hour the app's own file states.
    pub fn stated_patients(&self, client_id: &str) -> Option<u32> {
        self.limits.load().of(client_id).stated_patients_per_hour
    }

    /// A request before its caller is known: the address alone spends. `certificate` is the digest of the one on the
    /// connection.
    pub fn unidentified(&self, address: IpAddr, certificate: Option<&[u8; 32]>) -> Result<(), Throttled> {
        let most = self.limits.load().address_failures_per_minute;
        self.rates.failures(address, certificate, most)?;
        self.rates.address(address)
    }

    /// A caller could not be identified. Attempts to get in count against where they come from.
    pub fn not_identified(&self, address: IpAddr, certificate: Option<&[u8; 32]>, error: &IdentifyError) {
        if failures::is_an_attempt(error) {
            self.rates.count_failure(address, certificate);
        }
    }

    /// A request of a verified caller, `entries` of them for a batch. Takes a place in this process as its rank allows,
    /// spends the cost of its class from the allowances of partner and user, and counts among their requests at once.
    pub async fn before(
        &self,
        subject: &Subject,
        effort: Effort,
        class: RouteClass,
        entries: u32,
    ) -> Result<Admitted, Throttled> {
        let limits = self.limits.load();
        let of = limits.of(&subject.partner.client_id);
        let cost = class.cost().saturating_mul(entries.max(1));
        let rank = Rank::of(subject, effort);
        shed::set_rank(rank);
        let place = self.places.try_take(1, rank);
        let place = place.ok_or_else(|| Throttled { limit: Limit::Overload, retry_after: rank.comes_back_after() })?;
        if subject.emergency.is_some() {
            // Not among the partner's and the user's ordinary requests at once: these must not shut it out.
            let key = self.rates.emergency_key(subject);
            let inside = vec![self.concurrent.enter(key, limits.user_concurrent, Limit::EmergencyRequests)?];
            self.rates.emergency(subject, entries.max(1))?;
            let quota = limits.emergency.burst;
            return Ok(Admitted {
                policy: Limit::EmergencyRequests.as_str(),
                quota,
                left: quota,
                window: limits.emergency.window(),
                _inside: inside,
                _place: place,
            });
        }
        let inside = vec![
            self.concurrent.enter(self.rates.partner_key(subject), of.concurrent, Limit::PartnerConcurrency)?,
            self.concurrent.enter(self.rates.user_key(subject), limits.user_concurrent, Limit::UserConcurrency)?,
        ];
        let (user, partner) = if self.store.is_shared() {
            (
                self.shared(&self.user_name(subject), limits.user, cost, Limit::UserRequests).await?,
                self.shared(&self.partner_name(subject), of.rate, cost, Limit::PartnerRequests).await?,
            )
        } else {
            (self.rates.user(subject, cost)?, self.rates.partner(subject, of.rate, cost)?)
        };
        let (policy, rate, left) = if user <= partner {
            (Limit::UserRequests, limits.user, user)
        } else {
            (Limit::PartnerRequests, of.rate, partner)
        };
        let (policy, window) = (policy.as_str(), rate.window());
        Ok(Admitted { policy, quota: rate.burst, left, window, _inside: inside, _place: place })
    }

    /// Before an answer about these patients leaves: an answer that would pass the hour's limit is withheld whole.
    ///
    /// An emergency's own patient is never refused here; everybody else in such an answer is counted as ever.
    pub async fn disclosing(&self, subject: &Subject, patients: &[&str]) -> Result<(), Throttled> {
        let spared = subject.emergency.as_ref().map(|emergency| emergency.patient.as_str());
        let counted: Vec<&str> = patients.iter().copied().filter(|patient| Some(*patient) != spared).collect();
        if counted.is_empty() {
            return Ok(());
        }
        let limits = self.limits.load();
        let of = limits.of(&subject.partner.client_id);
        let user = self.user_name(subject);
        self.distinct(&user, &counted, limits.user_patients_per_hour, Limit::UserPatients).await?;
        let partner = self.partner_name(subject);
        self.distinct(&partner, &counted, of.distinct_patients_per_hour, Limit::PartnerPatients).await
    }

    /// Before the body leaves: the partner's bytes of this hour.
    pub async fn sending(&self, subject: &Subject, bytes: u64) -> Result<(), Throttled> {
        let limits = self.limits.load();
        let of = limits.of(&subject.partner.client_id);
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let key = format!("bytes:{}", self.partner_name(subject));
        let allowance = Allowance { burst: of.kib_per_hour, window: HOUR };
        self.spend(&key, kib, allowance, Limit::PartnerBytes).await.map(|_| ())
    }

    /// Before a bulk export is started: jobs by partner and hour.
    pub async fn bulk_job(&self, subject: &Subject) -> Result<(), Throttled> {
        let limits = self.limits.load();
        let of = limits.of(&subject.partner.client_id);
        let key = format!("bulk:{}", self.partner_name(subject));
        let allowance = Allowance { burst: of.bulk_jobs_per_hour, window: HOUR };
        self.spend(&key, 1, allowance, Limit::BulkJobs).await.map(|_| ())
    }

    /// Room for an answer of up to this size, taken before the EHR is asked, as the rank of this request allows.
    pub async fn hold_bytes(&self, bytes: u64) -> Result<BytesInFlight, Throttled> {
        let rank = shed::rank();
        let room = self.in_flight.take(bytes, rank, self.limits.load().in_flight_wait).await;
        let throttled = || Throttled { limit: Limit::InFlightBytes, retry_after: rank.comes_back_after() };
        room.map(BytesInFlight).ok_or_else(throttled)
    }

    fn partner_name(&self, subject: &Subject) -> String {
        format!("p:{}", subject.partner.client_id)
    }

    /// The same person through two apps has two allowances; issuer and subject name the person (OpenID Connect 5.7).
    fn user_name(&self, subject: &Subject) -> String {
        format!("u:{}\n{}\n{}", subject.partner.client_id, subject.issuer, subject.sub)
    }

    /// While the store is away, this process's share of the limit rules.
    async fn shared(&self, key: &str, rate: Rate, cost: u32, limit: Limit) -> Result<u32, Throttled> {
        let allowance = Allowance { burst: rate.burst, window: rate.window() };
        let cost = cost.min(self.share(allowance).burst);
        self.spend(&format!("rate:{key}"), cost, allowance, limit).await
    }

    async fn spend(&self, key: &str, cost: u32, allowance: Allowance, limit: Limit) -> Result<u32, Throttled> {
        let spent = match self.store.spend(key, cost, allowance).await {
            Ok(spent) => Ok(spent),
            Err(_) => self.local.spend(key, cost, self.share(allowance)).await,
        };
        match spent {
            Ok(Spending::Spent { left }) => Ok(left),
            Ok(Spending::Refused { retry_after }) => Err(Throttled { limit, retry_after }),
            Err(_) => Err(Throttled { limit, retry_after: allowance.window }),
        }
    }

    async fn distinct(&self, key: &str, patients: &[&str], most: u32, limit: Limit) -> Result<(), Throttled> {
        let outcome = match self.store.add_distinct(key, patients, most, HOUR).await {
            Ok(outcome) => Ok(outcome),
            Err(_) => {
                let share = self.share(Allowance { burst: most, window: HOUR }).burst;
                self.local.add_distinct(key, patients, share, HOUR).await
            }
        };
        match outcome {
            Ok(Distinct::Added { .. }) => Ok(()),
            Ok(Distinct::Refused { retry_after }) => Err(Throttled { limit, retry_after }),
            // A table that is full counts nothing more: nothing more is disclosed.
            Err(_) => Err(Throttled { limit, retry_after: HOUR }),
        }
    }

    fn share(&self, allowance: Allowance) -> Allowance {
        let replicas = self.limits.load().replicas.max(1);
        Allowance { burst: allowance.burst.div_ceil(replicas), window: allowance.window }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("limits", &self.limits).finish_non_exhaustive()
    }
}
