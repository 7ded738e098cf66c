//! Listeners: bound, printed, and refused with advice.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};

use anyhow::anyhow;
use socket2::{Domain, Protocol, Socket, Type};

use super::settings::Settings;

/// Each thread's listeners, one for each address; with several threads the kernel spreads connections over them.
pub(super) fn for_threads(settings: &Settings) -> anyhow::Result<Vec<Vec<TcpListener>>> {
    let mut threads: Vec<Vec<TcpListener>> = (0..settings.threads).map(|_| Vec::new()).collect();
    let shared = settings.threads > 1;
    for &wanted in &settings.addresses {
        let mut threads = threads.iter_mut();
        let Some(first) = threads.next() else { continue };
        let listener = listen(settings.mode.name(), wanted, shared, settings.backlog)?;
        // The port that the first was given for port 0 is also that of the others.
        let address = listener.local_addr()?;
        first.push(listener);
        for listeners in threads {
            listeners.push(bind(address, shared, settings.backlog).map_err(|error| advice(address, &error))?);
        }
    }
    Ok(threads)
}

/// Listens at an address, alone or sharing its port with others, and prints which address it is.
///
/// # Errors
///
/// When the host refuses, with advice.
pub(super) fn listen(
    mode: &str,
    wanted: SocketAddr,
    shared: bool,
    backlog: i32,
) -> anyhow::Result<TcpListener> {
    let listener = bind(wanted, shared, backlog).map_err(|error| advice(wanted, &error))?;
    // In one piece, as several may write to the same place.
    let line = format!("listening mode={mode} address={}\n", listener.local_addr()?);
    let _ = io::stderr().write_all(line.as_bytes());
    Ok(listener)
}

fn bind(address: SocketAddr, shared: bool, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // Accepted connections inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn advice(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "cannot listen on {address}: something does already; see its name with `ss -ltnp 'sport = :{port}'`, end it, or take \
             another port (0 is any free one)"
        ),
        io::ErrorKind::AddrNotAvailable => anyhow!(
            "cannot listen on {address}: this host does not have the address; see `ip address` for those it has"
        ),
        io::ErrorKind::PermissionDenied => anyhow!(
            "cannot listen on {address}: ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE; take a higher one"
        ),
        _ => anyhow!("cannot listen on {address}: {error}"),
    }
}
