//! Peers that have fallen silent while bytes wait for their acknowledgement.
//!
//! The kernel's keepalive probes only connections without bytes in flight. With some it goes on retransmitting for a quarter of an
//! hour, and whatever the other leg sends postpones `idle_timeout`. So a leg that has left bytes unanswered for as long as
//! `keepalive` takes is given up here. The session's timer checks it while bytes are in flight; nothing is done per byte.

use std::time::Duration;

use weir_routing::Keepalive;

use super::kernel::{Hearing, Kernel, Side};
use crate::clock::Millis;

/// [`Hearing::heard`] is counted in ticks of the kernel, and since the call, not since the turn began. Rather than to give up a
/// peer that was just heard, an answer from shortly before a question counts as one to it.
const INEXACT: u64 = 50;

/// Whether a leg waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Everything was acknowledged at the last check, and nothing was sent since.
    Nothing,
    /// Bytes are in flight, and the peer answers.
    Answered,
    /// The oldest bytes without an answer are at least this old.
    Since(Millis),
}

/// The watch over both legs of a session.
#[derive(Debug)]
pub(super) struct Silence {
    /// Milliseconds after which bytes without an answer mean that the peer is dead, and between two checks.
    patience: u32,
    every: u32,
    /// By [`Side`].
    waits: [Wait; 2],
    /// [`NEVER`]: no bytes are in flight.
    ask_at: Millis,
}

const NEVER: Millis = Millis(u64::MAX);

impl Silence {
    pub(super) fn new(keepalive: Option<Keepalive>) -> Self {
        let millis = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let patience = keepalive.map_or(0, |it| millis(it.time + it.interval * it.probes));
        let every = keepalive.map_or(0, |it| millis(it.interval));
        Self { patience, every, waits: [Wait::Nothing; 2], ask_at: NEVER }
    }

    /// Bytes were sent to a leg.
    pub(super) fn note_sent(&mut self, to: Side, now: Millis) {
        if self.patience == 0 {
            return;
        }
        let wait = &mut self.waits[to as usize];
        if *wait == Wait::Nothing {
            *wait = Wait::Since(now);
            self.ask_at = self.ask_at.min(later(now, self.every));
        }
    }

    /// When to check.
    pub(super) fn deadline(&self) -> Option<Millis> {
        (self.ask_at != NEVER).then_some(self.ask_at)
    }

    /// Checks both peers; true for one that is dead.
    pub(super) fn ask(&mut self, kernel: &mut impl Kernel, now: Millis) -> [bool; 2] {
        self.ask_at = NEVER;
        Side::BOTH.map(|side| {
            let wait = &mut self.waits[side as usize];
            *wait = wait.after(kernel.hearing(side), now);
            let ask_at = match *wait {
                Wait::Nothing => return false,
                Wait::Answered => later(now, self.every),
                Wait::Since(since) => {
                    let dead_at = later(since, self.patience);
                    if dead_at <= now {
                        return true;
                    }
                    dead_at.min(later(now, self.every))
                }
            };
            self.ask_at = self.ask_at.min(ask_at);
            false
        })
    }
}

impl Wait {
    /// `hearing`: none if everything is acknowledged.
    fn after(self, hearing: Option<Hearing>, now: Millis) -> Self {
        match (hearing, self) {
            (None, _) => Self::Nothing,
            (Some(Hearing { unanswered: false, .. }), _) => Self::Answered,
            (Some(Hearing { heard, .. }), Self::Since(since))
                if now.0 + INEXACT < since.0 + heard.as_millis() as u64 =>
            {
                Self::Since(since)
            }
            // How long the bytes have been in flight is not known: it counts from now.
            (Some(_), _) => Self::Since(now),
        }
    }
}

fn later(from: Millis, millis: u32) -> Millis {
    from.after(Duration::from_millis(millis.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_question_that_stays_unanswered_gets_older() {
        let heard = |unanswered, millis| Some(Hearing { unanswered, heard: Duration::from_millis(millis) });
        let (now, early) = (Millis(10_000), Wait::Since(Millis(9_000)));
        for (before, hearing, wanted) in [
            (early, None, Wait::Nothing),
            (Wait::Answered, None, Wait::Nothing),
            (early, heard(false, 30_000), Wait::Answered),
            (Wait::Nothing, heard(true, 30_000), Wait::Since(now)),
            (Wait::Answered, heard(true, 30_000), Wait::Since(now)),
            (early, heard(true, 30_000), early),
            (early, heard(true, 1_051), early),
            (early, heard(true, 1_050), Wait::Since(now)),
            (early, heard(true, 0), Wait::Since(now)),
        ] {
            assert_eq!(before.after(hearing, now), wanted, "{before:?} {hearing:?}");
        }
    }
}
