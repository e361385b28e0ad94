//! State in one process, bounded in memory. A full table refuses rather than forgets what still matters.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use time::OffsetDateTime;

use super::kept::{Change, Journal};
use super::{Allowance, Bearer, Distinct, Lockdown, Revocation, Spending, StateStore, StateUnavailable};
use crate::clock::Clock;

/// The state of a gateway that has no replicas.
pub struct EmbeddedState {
    clock: Arc<dyn Clock>,
    sizes: Sizes,
    used: Mutex<Expiring<Key, ()>>,
    /// When each was revoked.
    revoked: Mutex<Expiring<Revocation, OffsetDateTime>>,
    lockdowns: ArcSwap<Vec<Lockdown>>,
    lockdown_changes: Mutex<()>,
    /// When, in nanoseconds, each allowance is full again (GCRA's theoretical arrival time).
    spent: Mutex<Expiring<Key, i128>>,
    distinct: Mutex<Expiring<Key, HashSet<Key>>>,
    /// Where revocations and lockdowns outlive the process, if anywhere.
    journal: Option<Mutex<Journal>>,
}

/// How many entries each table may hold.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub used_keys: usize,
    pub revocations: usize,
    pub lockdowns: usize,
    pub counters: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { used_keys: 1 << 20, revocations: 1 << 20, lockdowns: 1024, counters: 1 << 20 }
    }
}

/// The first half of the SHA-256 of a text: as long for a long text as for a short one.
type Key = [u8; 16];

impl EmbeddedState {
    pub fn new(clock: Arc<dyn Clock>, sizes: Sizes) -> Self {
        Self {
            clock,
            sizes,
            used: Mutex::default(),
            revoked: Mutex::default(),
            lockdowns: ArcSwap::default(),
            lockdown_changes: Mutex::default(),
            spent: Mutex::default(),
            distinct: Mutex::default(),
            journal: None,
        }
    }

    /// The same with revocations and lockdowns kept in this directory: a restart lifts none.
    ///
    /// # Errors
    /// When the directory cannot be written, or what is kept there cannot be read.
    pub fn kept_in(dir: &Path, clock: Arc<dyn Clock>, sizes: Sizes) -> io::Result<Self> {
        Self::with(Journal::open(dir, clock.now())?, clock, sizes)
    }

    /// The same while another process keeps its state there too: each [follows](Self::follow) what the other changes.
    ///
    /// # Errors
    /// When what is kept there cannot be read, or is not whole.
    pub fn kept_beside(dir: &Path, clock: Arc<dyn Clock>, sizes: Sizes) -> io::Result<Self> {
        Self::with(Journal::open_beside(dir, clock.now())?, clock, sizes)
    }

    fn with((journal, standing): (Journal, Vec<Change>), clock: Arc<dyn Clock>, sizes: Sizes) -> io::Result<Self> {
        let state = Self { journal: Some(Mutex::new(journal)), ..Self::new(clock, sizes) };
        state.take_on(standing)?;
        Ok(state)
    }

    /// Takes on what another process has revoked, restored, locked down and lifted meanwhile.
    ///
    /// # Errors
    /// When that cannot be read: what this process knows holds on.
    pub fn follow(&self) -> io::Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let changes = locked(journal).changes()?;
        self.take_on(changes)
    }

    fn take_on(&self, changes: Vec<Change>) -> io::Result<()> {
        let now = self.now();
        let mut revoked = locked(&self.revoked);
        self.change_lockdowns(|lockdowns| {
            for change in changes {
                match change {
                    Change::Revoked { what, at, until } if until > now => {
                        let full = |_| io::Error::other("more is revoked than the table holds");
                        revoked.insert(what, at, until, self.sizes.revocations).map_err(full)?;
                    }
                    Change::Restored(what) => revoked.remove(&what),
                    Change::LockedDown(lockdown) => {
                        lockdowns.retain(|other| other.id != lockdown.id);
                        lockdowns.extend(Some(lockdown).filter(|lockdown| lockdown.until > now));
                    }
                    Change::Lifted(id) => lockdowns.retain(|other| other.id != id),
                    Change::Revoked { .. } => {}
                }
            }
            Ok(())
        })
    }

    /// The change holds in this process already; the caller is told when it would not survive it.
    fn keep(&self, change: &Change) -> Result<(), StateUnavailable> {
        let Some(journal) = &self.journal else { return Ok(()) };
        locked(journal).keep(change).map_err(|error| {
            tracing::error!(%error, "the state directory cannot be written: a restart would lift what was just ordered");
            StateUnavailable::Unkept
        })
    }

    fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    fn change_lockdowns<T>(&self, change: impl FnOnce(&mut Vec<Lockdown>) -> T) -> T {
        let _guard = locked(&self.lockdown_changes);
        let now = self.now();
        let mut all: Vec<Lockdown> = self.lockdowns.load().iter().filter(|l| l.until > now).cloned().collect();
        let outcome = change(&mut all);
        self.lockdowns.store(Arc::new(all));
        outcome
    }
}

#[async_trait]
impl StateStore for EmbeddedState {
    async fn first_use(&self, text: &str, until: OffsetDateTime) -> Result<bool, StateUnavailable> {
        let mut used = locked(&self.used);
        used.expire(self.now());
        if used.get(&key(text)).is_some() {
            return Ok(false);
        }
        used.insert(key(text), (), until, self.sizes.used_keys)?;
        Ok(true)
    }

    async fn revoke(&self, what: Revocation, until: OffsetDateTime) -> Result<(), StateUnavailable> {
        let at = self.now();
        {
            let mut revoked = locked(&self.revoked);
            revoked.expire(at);
            revoked.insert(what.clone(), at, until, self.sizes.revocations)?;
        }
        self.keep(&Change::Revoked { what, at, until })
    }

    async fn restore(&self, what: &Revocation) -> Result<(), StateUnavailable> {
        locked(&self.revoked).remove(what);
        self.keep(&Change::Restored(what.clone()))
    }

    async fn is_revoked(&self, bearer: Bearer<'_>) -> Result<bool, StateUnavailable> {
        let mut revoked = locked(&self.revoked);
        revoked.expire(self.now());
        if revoked.is_empty() {
            return Ok(false);
        }
        let stops = |what: Revocation| revoked.get(&what).is_some_and(|at| bearer.is_stopped_by(&what, *at));
        Ok(bearer.revocations().any(stops))
    }

    async fn lock_down(&self, lockdown: Lockdown) -> Result<(), StateUnavailable> {
        let most = self.sizes.lockdowns;
        self.change_lockdowns(|all| {
            all.retain(|other| other.id != lockdown.id);
            if all.len() >= most {
                return Err(StateUnavailable::Full);
            }
            all.push(lockdown.clone());
            Ok(())
        })?;
        self.keep(&Change::LockedDown(lockdown))
    }

    async fn lift(&self, id: &str) -> Result<bool, StateUnavailable> {
        let was = self.change_lockdowns(|all| {
            let before = all.len();
            all.retain(|other| other.id != id);
            all.len() < before
        });
        self.keep(&Change::Lifted(id.to_owned()))?;
        Ok(was)
    }

    async fn lockdowns(&self) -> Result<Arc<[Lockdown]>, StateUnavailable> {
        let now = self.now();
        Ok(self.lockdowns.load().iter().filter(|l| l.until > now).cloned().collect())
    }

    async fn spend(&self, text: &str, cost: u32, allowance: Allowance) -> Result<Spending, StateUnavailable> {
        let (now, mut spent) = (self.now(), locked(&self.spent));
        spent.expire(now);
        let nanos = now.unix_timestamp_nanos();
        let window = i128::try_from(allowance.window.as_nanos()).unwrap_or(i128::MAX);
        // A clock that was set back must not lock anyone out for longer than the window.
        let full_at = spent.get(&key(text)).copied().unwrap_or(nanos).clamp(nanos, nanos.saturating_add(window));
        let each = window.checked_div(i128::from(allowance.burst)).unwrap_or(window).max(1);
        let after = full_at.saturating_add(each.saturating_mul(i128::from(cost)));
        let over = after.saturating_sub(nanos.saturating_add(window));
        if allowance.burst == 0 || over > 0 {
            let wait = u64::try_from(over.max(1)).unwrap_or(u64::MAX);
            return Ok(Spending::Refused { retry_after: Duration::from_nanos(wait) });
        }
        let until = OffsetDateTime::from_unix_timestamp_nanos(after).map_err(|_| StateUnavailable::Full)?;
        spent.insert(key(text), after, until, self.sizes.counters)?;
        let left = nanos.saturating_add(window).saturating_sub(after).checked_div(each).unwrap_or(0);
        Ok(Spending::Spent { left: u32::try_from(left).unwrap_or(u32::MAX) })
    }

    async fn add_distinct(
        &self,
        text: &str,
        items: &[&str],
        most: u32,
        window: Duration,
    ) -> Result<Distinct, StateUnavailable> {
        let (now, mut sets) = (self.now(), locked(&self.distinct));
        sets.expire(now);
        let items: HashSet<Key> = items.iter().map(|item| key(item)).collect();
        let until = match sets.until(&key(text)) {
            Some(until) => until,
            None => {
                let until = now + window;
                sets.insert(key(text), HashSet::new(), until, self.sizes.counters)?;
                until
            }
        };
        let set = sets.get_mut(&key(text)).ok_or(StateUnavailable::Full)?;
        let new = items.iter().filter(|item| !set.contains(*item)).count();
        let size = u32::try_from(set.len().saturating_add(new)).unwrap_or(u32::MAX);
        if size > most {
            let retry_after = Duration::try_from(until - now).unwrap_or(window);
            return Ok(Distinct::Refused { retry_after });
        }
        set.extend(items);
        Ok(Distinct::Added { size })
    }

    fn is_shared(&self) -> bool {
        false
    }
}

impl fmt::Debug for EmbeddedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedState").field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

/// A map whose entries end; the ended ones leave first.
struct Expiring<K, V> {
    entries: HashMap<K, (OffsetDateTime, V)>,
    by_end: BTreeMap<OffsetDateTime, Vec<K>>,
}

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), by_end: BTreeMap::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Expiring<K, V> {
    fn expire(&mut self, now: OffsetDateTime) {
        while let Some(first) = self.by_end.first_entry() {
            if *first.key() > now {
                break;
            }
            for key in first.remove() {
                // It may have been prolonged meanwhile.
                if self.entries.get(&key).is_some_and(|(until, _)| *until <= now) {
                    self.entries.remove(&key);
                }
            }
        }
    }

    fn insert(&mut self, key: K, value: V, until: OffsetDateTime, most: usize) -> Result<(), StateUnavailable> {
        let known = self.entries.get(&key).map(|(until, _)| *until);
        if known.is_none() && self.entries.len() >= most {
            return Err(StateUnavailable::Full);
        }
        if known != Some(until) {
            if let Some(known) = known {
                self.unlist(&key, known);
            }
            self.by_end.entry(until).or_default().push(key.clone());
        }
        self.entries.insert(key, (until, value));
        Ok(())
    }

    fn unlist(&mut self, key: &K, until: OffsetDateTime) {
        if let Some(keys) = self.by_end.get_mut(&until) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.by_end.remove(&until);
            }
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some((until, _)) = self.entries.remove(key) {
            self.unlist(key, until);
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    fn until(&self, key: &K) -> Option<OffsetDateTime> {
        self.entries.get(key).map(|(until, _)| *until)
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(text: &str) -> Key {
    let mut key = Key::default();
    for (to, from) in key.iter_mut().zip(digest(&SHA256, text.as_bytes()).as_ref()) {
        *to = *from;
    }
    key
}

#[cfg(test)]
mod tests;
