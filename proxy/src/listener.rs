//! Listening sockets: one lock an address for the process, one SO_REUSEPORT socket a shard.

pub(crate) mod free;
pub(crate) mod lock;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use weir_routing::Keepalive;

use self::lock::{Lock, Taken, lock};
use crate::os::sys;

/// Handshakes that may wait to be accepted, a shard; the kernel cuts it to `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;

/// The keepalive that accepted sockets inherit: that of the built-in policy. A destination that wants something else sets it.
pub(crate) const INHERITED_KEEPALIVE: Keepalive =
    Keepalive { time: Duration::from_secs(60), interval: Duration::from_secs(15), probes: 4 };

/// The number of a listener of the process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ListenerId(pub u32);

/// An address of this process.
#[derive(Debug)]
pub(crate) struct Listener {
    /// With the port that port 0 became.
    pub address: SocketAddr,
    sockets: Sockets,
}

/// The sockets of a listener, one a shard; each shard holds its own as well, and closes it once it is empty. The loader, which binds
/// them, and the control loop, which ends accepting, share them.
#[derive(Clone, Debug)]
pub(crate) struct Sockets(Arc<Mutex<Held>>);

/// The parts that a listener holds until it turns clients away.
#[derive(Debug)]
struct Held {
    sockets: Vec<Arc<OwnedFd>>,
    /// The address belongs to this process for as long as it is listened on: while sessions drain another Weir may have it.
    lock: Option<Lock>,
}

/// Why an address could not be taken.
#[derive(Debug)]
pub(crate) struct BindError {
    /// The address that was to be bound.
    pub address: SocketAddr,
    /// For whom.
    pub gateway: Arc<str>,
    /// The kernel's error.
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
            (None, Some(libc::EMFILE)) => {
                write!(
                    f,
                    "this process has no descriptor left; raise its limit (LimitNOFILE in systemd, `ulimit -n`)"
                )
            }
            _ => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for BindError {}

impl Listener {
    /// Locks and binds `address`, with a socket for each shard. No client can connect yet.
    ///
    /// Errors: the holder of the address, where it can be found out.
    pub(crate) fn bind(gateway: &Arc<str>, address: SocketAddr, shards: usize) -> Result<Self, BindError> {
        let fail =
            |error: io::Error, holder| BindError { address, gateway: Arc::clone(gateway), error, holder };
        let refused = |Taken { error, holder }| fail(error, holder);
        // Port 0 is known only after binding, and then no other process can have it.
        let early = if address.port() == 0 { None } else { Some(lock(address).map_err(refused)?) };
        let first = bound(address).map_err(|error| fail(error, None))?;
        let address = sys::local(first.as_fd()).map_err(|error| fail(error, None))?;
        let lock = match early {
            Some(lock) => lock,
            None => lock(address).map_err(refused)?,
        };
        let mut sockets = vec![first.into()];
        for _ in 1..shards {
            sockets.push(bound(address).map_err(|error| fail(error, None))?.into());
        }
        Ok(Self { address, sockets: Sockets(Arc::new(Mutex::new(Held { sockets, lock: Some(lock) }))) })
    }

    /// Its sockets.
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// From now on clients may connect: what they begin waits in the queues.
    ///
    /// Errors: another listens there; it came between binding and this.
    pub(crate) fn listen(&self, gateway: &Arc<str>) -> Result<(), BindError> {
        for socket in self.sockets.of_shards() {
            rustix::net::listen(socket, BACKLOG).map_err(|error| BindError {
                address: self.address,
                gateway: Arc::clone(gateway),
                error: error.into(),
                holder: None,
            })?;
        }
        Ok(())
    }
}

impl Sockets {
    /// One a shard; none once clients are turned away.
    pub(crate) fn of_shards(&self) -> Vec<Arc<OwnedFd>> {
        self.lock().sockets.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets no more connections begin, and gives up the sockets, which the shards empty and close. Dropping SYNs would let
    /// clients wait for a second until they try again; now they find the next listener there, or are refused at once.
    pub(crate) fn turn_away(&self) {
        let (sockets, lock) = {
            let mut held = self.lock();
            (std::mem::take(&mut held.sockets), held.lock.take())
        };
        // All SYNs go to the last socket until that, too, is out of the way: one that reached a socket that is already would be
        // dropped. An error leaves some of the last moment unserved.
        if let [_, .., last] = &sockets[..] {
            let _ = sys::steer_new_handshakes(last.as_fd(), sockets.len() as u32 - 1);
        }
        for socket in &sockets {
            let _ = sys::turn_away_new_handshakes(socket.as_fd());
        }
        drop(lock);
    }
}

/// Whether a socket bound to `bound` gets what is sent to its port at `ip`. `is_local`: whether this host holds `ip`.
pub(crate) fn is_on(bound: SocketAddr, ip: IpAddr, is_local: impl FnOnce() -> bool) -> bool {
    let wanted = bound.ip();
    ip == wanted || (wanted.is_unspecified() && ip.is_ipv4() == wanted.is_ipv4() && is_local())
}

/// Whether connecting to `address` would lead back to a socket bound to `bound`.
pub(crate) fn reaches(bound: SocketAddr, address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    address.port() == bound.port() && is_on(bound, ip, || is_local(ip))
}

/// Whether this host holds the address: only then can a socket be bound to it.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || std::net::UdpSocket::bind((ip, 0)).is_ok()
}

fn bound(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the TIME_WAITs of the last run.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    sys::set_options(socket.as_fd(), Some(INHERITED_KEEPALIVE), None)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_learns_who_holds_the_address() {
        let gateway: Arc<str> = "edge".into();
        let any = "127.0.0.1:0".parse().expect("an address");
        let first = Listener::bind(&gateway, any, 2).expect("a free port");
        assert_eq!(first.sockets().of_shards().len(), 2);
        let error = Listener::bind(&gateway, first.address, 1).expect_err("it is taken");
        let message = error.to_string();
        assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
        assert!(message.contains(&first.address.to_string()), "{message}");
    }

    #[test]
    fn new_clients_are_refused_or_served_by_the_next_listener_and_completed_handshakes_stay() {
        use rustix::net::{SocketFlags, accept_with};
        use std::net::TcpStream;
        let gateway: Arc<str> = "edge".into();
        let any = "127.0.0.1:0".parse().expect("an address");
        for shards in [1, 2, 5] {
            let old = Listener::bind(&gateway, any, shards).expect("a free port");
            let address = old.address;
            assert!(TcpStream::connect(address).is_err(), "it is bound and does not listen");
            old.listen(&gateway).expect("its own port");
            let completed: Vec<_> =
                (0..20).map(|_| TcpStream::connect(address).expect("it listens")).collect();
            let sockets = old.sockets().of_shards();
            old.sockets().turn_away();
            let error = TcpStream::connect(address).expect_err("there is no listener");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            // Though the old one is still there, as it is while a process drains.
            let next = Listener::bind(&gateway, address, shards).expect("the address is free again");
            next.listen(&gateway).expect("its own port");
            let later: Vec<_> = (0..20).map(|_| TcpStream::connect(address).expect("it listens")).collect();
            let waiting = |sockets: &[Arc<OwnedFd>]| {
                let count = |socket: &Arc<OwnedFd>| {
                    rustix::io::ioctl_fionbio(socket, true).expect("a socket");
                    std::iter::from_fn(|| accept_with(socket, SocketFlags::CLOEXEC).ok()).count()
                };
                sockets.iter().map(count).sum::<usize>()
            };
            assert_eq!(
                [waiting(&sockets), waiting(&next.sockets().of_shards())],
                [completed.len(), later.len()],
                "{shards}"
            );
            drop(old);
        }
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
