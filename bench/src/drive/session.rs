//! A session is the purpose of a connection: one state machine for each kind of work.

use super::account::{Account, Operation};
use super::churn::Churn;
use super::clock;
use super::context::{Context, Kit, Next, Readiness};
use super::crr::Crr;
use super::greeting::Greeting;
use super::rr::Rr;
use super::stream::Stream;
use crate::settings::Work;

/// Purpose of a connection, and its progress.
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

    /// An operation for a connection that reported itself free; the lane's own next ones after it.
    pub(super) fn begin(&mut self, cx: &mut Context<'_>, operation: Option<Operation>) -> Next {
        match self {
            Session::Rr(rr) => rr.begin(cx, operation),
            Session::Stream(stream) => stream.begin(cx, operation),
            // The others are made for their operation and are never free.
            _ => operation.map_or(Next::Stay, |operation| {
                cx.lane.account.failed(operation, "not begun", clock::now());
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

    /// The run ends: a fault that is being gathered is named by the bytes so far.
    pub(super) fn settle(&mut self, account: &mut Account) {
        match self {
            Session::Rr(rr) => rr.settle(account),
            Session::Crr(crr) => crr.settle(account),
            Session::Greeting(_) => {}
            Session::Stream(stream) => drop(stream.settle(account)),
            Session::Churn(churn) => drop(churn.settle(account)),
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
