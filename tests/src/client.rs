//! Clients, and the calls on a socket that both ends of a test use: FIN and reset as different ends, resets on purpose.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, SockRef, Socket, Type};

/// No test waits longer than this for a byte or an end that should come.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How a stream ended, as the one who read it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// A FIN.
    Fin,
    /// A reset.
    Reset,
}

/// Connects; reads and writes give up after [`PATIENCE`].
pub fn connect(address: SocketAddr) -> TcpStream {
    try_connect(address).unwrap_or_else(|error| panic!("connecting to {address}: {error}"))
}

/// Connects, or returns the error.
pub fn try_connect(address: SocketAddr) -> io::Result<TcpStream> {
    patient(TcpStream::connect_timeout(&address, PATIENCE)?)
}

/// Connects from an address of this host.
pub fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    patient(socket.into())
}

/// Connects with small buffers, for those who read slowly on purpose.
pub fn connect_small(address: SocketAddr, receive_buffer: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_recv_buffer_size(receive_buffer)?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    patient(socket.into())
}

/// Gives a stream its timeouts, and sends small writes at once.
pub fn patient(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Closes with a reset, whatever is queued.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket takes SO_LINGER");
}

/// Whether an error means that the other side reset the connection.
pub fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}

/// Reads to the end. Panics if none comes within [`PATIENCE`] of the last byte.
#[track_caller]
pub fn read_to_end(mut stream: &TcpStream) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => (bytes, End::Fin),
        Err(error) if is_reset(&error) => (bytes, End::Reset),
        Err(error) => panic!("neither bytes nor an end after {} bytes: {error}", bytes.len()),
    }
}

/// The end of a stream that should bring no more bytes.
#[track_caller]
pub fn read_end(stream: &TcpStream) -> End {
    let (bytes, end) = read_to_end(stream);
    assert!(bytes.is_empty(), "{} bytes where only an end should come", bytes.len());
    end
}

/// Connects and waits for the end, which should come before any byte. A reset can be quicker than connecting: then connecting
/// fails with it.
#[track_caller]
pub fn connect_to_end(address: SocketAddr) -> End {
    match try_connect(address) {
        Ok(stream) => read_end(&stream),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
        Err(error) => panic!("connecting to {address}: {error}"),
    }
}

/// Reads exactly this much.
#[track_caller]
pub fn read_exactly(mut stream: &TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap_or_else(|error| panic!("reading {length} bytes: {error}"));
    bytes
}

/// Writes all of it.
#[track_caller]
pub fn write_all(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap_or_else(|error| panic!("writing {} bytes: {error}", bytes.len()));
}

/// Sends a line and returns the line that comes back, without its end. Errors: as the calls have them; EOF is one.
pub fn try_ask(mut stream: &TcpStream, line: &str) -> io::Result<String> {
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\n") {
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    answer.pop();
    String::from_utf8(answer).map_err(io::Error::other)
}

/// Sends a line and returns the line that comes back.
#[track_caller]
pub fn ask(stream: &TcpStream, line: &str) -> String {
    try_ask(stream, line).unwrap_or_else(|error| panic!("asking {line:?}: {error}"))
}

/// One connection, one line, one answer.
pub fn ask_once(address: SocketAddr, line: &str) -> io::Result<String> {
    try_ask(&try_connect(address)?, line)
}

/// Writes until the other side holds it back for 100 ms, and returns how many bytes went.
pub fn write_until_held_back(mut stream: &TcpStream, bytes: &[u8], most: usize) -> usize {
    let hold = Duration::from_millis(100);
    stream.set_write_timeout(Some(hold)).expect("a socket takes a timeout");
    let mut written = 0;
    while written < most {
        match stream.write(&bytes[..bytes.len().min(most - written)]) {
            Ok(count) => written += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("after {written} bytes: {error}"),
        }
    }
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    written
}

/// Whether a byte or an end is there to be read within `timeout`.
pub fn is_readable(stream: &TcpStream, timeout: Duration) -> bool {
    let timeout = timeout.try_into().expect("a short timeout");
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// Bytes that the other side's kernel has not acknowledged yet, read from `/proc/net/tcp`; 0 once the connection is gone.
pub fn unacknowledged(stream: &TcpStream) -> usize {
    let (Ok(SocketAddr::V4(local)), Ok(SocketAddr::V4(peer))) = (stream.local_addr(), stream.peer_addr())
    else {
        return 0;
    };
    let spelled = |address: std::net::SocketAddrV4| {
        format!("{:08X}:{:04X}", u32::from_le_bytes(address.ip().octets()), address.port())
    };
    let pair = format!(" {} {} ", spelled(local), spelled(peer));
    let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc is mounted");
    let queue = table.lines().find_map(|line| line.split_once(&pair)).and_then(|(_, rest)| {
        let queues = rest.split_whitespace().nth(1)?;
        usize::from_str_radix(queues.split(':').next()?, 16).ok()
    });
    queue.unwrap_or(0)
}
