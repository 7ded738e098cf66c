//! A connection that waits for the first bytes that the other end sends unasked: through a proxy they prove that the upstream leg
//! is there too.

use super::account::Operation;
use super::clock;
use super::context::{Context, Next, Readiness};
use super::crr::Ending;
use crate::settings::Close;

/// A connection of a connect.
#[derive(Debug)]
pub(super) struct Greeting {
    operation: Option<Operation>,
    ending: Ending,
}

impl Greeting {
    pub(super) fn new(operation: Option<Operation>) -> Greeting {
        Greeting { operation, ending: Ending::Not }
    }

    pub(super) fn ready(&mut self, cx: &mut Context<'_>, readiness: Readiness) -> Next {
        if !readiness.readable && !readiness.ended {
            return Next::Stay;
        }
        loop {
            match cx.receive() {
                Ok(None) => return Next::Stay,
                Err(error) => return error.into(),
                Ok(Some(0)) if self.ending == Ending::Not => return Next::Broken("closed early"),
                Ok(Some(0)) => return self.done(cx, clock::now()),
                Ok(Some(received)) => {
                    let now = cx.stamp(received);
                    if cx.lane.close == Close::Rst {
                        return self.done(cx, now);
                    }
                    if self.ending == Ending::Not {
                        self.ending = Ending::Theirs;
                        if let Err(error) = rustix::net::shutdown(cx.socket, rustix::net::Shutdown::Write) {
                            return error.into();
                        }
                    }
                }
            }
        }
    }

    fn done(&mut self, cx: &mut Context<'_>, now: u64) -> Next {
        if let Some(operation) = self.operation.take() {
            cx.lane.account.ok(operation, now);
        }
        Next::Over
    }

    pub(super) fn tick(&mut self, cx: &mut Context<'_>, now: u64) -> Next {
        match &self.operation {
            Some(operation) if cx.lane.account.is_late(operation, now) => Next::Late,
            _ => Next::Stay,
        }
    }

    pub(super) fn give_back(&mut self) -> Option<Operation> {
        self.operation.take()
    }
}
