//! A rate of connections: a bucket that holds one second's worth and is filled evenly. Shared by all shards, with one atomic: the
//! moment at which the bucket will be full again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One connection's share of a second, in nanoseconds, rounded up: the rate is never exceeded.
fn share(per_second: u64) -> u64 {
    1_000_000_000_u64.div_ceil(per_second.max(1))
}

/// Takes one connection out of a bucket that will be full at `full_at` (nanoseconds of the monotonic clock, as `now`). Returns
/// when it will be full then; `None`: it is empty.
pub(super) fn take(full_at: u64, per_second: u64, now: u64) -> Option<u64> {
    let share = share(per_second);
    let then = full_at.max(now) + share;
    (then - now <= share * per_second).then_some(then)
}

/// No limit.
const UNLIMITED: u64 = u64::MAX;

/// A rate that all shards share. It outlives tables: a reload changes its maximum, not what was taken.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: AtomicU64,
    full_at: AtomicU64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { per_second: AtomicU64::new(UNLIMITED), full_at: AtomicU64::new(0) }
    }
}

impl Rate {
    /// Changes the maximum; `None`: no limit.
    pub(crate) fn set_maximum(&self, per_second: Option<u64>) {
        self.per_second.store(per_second.unwrap_or(UNLIMITED), Relaxed);
    }

    /// Whether there is a limit.
    pub(crate) fn is_limited(&self) -> bool {
        self.per_second.load(Relaxed) != UNLIMITED
    }

    /// Takes one connection; false: the rate is reached. `now`: nanoseconds of the monotonic clock.
    pub(crate) fn take(&self, now: u64) -> bool {
        let per_second = self.per_second.load(Relaxed);
        per_second == UNLIMITED
            || self.full_at.fetch_update(Relaxed, Relaxed, |full_at| take(full_at, per_second, now)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// The stupid model: the moments of what was let through in the last second's worth of refills.
    struct Bucket {
        tokens: f64,
        at: u64,
    }

    #[test]
    fn a_bucket_holds_one_seconds_worth_and_is_filled_evenly() {
        for per_second in [1, 2, 3, 7, 100, 5_000] {
            let rate = Rate::default();
            rate.set_maximum(Some(per_second));
            let mut now = 5 * SECOND;
            let first = (0..2 * per_second).filter(|_| rate.take(now)).count() as u64;
            assert_eq!(first, per_second, "after a rest one second's worth");
            now += SECOND / per_second / 2;
            assert!(!rate.take(now), "{per_second}: half a share later");
            now += SECOND / per_second;
            assert!(rate.take(now), "{per_second}: a share later");
            now += SECOND;
            let again = (0..2 * per_second).filter(|_| rate.take(now)).count() as u64;
            assert!(again >= per_second - 1, "{per_second}: {again} a second later");
        }
    }

    #[test]
    fn it_agrees_with_a_bucket_of_tokens() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..200 {
            let per_second = rng.u64(1..2_000);
            let share = share(per_second);
            let rate = Rate::default();
            rate.set_maximum(Some(per_second));
            let mut now = rng.u64(0..100 * SECOND);
            let mut bucket = Bucket { tokens: per_second as f64, at: now };
            for _ in 0..500 {
                now += rng.u64(0..3 * share);
                bucket.tokens =
                    (bucket.tokens + (now - bucket.at) as f64 / share as f64).min(per_second as f64);
                bucket.at = now;
                let takes = rate.take(now);
                // Where the model is within rounding of one token either answer is right.
                if (bucket.tokens - 1.0).abs() > 1e-6 {
                    assert_eq!(
                        takes,
                        bucket.tokens >= 1.0,
                        "{per_second} a second, {} tokens",
                        bucket.tokens
                    );
                }
                bucket.tokens -= f64::from(u8::from(takes));
            }
        }
    }

    #[test]
    fn four_threads_take_no_more_than_there_is() {
        let rate = Rate::default();
        rate.set_maximum(Some(1_000));
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1_000).filter(|_| rate.take(7)).count())).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(taken, 1_000);
    }

    #[test]
    fn a_change_of_the_maximum_holds_at_once_and_forgets_nothing() {
        let rate = Rate::default();
        assert!((0..100_000).all(|_| rate.take(0)), "no limit");
        rate.set_maximum(Some(10));
        assert_eq!((0..100).filter(|_| rate.take(SECOND)).count(), 10);
        rate.set_maximum(Some(20));
        assert_eq!((0..100).filter(|_| rate.take(SECOND)).count(), 0, "a second's worth was taken");
        rate.set_maximum(None);
        assert!(rate.take(SECOND));
    }
}
