//! A shard: one core, one ring, one table, its sessions; and its turn, the only task of its executor, which never awaits.
//!
//! This file is the turn and what it dispatches to. Accepting is in `accept.rs`, dialling in `dial.rs`, moving bytes in
//! `relay/`, the way out in `session.rs`. Nothing mutable is shared with other shards but the boards.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use slab::Slab;
use weir_routing::RelayMode;
use weir_routing::shard_rng;

use crate::accept::{Arrived, Listening};
use crate::boards::counters::ShardCounters;
use crate::boards::counters::{Ledger, Registry};
use crate::boards::in_force::InForce;
use crate::boards::limits::{Limit, ShardLoad};
use crate::clock::{Millis, earlier, monotonic};
use crate::mailbox::{ListenerId, Mailbox, Message, NewTable};
use crate::os::ring::{Completion, Ring};
use crate::os::sys;
use crate::pools::{Pools, Wires};
use crate::reason::Reason;
use crate::relay::{Moved, News, Side, Step, TurnBudget};
use crate::session::{Session, Stage};
use crate::wheel::Wheel;

/// Messages that a turn takes before it serves its sessions again.
const MESSAGES_A_TURN: usize = 256;

/// A stream on a core that is not busy wakes its shard for every few segments. Gathered for this long they move in fewer, larger
/// steps: 0.094 against 0.135 s CPU a GB over four streams (medians of three, with 256 KiB a turn; HAProxy with forced splice 0.161
/// in the same run). Longer ones cost caches more than they save in wakes.
const GATHER: Duration = Duration::from_micros(100);
/// Bytes spliced a session and turn that show bulk.
const BULK: u64 = 64 << 10;

/// What a completion is about: kind (8 bits), generation (24 bits), slot (32 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u64);

/// Seven of them: the eighth is the ring's own.
const KIND_BITS: u32 = 8;
const GENERATION_BITS: u32 = 24;
/// Generations wrap here: a completion would have to be late by 16 million sessions of one shard to be mistaken.
pub const GENERATIONS: u32 = 1 << GENERATION_BITS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    ClientPoll,
    UpstreamPoll,
    Connect,
    Accept,
    Doorbell,
    /// A cancel that found nothing to cancel.
    Ignored,
}

impl Tag {
    /// The doorbell's poll.
    pub const DOORBELL: Self = Self::new(Kind::Doorbell, 0, 0);
    /// Nobody waits for it.
    pub const IGNORED: Self = Self::new(Kind::Ignored, 0, 0);

    const fn new(kind: Kind, slot: u32, generation: u32) -> Self {
        Self((slot as u64) << (KIND_BITS + GENERATION_BITS) | (generation as u64) << KIND_BITS | kind as u64)
    }

    /// The poll of one of a session's legs.
    pub fn poll(side: Side, slot: u32, generation: u32) -> Self {
        let kind = match side {
            Side::Client => Kind::ClientPoll,
            Side::Upstream => Kind::UpstreamPoll,
        };
        Self::new(kind, slot, generation)
    }

    /// A session's connect.
    pub fn connect(slot: u32, generation: u32) -> Self {
        Self::new(Kind::Connect, slot, generation)
    }

    /// The accept of a listener.
    pub fn accept(listener: ListenerId) -> Self {
        Self::new(Kind::Accept, listener.0, 0)
    }

    fn kind(self) -> Kind {
        match self.0 & ((1 << KIND_BITS) - 1) {
            0 => Kind::ClientPoll,
            1 => Kind::UpstreamPoll,
            2 => Kind::Connect,
            3 => Kind::Accept,
            4 => Kind::Doorbell,
            _ => Kind::Ignored,
        }
    }

    fn slot(self) -> u32 {
        (self.0 >> (KIND_BITS + GENERATION_BITS)) as u32
    }

    fn generation(self) -> u32 {
        (self.0 >> KIND_BITS) as u32 & (GENERATIONS - 1)
    }
}

/// What a shard is given at its start.
pub struct Start {
    /// Which one it is.
    pub index: usize,
    /// Its mailbox.
    pub mailbox: Arc<Mailbox>,
    /// Everybody's, its own included: sockets are handed over.
    pub peers: Arc<[Arc<Mailbox>]>,
    /// Sessions a shard.
    pub shard_load: ShardLoad,
    /// Connections of the process.
    pub process: Arc<Limit>,
    /// Its counters.
    pub counters: Arc<ShardCounters>,
    /// Where it registers the series of its connections.
    pub registry: Arc<Registry>,
    /// How data is moved.
    pub relay_mode: RelayMode,
    /// The process's limit of descriptors.
    pub descriptors: u64,
    /// The process's: each shard draws from a stream of its own.
    pub seed: u64,
    /// Tables that are no longer used go there, to be freed elsewhere.
    pub retired_tables: Sender<InForce>,
}

/// See the file's opening.
pub struct Shard {
    pub(crate) index: usize,
    pub(crate) ring: Ring,
    pub(crate) wheel: Wheel,
    pub(crate) pools: Pools,
    pub(crate) rng: fastrand::Rng,
    pub(crate) now: Millis,
    pub(crate) sessions: Slab<Session>,
    pub(crate) last_generation: u32,
    pub(crate) listeners: HashMap<ListenerId, Listening>,
    /// When the next listener that is going away is to be emptied.
    pub(crate) listeners_close: Option<Millis>,
    /// Sockets that wait to be admitted.
    pub(crate) arrived: VecDeque<Arrived>,
    /// Accepting rests until then: descriptors ran out, or the kernel is short of memory, or too many sockets have arrived.
    pub(crate) accept_again: Option<Millis>,
    pub(crate) in_force: Option<Arc<InForce>>,
    /// The counters of its connections.
    pub(crate) ledger: Ledger,
    pub(crate) shard_load: ShardLoad,
    pub(crate) process: Arc<Limit>,
    pub(crate) peers: Arc<[Arc<Mailbox>]>,
    pub(crate) counters: Arc<ShardCounters>,
    pub(crate) relay_mode: RelayMode,
    mailbox: Arc<Mailbox>,
    retired_tables: Sender<InForce>,
    /// Sessions to be stepped before the shard sleeps.
    ready: VecDeque<u32>,
    /// Sessions that are to be reset, and when the next ones are.
    doomed: Doomed,
    busy_poll: Duration,
    is_stopped: bool,
    /// Up to the last turn.
    moved: Moved,
    /// Sessions that were stepped since then.
    stepped: u64,
}

/// Sessions that are to be reset one by one: the first at once, the last when the time is over.
#[derive(Default)]
struct Doomed {
    sessions: VecDeque<(u32, u32)>,
    count: u32,
    began: Millis,
    spread: Duration,
}

impl Doomed {
    /// When the next one is due.
    fn due(&self) -> Option<Millis> {
        let done = self.count - self.sessions.len() as u32;
        (!self.sessions.is_empty()).then(|| self.began.after(self.spread * done / self.count))
    }
}

thread_local! {
    /// What this thread is at, for the last words of a panic: (shard, slot, generation, stage).
    static CURRENT: Cell<Option<(usize, u32, u32, &'static str)>> = const { Cell::new(None) };
}

/// Which session this shard is stepping, for the last words of a process that a defect ends.
pub fn current_session() -> String {
    match CURRENT.get() {
        Some((shard, slot, generation, stage)) => format!("{slot}.{generation} of shard {shard}, {stage}"),
        None => "none".to_owned(),
    }
}

impl Shard {
    /// A shard for the calling thread.
    ///
    /// Errors: the ring could not be set up.
    pub fn new(start: Start) -> std::io::Result<Self> {
        let now = Millis::now();
        let mut ring = Ring::new()?;
        ring.poll(start.mailbox.doorbell(), Tag::DOORBELL.0);
        Ok(Self {
            index: start.index,
            ring,
            wheel: Wheel::new(now),
            pools: Pools::new(start.index, start.peers.len(), start.descriptors),
            rng: shard_rng(start.seed, start.index),
            now,
            sessions: Slab::new(),
            last_generation: 0,
            listeners: HashMap::new(),
            listeners_close: None,
            arrived: VecDeque::new(),
            accept_again: None,
            in_force: None,
            ledger: Ledger::new(start.registry),
            shard_load: start.shard_load,
            process: start.process,
            peers: start.peers,
            counters: start.counters,
            relay_mode: start.relay_mode,
            mailbox: start.mailbox,
            retired_tables: start.retired_tables,
            ready: VecDeque::new(),
            doomed: Doomed::default(),
            busy_poll: Duration::ZERO,
            is_stopped: false,
            moved: Moved::default(),
            stepped: 0,
        })
    }

    /// Turns until it is stopped.
    pub fn run(&mut self) {
        let mut completions = Vec::new();
        let mut fired = Vec::new();
        while !self.is_stopped {
            self.sleep(&mut completions);
            self.now = Millis::now();
            for completion in completions.drain(..) {
                self.complete(completion);
            }
            self.admit_arrived();
            for _ in 0..MESSAGES_A_TURN {
                let Some(message) = self.mailbox.take() else { break };
                self.receive(message);
            }
            self.step_ready();
            // Time is judged after what had happened by then was served.
            self.wheel.expire(self.now, &mut fired);
            for slot in fired.drain(..) {
                self.time_out(slot);
            }
            self.keep_house();
        }
        // Closing alone would look like an orderly end.
        self.arrived.iter().for_each(Arrived::reset);
        while let Some(message) = self.mailbox.take() {
            if let Message::Socket(handed) = message {
                handed.reset();
            }
        }
        for (_, session) in &self.sessions {
            sys::reset(session.client.as_fd());
            session.upstream.iter().for_each(|upstream| sys::reset(upstream.as_fd()));
        }
    }

    /// Steps the sessions that are ready now, as far as the turn's budget goes. The others stay first on the list; one whose own
    /// budget ends is put behind them.
    fn step_ready(&mut self) {
        let mut budget = TurnBudget::whole();
        let mut before = self.bytes_moved();
        for _ in 0..self.ready.len() {
            if budget.is_spent() {
                break;
            }
            let Some(slot) = self.ready.pop_front() else { break };
            if let Some(session) = self.sessions.get_mut(slot as usize) {
                session.is_queued = false;
            }
            self.step(slot);
            let now = self.bytes_moved();
            budget.spend(now.since(before));
            before = now;
        }
    }

    fn bytes_moved(&self) -> Moved {
        Moved { spliced: self.counters.spliced_bytes.get(), copied: self.counters.copied_bytes.get() }
    }

    /// Puts a session on the list of those that are stepped in this turn, or in the next without sleeping.
    pub(crate) fn queue(&mut self, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        if !session.is_queued {
            session.is_queued = true;
            self.ready.push_back(slot);
        }
    }

    /// A holder of a table is done with it. The last one gives it away: freeing a large table takes longer than a turn should.
    pub(crate) fn retire(&self, in_force: Arc<InForce>) {
        if let Some(in_force) = Arc::into_inner(in_force) {
            // Nobody listens only while the process ends.
            let _ = self.retired_tables.send(in_force);
        }
    }

    /// The one place where a shard sleeps.
    fn sleep(&mut self, completions: &mut Vec<Completion>) {
        let gather = self.gather_for();
        let mut sleep = self.sleep_for();
        if !self.busy_poll.is_zero() && !sleep.is_zero() {
            let began = Instant::now();
            while completions.is_empty()
                && self.mailbox.is_empty()
                && began.elapsed() < sleep.min(self.busy_poll)
            {
                self.turn_ring(Duration::ZERO, Duration::ZERO, completions);
            }
            sleep =
                if self.mailbox.is_empty() { sleep.saturating_sub(began.elapsed()) } else { Duration::ZERO };
        }
        if completions.is_empty() {
            self.turn_ring(sleep, gather, completions);
        }
    }

    /// How long to gather completions before waking: only between moves of bulk, of which each wake would find a little.
    /// Whoever waits for an answer (its bytes are copied) ends it with the next turn.
    fn gather_for(&mut self) -> Duration {
        let now = self.bytes_moved();
        let moved = now.since(std::mem::replace(&mut self.moved, now));
        let stepped = std::mem::take(&mut self.stepped);
        let is_bulk = moved.spliced >= BULK * stepped.max(1) && moved.copied == 0;
        if is_bulk { GATHER } else { Duration::ZERO }
    }

    fn turn_ring(&mut self, sleep: Duration, gather: Duration, completions: &mut Vec<Completion>) {
        if let Err(error) = self.ring.turn(sleep, gather, completions) {
            panic!("the ring of shard {} failed: {error}", self.index);
        }
    }

    fn sleep_for(&self) -> Duration {
        if !self.ready.is_empty() || !self.arrived.is_empty() || !self.mailbox.is_empty() {
            return Duration::ZERO;
        }
        let alarms = [self.wheel.next(), self.accept_again, self.doomed.due(), self.listeners_close];
        let Some(next) = alarms.into_iter().fold(None, earlier) else { return Duration::MAX };
        Duration::from_millis(next.0).saturating_sub(monotonic())
    }

    fn complete(&mut self, completion: Completion) {
        let tag = Tag(completion.tag);
        let slot = tag.slot();
        match tag.kind() {
            Kind::Accept => return self.accepted(ListenerId(slot), completion),
            Kind::Doorbell => {
                if !completion.more {
                    self.ring.poll(self.mailbox.doorbell(), Tag::DOORBELL.0);
                }
                return;
            }
            Kind::Ignored => return,
            Kind::ClientPoll | Kind::UpstreamPoll | Kind::Connect => {}
        }
        if self.sessions.get(slot as usize).is_none_or(|session| session.generation != tag.generation()) {
            self.counters.stale_completions.add(1);
            return;
        }
        self.note_current(slot);
        match tag.kind() {
            Kind::Connect => self.connected(slot, completion.result.map(drop)),
            Kind::UpstreamPoll => self.polled(slot, Side::Upstream, &completion),
            _ => self.polled(slot, Side::Client, &completion),
        }
        CURRENT.set(None);
    }

    /// A leg's poll woke, or ended.
    fn polled(&mut self, slot: u32, side: Side, completion: &Completion) {
        let session = &mut self.sessions[slot as usize];
        let (socket, held) = match side {
            Side::Client => (Some(&session.client), &mut session.in_flight.client_poll),
            Side::Upstream => (session.upstream.as_ref(), &mut session.in_flight.upstream_poll),
        };
        if !completion.more {
            *held = false;
            if matches!(session.stage, Stage::Ended) {
                return self.release(slot);
            }
            // The completion queue overflowed, or the kernel gave up on it: arming again reports the present state.
            if let Some(socket) = socket {
                let tag = Tag::poll(side, slot, session.generation);
                self.ring.poll(socket.as_fd(), tag.0);
                *held = true;
            }
        }
        match &mut session.stage {
            Stage::Ended => {}
            // Bytes and a FIN wait in the socket. A reset ends the dial: no upstream connection should outlive it.
            Stage::Dialling(_) if completion.has_error() => self.refuse(slot, Reason::ClientGone),
            Stage::Dialling(dial) => dial.client_hung_up |= completion.has_hang_up(),
            Stage::Relaying(relay) => {
                let news = News { error: completion.has_error(), hang_up: completion.has_hang_up() };
                relay.on_event(side, news);
                self.queue(slot);
            }
        }
    }

    /// Moves what can be moved of a session.
    fn step(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        let (Stage::Relaying(relay), Some(upstream)) = (&mut session.stage, &session.upstream) else {
            return;
        };
        CURRENT.set(Some((self.index, slot, session.generation, "relaying")));
        self.stepped += 1;
        let mut wires = Wires {
            client: session.client.as_fd(),
            upstream: upstream.as_fd(),
            pools: &mut self.pools,
            counters: &self.counters,
            series: &session.series,
            now: self.now,
        };
        let step = relay.step(&mut wires, self.now);
        if let Some(deadline) = relay.deadline() {
            self.wheel.set(slot, deadline);
        }
        match step {
            Step::Again => self.queue(slot),
            Step::Wait => {}
            Step::Ended(reason) => self.end(slot, reason),
        }
        CURRENT.set(None);
    }

    fn time_out(&mut self, slot: u32) {
        self.note_current(slot);
        match self.sessions.get(slot as usize).map(|session| &session.stage) {
            Some(Stage::Dialling(_)) => self.dial_timer(slot),
            Some(Stage::Relaying(_)) => self.step(slot),
            Some(Stage::Ended) | None => {}
        }
        CURRENT.set(None);
    }

    fn note_current(&self, slot: u32) {
        if let Some(session) = self.sessions.get(slot as usize) {
            CURRENT.set(Some((self.index, slot, session.generation, session.stage.name())));
        }
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::InForce(new) => self.take_table(*new),
            Message::Socket(socket) => self.receive_socket(socket),
            Message::CloseListeners => self.close_all_listeners(),
            Message::ResetAll(spread) => self.doom_all(spread),
            Message::Stop => self.is_stopped = true,
        }
    }

    fn take_table(&mut self, new: NewTable) {
        self.ledger.follow(&new.in_force.labels);
        self.take_listeners(&new.in_force, &new.listeners, new.opened);
        self.busy_poll = new.busy_poll;
        let generation = new.in_force.generation;
        if let Some(old) = self.in_force.replace(new.in_force) {
            self.retire(old);
        }
        self.counters.generation.set(generation);
    }

    /// Every session that is there now is reset, evenly over this time.
    fn doom_all(&mut self, spread: Duration) {
        let sessions: VecDeque<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| !matches!(session.stage, Stage::Ended))
            .map(|(slot, session)| (slot as u32, session.generation))
            .collect();
        self.doomed = Doomed { count: sessions.len() as u32, began: self.now, spread, sessions };
    }

    fn reset_doomed(&mut self) {
        while self.doomed.due().is_some_and(|due| due <= self.now) {
            let Some((slot, generation)) = self.doomed.sessions.pop_front() else { break };
            let Some(session) =
                self.sessions.get_mut(slot as usize).filter(|session| session.generation == generation)
            else {
                continue;
            };
            match &mut session.stage {
                Stage::Relaying(relay) => {
                    relay.end(Reason::Drain);
                    self.queue(slot);
                }
                Stage::Dialling(_) => self.refuse(slot, Reason::Drain),
                Stage::Ended => {}
            }
        }
    }

    /// What needs doing now and then, and looks at the clock itself.
    fn keep_house(&mut self) {
        self.reset_doomed();
        if self.ring.is_refused() {
            self.pause_accepting();
        }
        self.accept_after_pause();
        self.close_emptied_listeners();
        self.pools.trim(self.now);
        self.counters.pipes_in_use.set(self.pools.pipes_in_use());
        self.counters.tails_in_use.set(self.pools.tails_in_use());
        self.counters.tail_bytes.set(self.pools.tail_bytes());
        self.counters.listeners.set(self.listeners.len() as u64);
    }
}
