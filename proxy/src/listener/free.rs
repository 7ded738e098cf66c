//! Whether an address is free, asked again for a while at start.
//!
//! A process that has just ended may leave listening sockets behind: an accept that its io_uring still holds keeps one for up to
//! some 20 ms, and until then the kernel completes handshakes there that no process will serve. SO_REUSEPORT would let us bind
//! beside it, and another program would find the address taken.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::lock::lock;

/// How long a start asks for addresses that are taken: far longer than the sockets of an ended process take to go.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How long it waits before it asks again.
const STEP: Duration = Duration::from_millis(2);

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Binds an address that no other socket may share, and asks again until then if it is taken.
pub(crate) fn bind_alone(address: SocketAddr, until: Instant) -> io::Result<TcpListener> {
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                thread::sleep(STEP);
            }
            result => return result,
        }
    }
}

/// Waits, until then, for the sockets that an ended process has left on this address. An address that another Weir has locked
/// is left to the bind, which names it.
///
/// Errors: something still listens there; it would share the address with us if it runs under the same user id.
pub(crate) fn wait_for_leftovers(address: SocketAddr, until: Instant) -> io::Result<()> {
    if address.port() == 0 || !is_listened_on(address) {
        return Ok(());
    }
    let Ok(_lock) = lock(address) else { return Ok(()) };
    while is_listened_on(address) {
        if Instant::now() >= until {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        thread::sleep(STEP);
    }
    Ok(())
}

/// Whether some socket listens on exactly this address. One on a wildcard address that covers it is no obstacle.
fn is_listened_on(address: SocketAddr) -> bool {
    // Binding is cheaper than reading, and most addresses are free.
    matches!(can_bind_alone(address), Ok(false)) && {
        let file = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
        File::open(file).is_ok_and(|file| listens(BufReader::new(file), address))
    }
}

fn can_bind_alone(address: SocketAddr) -> io::Result<bool> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    match socket.bind(&address.into()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads the listening sockets, which stand before all others, in proc_pid_net(5)'s format.
fn listens(lines: impl BufRead, address: SocketAddr) -> bool {
    let sockets = lines.lines().map_while(Result::ok).skip(1);
    let mut listening = sockets.map_while(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = parse(fields.next()?)?;
        (fields.nth(1)? == LISTEN).then_some(local)
    });
    // The zone of a link-local address is not shown there.
    listening.any(|local| local.ip() == address.ip() && local.port() == address.port())
}

/// An address in hexadecimal, each group of 32 bits in the byte order of this host.
fn parse(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for at in (0..ip.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_found_by_their_exact_address() {
        #[track_caller]
        fn check(bound: &str, asked: &str, expected: bool) {
            let listener = TcpListener::bind(bound).expect("a free port");
            let asked: IpAddr = asked.parse().expect("an address");
            let address = SocketAddr::new(asked, listener.local_addr().expect("bound").port());
            assert_eq!(is_listened_on(address), expected, "{bound}, asked for {asked}");
        }
        check("127.0.0.1:0", "127.0.0.1", true);
        check("127.0.0.1:0", "127.0.0.2", false);
        check("0.0.0.0:0", "127.0.0.1", false);
        check("0.0.0.0:0", "0.0.0.0", true);
        if TcpListener::bind("[::1]:0").is_ok() {
            check("[::1]:0", "::1", true);
            check("[::1]:0", "127.0.0.1", false);
            check("[::]:0", "::1", false);
        }
    }

    #[test]
    fn an_address_is_asked_for_until_it_is_free_or_the_time_is_over() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = holder.local_addr().expect("bound");
        let soon = || Instant::now() + STEP * 3;
        assert!(wait_for_leftovers(address, soon()).is_err());
        assert!(bind_alone(address, soon()).is_err());
        let until = Instant::now() + PATIENCE * 5;
        thread::scope(|scope| {
            let waiting =
                scope.spawn(|| wait_for_leftovers(address, until).and_then(|()| bind_alone(address, until)));
            drop(holder);
            assert!(waiting.join().expect("no panic").is_ok());
        });
    }

    #[test]
    fn only_the_listening_sockets_at_the_head_of_the_list_are_read() {
        let list = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   \
                    0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n   \
                    1: 0100007F:1F91 0100007F:9000 01 00000000:00000000 00:00000000 00000000     0\n   \
                    2: 0100007F:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n";
        #[track_caller]
        fn check(list: &str, address: &str, expected: bool) {
            assert_eq!(listens(list.as_bytes(), address.parse().unwrap()), expected, "{address}");
        }
        check(list, "127.0.0.1:8080", true);
        check(list, "127.0.0.1:8081", false);
        check(list, "127.0.0.1:8082", false);
    }
}
