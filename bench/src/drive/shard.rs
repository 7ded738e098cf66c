//! One thread: an epoll, the connections that are its own, and its share of every part.
//!
//! Sockets are registered once, edge-triggered, for both directions; after that a connection costs no call but its own sends and
//! receives, and the waits that it shares with others.

mod time;

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use fastrand::Rng;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use slab::Slab;
use socket2::Socket;

use super::account::{Operation, Window};
use super::clock::{self, SECOND};
use super::context::{Context, Kit, Next, Output, Readiness};
use super::dial::{self, Dialer};
use super::lane::{Lane, Life, Phase, Token};
use super::session::Session;
use super::stage::{Report, Stage};
use crate::ledger::{Busy, Ledger};
use crate::payload::pattern::CONNECTIONS;
use crate::plan::Share;
use crate::settings::{Settings, Work};

/// How often a thread looks up when nothing else wakes it: to see that a run is over, or a second.
const TICK: Duration = Duration::from_millis(20);
/// Connections that are being made at a time, so that no backlog overflows.
const DIALING: usize = 128;
/// How long a connection that broke is not replaced: reconnecting must not spin.
const RETRY: u64 = 50_000_000;
/// Events of one wait.
const EVENTS: usize = 256;
/// Bytes of one receive.
const INPUT: usize = 256 << 10;
/// Token of the timer.
const TIMER: Token = Token(u64::MAX);

/// A connection and its purpose.
#[derive(Debug)]
struct Connection {
    socket: Socket,
    serial: u32,
    lane: usize,
    /// When it was asked for; `None` once it is made.
    asked: Option<u64>,
    /// It stands among its lane's free ones.
    listed: bool,
    session: Session,
}

/// A thread's result when it has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) ledgers: Vec<Ledger>,
    pub(super) busy: Busy,
    /// When it stopped planning.
    pub(super) until: u64,
}

/// A thread's own state.
pub(super) struct Shard<'a> {
    stage: &'a Stage,
    reports: Sender<Report>,
    epoll: OwnedFd,
    /// Fires each [`TICK`], so that waits need no timeout of their own, which would cost each of them a timer.
    timer: OwnedFd,
    connections: Slab<Connection>,
    /// Those that have more to do, and let the others have their turn.
    again: Vec<Token>,
    lanes: Vec<Lane>,
    kit: Kit,
    dialer: Dialer,
    share: Share,
    phase: Phase,
    window: Window,
    /// When waiting for last answers ends.
    last: u64,
    dialing: usize,
    serial: u32,
    made: u32,
    /// Operations that may still be counted.
    left: Rc<Cell<u64>>,
    /// When the ramp began.
    born: u64,
    reported_up: bool,
    next_tick: u64,
    tick_every: u64,
    next_cut: u64,
    second: i64,
    warmup: u64,
    cpu: (u64, u64),
    measuring: bool,
    until: u64,
    core: usize,
}

impl<'a> Shard<'a> {
    pub(super) fn new(
        settings: &Settings,
        stage: &'a Stage,
        reports: Sender<Report>,
        share: Share,
        dialer: Dialer,
    ) -> Result<Shard<'a>, Errno> {
        let limit = settings.operations.map_or(u64::MAX, |all| share.part(all as usize) as u64);
        let left = Rc::new(Cell::new(limit));
        let lanes: Vec<Lane> =
            settings.parts.iter().map(|part| Lane::new(part, settings, share, Rc::clone(&left))).collect();
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        let every = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
        let period = Itimerspec { it_interval: every, it_value: every };
        rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &period)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER.0), EventFlags::IN | EventFlags::ET)?;
        let born = clock::now();
        Ok(Shard {
            stage,
            reports,
            epoll,
            timer,
            connections: Slab::new(),
            again: Vec::new(),
            kit: Kit {
                input: vec![0; INPUT].into_boxed_slice(),
                output: Output::default(),
                chance: Rng::with_seed(settings.seed ^ (share.index as u64) << 32),
                verify: settings.verify,
            },
            dialer,
            share,
            phase: Phase::Ramp,
            window: Window { begin: u64::MAX, end: u64::MAX },
            last: u64::MAX,
            dialing: 0,
            serial: 0,
            made: 0,
            left,
            born,
            reported_up: false,
            next_tick: born,
            tick_every: tick_every(settings),
            next_cut: u64::MAX,
            second: 0,
            warmup: settings.warmup.as_nanos() as u64,
            cpu: (0, 0),
            measuring: false,
            until: u64::MAX,
            core: settings.cores[share.index],
            lanes,
        })
    }

    /// Carries out its share, to the end.
    pub(super) fn run(mut self) -> Result<Ended, Errno> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            let now = clock::now();
            self.advance(now);
            if self.is_done(now) {
                return Ok(self.end(now));
            }
            self.arrivals(now);
            self.top_up(now)?;
            if let Some(token) = self.only_connection() {
                let received = Readiness { readable: true, writable: false, ended: false };
                self.ready(token, received, true);
                continue;
            }
            let timeout = if self.again.is_empty() { self.until_due(now) } else { Some(Timespec::default()) };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            for event in events.drain(..) {
                self.handle(Token(event.data.u64()), event.flags);
                // Operations that fell due meanwhile are noticed now, not when the batch is through.
                if self.lanes.iter().any(|lane| lane.next_due().is_some()) {
                    self.arrivals(clock::now());
                }
            }
            for token in std::mem::take(&mut self.again) {
                if self.connection(token).is_some() {
                    let all = Readiness { readable: true, writable: true, ended: false };
                    self.ready(token, all, false);
                }
            }
        }
    }

    /// How long a wait may last: until the next arrival, if that comes before the next tick.
    fn until_due(&self, now: u64) -> Option<Timespec> {
        let starts = if self.phase == Phase::Ramp { self.stage.start() } else { None };
        let due = self.lanes.iter().filter_map(Lane::next_due).chain(starts).min()?;
        let left = due.saturating_sub(now);
        (left < TICK.as_nanos() as u64).then_some(Timespec { tv_sec: 0, tv_nsec: left as _ })
    }

    /// The only connection of a closed loop, when only bytes that come can bring it further: the thread may block on it, which
    /// saves a call for each operation.
    fn only_connection(&self) -> Option<Token> {
        let [lane] = &self.lanes[..] else { return None };
        if lane.wanted != 1 || lane.up != 1 || self.phase != Phase::Running || !lane.is_closed() {
            return None;
        }
        let (place, connection) = self.connections.iter().next()?;
        connection.session.only_waits().then(|| Token::new(place, connection.serial))
    }

    // Operations.

    /// Gives out the operations that are due by now, and not after the end.
    fn arrivals(&mut self, now: u64) {
        let until = now.min(self.window.end.saturating_sub(1));
        for index in 0..self.lanes.len() {
            while let Some(operation) = self.lanes[index].arrival(until, now) {
                self.give(index, operation, now);
            }
        }
    }

    fn give(&mut self, index: usize, operation: Operation, now: u64) {
        let lane = &mut self.lanes[index];
        let may_open = lane.may_open(now);
        match lane.life {
            Life::Operation if may_open => {
                let longest = lane.longest_waiting(operation);
                self.dial(index, longest);
            }
            Life::Operation => lane.wait(operation),
            Life::Standing => match self.take_free(index) {
                Some(token) => self.begin(token, Some(operation)),
                None => self.lanes[index].wait(operation),
            },
        }
    }

    /// A free connection that is still there.
    fn take_free(&mut self, index: usize) -> Option<Token> {
        loop {
            let token = self.lanes[index].free.pop_front()?;
            if let Some(connection) = self.connection(token) {
                connection.listed = false;
                return Some(token);
            }
        }
    }

    fn begin(&mut self, token: Token, operation: Option<Operation>) {
        self.with_session(token.place(), |session, cx| session.begin(cx, operation));
    }

    // Connections.

    fn connection(&mut self, token: Token) -> Option<&mut Connection> {
        self.connections.get_mut(token.place()).filter(|connection| connection.serial == token.serial())
    }

    /// Makes the connections that are missing.
    fn top_up(&mut self, now: u64) -> Result<(), Errno> {
        for index in 0..self.lanes.len() {
            while self.lanes[index].may_open(now) {
                let lane = &mut self.lanes[index];
                let operation = match lane.life {
                    Life::Standing => None,
                    Life::Operation => match lane.next(now) {
                        Some(operation) => Some(operation),
                        None => break,
                    },
                };
                if operation.is_none() && !self.may_dial(index, now) {
                    break;
                }
                self.dial(index, operation);
            }
        }
        Ok(())
    }

    /// Whether a standing connection may be made now: not too many at a time, not faster than a hold is to grow, and at the end
    /// only for operations that wait.
    fn may_dial(&self, index: usize, now: u64) -> bool {
        let lane = &self.lanes[index];
        match (&lane.work, self.phase) {
            (_, Phase::Draining) if !lane.has_waiting() => false,
            (Work::Hold { ramp, .. }, Phase::Ramp) => {
                let own = *ramp / self.share.of as f64;
                let allowed = (now - self.born) as f64 / SECOND as f64 * own;
                lane.open <= allowed as usize && self.dialing < DIALING
            }
            _ => self.dialing < DIALING,
        }
    }

    fn dial(&mut self, index: usize, mut operation: Option<Operation>) {
        let now = clock::now();
        let lane = &mut self.lanes[index];
        if let Some(operation) = &mut operation {
            operation.hand(now);
        }
        let socket = match self.dialer.dial(lane.close) {
            Ok(socket) => socket,
            Err(error) => {
                if self.phase == Phase::Ramp && dial::is_final(error) {
                    let _ = self.reports.send(Report::Refused(error));
                }
                lane.again.push_back(now + RETRY);
                return match operation {
                    Some(operation) => lane.account.failed(operation, dial::name(error), now),
                    None => lane.account.broken(dial::name(error)),
                };
            }
        };
        // Each thread has its own residues, so that no two connections of a run share a number before 2^24 were made.
        let id = (self.made.wrapping_mul(self.share.of as u32)).wrapping_add(self.share.index as u32);
        self.made = self.made.wrapping_add(1);
        self.serial = (self.serial + 1) & 0x7fff_ffff;
        let session = Session::new(&lane.work, id % CONNECTIONS, &self.kit, operation);
        let serial = self.serial;
        let connection = Connection { socket, serial, lane: index, asked: Some(now), listed: false, session };
        lane.open += 1;
        self.dialing += 1;
        let place = self.connections.insert(connection);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let data = EventData::new_u64(Token::new(place, serial).0);
        if let Err(error) = epoll::add(&self.epoll, &self.connections[place].socket, data, flags) {
            self.apply(place, error.into());
        }
    }

    /// Flags of epoll.
    fn handle(&mut self, token: Token, flags: EventFlags) {
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        let readiness = Readiness {
            readable: flags.contains(EventFlags::IN),
            writable: flags.contains(EventFlags::OUT),
            ended: broken || flags.contains(EventFlags::RDHUP),
        };
        if token == TIMER {
            // It goes on only when it is read.
            let _ = rustix::io::read(&self.timer, &mut [0; 8]);
            return;
        }
        let Some(connection) = self.connection(token) else { return };
        if connection.asked.is_none() {
            return self.ready(token, readiness, false);
        }
        if broken {
            let error = connection.socket.take_error().ok().flatten();
            let error = error.and_then(|error| Errno::from_io_error(&error));
            return self.apply(token.place(), error.map_or(Next::Broken("closed early"), Next::from));
        }
        if readiness.writable {
            self.connected(token.place());
            if readiness.readable && self.connection(token).is_some() {
                self.ready(token, readiness, false);
            }
        }
    }

    fn connected(&mut self, place: usize) {
        let connection = &mut self.connections[place];
        let lane = &mut self.lanes[connection.lane];
        if let Some(asked) = connection.asked.take() {
            lane.account.opened(clock::now() - asked);
            lane.up += 1;
            self.dialing -= 1;
            self.stage.up.fetch_add(1, Ordering::Relaxed);
        }
        if self.lanes.len() == 1 && self.lanes[0].wanted == 1 && self.lanes[0].is_closed() {
            // It may be blocked on, see `only_connection`; every other call asks not to wait. Where this is
            // refused, receives come back at once and the wait is epoll's.
            let socket = &self.connections[place].socket;
            let _ = socket.set_read_timeout(Some(TICK)).and_then(|()| socket.set_nonblocking(false));
        }
        self.with_session(place, |session, cx| session.connected(cx));
    }

    fn ready(&mut self, token: Token, readiness: Readiness, patient: bool) {
        let place = token.place();
        let connection = &mut self.connections[place];
        let mut cx = Context {
            socket: connection.socket.as_fd(),
            lane: &mut self.lanes[connection.lane],
            kit: &mut self.kit,
            patient,
        };
        let next = connection.session.ready(&mut cx, readiness);
        self.apply(place, next);
    }

    fn with_session(&mut self, place: usize, ask: impl FnOnce(&mut Session, &mut Context<'_>) -> Next) {
        let Some(connection) = self.connections.get_mut(place) else { return };
        let mut cx = Context {
            socket: connection.socket.as_fd(),
            lane: &mut self.lanes[connection.lane],
            kit: &mut self.kit,
            patient: false,
        };
        let next = ask(&mut connection.session, &mut cx);
        self.apply(place, next);
    }

    fn apply(&mut self, place: usize, next: Next) {
        match next {
            Next::Stay => {}
            Next::More => self.again.push(Token::new(place, self.connections[place].serial)),
            Next::Free => {
                let connection = &mut self.connections[place];
                if !connection.listed {
                    connection.listed = true;
                    self.lanes[connection.lane].free.push_back(Token::new(place, connection.serial));
                }
            }
            Next::Over | Next::Broken(_) | Next::Late => self.close(place, next),
        }
    }

    fn close(&mut self, place: usize, next: Next) {
        let now = clock::now();
        let mut connection = self.connections.remove(place);
        let lane = &mut self.lanes[connection.lane];
        lane.open -= 1;
        if connection.asked.is_none() {
            lane.up -= 1;
            self.stage.up.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.dialing -= 1;
        }
        let why = match next {
            Next::Broken(why) => why,
            Next::Late => "given up with another on its connection",
            _ => "closed",
        };
        let mut idle = true;
        while let Some(operation) = connection.session.give_back() {
            idle = false;
            if next == Next::Late && lane.account.is_late(&operation, now) {
                lane.account.timed_out(operation, now);
            } else {
                lane.account.failed(operation, why, now);
            }
        }
        if next != Next::Over {
            lane.again.push_back(now + RETRY);
            if idle {
                let why = if next == Next::Late { "connection timed out" } else { why };
                self.stage.trouble(why);
                lane.account.broken(why);
            }
        }
    }

    /// The run is over: all that has not ended is unfinished.
    fn end(mut self, now: u64) -> Ended {
        for mut connection in self.connections.drain() {
            let account = &mut self.lanes[connection.lane].account;
            connection.session.settle(account);
            while let Some(operation) = connection.session.give_back() {
                account.unfinished(operation, now);
            }
        }
        let until = self.until.min(now);
        let wall = if self.measuring { until.saturating_sub(self.window.begin) } else { 0 };
        let cpu = self.cpu.1.saturating_sub(self.cpu.0);
        let (cpu, wall) = (Duration::from_nanos(cpu), Duration::from_nanos(wall));
        let ledgers = self.lanes.into_iter().map(|lane| lane.close(now)).collect();
        Ended { ledgers, busy: Busy { core: self.core, cpu, wall }, until }
    }
}

/// How often connections are compared with their timeouts: a twentieth of the timeout is close enough, and churn has timers of its own.
fn tick_every(settings: &Settings) -> u64 {
    let churns = settings.parts.iter().any(|part| matches!(part.work, Work::Churn { .. }));
    let longest = if churns { TICK } else { Duration::from_millis(500) };
    (settings.timeout / 20).clamp(Duration::from_millis(1), longest).as_nanos() as u64
}
