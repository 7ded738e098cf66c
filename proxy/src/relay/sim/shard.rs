//! The simulated shard: it drives relays as the real one does (completions, then the retry list, then timers), makes their calls
//! on the simulated kernel, and checks after each step what must always hold.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use weir_routing::Timeouts;
use weir_routing::compile::RelayMode;

use super::super::direction::{Held, State};
use super::super::{BUDGET, HOT_BUFFER, Kernel, Millis, Path, Phase, Pipe, Relay, Side, Step, Tail};
use super::Sabotage;
use super::net::{Completion, ERR, IN, Net, OUT, Poll, Shape};
use crate::outcome::Reason;

/// The wheel's tick in milliseconds; deadlines are rounded up to it.
const TICK: u64 = 10;

/// Calls that a step may make: each read costs at least 4 KiB of the budget, each write frees what was read, and there are two
/// directions, two passes, and interruptions.
const MOST_CALLS: usize = 4 * 2 * 2 * (BUDGET >> 12) * 4;

/// What the simulation knows of a session without asking its relay.
#[derive(Debug, Default)]
struct Ledger {
    /// By side: bytes read from it, sent to it, counted for it.
    read: [u64; 2],
    sent: [u64; 2],
    counted: [u64; 2],
    fin_read: [bool; 2],
    unsent_asked: [bool; 2],
    /// In this step: FINs sent, full pipes met, a write failed.
    fins: Vec<Side>,
    full_pipe: [bool; 2],
    write_failed: [bool; 2],
    tails: usize,
    pipes: usize,
    /// Microseconds, of the last byte or FIN that moved.
    active: u64,
    /// Microseconds, when its time was up.
    closing_since: Option<u64>,
    killed: bool,
}

/// A session in its slot.
struct Session {
    relay: Relay,
    sockets: [usize; 2],
    timeouts: Timeouts,
    accepted: u64,
    ledger: Ledger,
    /// Milliseconds: when the wheel calls.
    timer: Option<u64>,
    retry: bool,
    ended: Option<Reason>,
    closed: bool,
}

/// What a simulation came by: one that never gets into a situation proves nothing about it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) reasons: BTreeSet<&'static str>,
    pub(super) copied: u64,
    pub(super) spliced: u64,
    pub(super) tails: u64,
    pub(super) full_pipes: u64,
    pub(super) dirty_pipes: u64,
    pub(super) missing_pipes: u64,
    pub(super) retries: u64,
}

/// A shard and its kernel.
pub(super) struct Shard {
    pub(super) net: Net,
    pub(super) seen: Seen,
    sessions: Vec<Session>,
    sabotage: Option<Sabotage>,
}

/// A session's calls.
struct Calls<'a> {
    net: &'a mut Net,
    seen: &'a mut Seen,
    sockets: [usize; 2],
    timeouts: &'a Timeouts,
    ledger: &'a mut Ledger,
    sabotage: Option<Sabotage>,
    /// The step was called by a timer.
    timed: bool,
}

impl Calls<'_> {
    fn note_read(&mut self, from: Side, result: io::Result<usize>) -> io::Result<usize> {
        let ended = self.ledger.fin_read[from as usize];
        match result {
            Ok(0) => self.ledger.fin_read[from as usize] = true,
            Ok(count) => {
                self.ledger.read[from as usize] += count as u64;
                self.net.require(!ended, || format!("bytes of {from:?} after its FIN"));
            }
            Err(_) => return result,
        }
        self.ledger.active = self.net.now;
        result
    }

    fn note_write(&mut self, to: Side, result: io::Result<usize>) -> io::Result<usize> {
        match &result {
            Ok(count) => {
                self.ledger.sent[to as usize] += *count as u64;
                self.ledger.active = self.net.now;
            }
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::EPIPE | libc::ETIMEDOUT)) =>
            {
                self.ledger.write_failed[to as usize] = true;
                if self.sabotage == Some(Sabotage::WriteErrorForgotten) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
            }
            Err(_) => {}
        }
        result
    }

    /// What a broken relay would see instead of what is there.
    fn blinded(&self, from: Side) -> Option<io::Result<usize>> {
        match self.sabotage {
            Some(Sabotage::TimeJudgedFirst) if self.timed => Some(Err(io::ErrorKind::WouldBlock.into())),
            Some(Sabotage::WriteErrorEndsReading) if self.ledger.write_failed[from as usize] => Some(Ok(0)),
            _ => None,
        }
    }

    fn socket(&self, side: Side) -> usize {
        self.sockets[side as usize]
    }

    /// A reset may be sent if nothing is thrown away by it, or if the patience with its leg has ended.
    fn may_reset(&self, side: Side) -> bool {
        let other = &self.net.sockets[self.socket(side.other())];
        let it = &self.net.sockets[self.socket(side)];
        let ledger = &*self.ledger;
        if ledger.killed || it.dead_at.is_some() {
            return true;
        }
        let since = match (ledger.closing_since, other.dead_at) {
            (Some(since), None) => Some(since),
            (None, Some(dead)) => Some(dead.max(it.moved_at)),
            // A leg died while time was up: either clock may be the one that ran.
            (Some(since), Some(dead)) => Some(since.min(dead.max(it.moved_at))),
            (None, None) => return false,
        };
        let delivered = ledger.read[side.other() as usize] == ledger.sent[side as usize]
            && (ledger.closing_since.is_some() || other.rx.is_empty());
        let flushed = other.dead_at.is_some() && delivered && it.unsent() == 0;
        let patience = since.zip(self.timeouts.flush).map(|(since, flush)| since + flush.as_micros() as u64);
        let patience = match ledger.closing_since {
            // Without a limit to flush it is 5 s, and everything has left.
            Some(since) if self.timeouts.flush.is_none() && it.unsent() == 0 => Some(since + 5_000_000),
            _ => patience,
        };
        let asked = ledger.unsent_asked[side as usize] || other.dead_at.is_none();
        asked && (flushed || patience.is_some_and(|end| end <= self.net.now))
    }
}

impl Kernel for Calls<'_> {
    fn recv(&mut self, from: Side) -> io::Result<usize> {
        if let Some(result) = self.blinded(from) {
            return result;
        }
        let result = self.net.recv(self.socket(from), HOT_BUFFER);
        self.note_read(from, result)
    }

    fn peek(&mut self, from: Side) -> io::Result<usize> {
        let result = self.net.peek(self.socket(from));
        self.ledger.fin_read[from as usize] |= matches!(result, Ok(0));
        result
    }

    fn send_hot(&mut self, side: Side, from: usize, to: usize) -> io::Result<usize> {
        let result = self.net.send_hot(self.socket(side), from, to);
        self.note_write(side, result)
    }

    fn keep_tail(&mut self, from: usize, to: usize) -> Tail {
        self.ledger.tails += 1;
        self.seen.tails += 1;
        let buffer = self.net.keep_tail(from, to);
        Tail { buffer, from: 0, to: (to - from) as u32 }
    }

    fn send_tail(&mut self, side: Side, tail: &Tail) -> io::Result<usize> {
        let result = self.net.send_tail(self.socket(side), tail.buffer, (tail.to - tail.from) as usize);
        self.note_write(side, result)
    }

    fn free_tail(&mut self, tail: Tail) {
        self.ledger.tails -= 1;
        self.net.free_tail(tail.buffer);
    }

    fn take_pipe(&mut self) -> Option<Pipe> {
        let pipe = self.net.take_pipe();
        self.seen.missing_pipes += u64::from(pipe.is_none());
        let pipe = pipe?;
        self.ledger.pipes += 1;
        Some(Pipe(pipe))
    }

    fn give_pipe(&mut self, pipe: Pipe) {
        self.ledger.pipes -= 1;
        self.net.return_pipe(pipe.0, false);
    }

    fn close_pipe(&mut self, pipe: Pipe) {
        self.seen.dirty_pipes += 1;
        self.ledger.pipes -= 1;
        if self.sabotage == Some(Sabotage::DirtyPipeReused) {
            self.net.return_dirty(pipe.0);
        } else {
            self.net.return_pipe(pipe.0, true);
        }
    }

    fn splice_in(&mut self, from: Side, pipe: &Pipe, max: usize) -> io::Result<usize> {
        if let Some(result) = self.blinded(from) {
            return result;
        }
        let result = self.net.splice_in(self.socket(from), pipe.0, max).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => {
                self.ledger.full_pipe[from as usize] = true;
                self.seen.full_pipes += 1;
                io::ErrorKind::WouldBlock.into()
            }
            _ => error,
        });
        self.note_read(from, result)
    }

    fn splice_out(&mut self, pipe: &Pipe, to: Side, max: usize) -> io::Result<usize> {
        let result = self.net.splice_out(pipe.0, self.socket(to), max);
        self.note_write(to, result)
    }

    fn shutdown_write(&mut self, side: Side) {
        let from = side.other();
        let (read, sent) = (self.ledger.read[from as usize], self.ledger.sent[side as usize]);
        self.net.require(read == sent, || format!("FIN to {side:?} after {sent} of {read} bytes"));
        self.ledger.fins.push(side);
        if self.sabotage != Some(Sabotage::EndedByClose) {
            self.net.shutdown_write(self.socket(side));
        }
    }

    fn reset(&mut self, side: Side) {
        let may = self.may_reset(side);
        self.net.require(may, || format!("{side:?} was reset before it was flushed"));
        if self.sabotage != Some(Sabotage::EndedByClose) {
            self.net.reset(self.socket(side));
        }
    }

    fn unsent(&mut self, side: Side) -> usize {
        self.ledger.unsent_asked[side as usize] = true;
        if self.sabotage == Some(Sabotage::ResetUnflushed) {
            return 0;
        }
        self.net.sockets[self.socket(side)].unsent()
    }

    fn take_error(&mut self, side: Side) -> Option<io::Error> {
        self.net.take_error(self.socket(side))
    }

    fn count(&mut self, to: Side, bytes: usize, path: Path) {
        match path {
            Path::Copied => self.seen.copied += bytes as u64,
            Path::Spliced => self.seen.spliced += bytes as u64,
        }
        self.ledger.counted[to as usize] += bytes as u64;
    }
}

impl Shard {
    pub(super) fn new(net: Net, sabotage: Option<Sabotage>) -> Self {
        Self { net, seen: Seen::default(), sessions: vec![], sabotage }
    }

    /// Opens a session and does its first step.
    pub(super) fn open(&mut self, shapes: [Shape; 2], timeouts: Timeouts, mode: RelayMode) -> usize {
        let sockets = self.net.open(shapes);
        let now = self.net.now;
        self.sessions.push(Session {
            relay: Relay::new(&timeouts, Millis(now / 1000), mode),
            sockets,
            timeouts,
            accepted: now,
            ledger: Ledger { active: now, ..Ledger::default() },
            timer: None,
            retry: false,
            ended: None,
            closed: false,
        });
        let index = self.sessions.len() - 1;
        self.step(index, false);
        index
    }

    /// One turn. True if there was anything to do.
    pub(super) fn turn(&mut self) -> bool {
        let retry: Vec<_> = (0..self.sessions.len()).filter(|&index| self.sessions[index].retry).collect();
        if self.sabotage == Some(Sabotage::TimeJudgedFirst) {
            self.expire();
        }
        let completions = self.net.completions();
        let mut busy = !completions.is_empty();
        for completion in completions {
            self.complete(completion);
        }
        for index in retry {
            busy = true;
            self.sessions[index].retry = false;
            self.step(index, false);
        }
        busy |= self.expire();
        self.check_stalls();
        busy
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
        self.sessions.iter().any(|session| session.retry)
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
        match self.sabotage {
            Some(Sabotage::ErrorMaskIgnored) => session.relay.on_event(side, false),
            Some(Sabotage::MaskIsState) => {
                let leg = &mut session.relay.legs[side as usize];
                leg.readable = completion.mask & IN != 0;
                leg.writable = completion.mask & OUT != 0;
                if completion.mask & ERR != 0 {
                    leg.hear_error();
                }
            }
            _ => session.relay.on_event(side, completion.mask & ERR != 0),
        }
        self.step(index, false);
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
                session.retry = self.sabotage != Some(Sabotage::RetryDropped);
            }
            Step::Wait => {}
            Step::Ended(reason) => {
                session.ended = Some(reason);
                self.seen.reasons.insert(reason.as_str());
                session.timer = None;
                session.retry = false;
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

    fn check_step(&mut self, index: usize, step: Step, read: [u64; 2]) {
        let session = &self.sessions[index];
        let (ledger, relay, net) = (&session.ledger, &session.relay, &mut self.net);
        let calls = net.calls;
        net.require(calls <= MOST_CALLS, || format!("{calls} calls in a step"));
        for side in [0, 1] {
            let held = ledger.read[side] - ledger.sent[1 - side];
            let dropped = relay.directions[side].state == State::Finished;
            let limit = if ledger.pipes > 0 { usize::MAX } else { HOT_BUFFER };
            net.require(dropped || held <= limit as u64, || format!("{held} bytes held in a tail"));
            net.require(ledger.counted[side] == ledger.sent[side], || "bytes are miscounted".into());
            // Two passes at most, each a budget and a buffer.
            net.require(read[side] <= 2 * (BUDGET + HOT_BUFFER) as u64, || format!("a step read {read:?}"));
        }
        let held =
            relay.directions.iter().filter(|direction| !matches!(direction.held, Held::Nothing)).count();
        net.require(ledger.tails + ledger.pipes == held, || {
            "a direction that holds nothing has a buffer".into()
        });
        match step {
            Step::Again => {
                net.require(read.iter().any(|&read| read > 0), || "again, without any progress".into());
            }
            Step::Wait => {
                let late = relay.deadline().is_some_and(|deadline| deadline.0 * 1000 <= net.now);
                net.require(!late, || format!("a deadline that has passed: {:?}", relay.phase));
            }
            Step::Ended(_) => {}
        }
    }

    /// A FIN tells that the other side has ended in order, or that time is up.
    fn check_fins(&mut self, index: usize) {
        let session = &self.sessions[index];
        let time_is_up = match session.relay.phase {
            Phase::Closing { .. } | Phase::Failed { reason: Some(_), .. } => true,
            Phase::Ended(reason) => is_time(reason),
            _ => false,
        };
        for side in &session.ledger.fins {
            let ended = session.ledger.fin_read[side.other() as usize];
            self.net.require(ended || time_is_up, || format!("a FIN to {side:?} that nobody sent"));
        }
    }

    /// Time is never judged early, nor before what is there has been served.
    fn check_time(&mut self, index: usize, active: u64) {
        let session = &mut self.sessions[index];
        let reason = match session.relay.phase {
            Phase::Closing { reason, .. } => reason,
            Phase::Failed { reason: Some(reason), .. } | Phase::Ended(reason) if is_time(reason) => reason,
            _ => return,
        };
        session.ledger.closing_since = Some(self.net.now);
        let (since, limit) = match reason {
            Reason::IdleTimeout => (active, session.timeouts.idle),
            Reason::HalfCloseTimeout => (active, session.timeouts.half_close),
            _ => (session.accepted, session.timeouts.max_duration),
        };
        let due = limit.map(|limit| since + limit.as_micros() as u64);
        let now = self.net.now;
        let on_time = due.is_some_and(|due| due <= now);
        self.net.require(on_time, || format!("{reason:?} at {now}, due {due:?}"));
        if reason == Reason::MaxDuration {
            return;
        }
        let [client, upstream] = session.sockets.map(|socket| &self.net.sockets[socket]);
        let unserved = [(client, upstream), (upstream, client)]
            .into_iter()
            .any(|(source, target)| source.dead_at.is_none() && !source.rx.is_empty() && target.takes());
        self.net.require(!unserved, || format!("{reason:?} was judged before what was there was served"));
    }

    fn check_end(&mut self, index: usize, reason: Reason) {
        let session = &self.sessions[index];
        let (ledger, net) = (&session.ledger, &mut self.net);
        net.require(ledger.tails + ledger.pipes == 0, || "the session ended with a tail or a pipe".into());
        let told = session.sockets.map(|socket| net.sockets[socket].told);
        let timed_out = session.sockets.map(|socket| net.sockets[socket].timed_out);
        let truth = match reason {
            Reason::Done => ledger.fin_read == [true; 2] && told == [false; 2],
            Reason::ClientReset => told[0] && !timed_out[0],
            Reason::UpstreamReset => told[1] && !timed_out[1],
            Reason::ClientTimeout => told[0] && timed_out[0],
            Reason::UpstreamTimeout => told[1] && timed_out[1],
            Reason::Drain => ledger.killed,
            reason => is_time(reason) && ledger.closing_since.is_some(),
        };
        net.require(truth, || format!("the reason {reason:?} is not true: {ledger:?}, told {told:?}"));
        for side in Side::BOTH {
            let socket = &net.sockets[session.sockets[side as usize]];
            let in_order = socket.fin_out && ledger.fin_read[side as usize] && socket.rx.is_empty();
            let told = socket.reset_by_us || socket.dead_at.is_some() || in_order;
            let expected = told || self.sabotage == Some(Sabotage::EndedByClose);
            net.require(expected, || format!("{reason:?}: {side:?} was not told of the end"));
        }
    }

    /// Nothing that could move stands still: for every direction that could go on there is an event, a retry, or neither is
    /// needed.
    fn check_stalls(&mut self) {
        for session in &self.sessions {
            let pending = session.retry
                || session.ended.is_some()
                || session.sockets.iter().any(|&socket| self.net.sockets[socket].has_event());
            if pending {
                continue;
            }
            for from in Side::BOTH {
                let source = &self.net.sockets[session.sockets[from as usize]];
                let target = &self.net.sockets[session.sockets[from.other() as usize]];
                let ledger = &session.ledger;
                let held = ledger.read[from as usize] > ledger.sent[from.other() as usize];
                let reads = match session.relay.phase {
                    Phase::Open => true,
                    Phase::Failed { dead, reason: None, .. } => dead == from,
                    _ => false,
                };
                let unread_end = source.fin_in && !ledger.fin_read[from as usize];
                let more = reads && (!source.rx.is_empty() || unread_end);
                let unheard = source.dead_at.is_some()
                    && !source.told
                    && session.relay.legs[from as usize].fault.is_none();
                let stalled = target.takes() && (held || more) || unheard;
                if stalled && self.net.broken.is_none() {
                    self.net.broken =
                        Some(format!("{from:?} stands still: held {held}, more {more}, unheard {unheard}"));
                }
            }
        }
    }

    /// After the last flow: what each peer has and knows.
    pub(super) fn check_delivery(&mut self) {
        self.net.check_returned();
        for session in &self.sessions {
            for side in Side::BOTH {
                let [to, from] =
                    [side, side.other()].map(|side| &self.net.sockets[session.sockets[side as usize]].peer);
                let socket = &self.net.sockets[session.sockets[side as usize]];
                let deaf = socket.dead_at.is_some() || !to.reads;
                let told = to.has_fin || to.has_reset || deaf;
                let complete =
                    session.ended != Some(Reason::Done) || deaf || to.arrived == from.sent && to.has_fin;
                let (arrived, sent) = (to.arrived, from.sent);
                if !(told && complete) && self.net.broken.is_none() {
                    self.net.broken = Some(format!(
                        "{:?}: {side:?} has {arrived} of {sent}, knows the end: {told}",
                        session.ended
                    ));
                }
            }
        }
    }
}

/// Breaks the rule on purpose: the FIN goes as soon as it was read.
fn send_fin_early(relay: &Relay, calls: &mut Calls<'_>) {
    for from in Side::BOTH {
        let direction = &relay.directions[from as usize];
        let open = matches!(relay.phase, Phase::Open);
        if open && direction.state == State::Draining && !direction.is_empty() {
            calls.shutdown_write(from.other());
        }
    }
}

/// A reason that is a time-out of ours.
fn is_time(reason: Reason) -> bool {
    matches!(reason, Reason::IdleTimeout | Reason::HalfCloseTimeout | Reason::MaxDuration)
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
