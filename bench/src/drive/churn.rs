//! A connection to an echo that ends as chance has it: closed, reset, closed on one side, or after a time in which it neither
//! sends nor receives; at any place of its stream. All that comes back is checked, and where the end is orderly, that all did.

use std::time::Duration;

use fastrand::Rng;
use rustix::io::Errno;

use super::account::{Account, Operation};
use super::clock;
use super::context::{Context, Next, Readiness};
use crate::payload::check::Checker;
use crate::payload::pattern::{self, Way};
use crate::settings::{Verify, Work};

/// Bytes made and sent at once.
const PIECE: usize = 64 << 10;
/// Sends or receives of one connection before the others have their turn.
const TURN: usize = 16;
/// The longest that a connection stalls, in nanoseconds.
const LONGEST_STALL: u64 = 300_000_000;

/// A connection of a churn.
#[derive(Debug)]
pub(super) struct Churn {
    connection: u32,
    verify: Verify,
    operation: Option<Operation>,
    checker: Checker,
    sent: u64,
    /// The end, when this many bytes are sent.
    until: u64,
    fate: Fate,
    /// Their end, or an error, is there to be received.
    ended: bool,
}

/// Fate of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Closed when all that was sent has come back.
    Close,
    /// Reset, whatever is under way.
    Reset,
    /// Closed on our side; all that was sent and their end are waited for.
    HalfClose,
    /// Left alone for so many nanoseconds; then it goes on to so many bytes, and is closed on our side.
    Stall(u64, u64),
    /// It is left alone until this time.
    Stalled(u64, u64),
    /// Our side is closed.
    HalfClosed,
}

impl Fate {
    /// One of them, and at how many bytes it strikes.
    fn draw(bytes: u64, chance: &mut Rng) -> (Fate, u64) {
        let fate = match chance.u8(0..4) {
            0 => Fate::Close,
            1 => Fate::Reset,
            2 => Fate::HalfClose,
            _ => Fate::Stall(chance.u64(0..LONGEST_STALL), bytes),
        };
        (fate, chance.u64(0..=bytes))
    }
}

const _: () = assert!(
    Duration::from_nanos(LONGEST_STALL).as_secs() == 0,
    "a stall is shorter than any sensible timeout"
);

impl Churn {
    pub(super) fn new(connection: u32, verify: Verify, operation: Option<Operation>) -> Churn {
        let checker = Checker::new(connection, Way::Up, verify);
        let (fate, until) = (Fate::HalfClose, 0);
        Churn { connection, verify, operation, checker, sent: 0, until, fate, ended: false }
    }

    pub(super) fn connected(&mut self, cx: &mut Context<'_>) -> Next {
        let bytes = match &cx.lane.work {
            Work::Churn { bytes, .. } => bytes.draw(&mut cx.kit.chance),
            _ => 0,
        };
        (self.fate, self.until) = Fate::draw(bytes.into(), &mut cx.kit.chance);
        self.go_on(cx)
    }

    pub(super) fn ready(&mut self, cx: &mut Context<'_>, readiness: Readiness) -> Next {
        self.ended |= readiness.ended;
        if let Fate::Stalled(..) = self.fate { Next::Stay } else { self.go_on(cx) }
    }

    /// Sends and receives as much as can be now.
    fn go_on(&mut self, cx: &mut Context<'_>) -> Next {
        let pushed = self.push(cx);
        let acted = match pushed {
            Ok(_) if self.sent == self.until => self.act(cx),
            _ => Next::Stay,
        };
        if acted != Next::Stay || matches!(self.fate, Fate::Stalled(..)) {
            return acted;
        }
        match (pushed, self.pull(cx)) {
            (Ok(true), Next::Stay) => Next::More,
            // The bytes before the error show more than the error.
            (Err(error), Next::Stay | Next::More) => self.broken(cx, error),
            (_, pulled) => pulled,
        }
    }

    /// Sends until the kernel takes no more, or all is sent; whether there is more that it would take.
    fn push(&mut self, cx: &mut Context<'_>) -> Result<bool, Errno> {
        for _ in 0..TURN {
            let length = (self.until - self.sent).min(PIECE as u64) as usize;
            if length == 0 {
                return Ok(false);
            }
            cx.kit.output.clear();
            let bytes = cx.kit.output.room(length);
            pattern::fill_for(self.verify, bytes, self.connection, Way::Up, self.sent);
            let sent = cx.send_output()?;
            self.sent += sent as u64;
            if sent < length {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All is sent that is to be before its fate strikes.
    fn act(&mut self, cx: &mut Context<'_>) -> Next {
        match self.fate {
            Fate::Close | Fate::HalfClosed | Fate::Stalled(..) => Next::Stay,
            Fate::Reset => match rustix::net::sockopt::set_socket_linger(cx.socket, Some(Duration::ZERO)) {
                Ok(()) => self.done(cx),
                Err(error) => error.into(),
            },
            Fate::Stall(time, bytes) => {
                self.fate = Fate::Stalled(clock::now() + time, bytes);
                Next::Stay
            }
            Fate::HalfClose => {
                self.fate = Fate::HalfClosed;
                match rustix::net::shutdown(cx.socket, rustix::net::Shutdown::Write) {
                    Ok(()) => Next::Stay,
                    Err(error) => self.broken(cx, error),
                }
            }
        }
    }

    /// Receives until there is no more.
    fn pull(&mut self, cx: &mut Context<'_>) -> Next {
        for _ in 0..TURN {
            if self.fate == Fate::Close && self.checker.offset() == self.until {
                return self.done(cx);
            }
            let received = match cx.receive() {
                Ok(Some(0)) => return self.end(cx),
                Ok(Some(received)) => received,
                Ok(None) => return Next::Stay,
                Err(error) => return self.broken(cx, error),
            };
            cx.lane.account.received(received);
            if let Some(fault) = self.checker.take(&cx.kit.input[..received]) {
                cx.lane.account.fault(fault);
                return Next::Broken("wrong bytes");
            }
        }
        Next::More
    }

    /// The other end has sent its FIN.
    fn end(&mut self, cx: &mut Context<'_>) -> Next {
        let whole = self.fate == Fate::HalfClosed;
        if let Some(fault) = self.checker.finish(whole.then_some(self.sent)) {
            cx.lane.account.fault(fault);
            return Next::Broken("wrong bytes");
        }
        if whole { self.done(cx) } else { Next::Broken("closed early") }
    }

    /// It ends as it was to end, if nothing that came was wrong.
    fn done(&mut self, cx: &mut Context<'_>) -> Next {
        if self.settle(&mut cx.lane.account) {
            return Next::Broken("wrong bytes");
        }
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
        match &self.operation {
            Some(operation) if cx.lane.account.is_late(operation, now) => {
                return if self.settle(&mut cx.lane.account) {
                    Next::Broken("wrong bytes")
                } else {
                    Next::Late
                };
            }
            _ => {}
        }
        match self.fate {
            Fate::Stalled(until, bytes) if now >= until => {
                (self.fate, self.until) = (Fate::HalfClose, bytes);
                self.go_on(cx)
            }
            _ => Next::Stay,
        }
    }

    pub(super) fn give_back(&mut self) -> Option<Operation> {
        self.operation.take()
    }
}
