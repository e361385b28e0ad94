//! When a URL of the EHR is left alone, and when it may be tried again.
//!
//! A circuit of three states (closed, open, half-open) that takes the time as an argument. The trial of the half-open state
//! is the gateway's own health question, never a client's request: a write must not be the one to find out, and a search
//! that is slow by itself must not decide for everybody.

use std::time::{Duration, Instant};

/// So many failures in a row open the circuit.
pub const FAILURES: u32 = 3;
/// How long it stays open at first; each failed trial doubles it.
pub const FIRST_REST: Duration = Duration::from_secs(1);
/// How long it stays open at most: an EHR that is back is used again within seconds.
pub const LONGEST_REST: Duration = Duration::from_secs(4);
/// How long it stays open at most when the server itself asks for rest.
pub const LONGEST_ASKED: Duration = Duration::from_secs(30);

/// Whether a URL is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breaker {
    /// It is.
    Closed { failures: u32 },
    /// It is left alone until then.
    Open { until: Instant, rest: Duration },
    /// It is being tried.
    HalfOpen { rest: Duration },
}

impl Breaker {
    pub(super) const fn new() -> Self {
        Self::Closed { failures: 0 }
    }

    pub(super) const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }

    /// It answered: that is all it takes.
    pub(super) fn answered(&mut self) {
        *self = Self::new();
    }

    /// A client's request failed on it. Once the circuit is open, only the trial speaks: requests that began before it
    /// opened come home late, and say nothing new.
    pub(super) fn failed(&mut self, now: Instant) {
        if let Self::Closed { failures } = *self {
            let failures = failures.saturating_add(1);
            *self = if failures >= FAILURES { open(now, FIRST_REST, None) } else { Self::Closed { failures } };
        }
    }

    /// The gateway's own question failed. `asked_to_wait` is its `Retry-After`.
    pub(super) fn question_failed(&mut self, now: Instant, asked_to_wait: Option<Duration>) {
        *self = match *self {
            Self::Closed { failures } if failures.saturating_add(1) < FAILURES => {
                Self::Closed { failures: failures.saturating_add(1) }
            }
            Self::Closed { .. } => open(now, FIRST_REST, asked_to_wait),
            Self::Open { rest, .. } | Self::HalfOpen { rest } => open(now, rest.saturating_mul(2), asked_to_wait),
        };
    }

    /// Begins the trial, if its time has come. `true` for one caller alone.
    pub(super) fn try_now(&mut self, now: Instant) -> bool {
        match *self {
            Self::Open { until, rest } if now >= until => {
                *self = Self::HalfOpen { rest };
                true
            }
            Self::Open { .. } | Self::Closed { .. } | Self::HalfOpen { .. } => false,
        }
    }

    /// The trial could not be made: it is made again a little later.
    pub(super) fn put_off(&mut self, now: Instant) {
        if let Self::HalfOpen { rest } = *self {
            *self = Self::Open { until: later(now, FIRST_REST), rest };
        }
    }

    /// Until when it is left alone; `now` while it is tried, `None` while it is asked.
    pub(super) const fn until(&self, now: Instant) -> Option<Instant> {
        match *self {
            Self::Closed { .. } => None,
            Self::Open { until, .. } => Some(until),
            Self::HalfOpen { .. } => Some(now),
        }
    }
}

fn open(now: Instant, rest: Duration, asked_to_wait: Option<Duration>) -> Breaker {
    let rest = rest.min(LONGEST_REST);
    let wait = asked_to_wait.map_or(rest, |asked| asked.clamp(rest, LONGEST_ASKED));
    Breaker::Open { until: later(now, wait), rest }
}

fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new();
        for _ in 0..FAILURES {
            breaker.failed(now);
        }
        breaker
    }

    #[test]
    fn it_opens_at_the_third_failure_in_a_row_and_not_before() {
        let now = Instant::now();
        let mut breaker = Breaker::new();
        for _ in 0..10 {
            breaker.failed(now);
            breaker.failed(now);
            assert!(breaker.is_closed());
            breaker.answered();
        }
        assert_eq!(opened(now), Breaker::Open { until: now + FIRST_REST, rest: FIRST_REST });
    }

    #[test]
    fn it_is_tried_once_when_its_time_has_come() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert!(!breaker.try_now(now));
        assert!(breaker.try_now(now + FIRST_REST));
        assert!(!breaker.try_now(now + FIRST_REST), "one trial at a time");
        assert!(!breaker.is_closed());
        breaker.answered();
        assert!(breaker.is_closed());
    }

    #[test]
    fn every_failed_trial_doubles_the_rest_up_to_the_longest() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut rests = Vec::new();
        for _ in 0..7 {
            let until = breaker.until(now).unwrap();
            rests.push((until - now).as_secs());
            now = until;
            assert!(breaker.try_now(now));
            breaker.question_failed(now, None);
        }
        assert_eq!(rests, [1, 2, 4, 4, 4, 4, 4]);
    }

    #[test]
    fn late_failures_prolong_nothing() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let before = breaker;
        breaker.failed(now + Duration::from_millis(900));
        assert_eq!(breaker, before);
    }

    #[test]
    fn a_server_in_maintenance_is_left_alone_as_long_as_it_asks_within_the_bound() {
        let now = Instant::now();
        let wait = |asked: u64| {
            let mut breaker = Breaker::new();
            for _ in 0..FAILURES {
                breaker.question_failed(now, Some(Duration::from_secs(asked)));
            }
            breaker.until(now).unwrap() - now
        };
        assert_eq!(wait(0), FIRST_REST);
        assert_eq!(wait(12), Duration::from_secs(12));
        assert_eq!(wait(86_400), LONGEST_ASKED);
    }

    #[test]
    fn a_trial_that_could_not_be_made_is_made_again() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let due = now + FIRST_REST;
        assert!(breaker.try_now(due));
        breaker.put_off(due);
        assert!(!breaker.try_now(due));
        assert!(breaker.try_now(due + FIRST_REST));
    }
}
