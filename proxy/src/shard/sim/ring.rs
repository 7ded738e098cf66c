//! The completions of the simulated ring: late, doubled, for nothing, without MORE, out of order, and with requests that the kernel
//! does not take for a while.

use super::posted::Posted;
use super::sabotage::Sabotage;
use super::world::{Attempt, Progress, World};
use crate::os::ring::{Request, Watched};
use crate::sim::net::{OUT, Poll};

impl World {
    /// Chance of a fault.
    fn strikes(&mut self, one_in: u8) -> bool {
        self.net.faults && self.net.rng.u8(..).is_multiple_of(one_in)
    }

    /// A turn of the ring: posts what has happened, and returns how many completions this turn collects; with faults, the others
    /// come later.
    pub(super) fn turn(&mut self) -> usize {
        self.net.refuses = self.net.faults && self.net.refuses != (self.net.rng.u8(..) < 24);
        let mut sockets: Vec<usize> =
            (0..self.net.sockets.len()).filter(|&socket| self.net.sockets[socket].open).collect();
        if self.net.faults {
            self.net.rng.shuffle(&mut sockets);
        }
        for socket in sockets {
            self.go_on_connecting(socket);
            self.go_on_polling(socket);
        }
        self.double_an_old_one();
        match self.strikes(4) {
            true => self.net.rng.usize(0..=self.queue.len()),
            false => self.queue.len(),
        }
    }

    /// Collects a completion.
    pub(super) fn collect(&mut self) -> Option<Posted> {
        let posted = self.queue.pop_front()?;
        if posted.is_last() {
            self.delivered.push(posted);
        }
        Some(posted)
    }

    /// A completion of a session that is gone comes once more.
    fn double_an_old_one(&mut self) {
        if self.delivered.is_empty() || !self.strikes(8) {
            return;
        }
        let old = self.delivered[self.net.rng.usize(0..self.delivered.len())];
        let is_there = self.watched.iter().zip(&self.net.sockets).any(|(&watched, socket)| {
            matches!(watched, Some(Watched::Client(id)) if id == old.id()) && socket.open
        });
        if !is_there {
            self.queue.insert(self.net.rng.usize(0..=self.queue.len()), old);
        }
    }

    fn go_on_connecting(&mut self, socket: usize) {
        let Some(mut attempt) = self.attempts.get(&socket).cloned() else { return };
        match attempt.progress {
            Progress::Asked if self.net.refuses => self.note_refused(),
            Progress::Asked | Progress::UnderWay => self.go_on_with(&mut attempt),
            Progress::Posted | Progress::Served if self.net.sockets[socket].reset_by_us => {}
            Progress::Posted | Progress::Served => self.answer_after_cancel(&mut attempt),
        }
        self.attempts.insert(socket, attempt);
    }

    /// A connect that the kernel has taken.
    fn go_on_with(&mut self, attempt: &mut Attempt) {
        attempt.progress = Progress::UnderWay;
        let is_due = attempt.due <= self.net.now;
        attempt.established |= is_due && attempt.result.is_ok();
        let is_cancelled = attempt.cancels > 0 && !self.net.refuses;
        let result = if is_cancelled {
            // Cancelled and answered at the same moment it may complete either way.
            let is_first = attempt.established && self.net.rng.bool();
            if is_first { Ok(()) } else { Err(libc::ECANCELED) }
        } else if is_due && !self.strikes(4) {
            attempt.result
        } else {
            return;
        };
        attempt.progress = Progress::Posted;
        self.queue.push_back(Posted::Connected { id: attempt.id, result });
        let is_answered = attempt.established && is_cancelled;
        self.seen.count_if(is_answered && result.is_ok(), "a cancelled connect succeeded");
        self.seen.count_if(is_answered && result.is_err(), "a cancelled connect had been answered");
        if is_cancelled && self.strikes(8) {
            // The answer comes before the completion is collected.
            attempt.due = self.net.now;
        }
        self.answer_after_cancel(attempt);
    }

    /// A handshake goes on that was under way when its connect was cancelled.
    fn answer_after_cancel(&mut self, attempt: &mut Attempt) {
        let is_answered = attempt.result.is_ok() && attempt.due <= self.net.now;
        if is_answered && attempt.cancels > 0 && !attempt.established {
            attempt.established = true;
            self.seen.count("an answer came after the cancel's completion");
        }
    }

    fn note_refused(&mut self) {
        self.net.refused += 1;
        self.seen.count("the kernel took a request later");
    }

    fn go_on_polling(&mut self, socket: usize) {
        let Some(watched) = self.watched[socket] else { return };
        let poll = self.net.sockets[socket].poll;
        if poll == Poll::Gone || self.strikes(4) {
            return;
        }
        if self.net.refuses && matches!(poll, Poll::Cancelled | Poll::Disarmed) {
            self.note_refused();
            if self.sabotage == Some(Sabotage::RefusedRequestLost) && poll == Poll::Disarmed {
                self.net.sockets[socket].poll = Poll::Lost;
            }
            return;
        }
        let it = &mut self.net.sockets[socket];
        match poll {
            Poll::Cancelled => {
                it.poll = Poll::Gone;
                it.woken = None;
                self.queue.push_back(Posted::Polled { watched, mask: 0, more: false });
                return;
            }
            Poll::Disarmed => {
                // Arming reports the present state.
                it.poll = Poll::Armed;
                it.woken = Some((it.state(), 1));
            }
            Poll::Armed | Poll::Lost | Poll::Gone => {}
        }
        let Some((mask, count)) = it.woken.take() else {
            if self.strikes(32) {
                self.seen.count("a completion came for nothing");
                self.queue.push_back(Posted::Polled { watched, mask: OUT, more: true });
            }
            return;
        };
        // Of several wake-ups one completion is made, with the state at that time.
        let mask = if count > 1 { it.state() } else { mask };
        if self.strikes(16) {
            self.seen.count("a completion came twice");
            self.queue.push_back(Posted::Polled { watched, mask, more: true });
        }
        let more = !self.strikes(16);
        if !more {
            self.net.sockets[socket].poll = Poll::Gone;
            self.seen.count("a poll ended by itself");
        }
        self.queue.push_back(Posted::Polled { watched, mask, more });
    }

    pub(super) fn cancel(&mut self, request: Request) {
        match request {
            Request::Poll(watched) => {
                let socket = self.watched.iter().position(|&it| it == Some(watched));
                let poll = socket.map(|socket| &mut self.net.sockets[socket].poll);
                let waits = self.queue.iter().any(|it| it.is_poll_of(watched));
                match poll {
                    Some(poll @ (Poll::Armed | Poll::Disarmed | Poll::Lost)) => *poll = Poll::Cancelled,
                    // Nothing comes of a request that is over: its last completion is in the queue.
                    Some(Poll::Gone) if waits => {}
                    poll => {
                        let poll = poll.map(|poll| *poll);
                        self.net.require(false, || format!("{watched:?} was cancelled, which is {poll:?}"));
                    }
                }
            }
            Request::Connect(id) => {
                let now = self.net.now;
                let under_way = self.attempts.values_mut().rfind(|attempt| attempt.id == id);
                let Some(attempt) = under_way.filter(|attempt| attempt.progress < Progress::Served) else {
                    return self.net.require(false, || format!("a connect of {id:?} was cancelled: none is"));
                };
                attempt.cancelled_at = if attempt.cancels == 0 { now } else { attempt.cancelled_at };
                attempt.cancels += 1;
            }
            Request::Accept(_) => self.net.require(false, || "a session has no accept".into()),
        }
    }
}
