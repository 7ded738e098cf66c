//! Accepting (step 4 of the walk) and what follows at once: hand-over to a less loaded shard, or match, draw and first dial.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use weir_routing::{Arrival, DestinationId, FirstBytes, GatewayId, Refusal, RouteId, Verdict};

use crate::boards::counters::{Series, Way};
use crate::boards::in_force::InForce;
use crate::boards::limits::Reservation;
use crate::clock::{Millis, earlier};
use crate::dial::Dial;
use crate::listener::{BACKLOG, INHERITED_KEEPALIVE};
use crate::mailbox::{ListenerId, Message};
use crate::os::ring::{Completion, Value};
use crate::os::sys;
use crate::outcome::Record;
use crate::reason::Reason;
use crate::relay::Side;
use crate::session::Session;
use crate::shard::{GENERATIONS, Shard, Tag};

/// Descriptors that ran out are asked for again after this long: never at once, for nothing tells when there are some again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that are admitted in one turn, which takes about 3 ms: sessions and timers wait for no longer queue than that.
const ACCEPTS_A_TURN: usize = 128;
/// So many sockets may wait to be admitted before accepting rests: further clients wait in the kernel's queue, which holds as many.
const ARRIVED_MAX: usize = BACKLOG as usize;
/// How long a closing listener, which gets no new SYNs already, waits for handshakes in progress.
const HANDSHAKES_END: Duration = Duration::from_millis(5);

/// What the connections of a listener are decided by.
#[derive(Clone, Debug)]
pub struct Door {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whose it is, in `in_force`.
    pub gateway: GatewayId,
    /// The table in force, or, while the listener closes, the last one that knew it.
    pub in_force: Arc<InForce>,
}

/// This shard's socket of a listener.
pub struct Listening {
    socket: Arc<OwnedFd>,
    door: Door,
    is_armed: bool,
    closing: Closing,
}

/// How far a listener's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// It is emptied at this time.
    At(Millis),
    /// The accept was cancelled; its last completion closes the socket.
    Cancelled,
}

/// A socket that was accepted and waits to be admitted.
#[derive(Debug)]
pub struct Arrived {
    listener: ListenerId,
    socket: OwnedFd,
    at: Millis,
}

impl Arrived {
    /// Ends it, where the process ends.
    pub(crate) fn reset(&self) {
        sys::reset(self.socket.as_fd());
    }
}

impl HandedOver {
    /// Ends it, where the process ends.
    pub(crate) fn reset(&self) {
        sys::reset(self.accepted.socket.as_fd());
    }
}

/// A socket that was accepted, with its places.
#[derive(Debug)]
pub struct Accepted {
    socket: OwnedFd,
    accepted: Millis,
    process: Reservation,
    on_shard: Reservation,
}

/// A socket on its way to another shard: no operation, byte or decision of it has happened.
#[derive(Debug)]
pub struct HandedOver {
    listener: ListenerId,
    door: Door,
    accepted: Accepted,
}

impl Shard {
    /// A completion of a listener's accept.
    pub(crate) fn accepted(&mut self, id: ListenerId, completion: Completion) {
        let Some(listening) = self.listeners.get_mut(&id) else {
            self.counters.stale_completions.add(1);
            return;
        };
        listening.is_armed = completion.more;
        match completion.result {
            Ok(Value::Socket(socket)) => {
                self.arrived.push_back(Arrived { listener: id, socket, at: self.now });
                if self.arrived.len() >= ARRIVED_MAX {
                    self.pause_accepting();
                }
            }
            Ok(Value::Number(_)) => self.counters.stale_completions.add(1),
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => {}
            Err(error) => {
                self.counters.accept_failed(&error);
                // One that was given up while it waited is no reason to rest; anything else would come again at once.
                if error.raw_os_error() != Some(libc::ECONNABORTED) {
                    self.pause_accepting();
                }
            }
        }
        let Some(listening) = self.listeners.get(&id) else { return };
        match listening.closing {
            _ if listening.is_armed => {}
            Closing::Cancelled => self.empty_and_close(id),
            Closing::No | Closing::At(_) if self.accept_again.is_none() => self.arm(id),
            Closing::No | Closing::At(_) => {}
        }
    }

    /// Admits sockets that have arrived, as many as a turn may; the next turn goes on without sleeping.
    pub(crate) fn admit_arrived(&mut self) {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(arrived) = self.arrived.pop_front() else { break };
            self.take_in(arrived);
        }
    }

    /// Reserves the connection's places, here or on a less loaded shard, before any operation, byte or decision.
    fn take_in(&mut self, Arrived { listener: id, socket, at }: Arrived) {
        let Some(listening) = self.listeners.get(&id) else { return };
        let door = listening.door.clone();
        let better = if listening.closing == Closing::No {
            self.shard_load.less_loaded_than(self.index)
        } else {
            None
        };
        let Some(process) = self.process.reserve() else {
            sys::reset(socket.as_fd());
            let series = self.series(&door, None, None);
            return Record::open(series).end(Reason::LimitProcess);
        };
        let on_shard = self.shard_load.add(better.unwrap_or(self.index));
        let accepted = Accepted { socket, accepted: at, process, on_shard };
        let Some(shard) = better else { return self.admit(door, accepted) };
        match self.peers[shard].send(Message::Socket(HandedOver { listener: id, door, accepted })) {
            Ok(()) => self.counters.handed_over.add(1),
            // Its mailbox is full: the socket stays here.
            Err(Message::Socket(HandedOver { door, mut accepted, .. })) => {
                accepted.on_shard = self.shard_load.add(self.index);
                self.admit(door, accepted);
            }
            Err(_) => unreachable!("a mailbox gives back what it was sent"),
        }
    }

    /// A socket that another shard accepted. It never moves twice.
    pub(crate) fn receive_socket(&mut self, handed: HandedOver) {
        // A table is not handed to all shards in the same moment: this one may not know the listener yet, or no more.
        let door = match self.listeners.get(&handed.listener) {
            Some(own) => {
                let own = own.door.clone();
                self.retire(handed.door.in_force);
                own
            }
            None => handed.door,
        };
        self.admit(door, handed.accepted);
    }

    /// Match, draw, limits; then the session begins to dial.
    fn admit(&mut self, door: Door, accepted: Accepted) {
        self.admit_through(&door, accepted);
        self.retire(door.in_force);
    }

    fn admit_through(&mut self, door: &Door, accepted: Accepted) {
        let in_force = &door.in_force;
        let Ok((source, destination)) = addresses(door, &accepted.socket) else {
            // It was reset while it waited to be accepted.
            return Record::open(self.series(door, None, None)).end(Reason::ClientGone);
        };
        let arrival = Arrival::new(door.gateway, source, destination);
        let (to, route, refusal) = match in_force.table.decide(&arrival, &FirstBytes::UNKNOWN, &mut self.rng)
        {
            Verdict::Forward { destination, route, .. } => (Some(destination), route, None),
            Verdict::Refuse { refusal, route, .. } => match refusal {
                Refusal::NoPort(destination) => (Some(destination), route, Some(Reason::NoEndpoint)),
                Refusal::NoRoute => (None, route, Some(Reason::NoRoute)),
                Refusal::Rejected => (None, route, Some(Reason::Rejected)),
            },
            // No configuration of this version has a rule that asks for first bytes.
            Verdict::Needs(_) => (None, None, Some(Reason::Internal)),
        };
        let record = Record::open(self.series(door, route, to));
        if in_force.table.workload(arrival.source.ip()).is_none() {
            record.series().unknown_sources.add(1);
        }
        let limits = to.and_then(|to| in_force.reserve(to));
        match (to, refusal, limits) {
            (Some(to), None, Some(limits)) => {
                let dial = Dial::new(Arc::clone(in_force), to, &arrival, accepted.accepted);
                let policy = in_force.table.policy(to);
                // What it did not inherit. It fails only for a socket that is dead, which its poll tells.
                if policy.keepalive != Some(INHERITED_KEEPALIVE) {
                    let _ = sys::set_keepalive(accepted.socket.as_fd(), policy.keepalive);
                }
                let _ = sys::set_user_timeout(accepted.socket.as_fd(), policy.user_timeout);
                self.open(accepted, dial, record, limits);
            }
            (_, refusal, _) => {
                sys::reset(accepted.socket.as_fd());
                record.end(refusal.unwrap_or(Reason::LimitService));
            }
        }
    }

    fn open(&mut self, accepted: Accepted, dial: Dial, record: Record, limits: [Option<Reservation>; 2]) {
        self.last_generation = (self.last_generation + 1) % GENERATIONS;
        let Accepted { socket, process, on_shard, .. } = accepted;
        let session = Session::new(self.last_generation, socket, dial, record, limits, [process, on_shard]);
        let slot = self.sessions.insert(session) as u32;
        let session = &mut self.sessions[slot as usize];
        let tag = Tag::poll(Side::Client, slot, session.generation);
        self.ring.poll(session.client.as_fd(), tag.0);
        session.in_flight.client_poll = true;
        self.attempt(slot);
    }

    /// The counters of connections that took this way, by ids.
    fn series(
        &mut self,
        door: &Door,
        route: Option<RouteId>,
        destination: Option<DestinationId>,
    ) -> Arc<Series> {
        self.ledger.series(&door.in_force.labels, Way { gateway: door.gateway, route, destination })
    }

    /// Takes over the listeners of a new table: those that stay learn their gateway, new ones are opened, the others close.
    pub(crate) fn take_listeners(
        &mut self,
        in_force: &Arc<InForce>,
        gateways: &HashMap<ListenerId, GatewayId>,
        opened: Vec<(ListenerId, SocketAddr, Arc<OwnedFd>)>,
    ) {
        let ids: Vec<ListenerId> = self.listeners.keys().copied().collect();
        for id in ids {
            match (gateways.get(&id), self.listeners.get_mut(&id)) {
                (Some(&gateway), Some(listening)) => {
                    listening.door.gateway = gateway;
                    let old = std::mem::replace(&mut listening.door.in_force, Arc::clone(in_force));
                    self.retire(old);
                }
                _ => self.close_listener(id),
            }
        }
        for (id, address, socket) in opened {
            let Some(&gateway) = gateways.get(&id) else { continue };
            let door = Door { address, gateway, in_force: Arc::clone(in_force) };
            self.listeners.insert(id, Listening { socket, door, is_armed: false, closing: Closing::No });
            // While accepting rests, the end of the pause arms it.
            if self.accept_again.is_none() {
                self.arm(id);
            }
        }
    }

    fn arm(&mut self, id: ListenerId) {
        if let Some(listening) = self.listeners.get_mut(&id) {
            self.ring.accept(listening.socket.as_fd(), Tag::accept(id).0);
            listening.is_armed = true;
        }
    }

    /// Descriptors ran out, or something else that time mends: accepting rests. An armed accept would take the next descriptor
    /// that comes free, and keeps the limit under which it was armed.
    pub(crate) fn pause_accepting(&mut self) {
        let is_resting = self.accept_again.replace(self.now.after(ACCEPT_PAUSE)).is_some();
        if is_resting {
            return;
        }
        for (&id, _) in self.listeners.iter().filter(|(_, it)| it.is_armed && it.closing == Closing::No) {
            self.ring.cancel_accept(Tag::accept(id).0, Tag::IGNORED.0);
        }
    }

    pub(crate) fn accept_after_pause(&mut self) {
        if self.accept_again.is_some_and(|at| at <= self.now) {
            self.accept_again = None;
            let resting =
                self.listeners.iter().filter(|(_, it)| !it.is_armed && it.closing != Closing::Cancelled);
            let ids: Vec<ListenerId> = resting.map(|(&id, _)| id).collect();
            ids.into_iter().for_each(|id| self.arm(id));
        }
    }

    pub(crate) fn close_all_listeners(&mut self) {
        let ids: Vec<ListenerId> = self.listeners.keys().copied().collect();
        ids.into_iter().for_each(|id| self.close_listener(id));
    }

    /// The first step of closing: closing at once would reset what waits in the queue.
    fn close_listener(&mut self, id: ListenerId) {
        let at = self.now.after(HANDSHAKES_END);
        if let Some(listening) =
            self.listeners.get_mut(&id).filter(|listening| listening.closing == Closing::No)
        {
            listening.closing = Closing::At(at);
            self.listeners_close = earlier(self.listeners_close, Some(at));
        }
    }

    pub(crate) fn close_emptied_listeners(&mut self) {
        if self.listeners_close.is_none_or(|at| self.now < at) {
            return;
        }
        self.listeners_close = None;
        let ids: Vec<ListenerId> = self.listeners.keys().copied().collect();
        for id in ids {
            let Some(listening) = self.listeners.get_mut(&id) else { continue };
            let Closing::At(at) = listening.closing else { continue };
            if at > self.now {
                self.listeners_close = earlier(self.listeners_close, Some(at));
            } else if listening.is_armed {
                listening.closing = Closing::Cancelled;
                self.ring.cancel_accept(Tag::accept(id).0, Tag::IGNORED.0);
            } else {
                self.empty_and_close(id);
            }
        }
    }

    /// Serves what still waits for a listener that gets no new SYNs, and closes it. What a turn has no room for is served in the
    /// next one, and out of descriptors the rest is served later.
    fn empty_and_close(&mut self, id: ListenerId) {
        use rustix::net::{SocketFlags, accept_with};
        for _ in 0..ACCEPTS_A_TURN {
            // First what has been accepted already.
            let at = self.arrived.iter().position(|arrived| arrived.listener == id);
            if let Some(arrived) = at.and_then(|at| self.arrived.remove(at)) {
                self.take_in(arrived);
                continue;
            }
            let Some(listening) = self.listeners.get_mut(&id) else { return };
            let _ = rustix::io::ioctl_fionbio(&listening.socket, true);
            match accept_with(&listening.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => self.take_in(Arrived { listener: id, socket, at: self.now }),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                    return self.empty_at(id, self.now.after(ACCEPT_PAUSE));
                }
                Err(_) => {
                    if let Some(listening) = self.listeners.remove(&id) {
                        self.retire(listening.door.in_force);
                    }
                    return;
                }
            }
        }
        self.empty_at(id, self.now);
    }

    /// A closing listener is emptied then.
    fn empty_at(&mut self, id: ListenerId, at: Millis) {
        if let Some(listening) = self.listeners.get_mut(&id) {
            listening.closing = Closing::At(at);
            self.listeners_close = earlier(self.listeners_close, Some(at));
        }
    }
}

/// The client and the original destination. On a listener with an address of its own that is the destination, without a call.
fn addresses(door: &Door, socket: &OwnedFd) -> std::io::Result<(SocketAddr, SocketAddr)> {
    let source = sys::peer(socket.as_fd())?;
    let must_ask = door.address.ip().is_unspecified() && door.in_force.wants_destination;
    let destination = if must_ask { sys::local(socket.as_fd())? } else { door.address };
    Ok((source, destination))
}
