//! A session's calls on the simulated kernel, and the books that are kept of them. Rules that show in a single call (no FIN before
//! everything is sent, no reset before the flush) are checked here.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use weir_routing::Timeouts;

use super::sabotage::Sabotage;
use crate::relay::{HOT_BUFFER, Hearing, Kernel, Path, Pipe, Received, Side, Tail};
use crate::sim::net::Net;

/// What the simulation knows of a session without asking its relay.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By side: bytes read from it, sent to it, counted for it.
    pub(super) read: [u64; 2],
    pub(super) sent: [u64; 2],
    pub(super) counted: [u64; 2],
    pub(super) fin_read: [bool; 2],
    pub(super) unsent_asked: [bool; 2],
    /// In this step: FINs sent, full pipes met, a write failed.
    pub(super) fins: Vec<Side>,
    pub(super) full_pipe: [bool; 2],
    pub(super) write_failed: [bool; 2],
    pub(super) splice_saw_end: [bool; 2],
    pub(super) tails: usize,
    pub(super) pipes: usize,
    /// Microseconds, of the last byte or FIN that moved.
    pub(super) active: u64,
    /// Microseconds, when its time was up.
    pub(super) closing_since: Option<u64>,
    pub(super) killed: bool,
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
    pub(super) given_up: u64,
    /// Sessions that a turn's budget left for the next.
    pub(super) left_out: u64,
}

/// A session's calls.
pub(super) struct Calls<'a> {
    pub(super) net: &'a mut Net,
    pub(super) seen: &'a mut Seen,
    pub(super) sockets: [usize; 2],
    pub(super) timeouts: &'a Timeouts,
    pub(super) ledger: &'a mut Ledger,
    pub(super) sabotage: Option<Sabotage>,
    /// The step was called by a timer.
    pub(super) timed: bool,
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
            Some(Sabotage::SpliceEndBelieved) if self.ledger.splice_saw_end[from as usize] => Some(Ok(0)),
            Some(Sabotage::WriteErrorEndsReading) if self.ledger.write_failed[from as usize] => Some(Ok(0)),
            _ => None,
        }
    }

    /// The peer's FIN has come, and every byte before it was read.
    pub(super) fn has_read_all(&self, side: Side) -> bool {
        let it = &self.net.sockets[self.socket(side)];
        it.fin_in && it.rx.is_empty()
    }

    fn socket(&self, side: Side) -> usize {
        self.sockets[side as usize]
    }

    /// A reset may be sent if nothing is thrown away by it, or if the patience with its leg has ended.
    fn may_reset(&self, side: Side) -> bool {
        let other = &self.net.sockets[self.socket(side.other())];
        let it = &self.net.sockets[self.socket(side)];
        let ledger = &*self.ledger;
        if ledger.killed || it.dead_at.is_some() || it.may_be_given_up(self.net.now).is_some() {
            return true;
        }
        let other_died = other.dead_at.or_else(|| other.may_be_given_up(self.net.now));
        let since = match (ledger.closing_since, other_died) {
            (Some(since), None) => Some(since),
            (None, Some(dead)) => Some(dead.max(it.moved_at)),
            // A leg died while time was up: either clock may be the one that ran.
            (Some(since), Some(dead)) => Some(since.min(dead.max(it.moved_at))),
            (None, None) => return false,
        };
        let delivered = ledger.read[side.other() as usize] == ledger.sent[side as usize]
            && (ledger.closing_since.is_some() || other.rx.is_empty());
        let flushed = other_died.is_some() && delivered && it.unsent() == 0;
        let patience = since.zip(self.timeouts.flush).map(|(since, flush)| since + flush.as_micros() as u64);
        let patience = match ledger.closing_since {
            // Without a limit to flush it is 5 s, and everything has left.
            Some(since) if self.timeouts.flush.is_none() && it.unsent() == 0 => Some(since + 5_000_000),
            _ => patience,
        };
        let asked = ledger.unsent_asked[side as usize] || other_died.is_none();
        asked && flushed || patience.is_some_and(|end| end <= self.net.now)
    }
}

impl Kernel for Calls<'_> {
    fn read_limit(&self) -> usize {
        match self.sabotage {
            Some(Sabotage::TailBudgetIgnored) => HOT_BUFFER,
            _ => self.net.read_limit(),
        }
    }

    fn recv(&mut self, from: Side, max: usize) -> io::Result<Received> {
        let result = match self.blinded(from) {
            Some(result) => result,
            None => {
                let result = self.net.recv(self.socket(from), max);
                self.note_read(from, result)
            }
        };
        let is_short = matches!(result, Ok(bytes) if bytes < max);
        let is_drained = match self.sabotage {
            Some(Sabotage::ShortReadDrains) => is_short,
            _ => self.net.is_drained(self.socket(from)),
        };
        Ok(Received { bytes: result?, is_drained })
    }

    fn peek(&mut self, from: Side) -> io::Result<usize> {
        let result = self.net.peek(self.socket(from));
        self.ledger.fin_read[from as usize] |= matches!(result, Ok(0));
        result
    }

    fn unread(&mut self, from: Side) -> usize {
        self.net.sockets[self.socket(from)].rx.len()
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
        let max = if self.sabotage == Some(Sabotage::PipeFilledUp) { usize::MAX } else { max };
        let result = self.net.splice_in(self.socket(from), pipe.0, max).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => {
                self.ledger.full_pipe[from as usize] = true;
                self.seen.full_pipes += 1;
                io::ErrorKind::WouldBlock.into()
            }
            _ => error,
        });
        self.ledger.splice_saw_end[from as usize] =
            matches!(result, Ok(0)) && self.sabotage == Some(Sabotage::SpliceEndBelieved);
        // Of a splice 0 is no FIN yet: at a mark of urgent data it says so, too.
        if matches!(result, Ok(0)) { result } else { self.note_read(from, result) }
    }

    fn splice_out(&mut self, pipe: &Pipe, to: Side, max: usize) -> io::Result<usize> {
        let result = self.net.splice_out(pipe.0, self.socket(to), max);
        self.note_write(to, result)
    }

    fn lift_unsent_bound(&mut self, side: Side) {
        let taken = self.ledger.sent[side as usize];
        self.net.require(taken >= 1 << 20, || {
            format!("{side:?} has taken {taken} bytes and is trusted with more")
        });
        self.net.lift_unsent_bound(self.socket(side));
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

    fn hearing(&mut self, side: Side) -> Option<Hearing> {
        let hearing = self.net.hearing(self.socket(side))?;
        match self.sabotage {
            Some(Sabotage::SilenceUnasked) => None,
            Some(Sabotage::ClosedWindowIsSilence) => Some(Hearing { unanswered: true, ..hearing }),
            Some(Sabotage::AnswersForgotten) => Some(Hearing { heard: Duration::from_secs(3600), ..hearing }),
            _ => Some(hearing),
        }
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
