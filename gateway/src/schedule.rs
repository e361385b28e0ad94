//! When a "not found" leaves: late enough, and at times coarse enough, that hidden and missing take equally long.
//!
//! An answer that could tell a hidden record from a missing one is released at the floor, or, where its own time was longer,
//! at the next multiple of the floor. The floor follows the 99th percentile of the endpoint's judged exchanges, from the request
//! to the record of its end, so that the work of judging (consents, references, redaction, the record) stays under it
//! (product.md section 4, attack case 48). The EHR's "not found" is no judged exchange: many of them lower no floor.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The floor is a multiple of this.
pub const QUANTUM: Duration = Duration::from_millis(5);
/// The floor never falls below this, nor rises above [`CEILING`].
pub const MINIMUM: Duration = Duration::from_millis(10);
/// A slow EHR must not make every "not found" slow without end.
pub const CEILING: Duration = Duration::from_millis(500);
/// After so many exchanges the floor is computed anew.
const WINDOW: u64 = 256;
/// Bucket `n` counts exchanges of `[n, n + 1)` quanta; the last one counts all that are longer.
const BUCKETS: usize = 101;

/// Whoever slept for long wakes up cold, and is a little later than who slept for a moment: everybody is woken this long before
/// the time, and then again.
const SETTLE: Duration = Duration::from_millis(3);

/// Waits until an answer is due, counted from when its request began.
pub async fn release(started: Instant, due: Duration) {
    let at = tokio::time::Instant::from_std(started) + due;
    tokio::time::sleep_until(at - SETTLE.min(due)).await;
    tokio::time::sleep_until(at).await;
}

/// The release schedule of one endpoint.
#[derive(Debug)]
pub struct Schedule {
    buckets: [AtomicU64; BUCKETS],
    seen: AtomicU64,
    floor_quanta: AtomicU64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            seen: AtomicU64::new(0),
            floor_quanta: AtomicU64::new(quanta(MINIMUM)),
        }
    }
}

const fn quanta(time: Duration) -> u64 {
    // Rounded up; a Duration of practical size fits.
    (time.as_micros() as u64).div_ceil(QUANTUM.as_micros() as u64)
}

impl Schedule {
    /// Takes note of how long a judged exchange took, its record included.
    pub fn observe(&self, took: Duration) {
        let bucket = usize::try_from(quanta(took)).unwrap_or(BUCKETS).min(BUCKETS.saturating_sub(1));
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if self.seen.fetch_add(1, Ordering::AcqRel).wrapping_add(1) >= WINDOW {
            self.seen.store(0, Ordering::Release);
            self.close_window();
        }
    }

    fn close_window(&self) {
        let counts: Vec<(u64, u64)> =
            (0u64..).zip(&self.buckets).map(|(n, bucket)| (n, bucket.swap(0, Ordering::AcqRel))).collect();
        let total: u64 = counts.iter().map(|(_, count)| count).sum();
        let beyond = total / 100;
        let mut tail = 0u64;
        let mut p99 = 0u64;
        for (bucket, count) in counts.into_iter().rev() {
            tail = tail.saturating_add(count);
            if tail > beyond {
                p99 = bucket;
                break;
            }
        }
        let floor = p99.clamp(quanta(MINIMUM), quanta(CEILING));
        self.floor_quanta.store(floor, Ordering::Release);
    }

    /// How long after its start an answer that took `own` may leave, when it stands for so many exchanges that were made
    /// one after another.
    pub fn release_after(&self, own: Duration, rounds: u32) -> Duration {
        let floor = self.floor_quanta.load(Ordering::Acquire).saturating_mul(u64::from(rounds.max(1)));
        let floors = quanta(own).div_ceil(floor.max(1)).max(1);
        QUANTUM.saturating_mul(u32::try_from(floors.saturating_mul(floor)).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn short_answers_wait_for_the_floor_and_long_ones_for_the_next_multiple_of_it() {
        let schedule = Schedule::default();
        assert_eq!(schedule.release_after(ms(0), 1), ms(10));
        assert_eq!(schedule.release_after(ms(9), 1), ms(10));
        assert_eq!(schedule.release_after(ms(10), 1), ms(10));
        assert_eq!(schedule.release_after(ms(11), 1), ms(20));
        assert_eq!(schedule.release_after(ms(21), 1), ms(30));
        assert_eq!(schedule.release_after(ms(11), 3), ms(30), "three exchanges, one after another");
    }

    #[test]
    fn the_floor_follows_the_slow_exchanges_within_its_bounds() {
        let schedule = Schedule::default();
        for n in 0..WINDOW {
            schedule.observe(if n % 20 == 0 { ms(42) } else { ms(3) });
        }
        assert_eq!(schedule.release_after(ms(1), 1), ms(45));
        for _ in 0..WINDOW {
            schedule.observe(ms(60_000));
        }
        assert_eq!(schedule.release_after(ms(1), 1), CEILING);
        for _ in 0..WINDOW {
            schedule.observe(ms(1));
        }
        assert_eq!(schedule.release_after(ms(1), 1), MINIMUM);
    }
}
