//! No work may run for longer than it was given: a comparison that hangs at night has measured nothing by the morning.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context;

use crate::exit::FAILED;

/// How long work may take to end once it was asked to.
const GRACE: Duration = Duration::from_secs(10);

/// Work that did not end by itself in its time. It was ended by `stop`, and so is the comparison.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overdue(Duration);

impl fmt::Display for Overdue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the driver had not ended after {:?}, so the comparison ends here", self.0)
    }
}

impl std::error::Error for Overdue {}

/// Does this work. After `limit` sets `stop`; work that does not heed that either ends this process, and with it all children.
///
/// # Errors
///
/// Those of the work, or [`Overdue`].
pub(super) fn within<T>(
    limit: Duration,
    stop: &AtomicBool,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (done, ended) = channel::<()>();
    let overdue = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        let watch = || {
            let ended = ended;
            if ended.recv_timeout(limit) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            overdue.store(true, Ordering::Relaxed);
            stop.store(true, Ordering::Relaxed);
            if ended.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("weir-bench: {}; nor did it stop when asked to", Overdue(limit));
                std::process::exit(FAILED.into());
            }
        };
        std::thread::Builder::new().spawn_scoped(scope, watch).context("cannot start a thread")?;
        let result = work();
        drop(done);
        result
    });
    if overdue.into_inner() { Err(Overdue(limit).into()) } else { result }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_that_does_not_end_in_its_time_is_asked_to() {
        fn check(limit: Duration, hangs: bool) {
            let stop = AtomicBool::new(false);
            let began = Instant::now();
            let result = within(limit, &stop, || {
                while hangs && !stop.load(Ordering::Relaxed) && began.elapsed() < GRACE {
                    std::thread::yield_now();
                }
                Ok(7)
            });
            assert_eq!(stop.into_inner(), hangs);
            match result {
                Ok(value) => assert!(!hangs && value == 7),
                Err(error) => assert!(hangs && error.downcast_ref() == Some(&Overdue(limit)), "{error}"),
            }
            assert!(began.elapsed() < GRACE, "it took {:?}", began.elapsed());
        }
        check(Duration::from_millis(50), true);
        check(Duration::from_secs(3600), false);
    }
}
