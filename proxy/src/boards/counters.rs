//! Counters. Each block of them is written by one shard with relaxed stores, and summed by its readers: [`ShardCounters`] are those of
//! the shard itself, and a [`Series`] those of its connections with the same labels.
//!
//! Opened and closed stand side by side in a series, and active is their difference, so that opened = closed + active in
//! every scrape.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, fence};

use crate::reason::Reason;

/// A counter with one writer: no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// By the owning shard only.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// By the owning shard only.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// By anyone.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A shard's counters beside those of its connections, in cache lines of its own: the shard writes them all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ShardCounters {
    /// Sockets this shard accepted and gave to another.
    pub handed_over: Counter,
    /// Bytes moved by splice.
    pub spliced_bytes: Counter,
    /// Bytes moved through the buffer.
    pub copied_bytes: Counter,
    /// Pipes that sessions hold.
    pub pipes_in_use: Counter,
    /// Tails (unsent rests of reads) that sessions hold.
    pub tails_in_use: Counter,
    /// The memory of these.
    pub tail_bytes: Counter,
    /// Completions for a slot's earlier life, dropped.
    pub stale_completions: Counter,
    /// Dials that found no source port.
    pub source_ports_exhausted: Counter,
    /// Listeners that are open, those that are being emptied included.
    pub listeners: Counter,
    /// The table this shard routes by.
    pub generation: Counter,
    accept_errors: AcceptErrors,
}

/// The highest errno of Linux, EHWPOISON.
pub(crate) const MAX_ERRNO: usize = 133;

/// Accepts that failed, by errno.
#[derive(Debug)]
struct AcceptErrors([Counter; MAX_ERRNO + 1]);

impl Default for AcceptErrors {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl ShardCounters {
    /// Counts an accept that failed.
    pub(crate) fn accept_failed(&self, error: &std::io::Error) {
        let errno = error.raw_os_error().map_or(0, |errno| errno as usize);
        self.accept_errors.0[errno.min(MAX_ERRNO)].add(1);
    }

    /// Accepts that failed with this errno, at most [`MAX_ERRNO`].
    pub(crate) fn accepts_failed(&self, errno: usize) -> u64 {
        self.accept_errors.0[errno].get()
    }
}

/// One shard's counters of connections with the same ids of one table.
#[derive(Debug)]
pub(crate) struct Series {
    /// Connections whose route was decided, or that ended without one.
    pub opened: Counter,
    closed: [Counter; Reason::ALL.len()],
    /// Bytes sent to upstreams.
    pub bytes_up: Counter,
    /// Bytes sent to clients.
    pub bytes_down: Counter,
    /// Connections from sources that no workload owns.
    pub unknown_sources: Counter,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            opened: Counter::default(),
            closed: std::array::from_fn(|_| Counter::default()),
            bytes_up: Counter::default(),
            bytes_down: Counter::default(),
            unknown_sources: Counter::default(),
        }
    }
}

impl Series {
    /// Counts an end.
    pub(crate) fn close(&self, reason: Reason) {
        self.closed[reason as usize].add(1);
    }

    /// By anyone.
    pub(crate) fn read(&self) -> Reading {
        // Ends first: an end that is seen belongs to a beginning that is seen as well.
        let closed = std::array::from_fn(|reason| self.closed[reason].get());
        fence(Acquire);
        Reading {
            opened: self.opened.get().max(closed.iter().sum()),
            closed,
            bytes_up: self.bytes_up.get(),
            bytes_down: self.bytes_down.get(),
            unknown_sources: self.unknown_sources.get(),
        }
    }
}

/// The values of one series, or of several with the same labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Connections that were opened.
    pub opened: u64,
    /// Those that ended, by reason.
    pub closed: [u64; Reason::ALL.len()],
    /// Bytes sent to upstreams.
    pub bytes_up: u64,
    /// Bytes sent to clients.
    pub bytes_down: u64,
    /// Connections from sources that no workload owns.
    pub unknown_sources: u64,
}

impl Reading {
    /// Adds another's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.closed.iter_mut().zip(&other.closed).for_each(|(sum, n)| *sum += n);
        self.bytes_up += other.bytes_up;
        self.bytes_down += other.bytes_down;
        self.unknown_sources += other.unknown_sources;
    }

    /// Connections that have not ended.
    pub(crate) fn active(&self) -> u64 {
        self.opened - self.closed.iter().sum::<u64>()
    }
}
