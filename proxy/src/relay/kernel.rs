//! The calls that a relay makes. The shard serves them with sockets, pools and its hot buffer; the simulation with simulated
//! ones. Nothing here decides anything.

use std::io;
use std::time::Duration;

/// One of the two legs of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The leg that was accepted.
    Client,
    /// The leg that was dialled.
    Upstream,
}

impl Side {
    /// Both, in the order in which a step serves them.
    pub(crate) const BOTH: [Self; 2] = [Self::Client, Self::Upstream];

    /// The leg at the other end of the session.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

/// A pipe of the shard's pool. It goes back exactly once, through [`Kernel::give_pipe`] or [`Kernel::close_pipe`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a pipe that is dropped is lost to its pool"]
pub(crate) struct Pipe(pub u32);

/// The unsent rest of one `recv`, in a buffer of the shard's pool. It goes back exactly once, through [`Kernel::free_tail`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a tail that is dropped is lost to its pool"]
pub(crate) struct Tail {
    /// Which buffer.
    pub buffer: u32,
    /// Where its unsent bytes begin; the relay moves it on.
    pub from: u32,
    /// Where they end.
    pub to: u32,
}

/// How bytes went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Through the hot buffer.
    Copied,
    /// Through a pipe.
    Spliced,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes; 0 is a FIN.
    pub bytes: usize,
    /// Nothing was left in the socket, neither a byte nor a FIN: the next read would return EAGAIN. False if
    /// the kernel did not report it (TCP_INQ).
    pub is_drained: bool,
}

/// When TCP has last heard from a peer that has not acknowledged everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hearing {
    /// Something was sent after the peer was heard last: bytes, or a probe of its closed window. A closed window is no silence
    /// by itself: its probes get rarer, up to two minutes apart, and each of them is answered.
    pub unanswered: bool,
    /// How long ago the peer was heard last.
    pub heard: Duration,
}

/// The calls that a relay makes on its two legs. Every call is non-blocking; one that cannot go on returns `WouldBlock`.
pub(crate) trait Kernel {
    /// Bytes that a read may take, at most [`super::HOT_BUFFER`], so that a tail for all of them stays within the budget of tails.
    fn read_limit(&self) -> usize;

    /// `recv` of up to `max` bytes into the hot buffer, where they stay until the next one. `Ok(0)`: FIN, or the end of a leg
    /// whose error another call has reported.
    fn recv(&mut self, from: Side, max: usize) -> io::Result<Received>;

    /// `recv` of one byte with MSG_PEEK, which takes nothing. `Ok(0)` is as in [`Self::recv`].
    fn peek(&mut self, from: Side) -> io::Result<usize>;

    /// SIOCINQ: bytes that were received and not read, those behind a mark of urgent data included.
    fn unread(&mut self, from: Side) -> usize;

    /// `send` of the bytes `from..to` of the hot buffer.
    fn send_hot(&mut self, side: Side, from: usize, to: usize) -> io::Result<usize>;

    /// Copies the bytes `from..to` of the hot buffer into a pooled buffer.
    fn keep_tail(&mut self, from: usize, to: usize) -> Tail;

    /// `send` of the bytes that the tail still holds.
    fn send_tail(&mut self, side: Side, tail: &Tail) -> io::Result<usize>;

    /// The tail's buffer goes back to its pool.
    fn free_tail(&mut self, tail: Tail);

    /// An empty pipe; `None`: the pool's limit is reached.
    fn take_pipe(&mut self) -> Option<Pipe>;

    /// An empty pipe goes back to its pool.
    fn give_pipe(&mut self, pipe: Pipe);

    /// A pipe that still holds bytes: to be closed, for its bytes would otherwise come out in another session.
    fn close_pipe(&mut self, pipe: Pipe);

    /// `splice` of at most `max` bytes from the socket. `Ok(0)` is as in [`Self::recv`]; `WouldBlock` means that the socket
    /// has nothing or that the pipe is full: in slots, whatever the bytes are.
    fn splice_in(&mut self, from: Side, pipe: &Pipe, max: usize) -> io::Result<usize>;

    /// `splice` of at most `max` bytes to the socket.
    fn splice_out(&mut self, pipe: &Pipe, to: Side, max: usize) -> io::Result<usize>;

    /// The peer of this leg has shown that it reads: its send queue need not be bounded any more.
    fn lift_unsent_bound(&mut self, side: Side);

    /// A FIN, after the data that was sent.
    fn shutdown_write(&mut self, side: Side);

    /// A reset, now; it throws away bytes that were sent and have not been acknowledged.
    fn reset(&mut self, side: Side);

    /// SIOCOUTQ: bytes that were sent and have not been acknowledged, a FIN counting one.
    fn unsent(&mut self, side: Side) -> usize;

    /// TCP_INFO: when the leg's peer was heard from last, while it has bytes to acknowledge. `None`: it has none.
    fn hearing(&mut self, side: Side) -> Option<Hearing>;

    /// SO_ERROR: the leg's error, if no other call has reported it before.
    fn take_error(&mut self, side: Side) -> Option<io::Error>;

    /// Bytes that were accepted by the leg `to`, for the counters that move during a connection.
    fn count(&mut self, to: Side, bytes: usize, path: Path);
}
