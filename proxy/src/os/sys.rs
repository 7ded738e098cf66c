//! System calls that `rustix` and `socket2` do not wrap, as safe functions over borrowed descriptors, and small families of
//! calls that more than one module makes.

#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::time::Duration;

use rustix::net::sockopt;
use weir_routing::Keepalive;

/// Bytes that the peer has not acknowledged or that have not been sent (SIOCOUTQ).
pub(crate) fn unsent(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same request as TIOCOUTQ) writes one int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(bytes).unwrap_or(0)) }
}

/// When TCP has last heard from a peer that owes an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastHeard {
    /// How long ago anything came from the peer.
    pub age: Duration,
    /// Whether something was sent after that, so that an answer is due.
    pub is_answer_due: bool,
}

/// When TCP has last heard from the peer; `None`: it has acknowledged everything, or there is no connection any more.
pub(crate) fn last_heard(socket: BorrowedFd<'_>) -> Option<LastHeard> {
    if unsent(socket).ok()? == 0 {
        return None;
    }
    let info = tcp_info(socket).ok()?;
    // All of these are ages. Whatever the peer sends shows that it lives, as keepalive has it.
    let age = info.tcpi_last_ack_recv.min(info.tcpi_last_data_recv);
    // Retransmissions count as sent, probes of a closed window do not.
    let is_answer_due = info.tcpi_probes > 0 || info.tcpi_unacked > 0 && info.tcpi_last_data_sent < age;
    Some(LastHeard { age: Duration::from_millis(age.into()), is_answer_due })
}

fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<libc::tcp_info> {
    // SAFETY: it consists of integers, for which all zeroes is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` is valid for writes of `length` bytes; a kernel that knows fewer fields writes fewer.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(info) }
}

/// `recv`: how many bytes it read, and how many it left in the socket, a FIN counting one (TCP_INQ, see [`set_options`]);
/// `None`: the kernel did not report it.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<usize>)> {
    /// Room for one control message of one int, aligned as its header.
    #[repr(C, align(8))]
    struct Control([u8; 24]);
    // SAFETY: it only computes.
    const _: () = assert!(unsafe { libc::CMSG_SPACE(4) } as usize <= size_of::<Control>());

    let mut control = Control([0; 24]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: `message` points to `buffer` and `control`, both valid for writes of the lengths given and alive until it returns.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, 0) };
    let bytes = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written `msg_controllen` bytes of whole control messages; the int may be unaligned.
    let left = unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        let is_left =
            !header.is_null() && (*header).cmsg_level == libc::IPPROTO_TCP && (*header).cmsg_type == TCP_INQ;
        is_left.then(|| libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned())
    };
    Ok((bytes, left.and_then(|left| usize::try_from(left).ok())))
}

/// Bytes that a leg queues beyond what its peer and the network take (TCP_NOTSENT_LOWAT), until [`lift_unsent_bound`]. Without
/// a bound a reader that stalls from the start fills a send buffer of 4 MiB.
const UNSENT_MAX: libc::c_int = 256 << 10;

/// The leg's peer has shown that it reads: its send buffer may grow as the kernel likes.
pub(crate) fn lift_unsent_bound(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_tcp_option(socket, libc::TCP_NOTSENT_LOWAT, 0)
}

/// Linux 4.18; `libc` does not have it for every target.
const TCP_INQ: libc::c_int = 36;

/// The other end of a connected socket.
pub(crate) fn peer(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let address = rustix::net::getpeername(socket)?.ok_or(io::ErrorKind::NotConnected)?;
    Ok(SocketAddr::try_from(address)?)
}

/// This end of a connected socket.
pub(crate) fn local(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(socket)?)?)
}

/// Whether this host has an address from which it could dial another one. A connected UDP socket is given one, and sends nothing.
pub(crate) fn has_source_address(to: SocketAddr) -> bool {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let unavailable = |error: io::Error| error.kind() == io::ErrorKind::AddrNotAvailable;
    !UdpSocket::bind(any).and_then(|socket| socket.connect(to)).is_err_and(unavailable)
}

/// Options of either leg: segments leave at once, urgent bytes stay where they are in the stream, reads report the bytes that they left
/// ([`receive`]), send buffers are bounded at first, dead peers are noticed.
pub(crate) fn set_options(
    socket: BorrowedFd<'_>,
    keepalive: Option<Keepalive>,
    user_timeout: Option<Duration>,
) -> io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_oobinline(socket, true)?;
    set_tcp_option(socket, TCP_INQ, 1)?;
    set_tcp_option(socket, libc::TCP_NOTSENT_LOWAT, UNSENT_MAX)?;
    set_keepalive(socket, keepalive)?;
    set_user_timeout(socket, user_timeout)
}

/// TCP_USER_TIMEOUT; `None` leaves the kernel's.
pub(crate) fn set_user_timeout(socket: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
    let Some(timeout) = timeout else { return Ok(()) };
    Ok(sockopt::set_tcp_user_timeout(socket, u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX))?)
}

fn set_tcp_option(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the options that are given here are one int each.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as u32,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Dead peers are noticed, or not.
pub(crate) fn set_keepalive(socket: BorrowedFd<'_>, keepalive: Option<Keepalive>) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, keepalive.is_some())?;
    if let Some(keepalive) = keepalive {
        sockopt::set_tcp_keepidle(socket, keepalive.time)?;
        sockopt::set_tcp_keepintvl(socket, keepalive.interval)?;
        sockopt::set_tcp_keepcnt(socket, keepalive.probes)?;
    }
    Ok(())
}

/// Resets a connection at once, whatever is queued and whether or not a poll still holds the socket: `close` with linger 0 would wait for an
/// armed poll. An error means that there was nothing left to reset.
pub(crate) fn reset(socket: BorrowedFd<'_>) {
    let _ = rustix::net::connect_unspec(socket);
}

/// Leads all SYNs that a group of SO_REUSEPORT listeners gets to one of them: the `index`th to have listened.
pub(crate) fn steer_new_handshakes(listener: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let code = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = [libc::sock_filter { code, jt: 0, jf: 0, k: index }];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the option is a `sock_fprog`, whose instructions live until the call has copied them.
    unsafe { set_socket_option(listener, libc::SO_ATTACH_REUSEPORT_CBPF, &program) }
}

/// Takes a listener out of the kernel's look-up: a new SYN finds another listener of its address or is refused with a reset.
/// Handshakes that have begun complete, and its queue stays. A SYN that has just found it, and whose answer is yet to be routed, is
/// dropped: the kernel routes by the interface that is set here. Its client sends it again a second later.
pub(crate) fn turn_away_new_handshakes(listener: BorrowedFd<'_>) -> io::Result<()> {
    // It listens only on an interface that no packet comes in by: interfaces are numbered from 1 up.
    let no_interface = libc::c_int::MAX;
    // SAFETY: the option is one int.
    unsafe { set_socket_option(listener, libc::SO_BINDTOIFINDEX, &no_interface) }
}

/// Sets an option of level SOL_SOCKET.
///
/// # Safety
/// `T` is what the kernel reads for this option, and what it points to is valid.
unsafe fn set_socket_option<T>(socket: BorrowedFd<'_>, name: libc::c_int, value: &T) -> io::Result<()> {
    let (value, length) = ((&raw const *value).cast(), size_of::<T>() as u32);
    // SAFETY: the caller's promise; `value` is valid for reads of `length` bytes.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value, length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Raises the soft limit of open descriptors to the hard one and returns it.
pub(crate) fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    now.unwrap_or(u64::MAX)
}

/// Gives a connected socket to the glommio executor of this thread.
pub(crate) fn adopt_stream(stream: TcpStream) -> glommio::net::TcpStream {
    // SAFETY: the descriptor is an open socket, and `into_raw_fd` has just given up its only owner.
    unsafe { glommio::net::TcpStream::from_raw_fd(stream.into_raw_fd()) }
}

/// Ignores a signal, as opposed to handling it and doing nothing: a write to a terminal of a background process would be
/// restarted for ever by a handled SIGTTOU.
pub(crate) fn ignore_signal(signal: libc::c_int) {
    // SAFETY: SIG_IGN runs no code of ours, and `signal` touches no memory.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}
