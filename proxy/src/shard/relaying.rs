//! Relaying (step 10 of the walk): feeds the relay of a session with its polls and its timer, and does what a step asks for.

use super::core::Core;
use super::session::Stage;
use super::system::System;
use crate::os::ring::{Readiness, SlotId, Watched};
use crate::reason::Reason;
use crate::relay::{News, Side, Step};

impl<S: System> Core<S> {
    /// The poll of a session's leg has woken (`readiness`), or has ended (`more` is false).
    pub(super) fn polled(&mut self, slot: u32, side: Side, readiness: Readiness, more: bool) {
        let session = &mut self.sessions[slot as usize];
        if !more {
            let id = SlotId { slot, generation: session.generation };
            let (socket, held, watched) = match side {
                Side::Client => {
                    (Some(&session.client), &mut session.in_flight.client_poll, Watched::Client(id))
                }
                Side::Upstream => {
                    (session.upstream.as_ref(), &mut session.in_flight.upstream_poll, Watched::Upstream(id))
                }
            };
            *held = false;
            if matches!(session.stage, Stage::Ended) {
                return self.release(slot);
            }
            // The completion queue overflowed, or the kernel gave up on it: arming again reports the present state.
            if let Some(socket) = socket {
                self.system.poll(socket, watched);
                *held = true;
            }
        }
        match &mut session.stage {
            Stage::Ended => {}
            // Bytes and a FIN wait in the socket. A reset ends the dial: no upstream connection should outlive it.
            Stage::Dialling(_) if readiness.error => self.refuse(slot, Reason::ClientGone),
            Stage::Dialling(dialling) => dialling.client_hung_up |= readiness.hang_up,
            Stage::Relaying(relay) => {
                relay.on_event(side, News { error: readiness.error, hang_up: readiness.hang_up });
                self.queue(slot);
            }
        }
    }

    /// Moves what can be moved of a session.
    pub(super) fn step(&mut self, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        let (Stage::Relaying(relay), Some(upstream), Some(series)) =
            (&mut session.stage, &session.upstream, session.record.series())
        else {
            return;
        };
        let mut calls = self.system.calls(&session.client, upstream, series, self.now);
        let step = relay.step(&mut calls, self.now);
        drop(calls);
        let deadline = relay.deadline();
        self.wake_at(slot, deadline);
        match step {
            Step::Again => self.queue(slot),
            Step::Wait => {}
            Step::Ended(reason) => self.end(slot, reason),
        }
    }
}
