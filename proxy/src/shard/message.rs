//! Messages to a shard: tables and orders from the control thread, sockets from other shards.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use weir_routing::GatewayId;

use crate::boards::in_force::InForce;
use crate::boards::limits::{GatewayPlaces, Reservation};
use crate::clock::Millis;
use crate::listener::ListenerId;
use crate::os::sys;

/// A message to a shard.
#[derive(Debug)]
pub(crate) enum Message {
    /// Decide by this table from now on.
    InForce(Box<NewTable>),
    /// A socket that another shard accepted.
    Socket(HandedOver),
    /// Close every listener, as a reload that has none of them would: they get no new connections any more.
    CloseListeners,
    /// Reset the remaining sessions, spread over this time.
    ResetAll(Duration),
    /// Leave the loop.
    Stop,
}

/// A table with the listeners that belong to it.
#[derive(Debug)]
pub(crate) struct NewTable {
    /// The shard's own copy.
    pub(crate) in_force: Arc<InForce>,
    /// The gateway of each listener that stays or is new; the others, which get no new connections any more, are closed.
    pub(crate) listeners: Arc<HashMap<ListenerId, GatewayId>>,
    /// This shard's sockets of the new ones.
    pub(crate) opened: Vec<(ListenerId, SocketAddr, Arc<OwnedFd>)>,
    /// How long the shard spins before it sleeps.
    pub(crate) busy_poll: Duration,
}

/// A listener, as its connections are decided.
#[derive(Clone, Debug)]
pub(crate) struct ListenerContext {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Whose it is, in `in_force`.
    pub(super) gateway: GatewayId,
    /// The table in force, or, while the listener closes, the last one that knew it.
    pub(super) in_force: Arc<InForce>,
}

/// An accepted socket with its reservations.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(super) socket: OwnedFd,
    pub(super) at: Millis,
    pub(super) process: Reservation,
    pub(super) gateway: GatewayPlaces,
    pub(super) shard: Reservation,
}

/// A socket on its way to another shard: no operation, byte or decision of it has happened.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub(super) listener: ListenerId,
    pub(super) context: ListenerContext,
    pub(super) accepted: Accepted,
}

impl HandedOver {
    /// Ends it, where the process ends.
    pub(super) fn reset(&self) {
        sys::reset(self.accepted.socket.as_fd());
    }
}
