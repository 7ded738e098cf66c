//! Admission (steps 4 and 6 of the walk): reserves a connection's places, here or on a less loaded shard, matches, draws, and
//! opens its session.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use weir_routing::{Arrival, DestinationId, FirstBytes, Refusal, RouteId, Verdict};

use super::core::Core;
use super::listeners::{Arrived, Listeners};
use super::live::Live;
use super::message::{Accepted, HandedOver, ListenerContext, Message};
use super::session::{Dialling, Places};
use crate::boards::counters::Series;
use crate::boards::in_force::InForce;
use crate::boards::labels::SeriesIds;
use crate::boards::limits::{LimitsBoard, ShardLoad};
use crate::boards::registry::{Registry, ShardSeries};
use crate::clock::{self, Millis};
use crate::listener::INHERITED_KEEPALIVE;
use crate::mailbox::Mailbox;
use crate::os::sys;
use crate::outcome::Record;
use crate::reason::Reason;

/// How often a part of the sources board is swept.
const SWEEP: Duration = Duration::from_secs(1);

/// The table, limits and peers by which a shard admits connections.
pub(super) struct Admission {
    index: usize,
    series: ShardSeries,
    limits: Arc<LimitsBoard>,
    load: ShardLoad,
    peers: Arc<[Arc<Mailbox<Message>>]>,
    /// When sources that are gone are forgotten next, and how often they have been; one shard does it for all.
    sweep: (Millis, usize),
}

impl Admission {
    /// Before the first table.
    pub(super) fn new(
        index: usize,
        registry: &Registry,
        limits: Arc<LimitsBoard>,
        load: ShardLoad,
        peers: Arc<[Arc<Mailbox<Message>>]>,
    ) -> Self {
        let (series, sweep) = (ShardSeries::new(registry), (Millis::default(), 0));
        Self { index, series, limits, load, peers, sweep }
    }

    /// Counts under the labels of another table. Its connections are decided by the table of their listener's context.
    pub(super) fn take_table(&mut self, in_force: &InForce) {
        self.series.follow(&in_force.labels);
    }

    /// Forgets sources that are gone, some of them every second: a shard has a turn in each.
    pub(super) fn keep_up(&mut self, now: Millis) {
        let (at, turn) = self.sweep;
        if self.index == 0 && at <= now {
            self.limits.sources.sweep(turn, clock::monotonic().as_nanos() as u64);
            self.sweep = (now.after(SWEEP), turn.wrapping_add(1));
        }
    }

    /// Reserves the connection's places, here or on a less loaded shard, before any operation, byte or decision.
    pub(super) fn admit(&mut self, core: &mut Core<Live>, listeners: &Listeners, arrived: Arrived) {
        let Arrived { listener, socket, at } = arrived;
        let Some((context, is_closing)) = listeners.context(listener) else {
            // A listener outlives its sockets: a defect of ours, which the client is not to take for an orderly end.
            return sys::reset(socket.as_fd());
        };
        let context = context.clone();
        let better = if is_closing { None } else { self.load.less_loaded_than(self.index) };
        let Some(process) = self.limits.process.reserve() else {
            sys::reset(socket.as_fd());
            Record::open(self.series(&context, None, None)).end(Reason::LimitProcess);
            return core.retire(context.in_force);
        };
        let source = || sys::peer(socket.as_fd()).map(|peer| peer.ip());
        let limits = &context.in_force.gateways[context.gateway.index()];
        let gateway = match limits.reserve(source, || clock::monotonic().as_nanos() as u64) {
            Ok(gateway) => gateway,
            Err(reason) => {
                sys::reset(socket.as_fd());
                Record::open(self.series(&context, None, None)).end(reason);
                return core.retire(context.in_force);
            }
        };
        let shard = self.load.add(better.unwrap_or(self.index));
        let accepted = Accepted { socket, at, process, gateway, shard };
        let Some(better) = better else { return self.decide(core, context, accepted) };
        match self.peers[better].send(Message::Socket(HandedOver { listener, context, accepted })) {
            Ok(()) => core.counters.handed_over.add(1),
            // Its mailbox is full: the socket stays here.
            Err(Message::Socket(HandedOver { context, mut accepted, .. })) => {
                accepted.shard = self.load.add(self.index);
                self.decide(core, context, accepted);
            }
            Err(_) => unreachable!("a mailbox gives back what it was sent"),
        }
    }

    /// Admits a socket that another shard accepted. It never moves twice.
    pub(super) fn receive(&mut self, core: &mut Core<Live>, listeners: &Listeners, handed: HandedOver) {
        // A table is not handed to all shards in the same moment: this one may not know the listener yet, or no longer.
        let context = match listeners.context(handed.listener) {
            Some((own, _)) => {
                let own = own.clone();
                core.retire(handed.context.in_force);
                own
            }
            None => handed.context,
        };
        self.decide(core, context, handed.accepted);
    }

    /// Matches, draws and reserves; then the session begins to dial.
    fn decide(&mut self, core: &mut Core<Live>, context: ListenerContext, accepted: Accepted) {
        self.decide_by(core, &context, accepted);
        core.retire(context.in_force);
    }

    fn decide_by(&mut self, core: &mut Core<Live>, context: &ListenerContext, accepted: Accepted) {
        let in_force = &context.in_force;
        let Ok((source, destination)) = addresses(context, &accepted.socket) else {
            // It was reset while it waited to be accepted.
            return Record::open(self.series(context, None, None)).end(Reason::ClientGone);
        };
        let arrival = Arrival::new(context.gateway, source, destination);
        let (to, route, refusal) = match in_force.table.decide(&arrival, &FirstBytes::UNKNOWN, &mut core.rng)
        {
            Verdict::Forward { destination, route, .. } => (Some(destination), route, None),
            Verdict::Refuse { refusal, route, .. } => match refusal {
                Refusal::NoPort(destination) => (Some(destination), route, Some(Reason::NoEndpoint)),
                Refusal::NoRoute => (None, route, Some(Reason::NoRoute)),
                Refusal::Rejected => (None, route, Some(Reason::Rejected)),
            },
            // No configuration of this version has a rule that asks for first bytes.
            Verdict::Needs(_) => (None, None, Some(Reason::Internal)),
        };
        let mut record = Record::open(self.series(context, route, to));
        if let Some(series) = record.series()
            && in_force.table.workload(arrival.source.ip()).is_none()
        {
            series.unknown_sources.add(1);
        }
        let limits = to.and_then(|to| in_force.reserve(to));
        let (Some(to), None, Some(destination)) = (to, refusal, limits) else {
            sys::reset(accepted.socket.as_fd());
            return record.end(refusal.unwrap_or(Reason::LimitService));
        };
        let dialling = Dialling::new(Arc::clone(in_force), to, &arrival, accepted.at);
        let policy = in_force.table.policy(to);
        // The options that it did not inherit. They fail only for a socket that is dead, which its poll reports.
        if policy.keepalive != Some(INHERITED_KEEPALIVE) {
            let _ = sys::set_keepalive(accepted.socket.as_fd(), policy.keepalive);
        }
        let _ = sys::set_user_timeout(accepted.socket.as_fd(), policy.user_timeout);
        let Accepted { socket, process, gateway, shard, .. } = accepted;
        let slot = core.open(socket, dialling, record, Places::new(process, gateway, shard, destination));
        core.begin_dial(slot);
    }

    /// The counters of connections that took this way, by ids.
    fn series(
        &mut self,
        context: &ListenerContext,
        route: Option<RouteId>,
        destination: Option<DestinationId>,
    ) -> Arc<Series> {
        self.series.of(&context.in_force.labels, SeriesIds { gateway: context.gateway, route, destination })
    }
}

/// The client and the original destination. On a listener with an address of its own that is the destination, without a call.
fn addresses(context: &ListenerContext, socket: &OwnedFd) -> std::io::Result<(SocketAddr, SocketAddr)> {
    let source = sys::peer(socket.as_fd())?;
    let must_ask = context.address.ip().is_unspecified() && context.in_force.wants_destination;
    let destination = if must_ask { sys::local(socket.as_fd())? } else { context.address };
    Ok((source, destination))
}
