//! One part of a run on one thread: where its operations come from, which connections are free for them, and its books.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::account::{Account, Loop, Operation, Window};
use crate::plan::{Plan, Share};
use crate::settings::{Arrivals, Close, Exchange, Pace, Part, Settings, Sizes, Work};

/// Names a connection for as long as it is open: its place in the slab, and a serial number, as places are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(pub(super) u64);

impl Token {
    pub(super) fn new(place: usize, serial: u32) -> Token {
        Token(u64::from(serial) << 32 | place as u64)
    }

    pub(super) fn place(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    pub(super) fn serial(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// For the whole run: all are made before it begins, and one that breaks is replaced.
    Standing,
    /// For one operation.
    Operation,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Standing connections are made.
    Ramp,
    /// Operations are planned: the warm-up and the measured time.
    Running,
    /// No more are planned; the last answers are waited for.
    Draining,
}

/// A part on a thread.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) account: Account,
    pub(super) work: Work,
    pub(super) exchange: Exchange,
    pub(super) depth: usize,
    pub(super) close: Close,
    pub(super) life: Life,
    pub(super) phase: Phase,
    /// Connections it may have at a time, or has to have.
    pub(super) wanted: usize,
    /// Those it has, or is making.
    pub(super) open: usize,
    /// Those that are made.
    pub(super) up: usize,
    /// When each connection that broke may be replaced, in order.
    pub(super) again: VecDeque<u64>,
    /// Connections that can take an operation; some may have ended since.
    pub(super) free: VecDeque<Token>,
    source: Source,
    queue: VecDeque<Operation>,
    /// How many may wait.
    room: usize,
    /// Operations that may still be counted, all lanes of the thread together.
    left: Rc<Cell<u64>>,
}

/// Where operations come from.
#[derive(Debug)]
enum Source {
    Closed,
    /// A plan, and when it began.
    Open(Plan, u64),
    /// There is nothing to be done.
    Silent,
}

/// Bytes of a heartbeat, both ways.
const HEARTBEAT: Sizes = Sizes::Fixed(64);

impl Lane {
    pub(super) fn new(part: &Part, settings: &Settings, share: Share, left: Rc<Cell<u64>>) -> Lane {
        let framed = Exchange::Framed { request: HEARTBEAT, response: HEARTBEAT };
        let (connections, exchange, depth, close, life) = match &part.work {
            Work::Rr { connections, exchange, depth } => {
                (*connections, exchange.clone(), *depth, Close::Fin, Life::Standing)
            }
            Work::Crr { connections, exchange, close, .. } => {
                (*connections, exchange.clone(), 1, *close, Life::Operation)
            }
            Work::Connect { connections, close } => (*connections, framed, 1, *close, Life::Operation),
            Work::Stream { connections, .. } => (*connections, framed, 1, Close::Fin, Life::Standing),
            Work::Hold { connections, .. } => (*connections, framed, 1, Close::Fin, Life::Standing),
            Work::Churn { connections, .. } => (*connections, framed, 1, Close::Fin, Life::Operation),
        };
        let source = Self::source(part, share, settings.seed);
        let shape = if matches!(source, Source::Open(..)) { Loop::Open } else { Loop::Closed };
        Lane {
            account: Account::new(shape, settings.timeout.as_nanos() as u64),
            work: part.work.clone(),
            exchange,
            depth,
            close,
            life,
            phase: Phase::Ramp,
            wanted: share.part(connections),
            open: 0,
            up: 0,
            again: VecDeque::new(),
            free: VecDeque::new(),
            source,
            queue: VecDeque::new(),
            room: share.part(settings.waiting),
            left,
        }
    }

    /// A hold's heartbeats are an even plan of their own, dealt to its connections in turn: each has one as often as was asked.
    fn source(part: &Part, share: Share, seed: u64) -> Source {
        let plan = |rate, arrivals| Source::Open(Plan::new(rate, arrivals, share, seed), 0);
        match (&part.work, part.pace) {
            (Work::Hold { connections, heartbeat: Some(every), .. }, _) => {
                plan(*connections as f64 / every.as_secs_f64(), Arrivals::Constant)
            }
            (Work::Hold { .. }, _) => Source::Silent,
            (_, Pace::Open { rate, arrivals }) => plan(rate, arrivals),
            (_, Pace::Closed) => Source::Closed,
        }
    }

    /// The warm-up begins at `start`.
    pub(super) fn start(&mut self, start: u64, window: Window) {
        self.phase = Phase::Running;
        self.account.measure(window);
        if let Source::Open(_, began) = &mut self.source {
            *began = start;
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.source, Source::Closed)
    }

    /// When the next operation of the plan is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        match &self.source {
            Source::Open(plan, began) if self.phase == Phase::Running => Some(*began + plan.peek()),
            _ => None,
        }
    }

    /// The next operation of the plan, if one is due by `until`; the generator notices it now.
    pub(super) fn arrival(&mut self, until: u64, now: u64) -> Option<Operation> {
        let due = self.next_due()?;
        let Source::Open(plan, _) = &mut self.source else { return None };
        if due > until || !take_one(&self.left, self.account.counts(due)) {
            return None;
        }
        let _ = plan.take();
        Some(self.account.plan(due, now))
    }

    /// The next operation for a connection that has room: one that waits, or in a closed loop a new one.
    pub(super) fn next(&mut self, now: u64) -> Option<Operation> {
        if !self.is_closed() {
            return self.queue.pop_front();
        }
        let goes_on = self.phase == Phase::Running && now < self.account.window().end;
        (goes_on && take_one(&self.left, self.account.counts(now))).then(|| self.account.plan(now, now))
    }

    /// Whether operations wait for a connection.
    pub(super) fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// An operation for which no connection is free.
    pub(super) fn wait(&mut self, operation: Operation) {
        if self.queue.len() < self.room {
            self.queue.push_back(operation);
        } else {
            self.account.dropped(operation);
        }
    }

    /// The one that has waited longest, of those that wait and this one, which waits in its stead.
    pub(super) fn longest_waiting(&mut self, operation: Operation) -> Option<Operation> {
        self.queue.push_back(operation);
        self.queue.pop_front()
    }

    /// Gives up operations that have waited too long.
    pub(super) fn expire(&mut self, now: u64) {
        while self.queue.front().is_some_and(|oldest| self.account.is_late(oldest, now)) {
            if let Some(operation) = self.queue.pop_front() {
                self.account.timed_out(operation, now);
            }
        }
    }

    /// Whether another connection may be made now.
    pub(super) fn may_open(&mut self, now: u64) -> bool {
        while self.again.front().is_some_and(|when| *when <= now) {
            self.again.pop_front();
        }
        self.open + self.again.len() < self.wanted
    }

    /// The run ends: waiting operations will not be done.
    pub(super) fn close(mut self, now: u64) -> crate::ledger::Ledger {
        while let Some(operation) = self.queue.pop_front() {
            self.account.unfinished(operation, now);
        }
        self.account.close(now)
    }
}

/// Takes one of the operations that may still be counted, if this one is to be.
fn take_one(left: &Cell<u64>, counted: bool) -> bool {
    let some = left.get() > 0;
    if some && counted {
        left.set(left.get() - 1);
    }
    some
}
