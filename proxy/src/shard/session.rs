//! A session on its shard: its two sockets, the requests that the ring still holds of them, and its stage.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weir_routing::{Arrival, DestinationId, EndpointId, Policy, dialled};

use crate::boards::health::EndpointUse;
use crate::boards::in_force::{InForce, Leads};
use crate::boards::limits::{GatewayPlaces, Reservation};
use crate::clock::Millis;
use crate::dial::Dial;
use crate::outcome::Record;
use crate::relay::Relay;

/// A client's connection and its way to an upstream.
pub(crate) struct Session<Socket> {
    /// Distinguishes this session from earlier ones in the same slot.
    pub(super) generation: u32,
    /// The accepted socket.
    pub(super) client: Socket,
    /// The socket that is dialled or relayed to.
    pub(super) upstream: Option<Socket>,
    /// The requests that the ring holds.
    pub(super) in_flight: InFlight,
    /// It is on the list of sessions to be stepped.
    pub(super) is_queued: bool,
    /// How far it has come.
    pub(super) stage: Stage,
    /// Its counters, until its end.
    pub(super) record: Record,
    /// Its count at the endpoint.
    pub(super) endpoint: Option<EndpointUse>,
    /// Its places under limits, held until its descriptors are closed.
    _places: Places,
}

/// A connection's places under the limits that it counts against. Dropping them gives them back.
#[derive(Debug)]
pub(crate) struct Places {
    _process: Reservation,
    _gateway: GatewayPlaces,
    _shard: Reservation,
    _destination: [Option<Reservation>; 2],
}

impl Places {
    /// Its places in the process, at its gateway, in its shard's load, and under the limits of the service and the subset.
    pub(crate) fn new(
        process: Reservation,
        gateway: GatewayPlaces,
        shard: Reservation,
        destination: [Option<Reservation>; 2],
    ) -> Self {
        Self { _process: process, _gateway: gateway, _shard: shard, _destination: destination }
    }
}

/// Requests whose last completion has not come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InFlight {
    /// The poll of the client's socket.
    pub(super) client_poll: bool,
    /// The poll of the upstream's socket.
    pub(super) upstream_poll: bool,
    /// The connect.
    pub(super) connect: bool,
}

/// How far a session has come. It only moves downwards.
pub(super) enum Stage {
    /// Connecting to an endpoint, or waiting to try again.
    Dialling(Dialling),
    /// Moving bytes.
    Relaying(Relay),
    /// Recorded; its descriptors wait for last completions.
    Ended,
}

impl Stage {
    /// For messages about defects.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Dialling(_) => "dialling",
            Self::Relaying(_) => "relaying",
            Self::Ended => "ended",
        }
    }
}

/// A dial, and what it was decided by. It holds that table, so that every attempt stays inside the one decision; it ends within
/// `connect_deadline`, so it does not hold the table for long.
pub(crate) struct Dialling {
    pub(super) dial: Dial,
    pub(super) in_force: Arc<InForce>,
    pub(super) destination: DestinationId,
    pub(super) source: IpAddr,
    pub(super) accepted: Millis,
    /// The port that the client dialled.
    client_port: u16,
    /// The client's poll reported a hang-up: nothing but what waits in its socket will come.
    pub(super) client_hung_up: bool,
}

impl Dialling {
    /// A dial that has not begun.
    pub(crate) fn new(
        in_force: Arc<InForce>,
        destination: DestinationId,
        arrival: &Arrival,
        accepted: Millis,
    ) -> Self {
        let policy = in_force.table.policy(destination);
        Self {
            dial: Dial::new(policy.connect_attempts, &policy.timeouts, accepted),
            destination,
            source: arrival.source.ip(),
            client_port: arrival.destination.port(),
            accepted,
            client_hung_up: false,
            in_force,
        }
    }

    /// The policy of the destination.
    pub(super) fn policy(&self) -> &Policy {
        self.in_force.table.policy(self.destination)
    }

    /// The address that is dialled at an endpoint.
    pub(super) fn address(&self, endpoint: EndpointId) -> SocketAddr {
        dialled(self.in_force.table.address(endpoint), self.client_port)
    }

    /// Where that leads to.
    pub(super) fn leads(&self, endpoint: EndpointId) -> Leads {
        self.in_force.leads(endpoint, self.client_port)
    }
}

impl<Socket> Session<Socket> {
    /// A session that dials.
    pub(super) fn new(
        generation: u32,
        client: Socket,
        dialling: Dialling,
        record: Record,
        places: Places,
    ) -> Self {
        Self {
            generation,
            client,
            upstream: None,
            in_flight: InFlight::default(),
            is_queued: false,
            stage: Stage::Dialling(dialling),
            record,
            endpoint: None,
            _places: places,
        }
    }

    /// Whether it has ended and the ring holds nothing of it: only then may its descriptors be closed and its slot be reused.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Ended) && self.in_flight == InFlight::default()
    }
}
