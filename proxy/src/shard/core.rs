//! The sessions of a shard, and the only verbs that touch a slot: open, queue, refuse, end, release. `dialling.rs` and
//! `relaying.rs` drive one stage of a session each; this file leaves to them what a stage does.
//!
//! A slot and its descriptors are reused only when the ring holds no request of them: an armed poll holds the socket, so `close`
//! alone would send neither FIN nor reset.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use slab::Slab;
use weir_routing::RelayMode;

use super::session::{Dialling, InFlight, Places, Session, Stage};
use super::system::System;
use crate::boards::counters::ShardCounters;
use crate::boards::in_force::InForce;
use crate::clock::Millis;
use crate::os::ring::{GENERATIONS, Request, SlotId, Watched};
use crate::outcome::Record;
use crate::reason::Reason;
use crate::relay::{Moved, TurnBudget};
use crate::wheel::Wheel;

/// The parts of a shard's core.
pub(crate) struct Parts<S> {
    /// Which shard it is, for messages about defects.
    pub(crate) index: usize,
    /// The system it runs on.
    pub(crate) system: S,
    /// Where its choices come from.
    pub(crate) rng: fastrand::Rng,
    /// Its counters.
    pub(crate) counters: Arc<ShardCounters>,
    /// How data is moved.
    pub(crate) relay_mode: RelayMode,
    /// Tables that are no longer used go there, to be freed on another thread.
    pub(crate) retired: Sender<InForce>,
    /// The present.
    pub(crate) now: Millis,
}

/// See the file's opening.
pub(crate) struct Core<S: System> {
    pub(super) system: S,
    pub(super) rng: fastrand::Rng,
    pub(super) counters: Arc<ShardCounters>,
    pub(super) relay_mode: RelayMode,
    /// The time of this turn.
    pub(super) now: Millis,
    pub(super) sessions: Slab<Session<S::Socket>>,
    /// A dial found no descriptor: accepting must pause.
    pub(super) lacks_descriptors: bool,
    index: usize,
    retired: Sender<InForce>,
    wheel: Wheel,
    last_generation: u32,
    /// Sessions to be stepped before the shard sleeps.
    ready: VecDeque<u32>,
    /// Sessions stepped since [`Self::take_stepped`].
    stepped: u64,
}

thread_local! {
    /// The session that this thread is serving, for the message of a panic: (shard, slot, generation, stage).
    static CURRENT: Cell<Option<(usize, u32, u32, &'static str)>> = const { Cell::new(None) };
}

/// The session that the calling shard is serving, for the message of a defect that ends the process.
pub(crate) fn current_session() -> String {
    match CURRENT.get() {
        Some((shard, slot, generation, stage)) => format!("{slot}.{generation} of shard {shard}, {stage}"),
        None => "none".to_owned(),
    }
}

impl<S: System> Core<S> {
    /// A core without sessions.
    pub(crate) fn new(parts: Parts<S>) -> Self {
        Self {
            system: parts.system,
            rng: parts.rng,
            counters: parts.counters,
            relay_mode: parts.relay_mode,
            now: parts.now,
            sessions: Slab::new(),
            lacks_descriptors: false,
            index: parts.index,
            retired: parts.retired,
            wheel: Wheel::new(parts.now),
            last_generation: 0,
            ready: VecDeque::new(),
            stepped: 0,
        }
    }

    /// Opens a session, which has yet to dial.
    pub(super) fn open(
        &mut self,
        client: S::Socket,
        dialling: Dialling,
        record: Record,
        places: Places,
    ) -> u32 {
        self.last_generation = (self.last_generation + 1) % GENERATIONS;
        let session = Session::new(self.last_generation, client, dialling, record, places);
        let slot = self.sessions.insert(session) as u32;
        let session = &mut self.sessions[slot as usize];
        session.in_flight.client_poll = true;
        let id = SlotId { slot, generation: session.generation };
        self.system.poll(&session.client, Watched::Client(id));
        slot
    }

    /// Puts a session on the list of those that are stepped in this turn, or in the next without sleeping.
    pub(super) fn queue(&mut self, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        if !session.is_queued {
            session.is_queued = true;
            self.ready.push_back(slot);
        }
    }

    /// Resets the client, and the upstream if there is one, and ends the session.
    pub(super) fn refuse(&mut self, slot: u32, reason: Reason) {
        let session = &self.sessions[slot as usize];
        self.system.reset(&session.client);
        // While the ring connects, a reset could begin the connect anew: its completion resets the socket.
        if let Some(upstream) = session.upstream.as_ref().filter(|_| !session.in_flight.connect) {
            self.system.reset(upstream);
        }
        self.end(slot, reason);
    }

    /// Ends a session: it is recorded now, and closed when the ring holds no request of it any more. Its legs have been sent
    /// the FIN or reset that is due to them.
    pub(super) fn end(&mut self, slot: u32, reason: Reason) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        self.wheel.clear(slot);
        let stage = std::mem::replace(&mut session.stage, Stage::Ended);
        session.record.end(reason);
        let id = SlotId { slot, generation: session.generation };
        let InFlight { client_poll, upstream_poll, connect } = session.in_flight;
        let held = [
            (client_poll, Request::Poll(Watched::Client(id))),
            (upstream_poll, Request::Poll(Watched::Upstream(id))),
            (connect, Request::Connect(id)),
        ];
        for (_, request) in held.into_iter().filter(|&(is_held, _)| is_held) {
            self.system.cancel(request);
        }
        if let Stage::Dialling(Dialling { dial, in_force, .. }) = stage {
            if let Some(endpoint) = dial.abandon(self.now) {
                in_force.fail(endpoint, Reason::ConnectTimeout);
            }
            self.retire(in_force);
        }
        self.release(slot);
    }

    /// Closes the descriptors and frees the slot of a session that is over.
    pub(super) fn release(&mut self, slot: u32) {
        if self.sessions.get(slot as usize).is_some_and(Session::is_over) {
            self.sessions.remove(slot as usize);
        }
    }

    /// Steps the sessions that are ready now, as far as the turn's budget goes. The others stay first on the list; one whose own
    /// budget ends is put behind them.
    pub(super) fn step_ready(&mut self, mut budget: TurnBudget) {
        let mut before = self.bytes_moved();
        for _ in 0..self.ready.len() {
            if budget.is_spent() {
                break;
            }
            let Some(slot) = self.ready.pop_front() else { break };
            let Some(session) = self.sessions.get_mut(slot as usize) else { continue };
            session.is_queued = false;
            self.stepped += 1;
            self.serve(slot, Self::step);
            let now = self.bytes_moved();
            budget.spend(now.since(before));
            before = now;
        }
    }

    /// Serves the sessions whose timers have fired.
    pub(super) fn expire(&mut self, fired: &mut Vec<u32>) {
        self.wheel.expire(self.now, fired);
        for slot in fired.drain(..) {
            match self.sessions.get(slot as usize).map(|session| &session.stage) {
                Some(Stage::Dialling(_)) => self.serve(slot, Self::dial_timer),
                Some(Stage::Relaying(_)) => self.serve(slot, Self::step),
                Some(Stage::Ended) | None => {}
            }
        }
    }

    /// Does something for a session, whose name a panic's message has.
    pub(super) fn serve(&mut self, slot: u32, work: impl FnOnce(&mut Self, u32)) {
        if let Some(session) = self.sessions.get(slot as usize) {
            CURRENT.set(Some((self.index, slot, session.generation, session.stage.name())));
            work(self, slot);
            CURRENT.set(None);
        }
    }

    /// The session's timer fires at this time, or earlier if it was set to earlier.
    pub(super) fn wake_at(&mut self, slot: u32, at: Option<Millis>) {
        if let Some(at) = at {
            self.wheel.set(slot, at);
        }
    }

    /// When the next timer is due.
    pub(super) fn next_timer(&self) -> Option<Millis> {
        self.wheel.next()
    }

    /// Whether sessions wait to be stepped.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Breaks the rule on purpose: sessions that wait to be stepped are forgotten.
    #[cfg(test)]
    pub(super) fn forget_ready(&mut self) {
        self.ready.clear();
    }

    /// Breaks the rule on purpose: a timer is lost.
    #[cfg(test)]
    pub(super) fn forget_timer(&mut self, slot: u32) {
        self.wheel.clear(slot);
    }

    /// Bytes that the shard has moved.
    pub(super) fn bytes_moved(&self) -> Moved {
        Moved { spliced: self.counters.spliced_bytes.get(), copied: self.counters.copied_bytes.get() }
    }

    /// How many sessions have been stepped since the last call.
    pub(super) fn take_stepped(&mut self) -> u64 {
        std::mem::take(&mut self.stepped)
    }

    /// A holder of a table is done with it. The last one passes it on: freeing a large table takes longer than a turn should.
    pub(super) fn retire(&self, in_force: Arc<InForce>) {
        if let Some(in_force) = Arc::into_inner(in_force) {
            // The receiver is gone only while the process ends.
            let _ = self.retired.send(in_force);
        }
    }

    /// Resets every connection, where the process ends: closing alone would look like an orderly end.
    pub(super) fn reset_everything(&mut self) {
        for (_, session) in &self.sessions {
            self.system.reset(&session.client);
            if let Some(upstream) = &session.upstream {
                self.system.reset(upstream);
            }
        }
    }
}
