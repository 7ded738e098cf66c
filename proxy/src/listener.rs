//! Listening sockets: one lock an address for the process, one SO_REUSEPORT socket a shard.

pub mod free;
pub mod lock;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use weir_routing::Keepalive;

use self::lock::{Lock, Taken, lock};
use crate::sys;

/// Handshakes that may wait to be accepted, a shard; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What accepted sockets inherit: the built-in policy. A destination that wants something else sets it.
pub const INHERITED_KEEPALIVE: Keepalive =
    Keepalive { time: Duration::from_secs(60), interval: Duration::from_secs(15), probes: 4 };

/// An address that this process listens on.
#[derive(Debug)]
pub struct Listener {
    /// With the port that port 0 became.
    pub address: SocketAddr,
    /// Held for life.
    _lock: Lock,
}

/// Why an address could not be taken.
#[derive(Debug)]
pub struct BindError {
    /// What was to be bound.
    pub address: SocketAddr,
    /// For whom.
    pub gateway: Arc<str>,
    /// What the kernel said.
    pub error: io::Error,
    /// The Weir that holds it, if one does.
    pub holder: Option<i32>,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, gateway, error, holder } = self;
        write!(f, "gateway {gateway} cannot listen on {address}: ")?;
        match (holder, error.raw_os_error()) {
            (Some(pid), _) => {
                write!(f, "another weir, pid {pid}, listens there; stop it or take another port")
            }
            (None, Some(libc::EADDRINUSE)) => {
                write!(f, "the address is in use; `ss -ltnp 'sport = :{}'` shows by whom", address.port())
            }
            (None, Some(libc::EADDRNOTAVAIL)) => {
                write!(f, "this host does not hold the address; `ip address` lists those it holds")
            }
            (None, Some(libc::EACCES)) => {
                write!(f, "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE")
            }
            _ => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for BindError {}

impl Listener {
    /// Locks and binds `address`: the listener, and its sockets, one a shard.
    ///
    /// Errors: what took the address, if that can be told.
    pub fn bind(
        gateway: &Arc<str>,
        address: SocketAddr,
        shards: usize,
    ) -> Result<(Self, Vec<OwnedFd>), BindError> {
        let fail =
            |error: io::Error, holder| BindError { address, gateway: Arc::clone(gateway), error, holder };
        let refused = |Taken { error, holder }| fail(error, holder);
        // Port 0 is known only after binding, and then nobody else can have it.
        let early = if address.port() == 0 { None } else { Some(lock(address).map_err(refused)?) };
        let first = listen(address).map_err(|error| fail(error, None))?;
        let address = sys::local(first.as_fd()).map_err(|error| fail(error, None))?;
        let lock = match early {
            Some(lock) => lock,
            None => lock(address).map_err(refused)?,
        };
        let mut sockets = vec![first];
        for _ in 1..shards {
            sockets.push(listen(address).map_err(|error| fail(error, None))?);
        }
        Ok((Self { address, _lock: lock }, sockets))
    }
}

/// Whether connecting to `address` would lead back to a socket bound to `bound`.
pub fn reaches(bound: SocketAddr, address: SocketAddr) -> bool {
    let (ip, wanted) = (address.ip().to_canonical(), bound.ip());
    address.port() == bound.port()
        && (ip == wanted || (wanted.is_unspecified() && ip.is_ipv4() == wanted.is_ipv4() && is_local(ip)))
}

/// Whether this host holds the address: only then can a socket be bound to it.
pub fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || std::net::UdpSocket::bind((ip, 0)).is_ok()
}

fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the TIME_WAITs of the last run.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    sys::set_options(socket.as_fd(), Some(INHERITED_KEEPALIVE), None)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_holds_the_address() {
        let gateway: Arc<str> = "edge".into();
        let any = "127.0.0.1:0".parse().expect("an address");
        let (first, sockets) = Listener::bind(&gateway, any, 2).expect("a free port");
        assert_eq!(sockets.len(), 2);
        let error = Listener::bind(&gateway, first.address, 1).expect_err("it is taken");
        let message = error.to_string();
        assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
        assert!(message.contains(&first.address.to_string()), "{message}");
    }

    #[test]
    fn an_endpoint_that_is_a_listener_of_ours_is_seen_through_wildcards() {
        let check = |bound: &str, address: &str, wanted: bool| {
            let (bound, address) = (bound.parse().expect("address"), address.parse().expect("address"));
            assert_eq!(reaches(bound, address), wanted, "{bound} {address}");
        };
        check("127.0.0.1:80", "127.0.0.1:80", true);
        check("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true);
        check("127.0.0.1:80", "127.0.0.1:81", false);
        check("127.0.0.1:80", "127.0.0.2:80", false);
        check("0.0.0.0:80", "127.0.0.2:80", true);
        check("0.0.0.0:80", "198.51.100.7:80", false);
        check("0.0.0.0:80", "[::1]:80", false);
        check("[::]:80", "[::1]:80", true);
    }
}
