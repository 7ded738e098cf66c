//! A connection that carries as many bytes as go: up to a sink, down from a source, or both ways through an echo.
//!
//! Its operation is the part of the stream in the measured time. It ends well when all sent bytes are known to have come
//! through: by the sink's verdict, or by the echo's last byte. A stream down has no end of its own and is cut off.

use rustix::io::Errno;

use super::account::{Account, Operation};
use super::clock;
use super::context::{Context, Next, Readiness};
use super::lane::Phase;
use crate::payload::check::Checker;
use crate::payload::fault::{Fault, FaultKind};
use crate::payload::frame::{HEADER, Kind, Request, Response, Status};
use crate::payload::pattern::{self, Way};
use crate::settings::{Direction, Verify};

/// Bytes made and sent at once where each is checked: those that the kernel does not take are made again.
const PIECE: usize = 128 << 10;
/// The same where few or none are checked: in pieces of 128 KiB a sender reaches 7 GB/s where it does 9 with these.
const LARGE_PIECE: usize = 1 << 20;
/// Bytes that one connection sends before the others have their turn.
const SENT_A_TURN: usize = 2 << 20;
/// Receives of one connection before the others have their turn.
const TURN: usize = 16;

/// A connection of a stream.
#[derive(Debug)]
pub(super) struct Stream {
    connection: u32,
    verify: Verify,
    direction: Direction,
    state: State,
    operation: Option<Operation>,
    /// Bytes that the kernel took. Those behind them are made again from this number when it can be sent: nothing is kept.
    sent: u64,
    received: u64,
    /// The first bytes that come, where they are a header: a source's, or a sink's verdict.
    header: Vec<u8>,
    /// Follows the pattern that comes.
    checker: Checker,
    /// Their end, or an error, is there to be received.
    ended: bool,
    /// Bytes both ways when it was last looked whether there are more, and since when there are not.
    seen: u64,
    still_since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// For the run to begin.
    Waiting,
    Flowing,
    /// We have sent our FIN, and they have not.
    Ending,
}

impl Stream {
    pub(super) fn new(connection: u32, verify: Verify, direction: Direction) -> Stream {
        let way = if direction == Direction::Down { Way::Down } else { Way::Up };
        Stream {
            connection,
            verify,
            direction,
            state: State::Waiting,
            operation: None,
            sent: 0,
            received: 0,
            header: Vec::new(),
            checker: Checker::new(connection, way, verify),
            ended: false,
            seen: 0,
            still_since: 0,
        }
    }

    pub(super) fn connected(&mut self, cx: &mut Context<'_>) -> Next {
        // One that replaces another begins at once.
        if cx.lane.phase == Phase::Running { self.begin(cx, None) } else { Next::Free }
    }

    pub(super) fn begin(&mut self, cx: &mut Context<'_>, operation: Option<Operation>) -> Next {
        self.operation = operation;
        self.state = State::Flowing;
        self.still_since = clock::now();
        self.flow(cx, Readiness { readable: true, writable: true, ended: false })
    }

    pub(super) fn ready(&mut self, cx: &mut Context<'_>, readiness: Readiness) -> Next {
        self.ended |= readiness.ended;
        match self.state {
            State::Waiting if self.ended => Next::Broken("closed early"),
            State::Waiting => Next::Stay,
            State::Flowing | State::Ending => self.flow(cx, readiness),
        }
    }

    fn flow(&mut self, cx: &mut Context<'_>, readiness: Readiness) -> Next {
        self.take_operation(cx, clock::now());
        let pushed = if readiness.writable { self.push(cx) } else { Ok(false) };
        let pulled = if readiness.readable || self.ended { self.pull(cx) } else { Next::Stay };
        match (pushed, pulled) {
            (Ok(true), Next::Stay) => Next::More,
            // The bytes before the error show more than the error.
            (Err(error), Next::Stay | Next::More) => self.broken(cx, error),
            (_, pulled) => pulled,
        }
    }

    /// The measured time may have begun meanwhile.
    fn take_operation(&mut self, cx: &mut Context<'_>, now: u64) {
        if self.operation.is_none() && self.state == State::Flowing && cx.lane.account.counts(now) {
            self.operation = cx.lane.next(now);
        }
    }

    /// Sends until the kernel takes no more; whether it would.
    fn push(&mut self, cx: &mut Context<'_>) -> Result<bool, Errno> {
        let mut left = SENT_A_TURN;
        while left > 0 {
            let made = self.make(cx);
            if made == 0 {
                return Ok(false);
            }
            let sent = cx.send_output()?;
            self.sent += sent as u64;
            left = left.saturating_sub(sent);
            if sent < made {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the next bytes, and returns how many these are.
    fn make(&self, cx: &mut Context<'_>) -> usize {
        let header_left = (HEADER as u64).saturating_sub(self.sent) as usize;
        let piece = if self.verify == Verify::Full { PIECE } else { LARGE_PIECE };
        let (kind, length) = match self.direction {
            _ if self.state != State::Flowing => return 0,
            Direction::Up => (Some(Kind::StreamUp), piece),
            Direction::Down => (Some(Kind::StreamDown), header_left),
            Direction::Both => (None, piece),
        };
        let (connection, verify) = (self.connection, self.verify);
        cx.kit.output.clear();
        let bytes = cx.kit.output.room(length);
        pattern::fill_for(verify, bytes, connection, Way::Up, self.sent);
        if let Some(kind) = kind.filter(|_| header_left > 0) {
            let (length, answer) = (u32::MAX, HEADER as u32);
            let header = Request { connection, length, answer, verify, kind }.encode();
            bytes[..header_left].copy_from_slice(&header[HEADER - header_left..]);
        }
        length
    }

    /// Receives until there is no more.
    fn pull(&mut self, cx: &mut Context<'_>) -> Next {
        for _ in 0..TURN {
            let counts = self.verify == Verify::Off && self.wants_header() == 0;
            let received = match if counts { cx.discard() } else { cx.receive() } {
                Ok(Some(0)) => return self.end(cx),
                Ok(Some(received)) => received,
                Ok(None) => return Next::Stay,
                Err(error) => return self.broken(cx, error),
            };
            cx.lane.account.received(received);
            self.received += received as u64;
            let fault = if counts {
                // Never copied, only counted.
                self.checker.skip(received);
                None
            } else {
                self.take(&cx.kit.input[..received])
            };
            if self.is_echoed() {
                return Next::Broken(if self.direction == Direction::Up {
                    "an echo, no sink"
                } else {
                    "an echo, no source"
                });
            }
            if let Some(fault) = fault {
                cx.lane.account.fault(fault);
                return Next::Broken("wrong bytes");
            }
            if received < cx.kit.input.len() && !self.ended {
                return Next::Stay;
            }
        }
        Next::More
    }

    /// How many bytes of a header have yet to come.
    fn wants_header(&self) -> usize {
        if self.direction == Direction::Both { 0 } else { HEADER - self.header.len() }
    }

    fn take(&mut self, bytes: &[u8]) -> Option<Fault> {
        let wanted = self.wants_header();
        let (now, rest) = bytes.split_at(bytes.len().min(wanted));
        self.header.extend_from_slice(now);
        if self.direction == Direction::Down && wanted > 0 && self.wants_header() == 0 {
            self.begin_down();
        }
        // After a sink's verdict nothing has to come; a checker of the stream up, which never came down, calls it wrong.
        if rest.is_empty() || self.is_echoed() { None } else { self.checker.take(rest) }
    }

    /// Our own header came back: the server there is of another kind than asked for, and no byte is lost.
    fn is_echoed(&self) -> bool {
        let request = self.header.first_chunk().and_then(Request::decode);
        request.is_some_and(|request| request.connection == self.connection)
    }

    fn begin_down(&mut self) {
        let Some(header) = self.header.first_chunk().filter(|_| !self.is_echoed()) else { return };
        let expected =
            Response { connection: self.connection, length: u32::MAX, status: Status::Fine }.encode();
        if *header == expected {
            self.checker.skip(HEADER);
        } else {
            self.checker.misfit(header, Some(expected));
        }
    }

    /// The other end has sent its FIN.
    fn end(&mut self, cx: &mut Context<'_>) -> Next {
        let whole = self.state == State::Ending;
        let fault = match self.direction {
            Direction::Both => self.checker.finish(whole.then_some(self.sent)),
            Direction::Up => self.verdict().or_else(|| self.checker.finish(None)),
            Direction::Down => self.checker.finish(None),
        };
        if let Some(fault) = fault {
            cx.lane.account.fault(fault);
            return Next::Broken("wrong bytes");
        }
        match self.direction {
            _ if !whole => Next::Broken("closed early"),
            Direction::Up if self.wants_header() > 0 => Next::Broken("no verdict"),
            _ => self.done(cx),
        }
    }

    /// The fault in the sink's verdict, if there is one.
    fn verdict(&self) -> Option<Fault> {
        let response = Response::decode(self.header.first_chunk()?);
        let (connection, direction) = (self.connection, "up");
        let kind = match response.filter(|response| response.connection == self.connection) {
            // No verdict at all: it is not known how far our stream came.
            None => return Some(Fault { connection, direction, offset: 0, kind: FaultKind::Garbage }),
            Some(Response { status: Status::Faulty(complaint), .. }) => complaint.kind(),
            Some(Response { length, .. }) => {
                // The verdict has the low 32 bits of the count.
                let lacking = (self.sent as u32).wrapping_sub(length).cast_signed();
                match lacking {
                    0 => return None,
                    1.. => FaultKind::Cut(lacking.unsigned_abs().into()),
                    _ => FaultKind::Duplicated(lacking.unsigned_abs().into()),
                }
            }
        };
        Some(Fault { connection, direction, offset: self.sent, kind })
    }

    fn done(&mut self, cx: &mut Context<'_>) -> Next {
        if let Some(operation) = self.operation.take() {
            cx.lane.account.ok(operation, clock::now());
        }
        Next::Over
    }

    /// It broke; the gathered bytes may show that more is wrong than that.
    fn broken(&mut self, cx: &mut Context<'_>, error: Errno) -> Next {
        if self.settle(&mut cx.lane.account) { Next::Broken("wrong bytes") } else { error.into() }
    }

    /// Names a fault that is being gathered, as nothing more will be looked at; returns whether there was one.
    pub(super) fn settle(&mut self, account: &mut Account) -> bool {
        account.settle(&mut self.checker)
    }

    pub(super) fn tick(&mut self, cx: &mut Context<'_>, now: u64) -> Next {
        self.take_operation(cx, now);
        let bytes = self.sent + self.received;
        if bytes != self.seen || self.state == State::Waiting {
            (self.seen, self.still_since) = (bytes, now);
            return Next::Stay;
        }
        if now.saturating_sub(self.still_since) < cx.lane.account.timeout() {
            return Next::Stay;
        }
        if self.settle(&mut cx.lane.account) { Next::Broken("wrong bytes") } else { Next::Broken("stalled") }
    }

    /// The measured time is over: the FIN is sent, and bytes under way are waited for.
    pub(super) fn wind_down(&mut self, cx: &mut Context<'_>) -> Next {
        if self.state == State::Waiting {
            return Next::Over;
        }
        if self.settle(&mut cx.lane.account) {
            return Next::Broken("wrong bytes");
        }
        if self.direction == Direction::Down {
            return self.done(cx);
        }
        self.state = State::Ending;
        match rustix::net::shutdown(cx.socket, rustix::net::Shutdown::Write) {
            Ok(()) => Next::Stay,
            Err(error) => error.into(),
        }
    }

    pub(super) fn give_back(&mut self) -> Option<Operation> {
        self.operation.take()
    }
}
