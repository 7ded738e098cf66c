//! The bookkeeping of one part on one thread: each [`Operation`] is made in one place and consumed by what became of it.

use crate::ledger::{Ledger, Times, times};
use crate::payload::fault::Fault;

/// The measured time, in nanoseconds of the monotonic clock: from `begin` to before `end`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) begin: u64,
    pub(super) end: u64,
}

impl Window {
    fn holds(self, time: u64) -> bool {
        self.begin <= time && time < self.end
    }
}

/// An operation that has not ended yet. It cannot be copied: every way to end it takes it away, and whoever loses one makes the
/// counts not add up, which each run checks.
#[must_use]
#[derive(Debug)]
pub(super) struct Operation {
    planned: u64,
    handed: u64,
    counted: bool,
}

impl Operation {
    /// The socket is about to have its first byte.
    pub(super) fn hand(&mut self, now: u64) {
        self.handed = now;
    }
}

/// What was done since the last second was cut off.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) ok: u64,
    pub(super) bad: u64,
    pub(super) bytes: u64,
    pub(super) times: Times,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally { ok: 0, bad: 0, bytes: 0, times: times() }
    }

    pub(super) fn add(&mut self, other: &Tally) {
        self.ok += other.ok;
        self.bad += other.bad;
        self.bytes += other.bytes;
        self.times.add(&other.times).expect("all histograms have the same bounds");
    }
}

/// Whether times are measured from a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    Closed,
    Open,
}

/// The books of one part on one thread.
#[derive(Debug)]
pub(super) struct Book {
    ledger: Ledger,
    tally: Tally,
    window: Window,
    shape: Loop,
    timeout: u64,
    /// Whether bytes of now belong to the measured time; the shard says when.
    counting: bool,
    /// Dropped operations by the millisecond they were planned in: they are as late as the run's end, which is not known yet.
    drops: Vec<(u64, u64)>,
}

const MILLISECOND: u64 = 1_000_000;

impl Book {
    pub(super) fn new(shape: Loop, timeout: u64) -> Book {
        let window = Window { begin: u64::MAX, end: u64::MAX };
        Book {
            ledger: Ledger::new(),
            tally: Tally::new(),
            window,
            shape,
            timeout,
            counting: false,
            drops: Vec::new(),
        }
    }

    /// Says when the measured time is; an early end may come later, but no operation planned after it.
    pub(super) fn measure(&mut self, window: Window) {
        self.window = window;
    }

    pub(super) fn window(&self) -> Window {
        self.window
    }

    /// An operation begins its life: it was due at `planned`, and the generator notices now.
    pub(super) fn plan(&mut self, planned: u64, now: u64) -> Operation {
        let counted = self.window.holds(planned);
        if counted {
            self.ledger.planned += 1;
            if self.shape == Loop::Open {
                self.ledger.lag.saturating_record(now.saturating_sub(planned));
            }
        }
        Operation { planned, handed: now, counted }
    }

    /// Whether an operation planned at this time would be counted.
    pub(super) fn counts(&self, planned: u64) -> bool {
        self.window.holds(planned)
    }

    /// The last byte is there.
    pub(super) fn ok(&mut self, operation: Operation, now: u64) {
        let service = now.saturating_sub(operation.handed);
        let response = now.saturating_sub(operation.planned);
        self.tally.ok += 1;
        self.tally.times.saturating_record(if self.shape == Loop::Open { response } else { service });
        if operation.counted {
            self.ledger.ok += 1;
            self.ledger.service.saturating_record(service);
            self.late(&operation, response);
        }
    }

    /// It ended in an error. Whoever wanted the answer waits on and tries again: this is no better than a timeout.
    pub(super) fn failed(&mut self, operation: Operation, why: &'static str, now: u64) {
        self.tally.bad += 1;
        if operation.counted {
            self.ledger.failed += 1;
            *self.ledger.errors.entry(why).or_default() += 1;
            self.late(&operation, now.saturating_sub(operation.planned).max(self.timeout));
        }
    }

    /// It is given up.
    pub(super) fn timed_out(&mut self, operation: Operation, now: u64) {
        self.tally.bad += 1;
        if operation.counted {
            self.ledger.timeout += 1;
            self.late(&operation, now.saturating_sub(operation.planned));
        }
    }

    /// The run ends now, and it has not.
    pub(super) fn unfinished(&mut self, operation: Operation, now: u64) {
        if operation.counted {
            self.ledger.unfinished += 1;
            self.late(&operation, now.saturating_sub(operation.planned));
        }
    }

    /// It never begins: too many wait already.
    pub(super) fn dropped(&mut self, operation: Operation) {
        self.tally.bad += 1;
        if !operation.counted {
            return;
        }
        self.ledger.dropped += 1;
        let planned = operation.planned / MILLISECOND;
        match self.drops.last_mut() {
            Some((millisecond, count)) if *millisecond == planned => *count += 1,
            _ => self.drops.push((planned, 1)),
        }
    }

    fn late(&mut self, operation: &Operation, nanoseconds: u64) {
        debug_assert!(operation.counted);
        if self.shape == Loop::Open {
            self.ledger.response.saturating_record(nanoseconds);
        }
    }

    /// How long something may take, in nanoseconds.
    pub(super) fn timeout(&self) -> u64 {
        self.timeout
    }

    /// Whether the time for this operation is over.
    pub(super) fn is_late(&self, operation: &Operation, now: u64) -> bool {
        now.saturating_sub(operation.planned) >= self.timeout
    }

    /// A connection broke that had no operation under way.
    pub(super) fn broken(&mut self, why: &'static str) {
        *self.ledger.errors.entry(why).or_default() += 1;
    }

    /// A connection was made, and took so long.
    pub(super) fn opened(&mut self, took: u64) {
        self.ledger.opened += 1;
        self.ledger.connect.saturating_record(took);
    }

    /// Whether bytes are counted from now on.
    pub(super) fn count_bytes(&mut self, counting: bool) {
        self.counting = counting;
    }

    /// Bytes that the kernel took.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.tally.bytes += bytes as u64;
        if self.counting {
            self.ledger.bytes_up += bytes as u64;
        }
    }

    /// Bytes that came.
    pub(super) fn received(&mut self, bytes: usize) {
        self.tally.bytes += bytes as u64;
        if self.counting {
            self.ledger.bytes_down += bytes as u64;
        }
    }

    /// Bytes were not what they had to be.
    pub(super) fn fault(&mut self, fault: Fault) {
        self.ledger.fault(fault);
    }

    /// Planned and not ended yet.
    pub(super) fn outstanding(&self) -> u64 {
        self.ledger.planned - self.ledger.ended()
    }

    /// What was done since this was last asked.
    pub(super) fn cut(&mut self) -> Tally {
        std::mem::replace(&mut self.tally, Tally::new())
    }

    /// Closes the books when the run has ended.
    pub(super) fn close(mut self, now: u64) -> Ledger {
        if self.shape == Loop::Open {
            for (millisecond, count) in self.drops {
                let late = now.saturating_sub(millisecond * MILLISECOND);
                self.ledger.response.saturating_record_n(late, count);
            }
        }
        self.ledger
    }
}
