//! A connection for one operation: connect, some exchanges, close.
//!
//! Closed by FIN, the operation is done when the other end's FIN is here too; closed by reset, with the last answer.

use super::account::{Account, Operation};
use super::clock;
use super::context::{Context, Next, Readiness};
use super::exchange::{Taken, Wire};
use crate::settings::{Close, Verify};

/// A connection of a crr.
#[derive(Debug)]
pub(super) struct Crr {
    wire: Wire,
    operation: Option<Operation>,
    /// Exchanges that are not begun.
    left: u32,
    ending: Ending,
}

/// Ends a connection orderly or at once, in the same way for all work that is made of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Not yet.
    Not,
    /// Our FIN is out.
    Theirs,
}

impl Crr {
    pub(super) fn new(connection: u32, verify: Verify, exchanges: u32, operation: Option<Operation>) -> Crr {
        Crr { wire: Wire::new(connection, verify), operation, left: exchanges, ending: Ending::Not }
    }

    pub(super) fn connected(&mut self, cx: &mut Context<'_>) -> Next {
        self.left = self.left.saturating_sub(1);
        cx.kit.output.clear();
        self.wire.ask(&cx.lane.exchange, &mut cx.kit.output, &mut cx.kit.chance);
        match self.wire.send(cx) {
            Ok(()) => Next::Stay,
            Err(error) => error.into(),
        }
    }

    pub(super) fn ready(&mut self, cx: &mut Context<'_>, readiness: Readiness) -> Next {
        if readiness.writable
            && let Err(error) = self.wire.resume(cx)
        {
            return error.into();
        }
        if !readiness.readable && !readiness.ended {
            return Next::Stay;
        }
        loop {
            let received = match cx.receive() {
                Ok(Some(received)) => received,
                Ok(None) => return Next::Stay,
                Err(error) => return error.into(),
            };
            if received == 0 {
                return self.ended(cx);
            }
            let now = cx.stamp(received);
            let mut bytes = &cx.kit.input[..received];
            let taken = self.wire.take(&cx.lane.exchange, &mut bytes, &mut cx.lane.account);
            let next = match taken {
                Taken::Wrong => Next::Broken("wrong bytes"),
                Taken::Answer if !bytes.is_empty() => {
                    let _ = self.wire.take(&cx.lane.exchange, &mut bytes, &mut cx.lane.account);
                    Next::Stay
                }
                Taken::Answer if self.left > 0 => self.connected(cx),
                Taken::Answer => self.close(cx, now),
                Taken::More => Next::Stay,
            };
            if next != Next::Stay || (received < cx.kit.input.len() && !readiness.ended) {
                return next;
            }
        }
    }

    fn close(&mut self, cx: &mut Context<'_>, now: u64) -> Next {
        if cx.lane.close == Close::Rst {
            if let Some(operation) = self.operation.take() {
                cx.lane.account.ok(operation, now);
            }
            return Next::Over;
        }
        self.ending = Ending::Theirs;
        match rustix::net::shutdown(cx.socket, rustix::net::Shutdown::Write) {
            Ok(()) => Next::Stay,
            Err(error) => error.into(),
        }
    }

    fn ended(&mut self, cx: &mut Context<'_>) -> Next {
        if self.wire.settle(&mut cx.lane.account) {
            return Next::Broken("wrong bytes");
        }
        if self.ending == Ending::Not {
            return Next::Broken("closed early");
        }
        if let Some(operation) = self.operation.take() {
            cx.lane.account.ok(operation, clock::now());
        }
        Next::Over
    }

    pub(super) fn tick(&mut self, cx: &mut Context<'_>, now: u64) -> Next {
        self.wire.tick(&mut cx.lane.account, self.operation.as_ref(), now)
    }

    /// Names a fault that is being gathered, as nothing more will be looked at.
    pub(super) fn settle(&mut self, account: &mut Account) {
        self.wire.settle(account);
    }

    pub(super) fn give_back(&mut self) -> Option<Operation> {
        self.operation.take()
    }
}
