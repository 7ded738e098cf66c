//! Messages between the threads of a run and their caller: nothing is shared while operations are carried out but a word on
//! when to stop.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use rustix::io::Errno;

use super::account::{Tally, Window};

/// When everything is, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The warm-up begins, and with it the plan.
    pub(super) start: u64,
    /// The measured time.
    pub(super) window: Window,
    /// The last answers are waited for until then.
    pub(super) last: u64,
}

/// From the caller to the threads, and the state that the caller may look at.
#[derive(Debug)]
pub(super) struct Stage {
    times: OnceLock<Times>,
    stopped: AtomicU64,
    /// Connections that are made, all threads together.
    pub(super) up: AtomicUsize,
    /// Why the last connection broke.
    last_trouble: Mutex<&'static str>,
    /// When an operation is given up, in nanoseconds.
    pub(super) timeout: u64,
}

impl Stage {
    pub(super) fn new(timeout: u64) -> Stage {
        Stage {
            times: OnceLock::new(),
            stopped: AtomicU64::new(u64::MAX),
            up: AtomicUsize::new(0),
            last_trouble: Mutex::new("no answer came"),
            timeout,
        }
    }

    /// Says when the run is, once, when all is ready for it.
    pub(super) fn set(&self, times: Times) {
        self.times.set(times).expect("a run begins once");
    }

    pub(super) fn times(&self) -> Option<Times> {
        self.times.get().copied()
    }

    pub(super) fn start(&self) -> Option<u64> {
        self.times.get().map(|times| times.start)
    }

    /// Ends the run now.
    pub(super) fn stop(&self, now: u64) {
        self.stopped.fetch_min(now, Ordering::Relaxed);
    }

    /// When it was ended, or never.
    pub(super) fn stopped(&self) -> u64 {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn trouble(&self, why: &'static str) {
        if let Ok(mut last) = self.last_trouble.lock() {
            *last = why;
        }
    }

    pub(super) fn last_trouble(&self) -> &'static str {
        self.last_trouble.lock().map_or("a thread panicked", |last| *last)
    }
}

/// From a thread to the caller.
#[derive(Debug)]
pub(super) enum Report {
    /// All its standing connections are made.
    Up,
    /// The host refuses to make connections.
    Refused(Errno),
    /// Its counts of this second, counted from when measuring began.
    Second(i64, Box<Tally>),
}
