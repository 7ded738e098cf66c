//! Making connections: which source address the next one has, and the meaning of a host's error for the user.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use anyhow::{Context, bail};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::settings::{Close, Settings, Work};
use crate::sys;

/// Connections from one source address to one destination, at most: the kernel has about 28,000 ports for them by default
/// (`net.ipv4.ip_local_port_range`), and some may be in TIME_WAIT.
const PER_SOURCE: usize = 20_000;

/// Source addresses on loopback for connections that come and go. Each closed orderly leaves its port in TIME_WAIT, and the kernel
/// takes ports of one parity as long as it finds one: once those 14,000 are in use, every connect looks through all of them, which
/// costs milliseconds. On loopback a port may be used again after a second.
const PASSING: usize = 16;

/// Files a run has open beside its connections.
const OTHER_FILES: u64 = 64;

/// Makes connections, from each source address in turn.
#[derive(Debug)]
pub(super) struct Dialer {
    target: SockAddr,
    domain: Domain,
    sources: Vec<SockAddr>,
    next: usize,
}

impl Dialer {
    pub(super) fn new(target: SocketAddr, sources: &[IpAddr]) -> Dialer {
        let sources = sources.iter().map(|address| SocketAddr::new(*address, 0).into()).collect();
        Dialer { target: target.into(), domain: Domain::for_address(target), sources, next: 0 }
    }

    /// A socket that is on its way to be connected.
    pub(super) fn dial(&mut self, close: Close) -> Result<Socket, Errno> {
        self.try_dial(close).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    fn try_dial(&mut self, close: Close) -> std::io::Result<Socket> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new_raw(self.domain, kind, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if close == Close::Rst {
            socket.set_linger(Some(std::time::Duration::ZERO))?;
        }
        if !self.sources.is_empty() {
            sys::bind_address_no_port(socket.as_fd())?;
            socket.bind(&self.sources[self.next])?;
            self.next = (self.next + 1) % self.sources.len();
        }
        match socket.connect(&self.target) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
            _ => Ok(socket),
        }
    }
}

/// Name of an error in reports.
pub(super) fn name(error: Errno) -> &'static str {
    match error {
        Errno::CONNREFUSED => "refused",
        Errno::CONNRESET => "reset",
        Errno::PIPE => "closed early",
        Errno::TIMEDOUT => "connection timed out",
        Errno::HOSTUNREACH => "host unreachable",
        Errno::NETUNREACH => "network unreachable",
        Errno::ADDRNOTAVAIL => "no local port left",
        Errno::MFILE | Errno::NFILE => "too many open files",
        Errno::NOBUFS | Errno::NOMEM => "no memory for sockets",
        Errno::ACCESS | Errno::PERM => "forbidden by the host",
        _ => "another error",
    }
}

/// Whether trying again cannot help: the host itself refuses.
pub(super) fn is_final(error: Errno) -> bool {
    matches!(
        error,
        Errno::ADDRNOTAVAIL
            | Errno::MFILE
            | Errno::NFILE
            | Errno::ACCESS
            | Errno::PERM
            | Errno::AFNOSUPPORT
            | Errno::INVAL
    )
}

/// Advice on an error that ends a run before it began.
pub(super) fn explain(error: Errno, settings: &Settings) -> anyhow::Error {
    let target = settings.target;
    let sources: Vec<String> = settings.sources.iter().map(ToString::to_string).collect();
    let advice = match error {
        Errno::CONNREFUSED => {
            let mode = match settings.parts.first().map(|part| &part.work) {
                Some(Work::Connect { .. }) => "banner",
                Some(Work::Stream { direction: crate::settings::Direction::Up, .. }) => "sink",
                Some(Work::Stream { direction: crate::settings::Direction::Down, .. }) => "source",
                Some(Work::Stream { .. } | Work::Churn { .. }) => "echo",
                _ => "rr",
            };
            return anyhow::anyhow!(
                "nothing listens at {target}: start one with `weir-bench serve {mode} {target}`"
            );
        }
        Errno::ADDRNOTAVAIL if sources.is_empty() => {
            "give several --source addresses, close by reset (--close rst), or widen \
             net.ipv4.ip_local_port_range"
                .to_owned()
        }
        Errno::ADDRNOTAVAIL => format!(
            "or a source is not an address of this host: {}; add --source addresses, close by reset \
             (--close rst), or widen net.ipv4.ip_local_port_range",
            sources.join(", ")
        ),
        Errno::MFILE => "raise the limit with `ulimit -n`".to_owned(),
        Errno::NFILE => "this host has no more: raise fs.file-max".to_owned(),
        _ => "check the address and the way to it".to_owned(),
    };
    anyhow::anyhow!("cannot connect to {target}: {}: {advice}", name(error))
}

/// The source addresses of a run: those asked for; or, as loopback has many, enough of them for all its connections,
/// and for those that leave their ports behind.
pub(super) fn sources(settings: &Settings) -> Vec<IpAddr> {
    let all = connections(settings);
    let loopback = match settings.target.ip() {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(_) => false,
    };
    let leaves_ports = settings.parts.iter().any(|part| match part.work {
        Work::Crr { close, .. } | Work::Connect { close, .. } => close == Close::Fin,
        Work::Churn { .. } => true,
        _ => false,
    });
    let least = if leaves_ports { PASSING } else { 1 };
    let count = all.div_ceil(PER_SOURCE).max(least);
    if !settings.sources.is_empty() || !loopback || count == 1 {
        return settings.sources.clone();
    }
    let count = count.min(250) as u8;
    (2..2 + count).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))).collect()
}

/// Connections of all parts.
pub(super) fn connections(settings: &Settings) -> usize {
    settings.parts.iter().map(|part| part.work.connections()).sum()
}

/// Raises the limit of open files as far as this run needs and may.
pub(super) fn allow_files(settings: &Settings) -> anyhow::Result<()> {
    let needed = connections(settings) as u64 + OTHER_FILES;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        bail!(
            "this run needs {needed} open files, and the limit is {}: raise it with `ulimit -Hn {needed}` or in limits.conf",
            limit.maximum.unwrap_or_default()
        );
    }
    limit.current = Some(needed);
    setrlimit(Resource::Nofile, limit)
        .with_context(|| format!("cannot raise the limit of open files to {needed}"))
}

/// One connection made before all others, so that a missing server is reported at once.
pub(super) fn probe(settings: &Settings, sources: &[IpAddr]) -> anyhow::Result<()> {
    let failed = |error: std::io::Error| match Errno::from_io_error(&error) {
        Some(error) => explain(error, settings),
        None => {
            anyhow::anyhow!("cannot connect to {} within {:?}: {error}", settings.target, settings.timeout)
        }
    };
    let domain = Domain::for_address(settings.target);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map_err(failed)?;
    if let Some(source) = sources.first() {
        socket.bind(&SocketAddr::new(*source, 0).into()).map_err(failed)?;
    }
    match socket.connect_timeout(&settings.target.into(), settings.timeout) {
        // A server is there, and the run will show the outcome of its connections.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        connected => connected.map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::{Pace, Part, Verify};

    fn hold(target: &str, connections: usize, sources: &[&str]) -> Settings {
        let work = Work::Hold { connections, ramp: 1000.0, heartbeat: None };
        Settings {
            target: target.parse().expect("an address"),
            parts: vec![Part { name: "hold".to_owned(), work, pace: Pace::Closed }],
            cores: vec![0],
            warmup: Duration::ZERO,
            duration: Duration::from_secs(1),
            drain: Duration::ZERO,
            operations: None,
            timeout: Duration::from_secs(1),
            verify: Verify::Full,
            sources: sources.iter().map(|source| source.parse().expect("an address")).collect(),
            waiting: 0,
            seed: 0,
        }
    }

    #[test]
    fn loopback_gets_as_many_source_addresses_as_its_connections_need() {
        let cases: [(&str, usize, &[&str], &[&str]); 6] = [
            ("127.0.0.1:7", 20_000, &[], &[]),
            ("127.0.0.1:7", 20_001, &[], &["127.0.0.2", "127.0.0.3"]),
            ("127.0.0.1:7", 60_001, &[], &["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]),
            ("127.0.0.1:7", 60_001, &["127.0.0.9"], &["127.0.0.9"]),
            ("10.0.0.1:7", 60_001, &[], &[]),
            ("[::1]:7", 60_001, &[], &[]),
        ];
        for (target, connections, given, wanted) in cases {
            let found = sources(&hold(target, connections, given));
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, wanted, "{connections} to {target} from {given:?}");
        }
    }

    #[test]
    fn loopback_has_ports_for_connections_that_leave_them_behind() {
        let sources_of = |target: &str, work: Work| {
            let mut settings = hold(target, 1, &[]);
            settings.parts[0].work = work;
            sources(&settings).len()
        };
        let connect = |close| Work::Connect { connections: 1, close };
        assert_eq!(sources_of("127.0.0.1:7", connect(Close::Fin)), PASSING);
        assert_eq!(sources_of("127.0.0.1:7", connect(Close::Rst)), 0);
        assert_eq!(sources_of("10.0.0.1:7", connect(Close::Fin)), 0);
    }

    #[test]
    fn errors_of_the_host_come_with_advice() {
        let cases = [
            (Errno::CONNREFUSED, "start one with `weir-bench serve rr 127.0.0.1:7`"),
            (Errno::ADDRNOTAVAIL, "--source"),
            (Errno::MFILE, "ulimit -n"),
            (Errno::HOSTUNREACH, "host unreachable: check the address"),
        ];
        for (error, wanted) in cases {
            let text = explain(error, &hold("127.0.0.1:7", 1, &[])).to_string();
            assert!(text.contains(wanted), "{text}\nwanted: {wanted}");
        }
    }
}
