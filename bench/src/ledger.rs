//! The outcome of every operation. A thread writes its own ledger; ledgers are added when threads have ended.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::activity::Activity;
use crate::payload::fault::Fault;
use crate::settings::{Part, Settings};

/// Longest time a histogram holds; anything later counts as this late.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// Faults that are kept to be shown: enough to recognise the fault; the rest are only counted.
pub const FAULTS_KEPT: usize = 20;

/// Times in nanoseconds, three significant digits: at most 0.1 % off.
pub type Times = Histogram<u64>;

/// An empty histogram of times.
pub fn times() -> Times {
    Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).expect("bounds are constants")
}

/// Outcomes of the operations of one part. `planned = ok + failed + timeout + unfinished + dropped`, exactly.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Operations that should have been done in the measured time.
    pub planned: u64,
    /// Done.
    pub ok: u64,
    /// Ended in an error.
    pub failed: u64,
    /// Given up after the timeout.
    pub timeout: u64,
    /// Under way or waiting when the run ended.
    pub unfinished: u64,
    /// Never begun: too many were waiting.
    pub dropped: u64,
    /// Last byte after the intended time. Operations without an answer are here too, at least as late as it is: a timeout with the time
    /// it had, a failure as if it had timed out, unfinished and dropped as if answered when the run ended. A closed loop has none.
    pub response: Times,
    /// Last byte after the operation was handed to the socket; of those that are ok.
    pub service: Times,
    /// How much later than intended the generator itself noticed that an operation was due; no connection's fault.
    pub lag: Times,
    /// From asking for a connection to having one.
    pub connect: Times,
    /// When operations were done, whichever time they were planned for.
    pub activity: Activity,
    /// Payload bytes the kernel took from us.
    pub bytes_up: u64,
    /// Payload bytes that came back.
    pub bytes_down: u64,
    /// Connections made.
    pub opened: u64,
    /// Why operations failed: "refused", "reset", "closed early", ..., and why connections broke that had none under way.
    pub errors: BTreeMap<&'static str, u64>,
    /// The first faults in received bytes.
    pub faults: Vec<Fault>,
    /// How many faults there were.
    pub fault_count: u64,
}

impl Ledger {
    /// Nothing counted yet.
    pub fn new() -> Ledger {
        Ledger {
            planned: 0,
            ok: 0,
            failed: 0,
            timeout: 0,
            unfinished: 0,
            dropped: 0,
            response: times(),
            service: times(),
            lag: times(),
            connect: times(),
            activity: Activity::default(),
            bytes_up: 0,
            bytes_down: 0,
            opened: 0,
            errors: BTreeMap::new(),
            faults: Vec::new(),
            fault_count: 0,
        }
    }

    /// Whether every planned operation ended in exactly one way.
    pub fn adds_up(&self) -> bool {
        self.planned == self.ended()
    }

    /// Operations that came to an end, of whatever kind.
    pub fn ended(&self) -> u64 {
        self.ok + self.failed + self.timeout + self.unfinished + self.dropped
    }

    /// Adds the counts of another thread for the same part. Histograms are merged: percentiles are never averaged.
    pub fn add(&mut self, other: &Ledger) {
        self.planned += other.planned;
        self.ok += other.ok;
        self.failed += other.failed;
        self.timeout += other.timeout;
        self.unfinished += other.unfinished;
        self.dropped += other.dropped;
        let same = "all histograms have the same bounds";
        self.response.add(&other.response).expect(same);
        self.service.add(&other.service).expect(same);
        self.lag.add(&other.lag).expect(same);
        self.connect.add(&other.connect).expect(same);
        self.activity.add(&other.activity);
        self.bytes_up += other.bytes_up;
        self.bytes_down += other.bytes_down;
        self.opened += other.opened;
        for (why, count) in &other.errors {
            *self.errors.entry(why).or_default() += count;
        }
        for fault in &other.faults {
            self.keep(fault.clone());
        }
        self.fault_count += other.fault_count;
    }

    /// Counts a fault and keeps it if it is one of the first.
    pub fn fault(&mut self, fault: Fault) {
        self.fault_count += 1;
        self.keep(fault);
    }

    fn keep(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_KEPT {
            self.faults.push(fault);
        }
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger::new()
    }
}

/// One second of a run, all threads and parts together.
#[derive(Clone, Debug, Serialize)]
pub struct Second {
    /// Seconds since measuring began; negative while warming up.
    pub at: i64,
    /// How long it is, in seconds: 1, but for one that the end of the run cut short.
    pub length: f64,
    /// Operations done.
    pub ok: u64,
    /// Operations failed, timed out or dropped.
    pub bad: u64,
    /// Bytes both ways.
    pub bytes: u64,
    /// Median time of the operations done in it, in nanoseconds: response times in an open loop, else service times.
    pub p50: u64,
    /// 99th percentile of the same.
    pub p99: u64,
}

impl Second {
    /// A count of it, as one a second.
    pub fn rate(&self, count: u64) -> f64 {
        if self.length > 0.0 { count as f64 / self.length } else { 0.0 }
    }
}

/// How busy one thread was while measuring.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Busy {
    /// Core it was pinned to.
    pub core: usize,
    /// CPU time it used.
    pub cpu: Duration,
    /// Time that passed.
    pub wall: Duration,
}

impl Busy {
    /// CPU time of the time that passed: 0 to 1.
    pub fn share(&self) -> f64 {
        if self.wall.is_zero() { 0.0 } else { self.cpu.as_secs_f64() / self.wall.as_secs_f64() }
    }
}

/// A part and its outcome.
#[derive(Clone, Debug)]
pub struct PartOutcome {
    /// As it was asked for.
    pub part: Part,
    /// Its outcome.
    pub ledger: Ledger,
}

/// All that is known when a run has ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// As it was asked for.
    pub settings: Settings,
    /// Each part's own.
    pub parts: Vec<PartOutcome>,
    /// Time measured.
    pub elapsed: Duration,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// Thread by thread.
    pub busy: Vec<Busy>,
    /// A signal ended it before its time.
    pub interrupted: bool,
}
