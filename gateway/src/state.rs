//! What replicas must agree on: used one-time keys, revocations, lockdowns, shared counts.
//!
//! [`EmbeddedState`] keeps it in one process; a shared store keeps it for all replicas. What is asked of a store that is
//! away fails closed, except where `StateUnavailable` is documented to be survivable (limits fall back to a local share).

mod embedded;
mod identity;
mod kept;
mod shared;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use embedded::{EmbeddedState, Sizes};
pub use identity::IdentityState;
pub use shared::{InvalidRedisUrl, RedisSettings, RedisState};

/// Facts shared by the replicas of one gateway.
#[async_trait]
pub trait StateStore: Send + Sync + fmt::Debug {
    /// Is this the first use of the key before `until`? For `jti` of DPoP proofs (RFC 9449 11.1) and client assertions
    /// (RFC 7523 section 3), authorization codes, and paging links that may be used once.
    ///
    /// # Errors
    /// When the store is away or full: the caller cannot exclude a replay and answers 503.
    async fn first_use(&self, key: &str, until: OffsetDateTime) -> Result<bool, StateUnavailable>;

    /// This is revoked on every replica, and stays so until then (no token that it concerns lives longer).
    async fn revoke(&self, what: Revocation, until: OffsetDateTime) -> Result<(), StateUnavailable>;

    /// Takes a revocation back.
    async fn restore(&self, what: &Revocation) -> Result<(), StateUnavailable>;

    /// Is the token, its user, or its partner revoked?
    async fn is_revoked(&self, bearer: Bearer<'_>) -> Result<bool, StateUnavailable>;

    /// Starts a lockdown, or replaces the one with the same id.
    async fn lock_down(&self, lockdown: Lockdown) -> Result<(), StateUnavailable>;

    /// Ends a lockdown before its time. `false`: there was none with this id.
    async fn lift(&self, id: &str) -> Result<bool, StateUnavailable>;

    /// The lockdowns in force.
    async fn lockdowns(&self) -> Result<Arc<[Lockdown]>, StateUnavailable>;

    /// Spends from an allowance that all replicas draw on.
    async fn spend(&self, key: &str, cost: u32, allowance: Allowance) -> Result<Spending, StateUnavailable>;

    /// Adds items to the set of this window, unless it would then hold more than `most`; then it stays as it is.
    async fn add_distinct(
        &self,
        key: &str,
        items: &[&str],
        most: u32,
        window: Duration,
    ) -> Result<Distinct, StateUnavailable>;

    /// Do other replicas see what this one writes?
    fn is_shared(&self) -> bool;
}

/// The store is away, stalled or full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateUnavailable {
    #[error("the state store cannot be reached")]
    Away,
    #[error("the state store is full")]
    Full,
    #[error("the local copy of the shared state is too old")]
    Stale,
    #[error("the change holds in this process, and could not be kept for the next")]
    Unkept,
}

/// What can be revoked.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revocation {
    /// One token, by issuer and `jti` (or the digest of an opaque token).
    Token { issuer: Arc<str>, id: Arc<str> },
    /// The tokens of a user issued until the revocation.
    User { issuer: Arc<str>, sub: Arc<str> },
    /// The tokens of an app issued until the revocation.
    Partner { client_id: Arc<str> },
    /// The tokens of an app for one patient, issued until the revocation: at the patient's direction
    /// (45 CFR 170.315(g)(10)(vi)).
    Grant { client_id: Arc<str>, patient: Arc<str> },
}

/// What a request presents that may have been revoked.
#[derive(Clone, Copy)]
pub struct Bearer<'a> {
    pub issuer: &'a str,
    pub token_id: &'a str,
    pub sub: &'a str,
    pub client_id: &'a str,
    pub patient: Option<&'a str>,
    /// Unknown counts as before any revocation.
    pub issued_at: Option<OffsetDateTime>,
}

/// A stop that holds on all replicas until its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lockdown {
    pub id: String,
    pub scope: LockdownScope,
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
    /// Why, in the words of who ordered it.
    pub reason: String,
    /// Who ordered it.
    pub by: String,
    /// Emergency access goes on: for what no person ordered.
    #[serde(default)]
    pub spares_emergency: bool,
}

/// What a lockdown stops.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockdownScope {
    /// Every disclosure of Part 2 data.
    Part2,
    Partner {
        client_id: String,
    },
    User {
        issuer: String,
        sub: String,
    },
    Endpoint {
        name: String,
    },
}

/// How much may be spent: `burst` at once, refilled at `burst` per `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub burst: u32,
    pub window: Duration,
}

/// What came of spending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spending {
    Spent {
        left: u32,
    },
    /// Nothing was spent; it could be after this long.
    Refused {
        retry_after: Duration,
    },
}

/// What came of adding to a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distinct {
    /// The items are in; the set holds this many.
    Added { size: u32 },
    /// The set would have passed the limit; nothing was added.
    Refused { retry_after: Duration },
}

impl Lockdown {
    /// Does it stop this caller altogether? A Part 2 lockdown stops no caller; [`Self::withholds_part2`] tells.
    pub fn stops(&self, bearer: Bearer<'_>, endpoint: &str) -> bool {
        match &self.scope {
            LockdownScope::Part2 => false,
            LockdownScope::Partner { client_id } => *client_id == bearer.client_id,
            LockdownScope::User { issuer, sub } => *issuer == bearer.issuer && *sub == bearer.sub,
            LockdownScope::Endpoint { name } => name == endpoint,
        }
    }

    pub fn withholds_part2(&self) -> bool {
        match &self.scope {
            LockdownScope::Part2 => true,
            LockdownScope::Partner { .. } | LockdownScope::User { .. } | LockdownScope::Endpoint { .. } => false,
        }
    }
}

impl Bearer<'_> {
    /// The revocations that would stop this request.
    pub fn revocations(&self) -> impl Iterator<Item = Revocation> {
        let grant =
            self.patient.map(|patient| Revocation::Grant { client_id: self.client_id.into(), patient: patient.into() });
        [
            Revocation::Token { issuer: self.issuer.into(), id: self.token_id.into() },
            Revocation::User { issuer: self.issuer.into(), sub: self.sub.into() },
            Revocation::Partner { client_id: self.client_id.into() },
        ]
        .into_iter()
        .chain(grant)
    }

    /// Does a revocation made at this time concern this token?
    pub fn is_stopped_by(&self, revocation: &Revocation, at: OffsetDateTime) -> bool {
        match revocation {
            Revocation::Token { .. } => true,
            Revocation::User { .. } | Revocation::Partner { .. } | Revocation::Grant { .. } => {
                self.issued_at.is_none_or(|issued| issued <= at)
            }
        }
    }
}

/// Users and tokens do not print.
impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { .. } => f.write_str("Token(..)"),
            Self::User { .. } => f.write_str("User(..)"),
            Self::Partner { client_id } => write!(f, "Partner({client_id})"),
            Self::Grant { client_id, .. } => write!(f, "Grant({client_id}, ..)"),
        }
    }
}

impl fmt::Debug for Bearer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bearer({})", self.client_id)
    }
}

impl fmt::Debug for LockdownScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part2 => f.write_str("Part2"),
            Self::Partner { client_id } => write!(f, "Partner({client_id})"),
            Self::User { .. } => f.write_str("User(..)"),
            Self::Endpoint { name } => write!(f, "Endpoint({name})"),
        }
    }
}
