//! The URLs of one endpoint's EHR: which are asked, how busy each is, and how each answered lately.
//!
//! A pool outlives the generations of the configuration as long as the endpoint's URLs stay the same.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::breaker::Breaker;

/// The URLs of one endpoint.
#[derive(Debug)]
pub struct Pool {
    targets: Vec<Target>,
    turn: AtomicUsize,
    wake: Arc<Notify>,
    /// Somebody asks for its health. Without that nobody would find out that a URL answers again, so none is left alone.
    watched: bool,
}

#[derive(Debug)]
struct Target {
    base: String,
    in_flight: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    last_answer: Option<Instant>,
    /// When it is asked for its health next; `None`: as soon as possible.
    next_question: Option<Instant>,
    being_asked: bool,
}

/// One URL, taken for one attempt. It counts as busy with it until this is dropped.
#[derive(Debug)]
pub(super) struct Taken<'p> {
    target: &'p Target,
    wake: &'p Notify,
    pub(super) index: usize,
    began: Instant,
}

/// How one URL stands, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its place in `upstream.urls`, from 0.
    pub index: usize,
    pub base: String,
    pub healthy: bool,
    /// How long it is left alone from now.
    pub left_alone: Duration,
}

impl Pool {
    /// `wake` is notified when there is a question to ask sooner than was known.
    pub fn new(bases: &[String], wake: Arc<Notify>) -> Self {
        let target = |base: &String| Target {
            base: base.trim_end_matches('/').to_owned(),
            in_flight: AtomicUsize::new(0),
            state: Mutex::new(State {
                breaker: Breaker::new(),
                last_answer: None,
                next_question: None,
                being_asked: false,
            }),
        };
        Self { targets: bases.iter().map(target).collect(), turn: AtomicUsize::new(0), wake, watched: true }
    }

    /// A pool whose health nobody asks for: each of its URLs is asked whenever it is wanted.
    pub(super) fn unwatched(bases: &[String]) -> Self {
        Self { watched: false, ..Self::new(bases, Arc::default()) }
    }

    /// How many URLs there are.
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    /// The least busy of the healthy URLs that are not among `tried`; among equals they take turns.
    pub(super) fn take(&self, tried: &[usize], now: Instant) -> Option<Taken<'_>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.targets.len();
        let mut best: Option<(usize, &Target)> = None;
        for step in 0..count {
            let index = turn.wrapping_add(step).checked_rem(count)?;
            let target = self.targets.get(index)?;
            if tried.contains(&index) || (self.watched && !target.state().breaker.is_closed()) {
                continue;
            }
            let busier = |(_, other): &(usize, &Target)| target.busy() < other.busy();
            if best.as_ref().is_none_or(busier) {
                best = Some((index, target));
            }
        }
        let (index, target) = best?;
        target.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Taken { target, wake: &self.wake, index, began: now })
    }

    /// How long it takes at least until a URL may be asked again, when none may be asked now.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let untils = self.targets.iter().filter_map(|target| target.state().breaker.until(now));
        untils.min().map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// How each URL stands.
    pub fn standing(&self, now: Instant) -> Vec<Standing> {
        let standing = |(index, target): (usize, &Target)| {
            let breaker = target.state().breaker;
            let left_alone = breaker.until(now).map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
            Standing { index, base: target.base.clone(), healthy: breaker.is_closed(), left_alone }
        };
        self.targets.iter().enumerate().map(standing).collect()
    }

    /// The URLs to ask for their health now; each is then being asked until [`Pool::answered`] or [`Pool::silent`].
    pub(super) fn due(&self, now: Instant) -> Vec<(usize, String)> {
        let mut due = Vec::new();
        for (index, target) in self.targets.iter().enumerate() {
            let mut state = target.state();
            let wanted = !state.being_asked
                && match state.breaker {
                    Breaker::Closed { .. } => state.next_question.is_none_or(|next| now >= next),
                    Breaker::Open { .. } | Breaker::HalfOpen { .. } => state.breaker.try_now(now),
                };
            if wanted {
                state.being_asked = true;
                due.push((index, target.base.clone()));
            }
        }
        due
    }

    /// When a URL is to be asked next.
    pub(super) fn next_question(&self, now: Instant) -> Option<Instant> {
        let next = |target: &Target| {
            let state = target.state();
            match state.breaker {
                _ if state.being_asked => None,
                Breaker::Closed { .. } => Some(state.next_question.unwrap_or(now)),
                Breaker::Open { until, .. } => Some(until),
                Breaker::HalfOpen { .. } => Some(now),
            }
        };
        self.targets.iter().filter_map(next).min()
    }

    /// A URL answered its health question.
    pub(super) fn answered(&self, index: usize, now: Instant, next: Instant) {
        if let Some(target) = self.targets.get(index) {
            let mut state = target.state();
            state.being_asked = false;
            state.next_question = Some(next);
            state.answered(&target.base, now);
        }
    }

    /// A URL did not answer its health question, or asked to be left alone.
    pub(super) fn silent(&self, index: usize, now: Instant, next: Instant, asked_to_wait: Option<Duration>) {
        if let Some(target) = self.targets.get(index) {
            let mut state = target.state();
            state.being_asked = false;
            state.next_question = Some(next);
            let before = state.breaker.is_closed();
            state.breaker.question_failed(now, asked_to_wait);
            tell(&target.base, before, state.breaker);
        }
    }

    /// The health question could not be asked, and says nothing.
    pub(super) fn not_asked(&self, index: usize, now: Instant, next: Instant) {
        if let Some(target) = self.targets.get(index) {
            let mut state = target.state();
            state.being_asked = false;
            state.next_question = Some(next);
            state.breaker.put_off(now);
        }
    }

    /// Whoever is left alone is tried at once: its certificates or credentials may have been mended.
    pub(super) fn try_all(&self, now: Instant) {
        for target in &self.targets {
            let mut state = target.state();
            if let Breaker::Open { rest, .. } = state.breaker {
                state.breaker = Breaker::Open { until: now, rest };
            }
        }
    }
}

impl Target {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl State {
    fn answered(&mut self, base: &str, now: Instant) {
        let before = self.breaker.is_closed();
        self.last_answer = Some(now);
        self.breaker.answered();
        tell(base, before, self.breaker);
    }
}

impl Taken<'_> {
    pub(super) fn base(&self) -> &str {
        &self.target.base
    }

    /// The EHR answered on it, whatever it said.
    pub(super) fn answered(&self, now: Instant) {
        self.target.state().answered(&self.target.base, now);
    }

    /// It did not. A request that failed while others were answered says nothing of the URL: one search may be slow.
    pub(super) fn failed(&self, now: Instant) {
        let mut state = self.target.state();
        if state.last_answer.is_some_and(|answer| answer > self.began) {
            return;
        }
        let before = state.breaker.is_closed();
        state.breaker.failed(now);
        tell(&self.target.base, before, state.breaker);
        if before && !state.breaker.is_closed() {
            self.wake.notify_one();
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.target.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn tell(base: &str, was_closed: bool, now: Breaker) {
    match (was_closed, now.is_closed()) {
        (true, false) => tracing::warn!(url = base, "the EHR does not answer here; this URL is left alone for a while"),
        (false, true) => tracing::info!(url = base, "the EHR answers here again"),
        (true, true) | (false, false) => {}
    }
}

/// An endpoint's name and its URLs.
type PoolKey = (String, Vec<String>);

/// The pools of this process, by endpoint and URLs.
#[derive(Default)]
pub struct Pools {
    known: Mutex<HashMap<PoolKey, Weak<Pool>>>,
    wake: Arc<Notify>,
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pools(..)")
    }
}

impl Pools {
    /// The pool of these URLs: the one that a living generation has, with what it knows of them, or a new one.
    pub fn of(&self, endpoint: &str, bases: &[String]) -> Arc<Pool> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, pool| pool.strong_count() > 0);
        let key = (endpoint.to_owned(), bases.to_vec());
        if let Some(pool) = known.get(&key).and_then(Weak::upgrade) {
            return pool;
        }
        let pool = Arc::new(Pool::new(bases, Arc::clone(&self.wake)));
        known.insert(key, Arc::downgrade(&pool));
        pool
    }

    /// Resolves when some pool has a question to ask sooner than was known.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::breaker::{FAILURES, FIRST_REST};
    use super::*;

    #[test]
    fn a_url_that_nobody_watches_is_never_left_alone() {
        let now = Instant::now();
        let asked = |pool: &Pool| {
            (0..=FAILURES)
                .filter(|_| {
                    pool.take(&[], now).is_some_and(|taken| {
                        taken.failed(now);
                        true
                    })
                })
                .count()
        };
        let bases = ["https://consents.internal/fhir".to_owned()];
        assert_eq!(asked(&Pool::unwatched(&bases)), 4);
        assert_eq!(asked(&Pool::new(&bases, Arc::default())), 3);
    }

    fn pool(count: usize) -> Pool {
        let bases: Vec<String> = (0..count).map(|index| format!("https://ehr-{index}.internal/fhir/")).collect();
        Pool::new(&bases, Arc::default())
    }

    fn open(pool: &Pool, index: usize, now: Instant) {
        let others: Vec<usize> = (0..pool.len()).filter(|other| *other != index).collect();
        for _ in 0..FAILURES {
            pool.take(&others, now).unwrap().failed(now);
        }
    }

    #[test]
    fn urls_take_turns_and_the_busy_one_is_spared() {
        let (pool, now) = (pool(3), Instant::now());
        let mut seen: Vec<usize> = (0..3).map(|_| pool.take(&[], now).unwrap().index).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
        let busy = pool.take(&[], now).unwrap();
        for _ in 0..6 {
            assert_ne!(pool.take(&[], now).unwrap().index, busy.index);
        }
    }

    #[test]
    fn a_url_that_fails_is_left_alone_and_its_neighbour_is_not() {
        let (pool, now) = (pool(2), Instant::now());
        open(&pool, 0, now);
        for _ in 0..10 {
            assert_eq!(pool.take(&[], now).unwrap().index, 1);
        }
        open(&pool, 1, now);
        assert!(pool.take(&[], now).is_none());
        assert_eq!(pool.wait(now), FIRST_REST);
        assert!(pool.take(&[], now + FIRST_REST).is_none(), "a client's request is no trial");
        assert_eq!(pool.due(now + FIRST_REST).len(), 2);
        pool.answered(1, now, now);
        assert_eq!(pool.take(&[], now).unwrap().index, 1);
    }

    #[test]
    fn a_slow_request_among_answered_ones_says_nothing() {
        let (pool, now) = (pool(1), Instant::now());
        let slow: Vec<Taken<'_>> = (0..FAILURES).map(|_| pool.take(&[], now).unwrap()).collect();
        pool.take(&[], now).unwrap().answered(now + Duration::from_millis(1));
        slow.iter().for_each(|request| request.failed(now + Duration::from_secs(10)));
        assert!(pool.take(&[], now).is_some());
        open(&pool, 0, now + Duration::from_secs(1));
        assert!(pool.take(&[], now).is_none());
    }

    #[test]
    fn each_url_is_asked_once_at_a_time_and_again_after_the_interval() {
        let (pool, now) = (pool(2), Instant::now());
        assert_eq!(pool.due(now).len(), 2);
        assert_eq!(pool.due(now).len(), 0);
        assert_eq!(pool.next_question(now), None);
        let next = now + Duration::from_secs(10);
        pool.answered(0, now, next);
        pool.silent(1, now, next, None);
        assert_eq!(pool.due(now).len(), 0);
        assert_eq!(pool.next_question(now), Some(next));
        assert_eq!(pool.due(next).len(), 2);
    }

    #[test]
    fn what_is_known_of_urls_survives_as_long_as_they_do() {
        let pools = Pools::default();
        let (one, two) = (vec!["https://a/fhir".to_owned()], vec!["https://b/fhir".to_owned()]);
        let first = pools.of("main", &one);
        open(&first, 0, Instant::now());
        assert!(Arc::ptr_eq(&first, &pools.of("main", &one)));
        assert!(!Arc::ptr_eq(&first, &pools.of("main", &two)));
        assert!(!Arc::ptr_eq(&first, &pools.of("other", &one)));
        drop(first);
        assert!(pools.of("main", &one).take(&[], Instant::now()).is_some());
    }

    #[test]
    fn mended_settings_are_tried_at_once() {
        let (pool, now) = (pool(1), Instant::now());
        pool.answered(0, now - Duration::from_secs(1), now + Duration::from_secs(600));
        open(&pool, 0, now);
        assert_eq!(pool.due(now).len(), 0);
        pool.try_all(now);
        assert_eq!(pool.due(now).len(), 1);
    }
}
