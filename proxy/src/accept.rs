//! Accepting (step 4 of the walk) and what follows at once: hand-over to a less loaded shard, or match, draw and first dial.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use weir_routing::{Arrival, DestinationId, GatewayId, RouteId, Via};

use crate::clock::{Millis, earlier};
use crate::dial::Dial;
use crate::in_force::{Drawn, InForce};
use crate::limits::Reservation;
use crate::listener::INHERITED_KEEPALIVE;
use crate::mailbox::{ListenerId, Message};
use crate::metrics::Series;
use crate::outcome::{Reason, Record};
use crate::relay::Side;
use crate::ring::Completion;
use crate::session::Session;
use crate::shard::{GENERATIONS, Shard, Tag};
use crate::sys;

/// Descriptors that ran out are asked for again after this long: never at once, for nothing tells when there are some again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A listener that goes away hears no new SYN and goes on this long for handshakes under way.
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
    id: ListenerId,
    socket: OwnedFd,
    door: Door,
    is_armed: bool,
    closing: Closing,
}

/// How far a listener's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// New handshakes are refused; it is emptied at this time.
    At(Millis),
    /// The accept was cancelled; its last completion closes the socket.
    Cancelled,
}

/// A socket that was accepted, with its places.
#[derive(Debug)]
pub struct Accepted {
    socket: OwnedFd,
    accepted: Millis,
    process: Reservation,
    seat: Reservation,
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
        let Some(index) = self.listeners.iter().position(|listening| listening.id == id) else {
            self.counters.stale_completions.add(1);
            return;
        };
        self.listeners[index].is_armed = completion.more();
        match completion.into_accepted() {
            Ok(socket) => self.take_in(index, socket),
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => {}
            Err(error) => {
                self.counters.accept_failed(&error);
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
                ) {
                    self.pause_accepting();
                }
            }
        }
        if !self.listeners[index].is_armed {
            match self.listeners[index].closing {
                Closing::Cancelled => self.empty_and_close(index),
                _ if self.accept_again.is_none() => self.arm(index),
                _ => {}
            }
        }
    }

    /// Reserves the connection's places, here or on a less loaded shard, before any operation, byte or decision.
    fn take_in(&mut self, index: usize, socket: OwnedFd) {
        let listening = &self.listeners[index];
        let (id, door) = (listening.id, listening.door.clone());
        let better = if listening.closing == Closing::No { self.seats.better_than(self.index) } else { None };
        let Some(process) = self.process.reserve() else {
            sys::reset(socket.as_fd());
            let series = self.series(&door, None, None);
            return Record::open(series).end(Reason::LimitProcess);
        };
        let seat = self.seats.take(better.unwrap_or(self.index));
        let accepted = Accepted { socket, accepted: self.now, process, seat };
        let Some(shard) = better else { return self.admit(door, accepted) };
        match self.peers[shard].send(Message::Socket(HandedOver { listener: id, door, accepted })) {
            Ok(()) => self.counters.handed_over.add(1),
            // Its mailbox is full: the socket stays here.
            Err(Message::Socket(HandedOver { door, mut accepted, .. })) => {
                accepted.seat = self.seats.take(self.index);
                self.admit(door, accepted);
            }
            Err(_) => unreachable!("a mailbox gives back what it was sent"),
        }
    }

    /// A socket that another shard accepted. It never moves twice.
    pub(crate) fn receive_socket(&mut self, handed: HandedOver) {
        let own = self
            .listeners
            .iter()
            .find(|listening| listening.id == handed.listener)
            .map(|listening| listening.door.clone());
        // A table is not handed to all shards in the same moment: this one may not know the listener yet, or no more.
        let door = match own {
            Some(own) => {
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
        if in_force.table.workload(arrival.source.ip()).is_none() {
            self.unknown_source(door);
        }
        let decision = in_force.table.decide(&arrival);
        let (to, refusal) = match in_force.draw(decision.action, &arrival, &mut self.rng) {
            Drawn::Destination(destination) => (Some(destination), None),
            Drawn::NoPort(destination) => (Some(destination), Some(Reason::NoEndpoint)),
            Drawn::Reject if decision.via == Via::Unmatched => (None, Some(Reason::NoRoute)),
            Drawn::Reject => (None, Some(Reason::Rejected)),
        };
        let record = Record::open(self.series(door, decision.route, to));
        let limits = to.and_then(|to| in_force.reserve(to));
        match (to, refusal, limits) {
            (Some(to), None, Some(limits)) => {
                let dial = Dial::new(Arc::clone(in_force), to, arrival.source.ip(), accepted.accepted);
                let policy = &in_force.table.destinations[to.index()].policy;
                if policy.keepalive != Some(INHERITED_KEEPALIVE) || policy.user_timeout.is_some() {
                    // It fails only for a socket that is dead, which its poll tells.
                    let _ = sys::set_options(accepted.socket.as_fd(), policy.keepalive, policy.user_timeout);
                }
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
        let Accepted { socket, process, seat, .. } = accepted;
        let session = Session::new(self.last_generation, socket, dial, record, limits, [process, seat]);
        let slot = self.sessions.insert(session) as u32;
        let session = &mut self.sessions[slot as usize];
        let tag = Tag::poll(Side::Client, slot, session.generation);
        self.ring.poll(session.client.as_fd(), tag.0).expect("the ring takes submissions");
        session.in_flight.client_poll = true;
        self.attempt(slot);
    }

    /// The counters of connections that came in and went there; by name once a table, then by id.
    fn series(
        &mut self,
        door: &Door,
        route: Option<RouteId>,
        destination: Option<DestinationId>,
    ) -> Arc<Series> {
        let make = || self.counters.series(door.in_force.series_key(door.gateway, route, destination));
        if !self.is_current(&door.in_force) {
            return make();
        }
        Arc::clone(self.series.entry((door.gateway, route, destination)).or_insert_with(make))
    }

    fn unknown_source(&self, door: &Door) {
        if self.is_current(&door.in_force) {
            self.unknown_sources[door.gateway.index()].add(1);
        } else {
            self.counters.unknown_sources(&door.in_force.table.gateways[door.gateway.index()].name).add(1);
        }
    }

    /// Whether ids of this table are those that this shard keeps counters by.
    fn is_current(&self, in_force: &Arc<InForce>) -> bool {
        self.in_force.as_ref().is_some_and(|current| current.generation == in_force.generation)
    }

    /// Takes over the listeners of a new table: those that stay learn their gateway, new ones are opened, the others close.
    pub(crate) fn take_listeners(
        &mut self,
        in_force: &Arc<InForce>,
        gateways: &[(ListenerId, GatewayId)],
        opened: Vec<(ListenerId, SocketAddr, OwnedFd)>,
    ) {
        let gateway_of = |id: ListenerId| {
            gateways.iter().find(|&&(listener, _)| listener == id).map(|&(_, gateway)| gateway)
        };
        for index in 0..self.listeners.len() {
            match gateway_of(self.listeners[index].id) {
                Some(gateway) => {
                    let door = &mut self.listeners[index].door;
                    door.gateway = gateway;
                    let old = std::mem::replace(&mut door.in_force, Arc::clone(in_force));
                    self.retire(old);
                }
                None => self.close_listener(index),
            }
        }
        for (id, address, socket) in opened {
            let Some(gateway) = gateway_of(id) else { continue };
            let door = Door { address, gateway, in_force: Arc::clone(in_force) };
            self.listeners.push(Listening { id, socket, door, is_armed: false, closing: Closing::No });
            self.arm(self.listeners.len() - 1);
        }
    }

    fn arm(&mut self, index: usize) {
        let listening = &mut self.listeners[index];
        self.ring
            .accept(listening.socket.as_fd(), Tag::accept(listening.id).0)
            .expect("the ring takes submissions");
        listening.is_armed = true;
    }

    /// Descriptors ran out: accepting rests. An armed accept would take the next one that comes free, and keeps the limit
    /// under which it was armed.
    pub(crate) fn pause_accepting(&mut self) {
        self.accept_again = Some(self.now.after(ACCEPT_PAUSE));
        for listening in
            self.listeners.iter().filter(|listening| listening.is_armed && listening.closing == Closing::No)
        {
            self.ring
                .cancel(Tag::accept(listening.id).0, Tag::IGNORED.0)
                .expect("the ring takes submissions");
        }
    }

    pub(crate) fn accept_after_pause(&mut self) {
        if self.accept_again.is_some_and(|at| at <= self.now) {
            self.accept_again = None;
            for index in 0..self.listeners.len() {
                if !self.listeners[index].is_armed && self.listeners[index].closing != Closing::Cancelled {
                    self.arm(index);
                }
            }
        }
    }

    /// The first step of closing: closing at once would reset what waits in the queue.
    pub(crate) fn close_listener(&mut self, index: usize) {
        let listening = &mut self.listeners[index];
        if listening.closing == Closing::No {
            // Without the filter some clients of the last moment are reset, as everywhere else.
            let _ = sys::refuse_new_handshakes(listening.socket.as_fd());
            listening.closing = Closing::At(self.now.after(HANDSHAKES_END));
        }
    }

    /// When the next listener that is going away is to be emptied.
    pub(crate) fn listeners_alarm(&self) -> Option<Millis> {
        self.listeners
            .iter()
            .map(|listening| match listening.closing {
                Closing::At(at) => Some(at),
                Closing::No | Closing::Cancelled => None,
            })
            .fold(None, earlier)
    }

    pub(crate) fn close_emptied_listeners(&mut self) {
        for index in (0..self.listeners.len()).rev() {
            let listening = &mut self.listeners[index];
            if matches!(listening.closing, Closing::At(at) if at <= self.now) {
                listening.closing = Closing::Cancelled;
                if listening.is_armed {
                    self.ring
                        .cancel(Tag::accept(listening.id).0, Tag::IGNORED.0)
                        .expect("the ring takes submissions");
                } else {
                    self.empty_and_close(index);
                }
            }
        }
    }

    /// Serves what still waits in the queue of a listener that hears no more, and closes it.
    fn empty_and_close(&mut self, index: usize) {
        use rustix::net::{SocketFlags, accept_with};
        let _ = rustix::io::ioctl_fionbio(&self.listeners[index].socket, true);
        while let Ok(socket) =
            accept_with(&self.listeners[index].socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
        {
            self.take_in(index, socket);
        }
        let listening = self.listeners.swap_remove(index);
        self.retire(listening.door.in_force);
    }
}

/// The client and the original destination. On a listener with an address of its own that is the destination, without a call.
fn addresses(door: &Door, socket: &OwnedFd) -> std::io::Result<(SocketAddr, SocketAddr)> {
    let source = sys::peer(socket.as_fd())?;
    let must_ask = door.address.ip().is_unspecified() && door.in_force.wants_destination;
    let destination = if must_ask { sys::local(socket.as_fd())? } else { door.address };
    Ok((source, destination))
}
