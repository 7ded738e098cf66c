//! Requests and responses on a connection that stays: as many under way as the depth allows.

use std::collections::VecDeque;

use super::account::{Account, Operation};
use super::clock;
use super::context::{Context, Next, Readiness};
use super::exchange::{Taken, Wire};
use crate::settings::Verify;

/// A connection of an rr or a hold.
#[derive(Debug)]
pub(super) struct Rr {
    wire: Wire,
    /// Operations whose answers are waited for, in order.
    under_way: VecDeque<Operation>,
}

impl Rr {
    pub(super) fn new(connection: u32, verify: Verify) -> Rr {
        Rr { wire: Wire::new(connection, verify), under_way: VecDeque::new() }
    }

    /// Whether nothing is under way.
    pub(super) fn is_silent(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether answers are waited for and nothing is left to be sent.
    pub(super) fn only_waits(&self) -> bool {
        self.wire.only_waits()
    }

    /// Takes operations from the lane until all of the depth is in use.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>) -> Next {
        self.begin(cx, None)
    }

    /// Begins this operation, and the lane's next ones while there is room.
    pub(super) fn begin(&mut self, cx: &mut Context<'_>, first: Option<Operation>) -> Next {
        cx.kit.output.clear();
        // Requests that are handed over together have one stamp, taken before the first of them is made.
        let now = clock::now();
        let mut next = first;
        let mut free = false;
        while next.is_some() || self.under_way.len() < cx.lane.depth {
            let Some(mut operation) = next.take().or_else(|| cx.lane.next(now)) else {
                free = true;
                break;
            };
            operation.hand(now);
            self.wire.ask(&cx.lane.exchange, &mut cx.kit.output, &mut cx.kit.chance);
            self.under_way.push_back(operation);
        }
        if !cx.kit.output.bytes().is_empty()
            && let Err(error) = self.wire.send(cx)
        {
            return error.into();
        }
        if free { Next::Free } else { Next::Stay }
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
        let before = self.under_way.len();
        loop {
            let received = match cx.receive() {
                Ok(Some(received)) => received,
                Ok(None) => break,
                Err(error) => return error.into(),
            };
            if received == 0 {
                self.wire.settle(&mut cx.lane.account);
                return Next::Broken("closed early");
            }
            let now = cx.stamp(received);
            if !self.take(cx, received, now) {
                return Next::Broken("wrong bytes");
            }
            // A receive that did not fill the buffer took all there was, and an answer that is complete needs no other.
            let drained = received < cx.kit.input.len() || !self.wire.is_waiting();
            if drained && !readiness.ended {
                break;
            }
        }
        let answered = self.under_way.len() < before;
        if answered && !self.wire.is_suspicious() { self.fill(cx) } else { Next::Stay }
    }

    /// Looks at received bytes; returns whether they are right.
    fn take(&mut self, cx: &mut Context<'_>, received: usize, now: u64) -> bool {
        let mut bytes = &cx.kit.input[..received];
        loop {
            match self.wire.take(&cx.lane.exchange, &mut bytes, &mut cx.lane.account) {
                Taken::More => return true,
                Taken::Wrong => return false,
                Taken::Answer => match self.under_way.pop_front() {
                    Some(operation) => cx.lane.account.ok(operation, now),
                    None => return false,
                },
            }
            if bytes.is_empty() {
                return true;
            }
        }
    }

    pub(super) fn tick(&mut self, cx: &mut Context<'_>, now: u64) -> Next {
        self.wire.tick(&mut cx.lane.account, self.under_way.front(), now)
    }

    /// Names a fault that is being gathered, as nothing more will be looked at.
    pub(super) fn settle(&mut self, account: &mut Account) {
        self.wire.settle(account);
    }

    pub(super) fn give_back(&mut self) -> Option<Operation> {
        self.under_way.pop_front()
    }
}
