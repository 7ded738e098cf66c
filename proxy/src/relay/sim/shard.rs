//! The simulated shard: it drives relays as the real one does (completions, then the retry list, then timers), and has
//! everything checked after each step.

use std::collections::VecDeque;
use std::time::Duration;

use weir_routing::RelayMode;
use weir_routing::{Keepalive, Timeouts};

use super::calls::{Calls, Ledger, Seen};
use super::polls::Completion;
use super::sabotage::Sabotage;
use crate::reason::Reason;
use crate::relay::turn::BYTES_A_TURN;
use crate::relay::{Kernel, Millis, Moved, News, Phase, Relay, Side, Step, TurnBudget};
use crate::sim::net::{ERR, HUP, IN, Net, OUT, Poll};
use crate::sim::shape::Shape;

/// The wheel's tick in milliseconds; deadlines are rounded up to it.
const TICK: u64 = 10;

/// A session in its slot.
pub(super) struct Session {
    pub(super) relay: Relay,
    pub(super) sockets: [usize; 2],
    pub(super) timeouts: Timeouts,
    pub(super) accepted: u64,
    pub(super) ledger: Ledger,
    /// By side: the relay was right to give its peer up.
    pub(super) given_up: [bool; 2],
    /// Milliseconds: when the wheel calls.
    pub(super) timer: Option<u64>,
    pub(super) is_ready: bool,
    pub(super) ended: Option<Reason>,
    pub(super) closed: bool,
}

/// A shard and its kernel.
pub(super) struct Shard {
    pub(super) net: Net,
    pub(super) seen: Seen,
    pub(super) sessions: Vec<Session>,
    pub(super) sabotage: Option<Sabotage>,
    /// Sessions to be stepped, in order; those whose `is_ready` is set.
    ready: VecDeque<usize>,
    /// The byte budget of a turn.
    pub(super) turn_bytes: u64,
}

impl Shard {
    pub(super) fn new(net: Net, sabotage: Option<Sabotage>) -> Self {
        let (seen, ready) = (Seen::default(), VecDeque::new());
        Self { net, seen, sessions: vec![], sabotage, ready, turn_bytes: BYTES_A_TURN }
    }

    /// Opens a session and does its first step.
    pub(super) fn open(
        &mut self,
        shapes: [Shape; 2],
        timeouts: Timeouts,
        keepalive: Option<Keepalive>,
        mode: RelayMode,
    ) -> usize {
        let patience = keepalive.map(|it| it.time + it.interval * it.probes);
        let first = self.net.sockets.len();
        // The client's poll has been armed for long, the upstream's is asked for now.
        let polls = [Poll::Armed, Poll::Disarmed];
        let sockets = [0, 1].map(|side| self.net.add(shapes[side], first + 1 - side, patience, polls[side]));
        let now = self.net.now;
        self.sessions.push(Session {
            relay: Relay::new(&timeouts, keepalive, Millis(now / 1000), mode, false),
            sockets,
            timeouts,
            accepted: now,
            ledger: Ledger { active: now, ..Ledger::default() },
            given_up: [false; 2],
            timer: None,
            is_ready: false,
            ended: None,
            closed: false,
        });
        let index = self.sessions.len() - 1;
        self.step(index, false);
        index
    }

    /// One turn. True if there was anything to do.
    pub(super) fn turn(&mut self) -> bool {
        if self.sabotage == Some(Sabotage::TimeJudgedFirst) {
            self.expire();
        }
        let completions = self.net.completions();
        let mut busy = !completions.is_empty();
        for completion in completions {
            self.complete(completion);
        }
        busy |= self.step_ready();
        busy |= self.expire();
        self.check_stalls();
        busy
    }

    fn queue(&mut self, index: usize) {
        if !std::mem::replace(&mut self.sessions[index].is_ready, true) {
            self.ready.push_back(index);
        }
    }

    /// Steps what is ready now, within the budget of a turn.
    fn step_ready(&mut self) -> bool {
        let mut budget = TurnBudget::of(self.turn_bytes);
        let count = self.ready.len();
        for _ in 0..count {
            if budget.is_spent() {
                self.seen.left_out += 1;
                break;
            }
            let Some(index) = self.ready.pop_front() else { break };
            self.sessions[index].is_ready = false;
            let before = self.moved();
            self.step(index, false);
            budget.spend(self.moved().since(before));
        }
        if self.sabotage == Some(Sabotage::RestForgotten) && budget.is_spent() {
            self.ready.drain(..).for_each(|index| self.sessions[index].is_ready = false);
        }
        count > 0
    }

    fn moved(&self) -> Moved {
        Moved { copied: self.seen.copied, spliced: self.seen.spliced }
    }

    /// Ends a session from outside.
    pub(super) fn kill(&mut self, index: usize, reason: Reason) {
        self.sessions[index].ledger.killed = true;
        self.sessions[index].relay.end(reason);
        self.step(index, false);
    }

    pub(super) fn ended(&self, index: usize) -> Option<Reason> {
        self.sessions[index].ended
    }

    pub(super) fn sockets(&self, index: usize) -> [usize; 2] {
        self.sessions[index].sockets
    }

    pub(super) fn needs_no_sleep(&self) -> bool {
        self.sessions.iter().any(|session| session.is_ready)
    }

    pub(super) fn all_closed(&self) -> bool {
        self.sessions.iter().all(|session| session.closed)
    }

    /// Microseconds: when the wheel has something to do.
    pub(super) fn next_timer(&self) -> Option<u64> {
        self.sessions.iter().filter_map(|session| session.timer).min().map(|timer| timer * 1000)
    }

    pub(super) fn describe(&self) -> String {
        self.sessions
            .iter()
            .filter(|session| !session.closed)
            .map(|session| {
                let sockets = session.sockets.map(|socket| &self.net.sockets[socket]);
                format!("{:?}\n{:?}\n{sockets:#?}\n", session.relay, session.ledger)
            })
            .collect()
    }

    fn complete(&mut self, completion: Completion) {
        let index = completion.socket / 2;
        let session = &mut self.sessions[index];
        if completion.last {
            let gone = session.sockets.iter().all(|&socket| self.net.sockets[socket].poll == Poll::Gone);
            if gone && !session.closed {
                self.close(index);
            }
            return;
        }
        if session.ended.is_some() {
            return;
        }
        self.net.sockets[completion.socket].told |= completion.mask & ERR != 0;
        let side = Side::BOTH[completion.socket % 2];
        let news = News { error: completion.mask & ERR != 0, hang_up: completion.mask & HUP != 0 };
        match self.sabotage {
            Some(Sabotage::ErrorMaskIgnored) => session.relay.on_event(side, News { error: false, ..news }),
            Some(Sabotage::HangUpIgnored) => session.relay.on_event(side, News { hang_up: false, ..news }),
            Some(Sabotage::MaskIsState) => {
                let leg = &mut session.relay.legs[side as usize];
                leg.readable = completion.mask & IN != 0;
                leg.writable = completion.mask & OUT != 0;
                if completion.mask & ERR != 0 {
                    leg.note_error();
                }
            }
            _ => session.relay.on_event(side, news),
        }
        self.queue(index);
    }

    fn close(&mut self, index: usize) {
        for socket in self.sessions[index].sockets {
            self.net.close(socket);
        }
        self.sessions[index].closed = true;
    }

    fn expire(&mut self) -> bool {
        let now = self.net.now / 1000;
        let due: Vec<_> = (0..self.sessions.len())
            .filter(|&index| self.sessions[index].timer.is_some_and(|timer| timer <= now))
            .collect();
        for &index in &due {
            self.sessions[index].timer = None;
            self.step(index, true);
        }
        !due.is_empty()
    }

    fn step(&mut self, index: usize, timed: bool) {
        let session = &mut self.sessions[index];
        if session.ended.is_some() {
            return;
        }
        let was_open = matches!(session.relay.phase, Phase::Open);
        let active = session.ledger.active;
        let before = session.ledger.read;
        session.ledger.fins.clear();
        session.ledger.full_pipe = [false; 2];
        session.ledger.unsent_asked = [false; 2];
        self.net.calls = 0;
        let lost = session.sockets.map(|socket| self.net.sockets[socket].may_be_given_up(self.net.now));
        let early = if timed && self.sabotage == Some(Sabotage::TimersEarly) { 15 } else { 0 };
        let mut calls = Calls {
            net: &mut self.net,
            seen: &mut self.seen,
            sockets: session.sockets,
            timeouts: &session.timeouts,
            ledger: &mut session.ledger,
            sabotage: self.sabotage,
            timed,
        };
        let now = Millis(calls.net.now / 1000 + early);
        let step = session.relay.step(&mut calls, now);
        if self.sabotage == Some(Sabotage::FinBeforeEmpty) {
            send_fin_early(&session.relay, &mut calls);
        }
        let read = [0, 1].map(|side| session.ledger.read[side] - before[side]);
        self.check_given_up(index, lost);
        self.sabotage_flags(index);
        self.check_step(index, step, read);
        self.check_fins(index);
        if was_open {
            self.check_time(index, active);
        }
        self.follow(index, step);
    }

    /// Does what a shard does after a step.
    fn follow(&mut self, index: usize, step: Step) {
        let session = &mut self.sessions[index];
        match step {
            Step::Again => {
                self.seen.retries += 1;
                if self.sabotage != Some(Sabotage::RetryDropped) {
                    self.queue(index);
                }
            }
            Step::Wait => {}
            Step::Ended(reason) => {
                session.ended = Some(reason);
                self.seen.reasons.insert(reason.as_str());
                session.timer = None;
                self.check_end(index, reason);
                if self.sabotage == Some(Sabotage::EndedByClose) {
                    self.close(index);
                } else {
                    self.sessions[index].sockets.into_iter().for_each(|socket| self.net.cancel(socket));
                }
                return;
            }
        }
        // The wheel keeps an earlier timer, and asks again when it fires.
        let session = &mut self.sessions[index];
        let deadline = session.relay.deadline().map(|deadline| deadline.0.div_ceil(TICK) * TICK);
        session.timer = session.timer.into_iter().chain(deadline).min();
    }

    fn sabotage_flags(&mut self, index: usize) {
        if self.sabotage == Some(Sabotage::FullPipeClearsReadable) {
            let session = &mut self.sessions[index];
            for side in Side::BOTH {
                session.relay.legs[side as usize].readable &= !session.ledger.full_pipe[side as usize];
            }
        }
    }
}

/// Breaks the rule on purpose: the FIN goes as soon as there is no more to read.
fn send_fin_early(relay: &Relay, calls: &mut Calls<'_>) {
    for from in Side::BOTH {
        let direction = &relay.directions[from as usize];
        let open = matches!(relay.phase, Phase::Open);
        let has_all = calls.has_read_all(from);
        if open && has_all && !direction.is_empty() {
            calls.shutdown_write(from.other());
        }
    }
}

/// Keepalive that takes `patience` milliseconds, in five parts; 0 is none.
pub(super) fn keepalive(patience: u64) -> Option<Keepalive> {
    let part = Duration::from_millis(patience / 5);
    (patience > 0).then_some(Keepalive { time: part, interval: part, probes: 4 })
}

/// Time-outs in milliseconds; 0 is none.
pub(super) fn timeouts(idle: u64, half_close: u64, flush: u64, max_duration: u64) -> Timeouts {
    let span = |millis| (millis > 0).then(|| Duration::from_millis(millis));
    Timeouts {
        connect: None,
        connect_deadline: None,
        idle: span(idle),
        half_close: span(half_close),
        flush: span(flush),
        max_duration: span(max_duration),
    }
}
