//! What a connection is for: one state machine for each kind of work, and what each may use and answer.
//!
//! A session never closes its connection, dials, or looks at other connections: it says what is next, and the shard does it.

use std::os::fd::BorrowedFd;

use fastrand::Rng;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::book::{Book, Operation};
use super::churn::Churn;
use super::crr::Crr;
use super::exchange::Output;
use super::greeting::Greeting;
use super::lane::Lane;
use super::rr::Rr;
use super::stream::Stream;
use super::{clock, dial};
use crate::settings::{Verify, Work};

/// What all sessions of a thread share.
#[derive(Debug)]
pub(super) struct Kit {
    /// Where bytes come in.
    pub(super) input: Box<[u8]>,
    /// Where bytes that go out are made.
    pub(super) output: Output,
    pub(super) chance: Rng,
    pub(super) verify: Verify,
}

/// What one session may use while it is asked something.
pub(super) struct Context<'a> {
    pub(super) socket: BorrowedFd<'a>,
    pub(super) lane: &'a mut Lane,
    pub(super) kit: &'a mut Kit,
    /// The first receive waits for bytes: this is the only connection, and there is nothing else to do.
    pub(super) patient: bool,
}

impl Context<'_> {
    /// Sends what the kernel takes, which is nothing when it has no room. Takes note of the bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match send(self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.lane.book.sent(sent);
                Ok(sent)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Receives and has the kernel throw the bytes away; says the same as [`Context::receive`].
    pub(super) fn discard(&mut self) -> Result<Option<usize>, Errno> {
        match recv(self.socket, &mut self.kit.input[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((_, received)) => Ok(Some(received)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Receives into the kit's input; `None` when there is nothing now, and 0 bytes when nothing will ever come.
    pub(super) fn receive(&mut self) -> Result<Option<usize>, Errno> {
        let flags = if std::mem::take(&mut self.patient) { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        match recv(self.socket, &mut self.kit.input[..], flags) {
            Ok((_, received)) => Ok(Some(received)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What epoll said of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readiness {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The other end has ended its direction, or all of it: there is an end or an error to be received.
    pub(super) ended: bool,
}

/// What is next for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for epoll or the next tick.
    Stay,
    /// The same, and another operation may be begun on it.
    Free,
    /// There is more to do at once, when other connections have had their turn.
    More,
    /// It has done what it was for: it is closed.
    Over,
    /// It is of no more use, and its operations have failed.
    Broken(&'static str),
    /// An operation takes too long: it is given up, and with it the connection, on which its answer could still come.
    Late,
}

impl From<Errno> for Next {
    fn from(error: Errno) -> Next {
        Next::Broken(dial::name(error))
    }
}

/// What a connection is for, and how far it is.
#[derive(Debug)]
pub(super) enum Session {
    /// Requests and responses, and heartbeats.
    Rr(Rr),
    /// A connection for some exchanges.
    Crr(Crr),
    /// A connection for a greeting.
    Greeting(Greeting),
    /// As many bytes as go.
    Stream(Box<Stream>),
    /// A connection that ends as chance has it.
    Churn(Box<Churn>),
}

impl Session {
    /// The session for a new connection. One that serves a single operation has it from the start.
    pub(super) fn new(work: &Work, connection: u32, kit: &Kit, operation: Option<Operation>) -> Session {
        match work {
            Work::Rr { .. } | Work::Hold { .. } => Session::Rr(Rr::new(connection, kit.verify)),
            Work::Crr { exchanges, .. } => {
                Session::Crr(Crr::new(connection, kit.verify, *exchanges, operation))
            }
            Work::Connect { .. } => Session::Greeting(Greeting::new(operation)),
            Work::Stream { direction, .. } => {
                Session::Stream(Box::new(Stream::new(connection, kit.verify, *direction)))
            }
            Work::Churn { .. } => Session::Churn(Box::new(Churn::new(connection, kit.verify, operation))),
        }
    }

    /// The connection is there.
    pub(super) fn connected(&mut self, cx: &mut Context<'_>) -> Next {
        match self {
            Session::Rr(rr) => rr.fill(cx),
            Session::Crr(crr) => crr.connected(cx),
            Session::Greeting(_) => Next::Stay,
            Session::Stream(stream) => stream.connected(cx),
            Session::Churn(churn) => churn.connected(cx),
        }
    }

    /// Something happened to it.
    pub(super) fn ready(&mut self, cx: &mut Context<'_>, readiness: Readiness) -> Next {
        match self {
            Session::Rr(rr) => rr.ready(cx, readiness),
            Session::Crr(crr) => crr.ready(cx, readiness),
            Session::Greeting(greeting) => greeting.ready(cx, readiness),
            Session::Stream(stream) => stream.ready(cx, readiness),
            Session::Churn(churn) => churn.ready(cx, readiness),
        }
    }

    /// An operation for a connection that said it is free; the lane's own next ones after it.
    pub(super) fn begin(&mut self, cx: &mut Context<'_>, operation: Option<Operation>) -> Next {
        match self {
            Session::Rr(rr) => rr.begin(cx, operation),
            Session::Stream(stream) => stream.begin(cx, operation),
            // The others are made for their operation and are never free.
            _ => operation.map_or(Next::Stay, |operation| {
                cx.lane.book.failed(operation, "not begun", clock::now());
                Next::Stay
            }),
        }
    }

    /// Some time has passed: is something late, or has it waited long enough?
    pub(super) fn tick(&mut self, cx: &mut Context<'_>, now: u64) -> Next {
        match self {
            Session::Rr(rr) => rr.tick(cx, now),
            Session::Crr(crr) => crr.tick(cx, now),
            Session::Greeting(greeting) => greeting.tick(cx, now),
            Session::Stream(stream) => stream.tick(cx, now),
            Session::Churn(churn) => churn.tick(cx, now),
        }
    }

    /// The measured time is over. Those that would go on forever come to their end; `Over` closes a connection that is not
    /// needed any more.
    pub(super) fn wind_down(&mut self, cx: &mut Context<'_>) -> Next {
        match (self, &cx.lane.work) {
            // The storm: all that are silent are closed at once.
            (Session::Rr(rr), Work::Hold { .. }) if rr.is_silent() => Next::Over,
            (Session::Stream(stream), _) => stream.wind_down(cx),
            _ => Next::Stay,
        }
    }

    /// Whether only bytes that come can bring it further, so that a thread that has no other may block on it.
    pub(super) fn only_waits(&self) -> bool {
        matches!(self, Session::Rr(rr) if rr.only_waits())
    }

    /// The run ends: what is suspicious is named with what is known.
    pub(super) fn settle(&mut self, book: &mut Book) {
        match self {
            Session::Rr(rr) => rr.settle(book),
            Session::Crr(crr) => crr.settle(book),
            Session::Greeting(_) => {}
            Session::Stream(stream) => drop(stream.settle(book)),
            Session::Churn(churn) => drop(churn.settle(book)),
        }
    }

    /// Gives back an operation that it has not ended, until there is none.
    pub(super) fn give_back(&mut self) -> Option<Operation> {
        match self {
            Session::Rr(rr) => rr.give_back(),
            Session::Crr(crr) => crr.give_back(),
            Session::Greeting(greeting) => greeting.give_back(),
            Session::Stream(stream) => stream.give_back(),
            Session::Churn(churn) => churn.give_back(),
        }
    }
}
