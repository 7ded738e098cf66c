//! The bookkeeping of one part on one thread: each [`Operation`] is made in one place and consumed by its outcome.

use crate::ledger::{Ledger, Times, times};
use crate::payload::check::Checker;
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

/// An operation that has not ended yet. It cannot be copied: every way to end it takes it away, and with one that is lost the
/// counts do not add up, which each run checks.
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

/// Operations done since the last second was cut off.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) ok: u64,
    pub(super) bad: u64,
    pub(super) bytes: u64,
    /// How long it took, in nanoseconds; of several threads, as long as the longest.
    pub(super) length: u64,
    pub(super) times: Times,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally { ok: 0, bad: 0, bytes: 0, length: 0, times: times() }
    }

    pub(super) fn add(&mut self, other: &Tally) {
        self.ok += other.ok;
        self.bad += other.bad;
        self.bytes += other.bytes;
        self.length = self.length.max(other.length);
        self.times.add(&other.times).expect("all histograms have the same bounds");
    }
}

/// Whether times are measured from a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    Closed,
    Open,
}

/// The account of one part on one thread.
#[derive(Debug)]
pub(super) struct Account {
    ledger: Ledger,
    tally: Tally,
    window: Window,
    shape: Loop,
    timeout: u64,
    /// Whether bytes of now belong to the measured time; the shard decides when.
    counting: bool,
    /// Dropped operations by the millisecond they were planned in: they are as late as the run's end, which is not known yet.
    drops: Vec<(u64, u64)>,
}

const MILLISECOND: u64 = 1_000_000;

impl Account {
    pub(super) fn new(shape: Loop, timeout: u64) -> Account {
        let window = Window { begin: u64::MAX, end: u64::MAX };
        Account {
            ledger: Ledger::new(),
            tally: Tally::new(),
            window,
            shape,
            timeout,
            counting: false,
            drops: Vec::new(),
        }
    }

    /// Sets the measured time; an early end may come later, but no operation planned after it.
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
        if self.window.holds(now) {
            self.ledger.activity.note(now - self.window.begin);
        }
        self.tally.times.saturating_record(if self.shape == Loop::Open { response } else { service });
        if operation.counted {
            self.ledger.ok += 1;
            self.ledger.service.saturating_record(service);
            self.late(&operation, response);
        }
    }

    /// It ended in an error. A client that wants the answer waits on and tries again: this is no better than a timeout.
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

    /// Bytes were wrong.
    pub(super) fn fault(&mut self, fault: Fault) {
        self.ledger.fault(fault);
    }

    /// Nothing more of this stream will be looked at: a fault that is being gathered is named by the bytes so far. Returns whether there was one.
    pub(super) fn settle(&mut self, checker: &mut Checker) -> bool {
        let fault = checker.finish(None);
        let wrong = fault.is_some();
        fault.into_iter().for_each(|fault| self.fault(fault));
        wrong
    }

    /// Planned and not ended yet.
    pub(super) fn outstanding(&self) -> u64 {
        self.ledger.planned - self.ledger.ended()
    }

    /// Operations done since this was last asked.
    pub(super) fn cut(&mut self) -> Tally {
        std::mem::replace(&mut self.tally, Tally::new())
    }

    /// Closes the account when the run has ended.
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

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::plan::{Plan, Share};
    use crate::settings::Arrivals;

    /// An outcome of an operation, of those that a run may have in any order.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fate {
        Ok,
        Failed,
        TimedOut,
        Unfinished,
        Dropped,
    }

    const FATES: [Fate; 5] = [Fate::Ok, Fate::Failed, Fate::TimedOut, Fate::Unfinished, Fate::Dropped];
    const TIMEOUT: u64 = 500 * MILLISECOND;

    fn end(account: &mut Account, operation: Operation, fate: Fate, now: u64) {
        match fate {
            Fate::Ok => account.ok(operation, now),
            Fate::Failed => account.failed(operation, "reset", now),
            Fate::TimedOut => account.timed_out(operation, now),
            Fate::Unfinished => account.unfinished(operation, now),
            Fate::Dropped => account.dropped(operation),
        }
    }

    /// A run of a random plan with random fates against a server that takes random times; how often each fate was met while
    /// measuring, and the ledger.
    fn random_run(seed: u64) -> (Vec<u64>, Ledger, u64) {
        let mut chance = Rng::with_seed(seed);
        let begin = chance.u64(0..2000) * MILLISECOND;
        let window = Window { begin, end: begin + chance.u64(1..2000) * MILLISECOND };
        let arrivals = if chance.bool() { Arrivals::Constant } else { Arrivals::Poisson };
        let mut plan =
            Plan::new(chance.f64() * 2000.0 + 1.0, arrivals, Share { index: 0, of: 1 }, chance.u64(..));
        let mut account = Account::new(if chance.bool() { Loop::Open } else { Loop::Closed }, TIMEOUT);
        account.measure(window);
        let (mut met, mut planned, mut last) = (vec![0; FATES.len()], 0, 0);
        while plan.peek() < window.end {
            let due = plan.take();
            let noticed = due + chance.u64(0..MILLISECOND);
            let mut operation = account.plan(due, noticed);
            operation.hand(noticed + chance.u64(0..MILLISECOND));
            let fate = chance.usize(0..FATES.len());
            let now = noticed + chance.u64(MILLISECOND..1000 * MILLISECOND);
            last = last.max(now);
            end(&mut account, operation, FATES[fate], now);
            if due >= begin {
                planned += 1;
                met[fate] += 1;
            }
        }
        assert_eq!(account.outstanding(), 0);
        (met, account.close(last), planned)
    }

    #[test]
    fn every_operation_ends_in_exactly_one_count_over_a_thousand_random_plans() {
        let mut nothing_planned = 0;
        for seed in 0..1000 {
            let (met, ledger, planned) = random_run(seed);
            let counts =
                [ledger.ok, ledger.failed, ledger.timeout, ledger.unfinished, ledger.dropped].to_vec();
            assert_eq!(counts, met, "seed {seed}");
            assert_eq!(ledger.planned, planned, "seed {seed}");
            assert!(ledger.adds_up(), "seed {seed}");
            assert_eq!(ledger.service.len(), ledger.ok, "seed {seed}");
            let open = !ledger.response.is_empty();
            assert_eq!(ledger.response.len(), if open { planned } else { 0 }, "seed {seed}");
            nothing_planned += u64::from(planned == 0);
        }
        assert!(nothing_planned < 500, "{nothing_planned} of 1000 plans were empty: they show nothing");
    }

    #[test]
    fn an_operation_that_is_lost_is_noticed() {
        let mut account = Account::new(Loop::Open, TIMEOUT);
        account.measure(Window { begin: 0, end: 10 });
        let lost = account.plan(1, 1);
        drop(lost);
        assert_eq!(account.outstanding(), 1);
        assert!(!account.close(10).adds_up());
    }

    #[test]
    fn an_operation_without_an_answer_counts_as_at_least_as_late_as_it_is() {
        let cases = [
            (Fate::Ok, 1, 1),
            (Fate::Ok, 30, 30),
            (Fate::Failed, 30, 500),
            (Fate::Failed, 700, 700),
            (Fate::TimedOut, 510, 510),
            (Fate::Unfinished, 900, 900),
            (Fate::Dropped, 1, 2000),
        ];
        for (fate, after, wanted) in cases {
            let mut account = Account::new(Loop::Open, TIMEOUT);
            account.measure(Window { begin: 0, end: 1000 * MILLISECOND });
            let mut operation = account.plan(5 * MILLISECOND, 5 * MILLISECOND);
            // When it was handed over makes no difference to how late it is.
            operation.hand(5 * MILLISECOND + 900_000);
            end(&mut account, operation, fate, (5 + after) * MILLISECOND);
            let late = account.close(2005 * MILLISECOND).response.max() / MILLISECOND;
            assert!(late.abs_diff(wanted) <= wanted / 500, "{fate:?}: {late} ms, wanted {wanted}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_samples() {
        let mut chance = Rng::with_seed(3);
        let mut account = Account::new(Loop::Open, TIMEOUT);
        account.measure(Window { begin: 0, end: u64::MAX });
        let mut samples: Vec<u64> =
            (0..200_000).map(|_| (-(1.0 - chance.f64()).ln() * 80_000.0) as u64 + 5_000).collect();
        for (at, took) in (0..).map(|number| number * 1000).zip(&samples) {
            let operation = account.plan(at, at);
            account.ok(operation, at + took);
        }
        samples.sort_unstable();
        let ledger = account.close(0);
        for quantile in [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0] {
            let exact = samples[((samples.len() as f64 * quantile).ceil() as usize).max(1) - 1] as f64;
            for times in [&ledger.response, &ledger.service] {
                let found = times.value_at_quantile(quantile) as f64;
                assert!((found / exact - 1.0).abs() <= 0.001, "{quantile}: {found}, exact {exact}");
            }
        }
    }

    #[test]
    fn operations_planned_in_the_warm_up_are_not_counted() {
        let mut account = Account::new(Loop::Open, TIMEOUT);
        account.measure(Window { begin: 100, end: 200 });
        for (planned, counted) in [(99, 0), (100, 1), (199, 2), (200, 2)] {
            let operation = account.plan(planned, planned);
            account.ok(operation, 300);
            assert_eq!(account.ledger.planned, counted, "planned at {planned}");
        }
        assert!(account.close(300).adds_up());
    }
}
