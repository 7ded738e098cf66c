//! A connection as it arrives: addresses only, known before any of its bytes is read.

use std::net::SocketAddr;

use crate::ids::GatewayId;

/// The addresses of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The gateway whose listener took it.
    pub gateway: GatewayId,
    /// The client; an IPv4-mapped IPv6 address has become IPv4.
    pub source: SocketAddr,
    /// The original destination; an IPv4-mapped IPv6 address has become IPv4.
    pub destination: SocketAddr,
}

impl Arrival {
    /// An arrival with its addresses in canonical form.
    pub fn new(gateway: GatewayId, source: SocketAddr, destination: SocketAddr) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { gateway, source: canonical(source), destination: canonical(destination) }
    }
}
