//! One direction of a session: bytes from one leg to the other, by copy or by splice. The same machine serves both
//! directions. It moves bytes as far as it can; [`super::Relay`] decides when and how the session ends.

use std::io;

use weir_routing::RelayMode;

use super::kernel::{Kernel, Path, Pipe, Received, Side, Tail};
use super::leg::Leg;

/// Bytes that one `recv` can take: the shard's one buffer, small enough to stay in a core's L2 cache.
pub(crate) const HOT_BUFFER: usize = 64 << 10;

/// Bytes that a direction may take in a turn before the other sessions of its shard are served, if they are copied.
pub(crate) const BUDGET: usize = 256 << 10;

/// So many spliced bytes cost as much of the budget as one that is copied, and about as much time. With 1 MiB a turn instead of
/// 256 KiB, streams cost 0.77 [0.72, 0.82] (4 connections) and 0.63 [0.60, 0.67] (64) of the CPU.
pub(super) const SPLICED_FOR_ONE: usize = 4;

/// Bytes that a pipe may hold, topped up included. A pipe is full in slots, and a slot holds up to 64 KiB: without this bound a
/// reader that stalls would pin up to 16 MiB of kernel memory behind its 1 MiB pipe.
pub(crate) const PIPE_BYTES: usize = 1 << 20;

/// Bytes that a target must have taken before its direction moves in large steps: more than one that reads nothing takes. Large
/// steps make the kernel grow the source's receive buffer, to 10 MiB from the first one, and behind a reader that stalls from
/// the start all of it fills.
const FLOWS_AFTER: u32 = 2 << 20;

/// The least that one read costs of the budget: it bounds the calls of a turn where a peer feeds single bytes.
const LEAST_COST: usize = 4 << 10;

/// Full reads in a row that show a stream: splice is worth its pipe. For a conversation in pieces of 16 KiB it is not: 17.9 us CPU
/// a request, copied 16.7 (nginx 17.7 in the same run).
const PROMOTE_AFTER: u8 = 4;

/// A splice under this costs more CPU than a copy of as many bytes.
const SHORT_MOVE: usize = 16 << 10;

/// Short moves in a row that show a conversation. More than it takes to promote, so that a stream which stutters stays.
const DEMOTE_AFTER: u8 = 16;

const _: () = assert!(PIPE_BYTES >= SPLICED_FOR_ONE * BUDGET, "the pipe of a stream never ends its turn");
const _: () = assert!(BUDGET >= PROMOTE_AFTER as usize * HOT_BUFFER, "a stream is known within one turn");
const _: () = assert!(HOT_BUFFER > SHORT_MOVE, "what promotes must not demote");
const _: () = assert!(DEMOTE_AFTER > PROMOTE_AFTER, "there is no hysteresis");
const _: () =
    assert!(LEAST_COST <= SHORT_MOVE && BUDGET / LEAST_COST >= 16, "a turn must be worth its event");

/// How far a direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its source may have more.
    Reading,
    /// Its source has ended; the bytes that it holds have yet to leave.
    Draining,
    /// Its FIN is sent, or the bytes that it held were dropped with a dead target.
    Finished,
}

/// Bytes that were received and not yet sent.
#[derive(Debug)]
pub(super) enum Held {
    /// Nothing.
    Nothing,
    /// The rest of one read.
    Tail(Tail),
    /// A pipe with its bytes; it is empty only within [`Direction::run`].
    Load(Load),
}

/// A pipe with bytes.
#[derive(Debug)]
pub(super) struct Load {
    pipe: Pipe,
    bytes: usize,
    /// The last splice into it failed, and no byte has left it since: until then another try would fail the same.
    stuffed: bool,
}

/// The result of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    /// Bytes came in or an end was seen.
    pub(super) took: bool,
    /// Bytes left.
    pub(super) sent: bool,
    /// The budget ended first: no event will come for the bytes that are left.
    pub(super) more: bool,
}

/// The two legs of a session, seen from one direction.
pub(super) struct Ends<'a> {
    pub(super) from: Side,
    pub(super) source: &'a mut Leg,
    pub(super) target: &'a mut Leg,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Direction {
    pub(super) state: State,
    pub(super) held: Held,
    mode: RelayMode,
    splicing: bool,
    full_reads: u8,
    short_moves: u8,
    /// The last splice took less than it could: perhaps all bytes that were there, perhaps the pipe was full.
    ran_short: bool,
    /// Bytes that the target has taken, up to [`FLOWS_AFTER`].
    taken: u32,
}

impl Direction {
    pub(super) fn new(mode: RelayMode) -> Self {
        Self {
            state: State::Reading,
            held: Held::Nothing,
            mode,
            splicing: mode == RelayMode::Splice,
            full_reads: 0,
            short_moves: 0,
            ran_short: false,
            taken: 0,
        }
    }

    /// Everything that was taken has been sent.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.held, Held::Nothing)
    }

    /// Moves until nothing can be moved, or the budget of a turn has ended. A pipe that is empty then goes back, so that a
    /// quiet direction holds nothing.
    pub(super) fn run(&mut self, ends: &mut Ends<'_>, kernel: &mut impl Kernel) -> Run {
        let mut run = Run::default();
        let mut budget = BUDGET;
        loop {
            let pushed = self.push(ends, kernel, &mut run);
            let spent = budget < SHORT_MOVE;
            let pulled = !spent && self.pull(ends, kernel, &mut budget, &mut run);
            if !pushed && !pulled {
                run.more = spent && self.can_pull(ends);
                break;
            }
        }
        self.give_empty_pipe(kernel);
        run
    }

    /// The target is dead, or will be: the bytes that are held cannot be delivered.
    pub(super) fn discard(&mut self, kernel: &mut impl Kernel) {
        self.state = State::Finished;
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => {}
            Held::Tail(tail) => kernel.free_tail(tail),
            Held::Load(load) if load.bytes == 0 => kernel.give_pipe(load.pipe),
            Held::Load(load) => kernel.close_pipe(load.pipe),
        }
    }

    /// One write of the bytes that are held. True if some left.
    fn push(&mut self, ends: &mut Ends<'_>, kernel: &mut impl Kernel, run: &mut Run) -> bool {
        if !ends.target.writable || ends.target.is_dead() {
            return false;
        }
        let to = ends.from.other();
        let (result, path) = match &self.held {
            Held::Tail(tail) => (persist(|| kernel.send_tail(to, tail)), Path::Copied),
            Held::Load(load) if load.bytes > 0 => {
                (persist(|| kernel.splice_out(&load.pipe, to, load.bytes)), Path::Spliced)
            }
            Held::Load(_) | Held::Nothing => return false,
        };
        let Some(sent) = accepted(result, ends.target) else { return false };
        kernel.count(to, sent, path);
        run.sent = true;
        self.note_taken(sent, to, kernel);
        self.shrink(sent, kernel);
        true
    }

    /// The target has taken so many bytes.
    fn note_taken(&mut self, sent: usize, to: Side, kernel: &mut impl Kernel) {
        if self.taken < FLOWS_AFTER {
            self.taken = self.taken.saturating_add(u32::try_from(sent).unwrap_or(u32::MAX));
            if self.taken >= FLOWS_AFTER {
                kernel.lift_unsent_bound(to);
            }
        }
    }

    /// Bytes that its pipe may hold.
    pub(super) fn pipe_max(&self) -> usize {
        if self.taken < FLOWS_AFTER { HOT_BUFFER } else { PIPE_BYTES }
    }

    /// So many of the bytes that are held have left.
    fn shrink(&mut self, sent: usize, kernel: &mut impl Kernel) {
        match &mut self.held {
            Held::Tail(tail) => {
                tail.from += sent as u32;
                if tail.from == tail.to
                    && let Held::Tail(tail) = std::mem::replace(&mut self.held, Held::Nothing)
                {
                    kernel.free_tail(tail);
                }
            }
            Held::Load(load) => {
                load.bytes -= sent;
                load.stuffed = false;
            }
            Held::Nothing => debug_assert!(false, "nothing was held, {sent} bytes of it were sent"),
        }
    }

    /// A read is worth its call, and its bytes can go on. A tail has to leave first, which is the backpressure of a copying
    /// direction; a pipe may be filled up while its target does not take.
    fn can_pull(&self, ends: &Ends<'_>) -> bool {
        let has_room = match &self.held {
            Held::Nothing => ends.target.writable,
            Held::Tail(_) => false,
            Held::Load(load) => {
                !load.stuffed && load.bytes < self.pipe_max() && (load.bytes > 0 || ends.target.writable)
            }
        };
        has_room && self.state == State::Reading && ends.source.readable && !ends.target.is_dead()
    }

    /// One read, by the path that suits. True if bytes or an end came.
    fn pull(
        &mut self,
        ends: &mut Ends<'_>,
        kernel: &mut impl Kernel,
        budget: &mut usize,
        run: &mut Run,
    ) -> bool {
        if !self.can_pull(ends) {
            return false;
        }
        self.choose_path(kernel);
        let (took, for_one) = match self.held {
            Held::Load(_) => {
                (self.pull_spliced(ends, kernel, *budget * SPLICED_FOR_ONE, run), SPLICED_FOR_ONE)
            }
            Held::Nothing | Held::Tail(_) => (self.pull_copied(ends, kernel, run), 1),
        };
        run.took |= took.is_some();
        *budget = budget.saturating_sub((took.unwrap_or(0) / for_one).max(LEAST_COST));
        took.is_some()
    }

    /// Copy or splice: only changed when nothing is held, so that bytes cannot overtake each other.
    fn choose_path(&mut self, kernel: &mut impl Kernel) {
        if !self.splicing {
            self.give_empty_pipe(kernel);
        } else if self.is_empty() {
            match kernel.take_pipe() {
                Some(pipe) => self.held = Held::Load(Load { pipe, bytes: 0, stuffed: false }),
                None => self.splicing = self.mode == RelayMode::Splice,
            }
        }
    }

    /// Takes at most `max` bytes into the pipe; `None`: nothing came.
    ///
    /// `splice` stops for ever at a mark of urgent data: it says EAGAIN there, after a FIN 0, after a reset that error, whatever
    /// lies behind the mark. So a source with unread bytes is read by `recv`, which goes past it, and only `recv` is believed that
    /// a source has ended.
    fn pull_spliced(
        &mut self,
        ends: &mut Ends<'_>,
        kernel: &mut impl Kernel,
        max: usize,
        run: &mut Run,
    ) -> Option<usize> {
        let pipe_max = self.pipe_max();
        let Held::Load(load) = &mut self.held else { return None };
        let is_alone = load.bytes == 0;
        let ran_short = std::mem::take(&mut self.ran_short);
        if is_alone
            && ran_short
            && !ends.source.hung_up
            && !ends.source.is_dead()
            && kernel.unread(ends.from) == 0
        {
            ends.source.readable = false;
            return None;
        }
        let max = max.min(pipe_max - load.bytes);
        let mut result = persist(|| kernel.splice_in(ends.from, &load.pipe, max));
        if is_alone && would_block(&result) {
            if kernel.unread(ends.from) == 0 && !ends.source.is_dead() {
                ends.source.readable = false;
                return None;
            }
            // As a rule it came just now, and not from behind a mark.
            result = persist(|| kernel.splice_in(ends.from, &load.pipe, max));
        }
        if let Ok(taken @ 1..) = result {
            load.bytes += taken;
            self.ran_short = taken < max;
            // A read that tops up a pipe which waits for its target shows nothing about the source.
            if is_alone {
                self.note_move(taken);
            }
            return Some(taken);
        }
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::WouldBlock
        {
            ends.source.fail(error);
        }
        if is_alone {
            self.give_empty_pipe(kernel);
            return self.pull_copied(ends, kernel, run);
        }
        // Perhaps the pipe is full and the socket is not empty: then no event would come for it.
        load.stuffed = true;
        None
    }

    /// Reads into the hot buffer and sends at once; `None`: nothing came.
    fn pull_copied(&mut self, ends: &mut Ends<'_>, kernel: &mut impl Kernel, run: &mut Run) -> Option<usize> {
        let max = kernel.read_limit();
        match persist(|| kernel.recv(ends.from, max)) {
            Ok(Received { bytes: 0, .. }) => {
                self.state = State::Draining;
                Some(0)
            }
            Ok(Received { bytes: taken, is_drained }) => {
                // An event announces whatever comes to a living leg from now on, so the call that would only return EAGAIN is saved.
                ends.source.readable = !is_drained || ends.source.is_dead();
                self.note_read(taken);
                self.send_hot(taken, ends, kernel, run);
                Some(taken)
            }
            Err(error) => self.end_or_wait(ends.source, &error),
        }
    }

    /// Sends the first `taken` bytes of the hot buffer and keeps the rest that the target does not take.
    fn send_hot(&mut self, taken: usize, ends: &mut Ends<'_>, kernel: &mut impl Kernel, run: &mut Run) {
        let to = ends.from.other();
        let mut from = 0;
        while from < taken {
            let Some(sent) = accepted(persist(|| kernel.send_hot(to, from, taken)), ends.target) else {
                break;
            };
            kernel.count(to, sent, Path::Copied);
            run.sent = true;
            self.note_taken(sent, to, kernel);
            from += sent;
        }
        if from < taken && !ends.target.is_dead() {
            self.held = Held::Tail(kernel.keep_tail(from, taken));
        }
    }

    /// A read gave an error. A dead leg has no more to wait for, whatever the read returned.
    fn end_or_wait(&mut self, source: &mut Leg, error: &io::Error) -> Option<usize> {
        if error.kind() != io::ErrorKind::WouldBlock {
            source.fail(error);
        } else if !source.is_dead() {
            source.readable = false;
            return None;
        }
        self.state = State::Draining;
        Some(0)
    }

    fn note_read(&mut self, taken: usize) {
        self.full_reads = if taken == HOT_BUFFER { self.full_reads.saturating_add(1) } else { 0 };
        if self.mode == RelayMode::Auto && self.full_reads >= PROMOTE_AFTER {
            self.splicing = true;
            self.full_reads = 0;
            self.short_moves = 0;
        }
    }

    fn note_move(&mut self, taken: usize) {
        self.short_moves = if taken < SHORT_MOVE { self.short_moves.saturating_add(1) } else { 0 };
        if self.mode == RelayMode::Auto && self.short_moves >= DEMOTE_AFTER {
            self.splicing = false;
        }
    }

    fn give_empty_pipe(&mut self, kernel: &mut impl Kernel) {
        if !matches!(&self.held, Held::Load(load) if load.bytes == 0) {
            return;
        }
        if let Held::Load(load) = std::mem::replace(&mut self.held, Held::Nothing) {
            kernel.give_pipe(load.pipe);
        }
    }
}

/// How many bytes a write took; otherwise the leg notes that it is full, or dead.
fn accepted(result: io::Result<usize>, target: &mut Leg) -> Option<usize> {
    match result {
        Ok(0) => target.fail(&io::ErrorKind::WriteZero.into()),
        Ok(sent) => return Some(sent),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => target.writable = false,
        Err(error) => target.fail(&error),
    }
    None
}

fn would_block(result: &io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// A call that a signal interrupted has done nothing.
pub(super) fn persist<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
