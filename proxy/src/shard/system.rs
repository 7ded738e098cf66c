//! The system as a shard's sessions use it: requests to the ring, and calls on sockets. The program's own is
//! [`super::live::Live`]; the simulation has another, so that it drives the very code that serves connections.

use std::io;
use std::net::SocketAddr;

use weir_routing::Policy;

use crate::boards::counters::Series;
use crate::clock::Millis;
use crate::os::ring::{Request, SlotId, Watched};
use crate::relay::Kernel;

/// The system, as the sessions of a shard see it.
pub(crate) trait System {
    /// A socket; dropping it closes it.
    type Socket;

    /// The calls of one session's relay.
    type Calls<'a>: Kernel
    where
        Self: 'a;

    /// Makes a socket to connect to this address, with the options of the policy.
    fn open_upstream(&mut self, address: SocketAddr, policy: &Policy) -> io::Result<Self::Socket>;

    /// Asks the ring to connect. One completion follows, also where it is cancelled.
    fn connect(&mut self, socket: &Self::Socket, address: SocketAddr, slot: SlotId);

    /// Asks the ring to report readiness until it is cancelled; arming reports the present state.
    fn poll(&mut self, socket: &Self::Socket, watched: Watched);

    /// Asks the ring to end a request. The request's own last completion follows.
    fn cancel(&mut self, request: Request);

    /// Prepares a socket that has connected for being relayed.
    fn begin_relaying(&mut self, socket: &Self::Socket) -> io::Result<()>;

    /// Resets a connection at once.
    fn reset(&mut self, socket: &Self::Socket);

    /// The address of this end of a connected socket.
    fn local(&self, socket: &Self::Socket) -> io::Result<SocketAddr>;

    /// Whether this host has an address from which it could dial another one.
    fn has_source_address(&self, to: SocketAddr) -> bool;

    /// The calls of a session over these two sockets, whose bytes are counted in `series`.
    fn calls<'a>(
        &'a mut self,
        client: &'a Self::Socket,
        upstream: &'a Self::Socket,
        series: &'a Series,
        now: Millis,
    ) -> Self::Calls<'a>;
}
