//! The completions of the simulated ring's polls: late, doubled, for nothing or without MORE, and refused for a while.

use crate::sim::net::{Net, OUT, Poll};

/// A completion of a poll.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) socket: usize,
    pub(super) mask: u8,
    /// The poll's last.
    pub(super) last: bool,
}

impl Net {
    /// Completions that have come; with faults some come later, twice, for nothing, or without MORE.
    pub(super) fn completions(&mut self) -> Vec<Completion> {
        let mut completions = vec![];
        self.refuses = self.faults && self.refuses != (self.rng.u8(..) < 24);
        for socket in 0..self.sockets.len() {
            let chance = |rng: &mut fastrand::Rng, faults: bool, one_in: u8| {
                faults && rng.u8(..).is_multiple_of(one_in)
            };
            let it = &mut self.sockets[socket];
            if it.poll == Poll::Gone || chance(&mut self.rng, self.faults, 4) {
                continue;
            }
            if self.refuses && matches!(it.poll, Poll::Cancelled | Poll::Disarmed) {
                self.refused += 1;
                if self.loses_refused && it.poll == Poll::Disarmed {
                    it.poll = Poll::Lost;
                }
                continue;
            }
            match it.poll {
                Poll::Cancelled => {
                    it.poll = Poll::Gone;
                    completions.push(Completion { socket, mask: 0, last: true });
                    continue;
                }
                Poll::Disarmed => {
                    // Arming reports the present state.
                    it.poll = Poll::Armed;
                    it.woken = Some((it.state(), 1));
                }
                Poll::Armed | Poll::Lost | Poll::Gone => {}
            }
            if let Some((mask, count)) = it.woken.take() {
                // Of several wake-ups one completion is made, with the state at that time.
                let mask = if count > 1 { it.state() } else { mask };
                completions.push(Completion { socket, mask, last: false });
                if chance(&mut self.rng, self.faults, 16) {
                    completions.push(Completion { socket, mask, last: false });
                }
                if chance(&mut self.rng, self.faults, 16) {
                    it.poll = Poll::Disarmed;
                }
            } else if chance(&mut self.rng, self.faults, 32) {
                completions.push(Completion { socket, mask: OUT, last: false });
            }
        }
        if self.faults {
            self.rng.shuffle(&mut completions);
        }
        completions
    }

    /// Asks for the poll's last completion.
    pub(super) fn cancel(&mut self, socket: usize) {
        self.sockets[socket].poll = Poll::Cancelled;
    }
}
