//! Accepting (step 4 of the walk) and what follows at once: hand-over to a less loaded shard, or match, draw and first dial.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use weir_routing::{Arrival, GatewayId, Via};

use crate::clock::{Millis, earlier};
use crate::dial::Dial;
use crate::in_force::{Drawn, InForce};
use crate::limits::Reservation;
use crate::listener::INHERITED_KEEPALIVE;
use crate::mailbox::{HandedOver, ListenerId, Message};
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

/// This shard's socket of a listener.
pub struct Listening {
    id: ListenerId,
    address: SocketAddr,
    socket: OwnedFd,
    gateway: GatewayId,
    /// What its connections are decided by: the table in force, or, while it closes, the last one that knew it.
    in_force: Arc<InForce>,
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
pub struct Accepted {
    socket: OwnedFd,
    accepted: Millis,
    process: Reservation,
    seat: Reservation,
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
                if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) {
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
        let Some(process) = self.process.reserve() else {
            let series = self.series(&Arc::clone(&listening.in_force), listening.gateway, None, None);
            sys::reset(socket.as_fd());
            return Record::open(series).end(Reason::LimitProcess);
        };
        let accepted = self.now;
        let better = if listening.closing == Closing::No { self.seats.better_than(self.index) } else { None };
        let Some(shard) = better else {
            let seat = self.seats.take(self.index);
            return self.admit(index, Accepted { socket, accepted, process, seat });
        };
        let seat = self.seats.take(shard);
        let handed = HandedOver { socket, listener: listening.id, accepted, process, seat };
        match self.peers[shard].send(Message::Socket(handed)) {
            Ok(()) => self.counters.handed_over.add(1),
            // Its mailbox is full: it stays here.
            Err(Message::Socket(HandedOver { socket, process, .. })) => {
                let seat = self.seats.take(self.index);
                self.admit(index, Accepted { socket, accepted, process, seat });
            }
            Err(_) => unreachable!("a mailbox gives back what it was sent"),
        }
    }

    /// A socket that another shard accepted. It never moves twice.
    pub(crate) fn receive_socket(&mut self, handed: HandedOver) {
        let HandedOver { socket, listener, accepted, process, seat } = handed;
        match self.listeners.iter().position(|listening| listening.id == listener) {
            Some(index) => self.admit(index, Accepted { socket, accepted, process, seat }),
            // The listener went away meanwhile, and its gateway may have, too.
            None => sys::reset(socket.as_fd()),
        }
    }

    /// Match, draw, limits; then the session begins to dial.
    fn admit(&mut self, index: usize, accepted: Accepted) {
        let in_force = Arc::clone(&self.listeners[index].in_force);
        self.admit_by(&in_force, index, accepted);
        self.retire(in_force);
    }

    fn admit_by(&mut self, in_force: &Arc<InForce>, index: usize, accepted: Accepted) {
        let gateway = self.listeners[index].gateway;
        let Ok((source, destination)) = self.addresses(index, &accepted.socket) else {
            // It was reset while it waited to be accepted.
            return Record::open(self.series(in_force, gateway, None, None)).end(Reason::ClientGone);
        };
        let arrival = Arrival::new(gateway, source, destination);
        if in_force.table.workload(arrival.source.ip()).is_none() {
            self.unknown_sources[gateway.index().min(self.unknown_sources.len() - 1)].add(1);
        }
        let decision = in_force.table.decide(&arrival);
        let drawn = in_force.draw(decision.action, &arrival, &mut self.rng);
        let (to, refusal) = match drawn {
            Drawn::Destination(destination) => (Some(destination), None),
            Drawn::NoPort(destination) => (Some(destination), Some(Reason::NoEndpoint)),
            Drawn::Reject if decision.via == Via::Unmatched => (None, Some(Reason::NoRoute)),
            Drawn::Reject => (None, Some(Reason::Rejected)),
        };
        let record = Record::open(self.series(in_force, gateway, decision.route.map(|route| route.0), to.map(|to| to.0)));
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

    /// The client and the original destination. On a listener with an address of its own that is the destination, without a call.
    fn addresses(&self, index: usize, socket: &OwnedFd) -> std::io::Result<(SocketAddr, SocketAddr)> {
        let listening = &self.listeners[index];
        let source = sys::peer(socket.as_fd())?;
        let must_ask = listening.address.ip().is_unspecified() && listening.in_force.wants_destination;
        let destination = if must_ask { sys::local(socket.as_fd())? } else { listening.address };
        Ok((source, destination))
    }

    /// The counters of connections that came in and went there, looked up once a table.
    fn series(&mut self, in_force: &Arc<InForce>, gateway: GatewayId, route: Option<u32>, destination: Option<u32>) -> Arc<Series> {
        let is_current = self.in_force.as_ref().is_some_and(|current| Arc::ptr_eq(current, in_force));
        let make = || {
            let key = in_force.series_key(gateway, route.map(weir_routing::RouteId), destination.map(weir_routing::DestinationId));
            self.counters.series(key)
        };
        if !is_current {
            return make();
        }
        let key = (gateway.0, route.unwrap_or(u32::MAX), destination.unwrap_or(u32::MAX));
        Arc::clone(self.series.entry(key).or_insert_with(make))
    }

    /// Takes over the listeners of a new table: those that stay learn their gateway, new ones are opened, the others close.
    pub(crate) fn take_listeners(
        &mut self,
        in_force: &Arc<InForce>,
        gateways: &[(ListenerId, GatewayId)],
        opened: Vec<(ListenerId, SocketAddr, OwnedFd)>,
    ) {
        let gateway_of = |id: ListenerId| gateways.iter().find(|&&(listener, _)| listener == id).map(|&(_, gateway)| gateway);
        for index in 0..self.listeners.len() {
            match gateway_of(self.listeners[index].id) {
                Some(gateway) => {
                    self.listeners[index].gateway = gateway;
                    let old = std::mem::replace(&mut self.listeners[index].in_force, Arc::clone(in_force));
                    self.retire(old);
                }
                None => self.close_listener(index),
            }
        }
        for (id, address, socket) in opened {
            let Some(gateway) = gateway_of(id) else { continue };
            let in_force = Arc::clone(in_force);
            self.listeners.push(Listening { id, address, socket, gateway, in_force, is_armed: false, closing: Closing::No });
            self.arm(self.listeners.len() - 1);
        }
    }

    fn arm(&mut self, index: usize) {
        let listening = &mut self.listeners[index];
        self.ring.accept(listening.socket.as_fd(), Tag::accept(listening.id).0).expect("the ring takes submissions");
        listening.is_armed = true;
    }

    /// Descriptors ran out: accepting rests. An armed accept would take the next one that comes free, and keeps the limit
    /// under which it was armed.
    pub(crate) fn pause_accepting(&mut self) {
        self.accept_again = Some(self.now.after(ACCEPT_PAUSE));
        for listening in self.listeners.iter().filter(|listening| listening.is_armed && listening.closing == Closing::No) {
            self.ring.cancel(Tag::accept(listening.id).0, Tag::IGNORED.0).expect("the ring takes submissions");
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
                    self.ring.cancel(Tag::accept(listening.id).0, Tag::IGNORED.0).expect("the ring takes submissions");
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
        while let Ok(socket) = accept_with(&self.listeners[index].socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            self.take_in(index, socket);
        }
        let listening = self.listeners.swap_remove(index);
        self.retire(listening.in_force);
    }
}
