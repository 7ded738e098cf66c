//! Listeners: bound, told, and refused with advice.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};

use anyhow::anyhow;
use socket2::{Domain, Protocol, Socket, Type};

use super::Settings;

/// Each thread's listeners, one for each address; with several threads the kernel spreads connections over them.
pub(super) fn for_threads(settings: &Settings) -> anyhow::Result<Vec<Vec<TcpListener>>> {
    let mut threads: Vec<Vec<TcpListener>> = (0..settings.threads).map(|_| Vec::new()).collect();
    for &wanted in &settings.addresses {
        // What the first was given for port 0, the others take too.
        let mut address = wanted;
        for listeners in &mut threads {
            let listener = listen(address, settings).map_err(|error| advice(address, &error))?;
            address = listener.local_addr()?;
            listeners.push(listener);
        }
        // In one piece, as several may write to the same place.
        let line = format!("listening mode={} address={address}\n", settings.mode.name());
        let _ = io::stderr().write_all(line.as_bytes());
    }
    Ok(threads)
}

fn listen(address: SocketAddr, settings: &Settings) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(settings.threads > 1)?;
    // Accepted connections inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(settings.backlog)?;
    Ok(socket.into())
}

fn advice(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "cannot listen on {address}: something does already; see what with `ss -ltnp 'sport = :{port}'`, end it, or take \
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
