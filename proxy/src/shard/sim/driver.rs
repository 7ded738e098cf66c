//! A simulated shard: the real [`Core`] and [`Resetting`] on a [`Machine`], turned as `Shard::run` turns them: completions, admissions,
//! the ready list within a budget, timers, resets.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use weir_routing::{Arrival, FirstBytes, GatewayId, Policy, RelayMode, Verdict};

use super::machine::{Machine, Socket};
use super::posted::Posted;
use super::sabotage::Sabotage;
use super::table::{LISTENS, in_force};
use super::world::{Progress, World, patience};
use crate::boards::counters::{Series, ShardCounters};
use crate::boards::health::HealthBoard;
use crate::boards::in_force::InForce;
use crate::boards::limits::{LimitsBoard, ShardLoad};
use crate::clock::{Millis, earlier};
use crate::os::ring::{SlotId, Watched};
use crate::outcome::Record;
use crate::reason::Reason;
use crate::relay::TurnBudget;
use crate::shard::core::{Core, Parts};
use crate::shard::resetting::Resetting;
use crate::shard::session::{Dialling, Places, Session, Stage};
use crate::shard::system::System;
use crate::sim::net::{HUP, Net, micros};

/// Connections that a turn admits.
const ACCEPTS_A_TURN: usize = 2;

/// What the simulation knows of a session without asking the core.
pub(super) struct Account {
    pub(super) id: SlotId,
    /// Sockets, by side; the upstream once it is relayed to.
    pub(super) client: usize,
    pub(super) upstream: Option<usize>,
    pub(super) series: Arc<Series>,
    pub(super) service: String,
    pub(super) policy: Policy,
    /// Microseconds, and as the shard stamped it.
    pub(super) accepted: u64,
    pub(super) stamp: Millis,
    pub(super) last_failure: Option<Reason>,
    pub(super) lacked_descriptors: bool,
    /// Its client's hang-up came while it dialled.
    pub(super) has_hung_up: bool,
    /// It was ordered to end.
    pub(super) is_ordered: bool,
    /// By when a drain is to have reset it.
    pub(super) drained_by: Option<Millis>,
    pub(super) reason: Option<Reason>,
    pub(super) is_released: bool,
}

/// A connection that was accepted and not admitted.
struct Arrived {
    socket: Socket,
    at: Millis,
    at_micros: u64,
}

/// See the file's opening.
pub(super) struct Driver {
    pub(super) core: Core<Machine>,
    pub(super) world: Rc<RefCell<World>>,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) accounts: Vec<Account>,
    pub(super) health: HealthBoard,
    pub(super) limits: LimitsBoard,
    pub(super) load: ShardLoad,
    /// The table in force, and every table that there was.
    pub(super) in_force: Option<Arc<InForce>>,
    pub(super) tables: Vec<(u64, Weak<InForce>)>,
    pub(super) retired: Receiver<InForce>,
    pub(super) counters: Arc<ShardCounters>,
    /// A dial of this turn found no descriptor.
    pub(super) has_to_pause: bool,
    resetting: Resetting,
    arrived: VecDeque<Arrived>,
    rng: fastrand::Rng,
    turn_bytes: u64,
    /// In the next turn a session that dials is refused.
    pub(super) refuses_one: bool,
}

impl Driver {
    pub(super) fn new(mut net: Net, rng: &mut fastrand::Rng, sabotage: Option<Sabotage>) -> Self {
        let counters = Arc::new(ShardCounters::default());
        if rng.bool() {
            net.tail_budget = 128 << 10;
        }
        let now = Millis(net.now / 1000);
        let world = Rc::new(RefCell::new(World::new(net, Arc::clone(&counters), sabotage)));
        let (sender, retired) = channel();
        let relay_mode = [RelayMode::Auto, RelayMode::Copy, RelayMode::Splice][rng.usize(0..3)];
        let core = Core::new(Parts {
            index: 0,
            system: Machine(Rc::clone(&world)),
            rng: rng.fork(),
            counters: Arc::clone(&counters),
            relay_mode,
            retired: sender,
            now,
        });
        let mut driver = Self {
            core,
            world,
            sabotage,
            accounts: vec![],
            health: HealthBoard::default(),
            limits: LimitsBoard::new(None),
            load: ShardLoad::new(1),
            in_force: None,
            tables: vec![],
            retired,
            counters,
            has_to_pause: false,
            resetting: Resetting::default(),
            arrived: VecDeque::new(),
            rng: rng.fork(),
            turn_bytes: if rng.bool() { 32 << 10 } else { 16 << 20 },
            refuses_one: false,
        };
        driver.change_table();
        driver
    }

    /// Routes by another table from now on.
    pub(super) fn change_table(&mut self) {
        let generation = self.tables.len() as u64 + 1;
        let fresh = in_force(generation, &mut self.rng, &self.health, &self.limits);
        self.tables.push((generation, Arc::downgrade(&fresh)));
        if let Some(last) = self.in_force.replace(fresh) {
            self.core.retire(last);
        }
    }

    /// A client arrives.
    pub(super) fn accept(&mut self) {
        let mut world = self.world.borrow_mut();
        let index = world.add(None);
        let at_micros = world.net.now;
        drop(world);
        let socket = Socket { index, world: Rc::clone(&self.world) };
        self.arrived.push_back(Arrived { socket, at: Millis(at_micros / 1000), at_micros });
    }

    /// One turn. True if there was anything to do.
    pub(super) fn turn(&mut self) -> bool {
        let completions = self.world.borrow_mut().turn();
        self.core.now = Millis(self.world.borrow().net.now / 1000);
        let calls = self.world.borrow().calls;
        let mut is_busy = completions > 0 || !self.arrived.is_empty();
        for _ in 0..completions {
            let posted = self.world.borrow_mut().collect();
            posted.into_iter().for_each(|posted| self.deliver(posted));
        }
        let is_admitting = !self.world.borrow().net.faults || self.rng.u8(..) < 200;
        for _ in 0..if is_admitting { ACCEPTS_A_TURN } else { 0 } {
            let Some(arrived) = self.arrived.pop_front() else { break };
            self.admit(arrived);
        }
        if std::mem::take(&mut self.refuses_one) {
            self.refuse_one();
        }
        self.core.step_ready(TurnBudget::of(self.turn_bytes));
        is_busy |= self.core.take_stepped() > 0 || self.core.has_ready();
        let now = self.core.now;
        if self.sabotage == Some(Sabotage::TimersEarly) {
            self.core.now = now.plus(15);
        }
        self.core.expire(&mut Vec::new());
        self.resetting.go_on(&mut self.core);
        self.core.now = now;
        self.has_to_pause = std::mem::take(&mut self.core.lacks_descriptors);
        if self.has_to_pause {
            self.world.borrow_mut().seen.count("accepting had to pause");
        }
        self.break_rules();
        self.check_turn();
        is_busy || self.world.borrow().calls > calls
    }

    /// When something is due by time, in microseconds.
    pub(super) fn next_event(&self) -> Option<u64> {
        let timer = earlier(self.core.next_timer(), self.resetting.due()).map(|at| at.0 * 1000);
        let world = self.world.borrow();
        let answers = world.attempts.values().filter(|it| it.progress < Progress::Posted).map(|it| it.due);
        answers.chain(timer).filter(|&at| at > world.net.now).min()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.core.sessions.is_empty() && self.arrived.is_empty()
    }

    /// Resets all sessions, spread over some time.
    pub(super) fn drain(&mut self, spread: Duration) {
        self.world.borrow_mut().seen.count("a drain");
        self.resetting.start(&self.core, spread);
        let by = self.core.now.after(spread);
        for account in self.accounts.iter_mut().filter(|account| account.reason.is_none()) {
            account.is_ordered = true;
            account.drained_by = Some(by);
        }
    }

    /// Refuses a session that dials.
    fn refuse_one(&mut self) {
        let dialling: Vec<u32> = self
            .core
            .sessions
            .iter()
            .filter(|(_, session)| matches!(session.stage, Stage::Dialling(_)))
            .map(|(slot, _)| slot as u32)
            .collect();
        if dialling.is_empty() {
            return;
        }
        let slot = dialling[self.rng.usize(0..dialling.len())];
        let generation = self.core.sessions[slot as usize].generation;
        let id = SlotId { slot, generation };
        self.accounts.iter_mut().filter(|it| it.id == id).for_each(|it| it.is_ordered = true);
        self.world.borrow_mut().seen.count("a dial was refused from outside");
        self.core.refuse(slot, Reason::Drain);
    }

    pub(super) fn session(&self, id: SlotId) -> Option<&Session<Socket>> {
        self.core.sessions.get(id.slot as usize).filter(|session| session.generation == id.generation)
    }

    /// The sessions and their attempts, for the message of a broken rule.
    pub(super) fn describe(&self) -> String {
        let world = self.world.borrow();
        let mut text = format!("at {}\n", world.net.now);
        for account in &self.accounts {
            let Account { id, accepted, last_failure, reason, is_released, policy, .. } = account;
            let stage = self.session(*id).map_or("gone", |session| session.stage.name());
            text += &format!("{id:?} {stage} accepted {accepted} failed {last_failure:?} ended {reason:?} ");
            text += &format!("released {is_released} {:?}\n", policy.timeouts);
            let attempts = world.attempts.iter().filter(|(_, attempt)| attempt.id == *id);
            let shown = |(socket, attempt): (&usize, &_)| {
                let it = &world.net.sockets[*socket];
                format!("    {socket} {attempt:?} open {} reset {}\n", it.open, it.reset_by_us)
            };
            text += &attempts.map(shown).collect::<String>();
        }
        text
    }

    /// Gives a completion to the core, and notes what it means for its session.
    fn deliver(&mut self, mut posted: Posted) {
        let stage = self.session(posted.id()).map(|session| session.stage.name());
        let Some(stage) = stage else { return self.deliver_stale(posted) };
        match (&mut posted, self.sabotage) {
            (Posted::Connected { .. }, Some(Sabotage::ConnectIgnoredAfterEnd)) if stage == "ended" => return,
            (Posted::Polled { mask, .. }, Some(Sabotage::HangUpIgnored)) if stage == "dialling" => {
                *mask &= !HUP
            }
            (Posted::Polled { mask, .. }, Some(Sabotage::ErrorIgnored)) if stage == "dialling" => {
                *mask &= !crate::sim::net::ERR;
            }
            (Posted::Polled { more, .. }, Some(Sabotage::LastTakenForMore)) => *more = true,
            _ => {}
        }
        match posted {
            Posted::Connected { id, result } => self.note_connected(id, result, stage == "dialling"),
            Posted::Polled { mask, more, .. } => {
                let seen = &mut self.world.borrow_mut().seen;
                if stage == "dialling" && mask & HUP != 0 {
                    seen.count("a client hung up during the dial");
                    let account = self.accounts.iter_mut().rfind(|account| account.id == posted.id());
                    account.into_iter().for_each(|account| account.has_hung_up = true);
                }
                seen.count_if(stage == "ended" && !more, "a poll's last completion came after the end");
            }
        }
        self.core.complete(posted.completion());
    }

    /// One of an earlier session of the slot: nothing changes but a counter.
    fn deliver_stale(&mut self, posted: Posted) {
        let slot = posted.id().slot;
        let state = |driver: &Self| {
            let session = driver.core.sessions.get(slot as usize);
            let session = session.map(|it| (it.generation, it.in_flight, it.is_queued, it.stage.name()));
            (session, driver.world.borrow().calls)
        };
        let (before, stale) = (state(self), self.counters.stale_completions.get());
        self.world.borrow_mut().seen.count_if(before.0.is_some(), "an old completion met a new session");
        let present = before.0.map(|(generation, ..)| posted.with_id(SlotId { slot, generation }));
        let taken = match (present, self.sabotage) {
            (Some(present), Some(Sabotage::StaleTaken)) => present,
            _ => posted,
        };
        self.core.complete(taken.completion());
        let is_dropped = state(self) == before && self.counters.stale_completions.get() == stale + 1;
        let broken = self.sabotage == Some(Sabotage::StaleTaken);
        let mut world = self.world.borrow_mut();
        world.net.require(is_dropped || broken, || format!("{posted:?} of an earlier session was served"));
    }

    fn note_connected(&mut self, id: SlotId, result: Result<(), i32>, is_dialling: bool) {
        let mut world = self.world.borrow_mut();
        if !is_dialling {
            return world.seen.count_if(result.is_ok(), "an answer came after the session's end");
        }
        let Some((&socket, attempt)) = world.attempts.iter_mut().rfind(|(_, attempt)| attempt.id == id)
        else {
            return world.net.require(false, || format!("{id:?} has never connected"));
        };
        attempt.progress = Progress::Served;
        let (address, meets_itself) = (attempt.address, attempt.meets_itself);
        let failure = match result {
            Ok(()) if meets_itself => Some(Reason::Loop),
            Ok(()) => None,
            Err(errno) => world.failure(errno),
        };
        world.seen.count_if(meets_itself && result.is_ok(), "an upstream was the socket itself");
        world.seen.count_if(failure.is_some(), "an attempt failed");
        if let Some(reason) = failure {
            world.expect_failure(address, reason);
        }
        let Some(account) = self.accounts.iter_mut().rfind(|account| account.id == id) else { return };
        account.last_failure = failure.or(account.last_failure);
        account.lacked_descriptors |= result == Err(libc::EMFILE);
        if result.is_ok() && failure.is_none() {
            account.upstream = Some(socket);
            let has_failed = account.last_failure.is_some();
            world.seen.count_if(has_failed, "a session was relayed after a failed attempt");
        }
    }

    /// Decides as `Admission` does.
    fn admit(&mut self, arrived: Arrived) {
        let Some(in_force) = self.in_force.clone() else { return };
        let client = arrived.socket.index;
        let source = SocketAddr::from(([10, 0, 0, self.rng.u8(..)], 1000));
        let arrival = Arrival::new(GatewayId(0), source, LISTENS.parse().expect("an address"));
        let verdict = in_force.table.decide(&arrival, &FirstBytes::UNKNOWN, &mut self.rng);
        let Verdict::Forward { destination, .. } = verdict else { panic!("{verdict:?}") };
        let series = Arc::new(Series::default());
        let mut record = Record::open(Arc::clone(&series));
        let Some(places) = in_force.reserve(destination) else {
            self.core.system.reset(&arrived.socket);
            record.end(Reason::LimitService);
            self.world.borrow_mut().seen.reason(Reason::LimitService);
            return self.core.retire(in_force);
        };
        let process = self.limits.process.reserve().expect("the process has no limit");
        if self.sabotage == Some(Sabotage::PlacesLeaked) {
            std::mem::forget(self.limits.process.reserve());
        }
        let service = in_force.table.service_of(destination).0;
        let policy = *in_force.table.policy(destination);
        let dialling = Dialling::new(Arc::clone(&in_force), destination, &arrival, arrived.at);
        if self.sabotage == Some(Sabotage::TableKept) {
            std::mem::forget(Arc::clone(&in_force));
        }
        let gateway =
            in_force.gateways[0].reserve(|| Ok(source.ip()), || 0).expect("the gateway has no limit");
        let places = Places::new(process, gateway, self.load.add(0), places);
        let slot = self.core.open(arrived.socket, dialling, record, places);
        let id = SlotId { slot, generation: self.core.sessions[slot as usize].generation };
        let mut world = self.world.borrow_mut();
        world.net.sockets[client].patience = policy.keepalive.map(|keepalive| micros(patience(keepalive)));
        let reused = self.accounts.iter().any(|account| account.id.slot == slot);
        world.seen.count_if(reused, "a slot was reused");
        let once = self.accounts.iter().all(|account| account.id != id);
        world.net.require(once, || format!("{id:?} is there twice"));
        drop(world);
        self.accounts.push(Account {
            id,
            client,
            upstream: None,
            series,
            service: in_force.table.parts().services[service.index()].name.to_string(),
            policy,
            accepted: arrived.at_micros,
            stamp: arrived.at,
            last_failure: None,
            lacked_descriptors: false,
            has_hung_up: false,
            is_ordered: false,
            drained_by: None,
            reason: None,
            is_released: false,
        });
        self.core.begin_dial(slot);
        self.core.retire(in_force);
    }

    /// Sabotages of the driver that come after a turn.
    fn break_rules(&mut self) {
        let Some(sabotage) = self.sabotage else { return };
        let slots: Vec<u32> = self.core.sessions.iter().map(|(slot, _)| slot as u32).collect();
        let mut sure = fastrand::Rng::with_seed(self.rng.u64(..));
        for slot in slots {
            let session = &self.core.sessions[slot as usize];
            let (is_ended, is_dialling) =
                (matches!(session.stage, Stage::Ended), matches!(session.stage, Stage::Dialling(_)));
            match sabotage {
                Sabotage::SlotFreedEarly if is_ended => {
                    self.core.sessions.remove(slot as usize);
                }
                Sabotage::EndedTwice if is_ended => self.core.end(slot, Reason::Drain),
                Sabotage::RecordedTwice if is_ended => {
                    let of_slot = self.accounts.iter().rev().find(|account| account.id.slot == slot);
                    of_slot.inspect(|account| account.series.close(Reason::Done));
                }
                Sabotage::ReadyForgotten if sure.u8(..) < 16 => self.core.forget_ready(),
                Sabotage::DialTimerLost if is_dialling => self.core.forget_timer(slot),
                Sabotage::EndpointUseLeaked => {
                    std::mem::forget(self.core.sessions[slot as usize].endpoint.take());
                }
                Sabotage::FailureCountedTwice => {
                    if let Stage::Dialling(Dialling { dial, in_force, .. }) = &session.stage
                        && let Some(endpoint) = dial.endpoint()
                    {
                        in_force.fail(endpoint, Reason::ConnectTimeout);
                    }
                }
                _ => {}
            }
        }
    }

    /// The watched socket of a poll of this session.
    pub(super) fn has_event(&self, id: SlotId, socket: usize) -> bool {
        let world = self.world.borrow();
        let waits = world.queue.iter().any(|posted| posted.id() == id);
        let it = &world.net.sockets[socket];
        let is_watched = matches!(world.watched[socket], Some(Watched::Client(_) | Watched::Upstream(_)));
        waits || it.has_event() || !is_watched
    }
}
