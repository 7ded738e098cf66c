//! A session on its shard: its two sockets, what the ring still holds of them, and its one way out.
//!
//! A slot and its descriptors are reused only when no operation is in flight: an armed poll holds the socket, so `close` alone
//! would send neither FIN nor reset.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::boards::counters::Series;
use crate::boards::health::EndpointUse;
use crate::boards::limits::Reservation;
use crate::dial::Dial;
use crate::os::sys;
use crate::outcome::Record;
use crate::reason::Reason;
use crate::relay::{Relay, Side};
use crate::shard::{Shard, Tag};

/// A client's connection and what became of it.
pub struct Session {
    /// Tells this life of the slot from earlier ones.
    pub generation: u32,
    /// The accepted socket.
    pub client: OwnedFd,
    /// The socket that is dialled or relayed to.
    pub upstream: Option<OwnedFd>,
    /// What the ring holds.
    pub in_flight: InFlight,
    /// It is on the list of sessions to be stepped.
    pub is_queued: bool,
    /// How far it has come.
    pub stage: Stage,
    /// Its counters.
    pub series: Arc<Series>,
    /// Consumed by its end.
    pub record: Option<Record>,
    /// Its count at the endpoint.
    pub endpoint: Option<EndpointUse>,
    /// Its places under the limits of service and subset, until its descriptors are closed.
    _limits: [Option<Reservation>; 2],
    /// Its places in the process and on the shard, until its descriptors are closed.
    _places: [Reservation; 2],
}

/// Operations whose last completion has not come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// The poll of the client's socket.
    pub client_poll: bool,
    /// The poll of the upstream's socket.
    pub upstream_poll: bool,
    /// The connect.
    pub connect: bool,
}

/// How far a session has come.
pub enum Stage {
    /// Connecting to an endpoint, or waiting to try again.
    Dialling(Dial),
    /// Moving bytes.
    Relaying(Relay),
    /// Recorded; its descriptors wait for last completions.
    Ended,
}

impl Stage {
    /// For messages about defects.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dialling(_) => "dialling",
            Self::Relaying(_) => "relaying",
            Self::Ended => "ended",
        }
    }
}

impl Session {
    /// A session that dials.
    pub fn new(
        generation: u32,
        client: OwnedFd,
        dial: Dial,
        record: Record,
        limits: [Option<Reservation>; 2],
        places: [Reservation; 2],
    ) -> Self {
        Self {
            generation,
            client,
            upstream: None,
            in_flight: InFlight::default(),
            is_queued: false,
            stage: Stage::Dialling(dial),
            series: Arc::clone(record.series()),
            record: Some(record),
            endpoint: None,
            _limits: limits,
            _places: places,
        }
    }

    /// Whether the upstream's socket, which was connected to this address, was given the very same one.
    pub fn has_met_itself(&self, address: SocketAddr) -> bool {
        self.upstream
            .as_ref()
            .is_some_and(|socket| sys::local(socket.as_fd()).is_ok_and(|own| own == address))
    }
}

impl Shard {
    /// Ends a session: recorded now, closed when the ring has let go of its sockets. What the legs were to be told, FIN or
    /// reset, has been told.
    pub fn end(&mut self, slot: u32, reason: Reason) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        self.wheel.clear(slot);
        let stage = std::mem::replace(&mut session.stage, Stage::Ended);
        if let Stage::Dialling(dial) = stage {
            dial.abandon(self.now);
            self.retire(dial.in_force);
        }
        let session = &mut self.sessions[slot as usize];
        if let Some(record) = session.record.take() {
            record.end(reason);
        }
        let (generation, in_flight) = (session.generation, session.in_flight);
        for (held, target) in [
            (in_flight.client_poll, Tag::poll(Side::Client, slot, generation)),
            (in_flight.upstream_poll, Tag::poll(Side::Upstream, slot, generation)),
            (in_flight.connect, Tag::connect(slot, generation)),
        ] {
            if held {
                self.ring.cancel(target.0, Tag::IGNORED.0);
            }
        }
        self.release(slot);
    }

    /// Closes the descriptors and frees the slot of an ended session, if the ring holds nothing of it.
    pub fn release(&mut self, slot: u32) {
        let session = &self.sessions[slot as usize];
        if matches!(session.stage, Stage::Ended) && session.in_flight == InFlight::default() {
            self.sessions.remove(slot as usize);
        }
    }

    /// Resets the client, and the upstream if there is one, and ends the session.
    pub fn refuse(&mut self, slot: u32, reason: Reason) {
        let session = &self.sessions[slot as usize];
        sys::reset(session.client.as_fd());
        // While the ring connects, a reset could begin the connect anew: `connected` does it.
        if let Some(upstream) = session.upstream.as_ref().filter(|_| !session.in_flight.connect) {
            sys::reset(upstream.as_fd());
        }
        self.end(slot, reason);
    }
}
