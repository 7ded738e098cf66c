//! Waiting for a condition, with a deadline: the only place of the tests that sleeps.

use std::time::{Duration, Instant};

/// How often a condition is asked. Short against every bar that is measured (100 ms), long against the cost of asking.
const STEP: Duration = Duration::from_millis(5);

/// Whether `condition` came to hold within `deadline`. It is asked at least once, and once more at the end.
pub fn wait_for(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        let late = start.elapsed() >= deadline;
        if condition() {
            return true;
        }
        if late {
            return false;
        }
        std::thread::sleep(STEP);
    }
}

/// Whether `condition` held for the whole of `duration`.
pub fn holds_for(duration: Duration, mut condition: impl FnMut() -> bool) -> bool {
    !wait_for(duration, || !condition())
}

/// Milliseconds, for tables of them.
pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Panics unless `took` is no less than `wanted` and at most 100 ms and 1 % more.
#[track_caller]
pub fn assert_on_time(what: &str, wanted: Duration, took: Duration) {
    assert!(took >= wanted, "{what}: after {took:?}, early for {wanted:?}");
    let latest = wanted + wanted / 100 + ms(100);
    assert!(took <= latest, "{what}: after {took:?}, late for {wanted:?} (at most {latest:?})");
}
