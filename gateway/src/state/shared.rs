//! State shared by replicas through Redis or Valkey, every step one atomic command or script.
//!
//! Revocations and lockdowns are read from a full local copy, which [`RedisState::refresh`] keeps fresh; older than a
//! minute it is no answer. Replay questions go to the store itself and fail when it is away, and for a while after it
//! came up empty, since it has forgotten what was used. Counts that fail are the caller's to bound (a local share).

mod connection;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use redis::aio::ConnectionManager;
use redis::{Client, RedisResult, Script, TlsCertificates};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::{Allowance, Bearer, Distinct, Lockdown, Revocation, Spending, StateStore, StateUnavailable};
use crate::clock::Clock;
use connection::Connection;

/// A Redis or Valkey server as the state of several replicas.
pub struct RedisState {
    connection: Connection,
    clock: Arc<dyn Clock>,
    settings: RedisSettings,
    local: Mutex<Copy>,
    /// Held while the local copy is fetched or written through, so that neither undoes the other.
    changing: tokio::sync::Mutex<()>,
    scripts: Scripts,
}

/// How the shared store is used.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// Before every key, so that gateways can share a server.
    pub prefix: String,
    /// A store that does not answer within this is away.
    pub patience: Duration,
    /// The local copy of revocations and lockdowns is good for this long.
    pub copy_good_for: Duration,
    /// For so long a store that came up empty answers no replay question: as long as what may be used once lives.
    pub quarantine: Duration,
    /// The authorities that may vouch for the server, PEM; without it, the system's roots.
    pub ca_pem: Option<Vec<u8>>,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            prefix: "fhirwall".to_owned(),
            patience: Duration::from_millis(250),
            copy_good_for: Duration::from_secs(60),
            quarantine: Duration::from_secs(60),
            ca_pem: None,
        }
    }
}

/// The URL names no Redis server.
#[derive(Debug, thiserror::Error)]
#[error("the state store's URL cannot be used; write redis://host:port/0 or rediss://…")]
pub struct InvalidRedisUrl;

/// The local copy, by what is revoked, with the time of revocation and its end (nanoseconds since 1970).
#[derive(Default)]
struct Copy {
    as_of: Option<OffsetDateTime>,
    revocations: HashMap<Revocation, (i64, i64)>,
    lockdowns: HashMap<String, Lockdown>,
    /// What could not be written to the store yet.
    unwritten: Vec<Unwritten>,
}

#[derive(Clone)]
enum Unwritten {
    Revocation(Revocation, i64, i64),
    Lockdown(Lockdown),
}

struct Scripts {
    first_use: Script,
    spend: Script,
    add_distinct: Script,
    mark: Script,
}

// The store's own clock rules, so that replicas with different clocks agree.
const FIRST_USE: &str = "
local born = redis.call('GET', KEYS[1])
if not born then return -1 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if now < tonumber(born) + tonumber(ARGV[2]) then return -1 end
if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[1]) then return 1 end
return 0";

// GCRA: the key holds when the allowance is full again, in microseconds.
const SPEND: &str = "
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local burst, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if burst <= 0 then return {0, window} end
local each = window / burst
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local after = full + each * cost
if after - now > window + 0.5 then return {0, math.ceil(after - now - window)} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000) + 1)
return {1, math.floor((now + window - after) / each + 0.000001)}";

const ADD_DISTINCT: &str = "
local new = 0
for i = 3, #ARGV do
  if redis.call('SISMEMBER', KEYS[1], ARGV[i]) == 0 then new = new + 1 end
end
local size = redis.call('SCARD', KEYS[1]) + new
if size > tonumber(ARGV[1]) then
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 then left = tonumber(ARGV[2]) end
  return {0, left}
end
for i = 3, #ARGV do redis.call('SADD', KEYS[1], ARGV[i]) end
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return {1, size}";

// 1: the store was empty and is now marked.
const MARK: &str = "
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if redis.call('SET', KEYS[1], tostring(now), 'NX') then return 1 end
return 0";

impl RedisState {
    /// Connects when first used; a server that is away is no error here.
    pub fn new(url: &str, clock: Arc<dyn Clock>, settings: RedisSettings) -> Result<Arc<Self>, InvalidRedisUrl> {
        let client = match (&settings.ca_pem, url.starts_with("rediss://")) {
            (Some(ca), true) => {
                Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) })
            }
            (Some(_) | None, _) => Client::open(url),
        };
        let client = client.map_err(|_| InvalidRedisUrl)?;
        let connection = Connection::new(client, settings.patience).map_err(|_| InvalidRedisUrl)?;
        let scripts = Scripts {
            first_use: Script::new(FIRST_USE),
            spend: Script::new(SPEND),
            add_distinct: Script::new(ADD_DISTINCT),
            mark: Script::new(MARK),
        };
        Ok(Arc::new(Self {
            connection,
            clock,
            settings,
            local: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            scripts,
        }))
    }

    /// Fetches revocations and lockdowns, and gives an empty store what this replica knows. To be called every half
    /// second.
    ///
    /// # Errors
    /// When the store is away: the local copy grows older, until it is no answer.
    pub async fn refresh(&self) -> Result<(), StateUnavailable> {
        let _changing = self.changing.lock().await;
        let was_empty: i64 =
            self.ask(|mut c| async move { self.scripts.mark.key(self.key("born")).invoke_async(&mut c).await }).await?;
        let asked_at = self.clock.now();
        if was_empty == 1 {
            self.refill().await?;
        }
        self.write_what_is_unwritten().await?;
        let revocations: HashMap<String, String> = self.ask(|c| self.all(c, "revocations")).await?;
        let lockdowns: HashMap<String, String> = self.ask(|c| self.all(c, "lockdowns")).await?;
        let now = nanos(asked_at);
        let ended: Vec<String> = revocations
            .iter()
            .filter(|(_, v)| times(v).is_none_or(|(_, end)| end <= now))
            .map(|(k, _)| k.clone())
            .collect();
        {
            let mut local = locked(&self.local);
            local.revocations = revocations
                .iter()
                .filter_map(|(what, value)| Some((serde_json::from_str(what).ok()?, times(value)?)))
                .filter(|(_, (_, end))| *end > now)
                .collect();
            local.lockdowns =
                lockdowns.into_iter().filter_map(|(id, text)| Some((id, serde_json::from_str(&text).ok()?))).collect();
            local.as_of = Some(asked_at);
        }
        if !ended.is_empty() {
            let key = self.key("revocations");
            let _: i64 = self
                .ask(|mut c| async move { redis::cmd("HDEL").arg(key).arg(ended).query_async(&mut c).await })
                .await?;
        }
        Ok(())
    }

    async fn refill(&self) -> Result<(), StateUnavailable> {
        tracing::warn!("the state store is empty: it is given this replica's revocations and lockdowns");
        let (revocations, lockdowns) = {
            let local = locked(&self.local);
            let revocations: Vec<_> = local.revocations.iter().map(|(what, times)| (what.clone(), *times)).collect();
            (revocations, local.lockdowns.values().cloned().collect::<Vec<_>>())
        };
        for (what, (at, end)) in revocations {
            self.write_revocation(&what, at, end).await?;
        }
        for lockdown in lockdowns {
            self.write_lockdown(&lockdown).await?;
        }
        Ok(())
    }

    async fn write_what_is_unwritten(&self) -> Result<(), StateUnavailable> {
        let unwritten = locked(&self.local).unwritten.clone();
        for change in unwritten {
            match change {
                Unwritten::Revocation(what, at, end) => self.write_revocation(&what, at, end).await?,
                Unwritten::Lockdown(lockdown) => self.write_lockdown(&lockdown).await?,
            }
        }
        locked(&self.local).unwritten.clear();
        Ok(())
    }

    async fn write_revocation(&self, what: &Revocation, at: i64, end: i64) -> Result<(), StateUnavailable> {
        let field = serde_json::to_string(what).map_err(|_| StateUnavailable::Away)?;
        self.write("revocations", &field, &format!("{at} {end}")).await
    }

    async fn write_lockdown(&self, lockdown: &Lockdown) -> Result<(), StateUnavailable> {
        let text = serde_json::to_string(lockdown).map_err(|_| StateUnavailable::Away)?;
        self.write("lockdowns", &lockdown.id, &text).await
    }

    async fn write(&self, table: &str, field: &str, value: &str) -> Result<(), StateUnavailable> {
        let key = self.key(table);
        let _: i64 = self
            .ask(|mut c| async move { redis::cmd("HSET").arg(key).arg(field).arg(value).query_async(&mut c).await })
            .await?;
        Ok(())
    }

    async fn forget(&self, table: &str, field: &str) -> Result<bool, StateUnavailable> {
        let key = self.key(table);
        let gone: i64 =
            self.ask(|mut c| async move { redis::cmd("HDEL").arg(key).arg(field).query_async(&mut c).await }).await?;
        Ok(gone > 0)
    }

    async fn all(&self, mut connection: ConnectionManager, table: &str) -> RedisResult<HashMap<String, String>> {
        redis::cmd("HGETALL").arg(self.key(table)).query_async(&mut connection).await
    }

    /// A server that is stopped, not gone, keeps its connections open and silent: every question has its time.
    async fn ask<T, F: Future<Output = RedisResult<T>>>(
        &self,
        question: impl FnOnce(ConnectionManager) -> F,
    ) -> Result<T, StateUnavailable> {
        let connection = self.connection.current();
        match timeout(self.settings.patience, question((*connection).clone())).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if !error.is_timeout() => {}
            // It may be silent for ever.
            Ok(Err(_)) | Err(_) => self.connection.replace(&connection),
        }
        Err(StateUnavailable::Away)
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.settings.prefix)
    }

    /// Keys name users and patients by digest alone.
    fn digest_key(&self, table: &str, text: &str) -> String {
        format!("{}:{table}:{}", self.settings.prefix, digest_hex(text))
    }

    fn fresh(&self) -> Result<MutexGuard<'_, Copy>, StateUnavailable> {
        let local = locked(&self.local);
        let good_for = self.settings.copy_good_for;
        match local.as_of {
            Some(as_of) if self.clock.now() - as_of <= good_for => Ok(local),
            Some(_) | None => Err(StateUnavailable::Stale),
        }
    }
}

#[async_trait]
impl StateStore for RedisState {
    async fn first_use(&self, key: &str, until: OffsetDateTime) -> Result<bool, StateUnavailable> {
        let lives = (until - self.clock.now()).whole_milliseconds().clamp(1, i128::from(i64::MAX));
        let quarantine = u64::try_from(self.settings.quarantine.as_millis()).unwrap_or(u64::MAX);
        let (born, used) = (self.key("born"), self.digest_key("used", key));
        let mut invocation = self.scripts.first_use.key(born);
        invocation.key(used).arg(i64::try_from(lives).unwrap_or(i64::MAX)).arg(quarantine);
        let answer: i64 = self.ask(|mut c| async move { invocation.invoke_async(&mut c).await }).await?;
        match answer {
            1 => Ok(true),
            0 => Ok(false),
            _ => Err(StateUnavailable::Away),
        }
    }

    async fn revoke(&self, what: Revocation, until: OffsetDateTime) -> Result<(), StateUnavailable> {
        let (at, end) = (nanos(self.clock.now()), nanos(until));
        let _changing = self.changing.lock().await;
        // Here it holds at once, and everywhere as soon as the store is back.
        locked(&self.local).revocations.insert(what.clone(), (at, end));
        let written = self.write_revocation(&what, at, end).await;
        if written.is_err() {
            locked(&self.local).unwritten.push(Unwritten::Revocation(what, at, end));
        }
        written
    }

    async fn restore(&self, what: &Revocation) -> Result<(), StateUnavailable> {
        let _changing = self.changing.lock().await;
        let field = serde_json::to_string(what).map_err(|_| StateUnavailable::Away)?;
        self.forget("revocations", &field).await?;
        locked(&self.local).revocations.remove(what);
        Ok(())
    }

    async fn is_revoked(&self, bearer: Bearer<'_>) -> Result<bool, StateUnavailable> {
        let (local, now) = (self.fresh()?, nanos(self.clock.now()));
        let stops = |what: Revocation| {
            local.revocations.get(&what).is_some_and(|(at, end)| {
                let at =
                    OffsetDateTime::from_unix_timestamp_nanos(i128::from(*at)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
                *end > now && bearer.is_stopped_by(&what, at)
            })
        };
        Ok(!local.revocations.is_empty() && bearer.revocations().any(stops))
    }

    async fn lock_down(&self, lockdown: Lockdown) -> Result<(), StateUnavailable> {
        let _changing = self.changing.lock().await;
        locked(&self.local).lockdowns.insert(lockdown.id.clone(), lockdown.clone());
        let written = self.write_lockdown(&lockdown).await;
        if written.is_err() {
            locked(&self.local).unwritten.push(Unwritten::Lockdown(lockdown));
        }
        written
    }

    async fn lift(&self, id: &str) -> Result<bool, StateUnavailable> {
        let _changing = self.changing.lock().await;
        let was = self.forget("lockdowns", id).await?;
        locked(&self.local).lockdowns.remove(id);
        Ok(was)
    }

    async fn lockdowns(&self) -> Result<Arc<[Lockdown]>, StateUnavailable> {
        let now = self.clock.now();
        Ok(self.fresh()?.lockdowns.values().filter(|lockdown| lockdown.until > now).cloned().collect())
    }

    async fn spend(&self, key: &str, cost: u32, allowance: Allowance) -> Result<Spending, StateUnavailable> {
        let micros = u64::try_from(allowance.window.as_micros()).unwrap_or(u64::MAX);
        let mut invocation = self.scripts.spend.key(self.digest_key("spent", key));
        invocation.arg(allowance.burst).arg(micros).arg(cost);
        let (ok, n): (i64, u64) = self.ask(|mut c| async move { invocation.invoke_async(&mut c).await }).await?;
        Ok(match ok {
            1 => Spending::Spent { left: u32::try_from(n).unwrap_or(u32::MAX) },
            _ => Spending::Refused { retry_after: Duration::from_micros(n) },
        })
    }

    async fn add_distinct(
        &self,
        key: &str,
        items: &[&str],
        most: u32,
        window: Duration,
    ) -> Result<Distinct, StateUnavailable> {
        let mut digests: Vec<String> = items.iter().map(|item| digest_hex(item)).collect();
        digests.sort_unstable();
        digests.dedup();
        let mut invocation = self.scripts.add_distinct.key(self.digest_key("distinct", key));
        invocation.arg(most).arg(u64::try_from(window.as_millis()).unwrap_or(u64::MAX)).arg(digests);
        let (ok, n): (i64, u64) = self.ask(|mut c| async move { invocation.invoke_async(&mut c).await }).await?;
        Ok(match ok {
            1 => Distinct::Added { size: u32::try_from(n).unwrap_or(u32::MAX) },
            _ => Distinct::Refused { retry_after: Duration::from_millis(n) },
        })
    }

    fn is_shared(&self) -> bool {
        true
    }
}

/// The first half of a SHA-256, in hex.
fn digest_hex(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn times(value: &str) -> Option<(i64, i64)> {
    let (at, end) = value.split_once(' ')?;
    Some((at.parse().ok()?, end.parse().ok()?))
}

fn nanos(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos()).unwrap_or(i64::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for RedisState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisState").field("settings", &self.settings).finish_non_exhaustive()
    }
}
