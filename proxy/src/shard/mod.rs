//! A shard: one core, one ring, one table, its sessions. This file is its turn, the only task of its executor, which never awaits,
//! and the dispatch of completions and messages; the parts are in files of their own.
//!
//! Nothing mutable is shared with other shards but the boards.

mod admit;
mod core;
mod dialling;
mod gathering;
mod listeners;
mod live;
mod message;
mod pools;
mod relaying;
mod resetting;
mod session;
mod system;

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use weir_routing::{RelayMode, shard_rng};

use self::admit::Admission;
use self::core::{Core, Parts};
use self::gathering::Gathering;
use self::listeners::{ACCEPTS_A_TURN, Listeners};
use self::live::Live;
use self::resetting::Resetting;
use self::system::System;
use crate::boards::counters::ShardCounters;
use crate::boards::in_force::InForce;
use crate::boards::limits::{LimitsBoard, ShardLoad};
use crate::boards::registry::Registry;
use crate::clock::{self, Millis, earlier};
use crate::listener::ListenerId;
use crate::mailbox::Mailbox;
use crate::os::ring::{Completion, SlotId, Watched};
use crate::relay::{Side, TurnBudget};

pub(crate) use self::core::current_session;
pub(crate) use self::message::{Message, NewTable};
pub(crate) use self::pools::tail_bytes_max;

/// Messages that a turn takes before it serves its sessions again.
const MESSAGES_A_TURN: usize = 256;

/// All that a shard gets at its start.
pub(crate) struct Start {
    /// Which one it is.
    pub(crate) index: usize,
    /// Its mailbox.
    pub(crate) mailbox: Arc<Mailbox<Message>>,
    /// Those of all shards, its own included: sockets are handed over.
    pub(crate) peers: Arc<[Arc<Mailbox<Message>>]>,
    /// Sessions a shard.
    pub(crate) shard_load: ShardLoad,
    /// Limits that all shards share.
    pub(crate) limits: Arc<LimitsBoard>,
    /// Its counters.
    pub(crate) counters: Arc<ShardCounters>,
    /// Where it registers the series of its connections.
    pub(crate) registry: Arc<Registry>,
    /// How data is moved.
    pub(crate) relay_mode: RelayMode,
    /// The process's limit of descriptors.
    pub(crate) descriptors: u64,
    /// The process's: each shard draws from a stream of its own.
    pub(crate) seed: u64,
    /// Tables that are no longer used go there, to be freed on another thread.
    pub(crate) retired_tables: Sender<InForce>,
}

/// See the file's opening.
pub(crate) struct Shard {
    core: Core<Live>,
    listeners: Listeners,
    admission: Admission,
    mailbox: Arc<Mailbox<Message>>,
    resetting: Resetting,
    gathering: Gathering,
}

impl Shard {
    /// A shard for the calling thread.
    ///
    /// Errors: the ring could not be set up.
    pub(crate) fn new(start: Start) -> std::io::Result<Self> {
        let pools = pools::Pools::new(start.index, start.peers.len(), start.descriptors);
        let mut system = Live::new(pools, Arc::clone(&start.counters))?;
        system.ring.poll(start.mailbox.doorbell(), Watched::Doorbell);
        let core = Core::new(Parts {
            index: start.index,
            system,
            rng: shard_rng(start.seed, start.index),
            counters: start.counters,
            relay_mode: start.relay_mode,
            retired: start.retired_tables,
            now: Millis::now(),
        });
        let admission =
            Admission::new(start.index, &start.registry, start.limits, start.shard_load, start.peers);
        Ok(Self {
            core,
            listeners: Listeners::default(),
            admission,
            mailbox: start.mailbox,
            resetting: Resetting::default(),
            gathering: Gathering::default(),
        })
    }

    /// Turns until it is stopped.
    pub(crate) fn run(&mut self) {
        let mut completions = Vec::new();
        let mut fired = Vec::new();
        let mut is_stopped = false;
        while !is_stopped {
            self.sleep(&mut completions);
            self.core.now = Millis::now();
            for completion in completions.drain(..) {
                self.complete(completion);
            }
            for _ in 0..ACCEPTS_A_TURN {
                let Some(arrived) = self.listeners.next_arrived() else { break };
                self.admission.admit(&mut self.core, &self.listeners, arrived);
            }
            for _ in 0..MESSAGES_A_TURN {
                let Some(message) = self.mailbox.take() else { break };
                is_stopped |= self.receive(message);
            }
            self.core.step_ready(TurnBudget::whole());
            // Time is judged after what had happened by then was served.
            self.core.expire(&mut fired);
            self.keep_up();
        }
        self.reset_everything();
    }

    /// The one place where a shard sleeps.
    fn sleep(&mut self, completions: &mut Vec<Completion>) {
        let gather = self.gathering.gather_for(self.core.bytes_moved(), self.core.take_stepped());
        let busy_poll = self.gathering.busy_poll;
        let mut sleep = self.sleep_for();
        if !busy_poll.is_zero() && !sleep.is_zero() {
            let began = Instant::now();
            while completions.is_empty() && self.mailbox.is_empty() && began.elapsed() < sleep.min(busy_poll)
            {
                self.core.system.turn(Duration::ZERO, Duration::ZERO, completions);
            }
            sleep = match self.mailbox.is_empty() {
                true => sleep.saturating_sub(began.elapsed()),
                false => Duration::ZERO,
            };
        }
        if completions.is_empty() {
            self.core.system.turn(sleep, gather, completions);
        }
    }

    fn sleep_for(&self) -> Duration {
        if self.core.has_ready() || self.listeners.has_arrived() || !self.mailbox.is_empty() {
            return Duration::ZERO;
        }
        let alarms = [self.core.next_timer(), self.listeners.due(), self.resetting.due()];
        let Some(next) = alarms.into_iter().fold(None, earlier) else { return Duration::MAX };
        Duration::from_millis(next.0).saturating_sub(clock::monotonic())
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { listener, result, more } => {
                let Core { system, counters, now, .. } = &mut self.core;
                self.listeners.accepted(ListenerId(listener), result, more, &mut system.ring, counters, *now);
            }
            Completion::Polled { watched: Watched::Doorbell, more: true, .. } => {}
            Completion::Polled { watched: Watched::Doorbell, more: false, .. } => {
                self.core.system.ring.poll(self.mailbox.doorbell(), Watched::Doorbell);
            }
            Completion::Polled { .. } | Completion::Connected { .. } => self.core.complete(completion),
        }
    }

    /// Carries out a message; true: the shard is to stop.
    fn receive(&mut self, message: Message) -> bool {
        match message {
            Message::InForce(new) => self.take_table(*new),
            Message::Socket(handed) => self.admission.receive(&mut self.core, &self.listeners, handed),
            Message::CloseListeners => self.listeners.close_all(self.core.now),
            Message::ResetAll(spread) => self.resetting.start(&self.core, spread),
            Message::Stop => return true,
        }
        false
    }

    fn take_table(&mut self, new: NewTable) {
        let NewTable { in_force, listeners, opened, busy_poll } = new;
        self.gathering.busy_poll = busy_poll;
        let generation = in_force.generation;
        let ring = &mut self.core.system.ring;
        let retired = self.listeners.take_table(&in_force, &listeners, opened, ring, self.core.now);
        self.admission.take_table(&in_force);
        retired.into_iter().chain([in_force]).for_each(|table| self.core.retire(table));
        // Before the generation: a drain takes a table that is in force, without a listener, for one that has closed them.
        self.core.counters.listeners.set(self.listeners.len() as u64);
        self.core.counters.generation.set(generation);
    }

    /// The end of a turn: what is due by time and belongs to no session.
    fn keep_up(&mut self) {
        self.resetting.go_on(&mut self.core);
        let core = &mut self.core;
        if std::mem::take(&mut core.lacks_descriptors) || core.system.ring.is_refused() {
            self.listeners.pause(&mut core.system.ring, core.now);
        }
        for table in self.listeners.keep_up(&mut core.system.ring, core.now) {
            core.retire(table);
        }
        core.system.trim(core.now);
        self.admission.keep_up(core.now);
        core.counters.listeners.set(self.listeners.len() as u64);
    }

    /// The process ends: closing alone would look like an orderly end.
    fn reset_everything(&mut self) {
        self.listeners.reset_arrived();
        while let Some(message) = self.mailbox.take() {
            if let Message::Socket(handed) = message {
                handed.reset();
            }
        }
        self.core.reset_everything();
    }
}

impl<S: System> Core<S> {
    /// A completion of a session's request. One for an earlier session of the slot is dropped and counted.
    fn complete(&mut self, completion: Completion) {
        let id = match &completion {
            Completion::Polled { watched: Watched::Client(id) | Watched::Upstream(id), .. }
            | Completion::Connected { id, .. } => *id,
            Completion::Polled { watched: Watched::Doorbell, .. } | Completion::Accepted { .. } => return,
        };
        let SlotId { slot, generation } = id;
        if self.sessions.get(slot as usize).is_none_or(|session| session.generation != generation) {
            self.counters.stale_completions.add(1);
            return;
        }
        self.serve(slot, |core, slot| match completion {
            Completion::Polled { watched: Watched::Client(_), readiness, more } => {
                core.polled(slot, Side::Client, readiness, more);
            }
            Completion::Polled { readiness, more, .. } => core.polled(slot, Side::Upstream, readiness, more),
            Completion::Connected { result, .. } => core.connected(slot, result),
            Completion::Accepted { .. } => {}
        });
    }
}

#[cfg(test)]
mod sim;
