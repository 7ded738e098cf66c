//! The compiled table: built once, frozen, then read for every connection. It decides an [`Arrival`] (step 6 of the walk):
//! match, draw, port. Shards, `[[test]]`s, `explain` and `/ready` all ask [`Table::decide`] or the parts of it.
//!
//! Each shard owns its table and all that a connection reads of it. Names, labels and places are in the [`Parts`], which all
//! copies share and no connection reads.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::arrival::Arrival;
use crate::balance::{Attempt, Loads, Picker};
use crate::classify::{BlockId, Classified, Classifier};
use crate::first_bytes::{FirstBytes, FirstPart};
use crate::ids::{DestinationId, EndpointId, RouteId, ServiceId, SplitId, SubsetId, WorkloadId};
use crate::parts::{Destination, Parts, RouteAction, Service, Share};
use crate::policy::Policy;
use crate::split::Drawing;

/// Which step of "how a connection is decided" took it; the word in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// A `[[route]]`.
    Route,
    /// The service whose VIP and port is the original destination.
    Service,
    /// The gateway's `to`.
    Gateway,
    /// The gateway's `unmatched`.
    Unmatched,
}

/// The decision on one connection: a value, which one place carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pick an endpoint of the destination and dial it.
    Forward {
        /// The destination that was drawn, at the port in use.
        destination: DestinationId,
        /// Which step took the connection.
        via: Via,
        /// The route, where one took it.
        route: Option<RouteId>,
    },
    /// Reset the connection.
    Refuse {
        /// Why.
        refusal: Refusal,
        /// Which step took the connection.
        via: Via,
        /// The route, where one took it.
        route: Option<RouteId>,
    },
    /// Wait for this part of the first bytes and decide again: the first rule that holds in all else asks for it.
    Needs(FirstPart),
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A route rejects it.
    Rejected,
    /// No route, service or default took it.
    NoRoute,
    /// The service of the destination that was drawn lacks the port that the client dialled.
    NoPort(DestinationId),
}

/// The first part of a decision: which step takes an arrival, before any draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Which step took it.
    pub via: Via,
    /// The route, where one took it.
    pub route: Option<RouteId>,
    /// The action that follows.
    pub action: Action,
}

/// The action of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Draw a destination from this split.
    Forward(SplitId),
    /// Refuse the connection.
    Refuse(Refusal),
    /// Wait for this part of the first bytes.
    Needs(FirstPart),
}

/// A share of a split, and the end of a connection that draws it.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'t> {
    /// The share; one of weight 0 is never drawn.
    pub share: &'t Share,
    /// The destination at the port in use, or why the connection is refused.
    pub end: Result<DestinationId, Refusal>,
}

/// The frozen table. A clone is a whole copy but for the parts: each shard owns one.
#[derive(Clone, Debug)]
pub struct Table {
    classifier: Classifier,
    /// By route.
    actions: Vec<Action>,
    /// By service.
    vips: Vec<ByPort>,
    /// By gateway: its `to`.
    defaults: Vec<Option<SplitId>>,
    /// By split.
    drawings: Vec<Drawing>,
    /// By destination.
    targets: Vec<Target>,
    /// By endpoint: the address that is dialled.
    addresses: Vec<SocketAddr>,
    /// Read by `explain` and messages only.
    parts: Arc<Parts>,
}

/// Where the VIPs of a service lead.
#[derive(Clone, Debug)]
struct ByPort {
    /// Sorted by port.
    by_port: Box<[(u16, SplitId)]>,
    at_any_port: Option<SplitId>,
}

/// The part of a destination that connections read.
#[derive(Clone, Debug)]
struct Target {
    service: ServiceId,
    subset: Option<SubsetId>,
    /// Where the port that the client dialled decides: the destination at each port, sorted by port. Empty otherwise.
    by_client_port: Box<[(u16, DestinationId)]>,
    policy: Policy,
    picker: Picker,
}

impl ByPort {
    fn new(service: &Service) -> Self {
        Self { by_port: sorted(&service.by_port), at_any_port: service.at_any_port }
    }

    fn split(&self, port: u16) -> Option<SplitId> {
        at_port(&self.by_port, port).or(self.at_any_port)
    }
}

impl Target {
    fn new(parts: &Parts, id: DestinationId, destination: &Destination) -> Self {
        Self {
            service: destination.service,
            subset: destination.subset,
            by_client_port: sorted(&destination.by_client_port),
            policy: destination.policy,
            picker: Picker::build(id, destination, &parts.endpoints),
        }
    }
}

impl Table {
    /// Freezes the parts: everything that a connection would have to work out is worked out here.
    pub fn build(parts: Parts) -> Self {
        let action = |action: &RouteAction| match action {
            RouteAction::Forward(split) => Action::Forward(*split),
            RouteAction::Reject => Action::Refuse(Refusal::Rejected),
        };
        let targets = (0..).map(DestinationId).zip(&parts.destinations);
        Self {
            classifier: Classifier::build(&parts),
            actions: parts.routes.iter().map(|route| action(&route.action)).collect(),
            vips: parts.services.iter().map(ByPort::new).collect(),
            defaults: parts.gateways.iter().map(|gateway| gateway.default).collect(),
            drawings: parts.splits.iter().map(|split| Drawing::new(split, &parts.destinations)).collect(),
            targets: targets.map(|(id, destination)| Target::new(&parts, id, destination)).collect(),
            addresses: parts.endpoints.iter().map(|endpoint| endpoint.address).collect(),
            parts: Arc::new(parts),
        }
    }

    /// The configuration behind the table, which all copies share.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Decides a connection: match, draw, port. Where the decision depends on a part of the first bytes that is not known yet, the
    /// verdict names it; the connection waits for it and is decided again.
    pub fn decide(
        &self,
        arrival: &Arrival,
        first_bytes: &FirstBytes<'_>,
        chance: &mut fastrand::Rng,
    ) -> Verdict {
        let Match { via, route, action } = self.matched(arrival, first_bytes);
        let end = match action {
            Action::Forward(split) => {
                let drawn = self.drawings[split.index()].draw(arrival.source.ip(), chance);
                self.at_port(drawn, arrival.destination.port())
            }
            Action::Refuse(refusal) => Err(refusal),
            Action::Needs(part) => return Verdict::Needs(part),
        };
        match end {
            Ok(destination) => Verdict::Forward { destination, via, route },
            Err(refusal) => Verdict::Refuse { refusal, via, route },
        }
    }

    /// Which step takes an arrival: the first part of [`Table::decide`].
    pub fn matched(&self, arrival: &Arrival, first_bytes: &FirstBytes<'_>) -> Match {
        self.matched_classified(arrival, &self.classifier.classify(arrival, first_bytes)).0
    }

    /// [`Table::matched`] after the look-ups; and the block that held, if a route took it.
    pub(crate) fn matched_classified(
        &self,
        arrival: &Arrival,
        classified: &Classified,
    ) -> (Match, Option<BlockId>) {
        if let Some(block) = self.classifier.first(classified) {
            let route = self.classifier.route(block).0;
            let action = match self.classifier.needs(classified, block) {
                Some(part) => Action::Needs(part),
                None => self.actions[route.index()],
            };
            return (Match { via: Via::Route, route: Some(route), action }, Some(block));
        }
        let by_vip = classified
            .service
            .and_then(|service| self.vips[service.index()].split(arrival.destination.port()));
        let (via, action) = match (by_vip, self.defaults[arrival.gateway.index()]) {
            (Some(split), _) => (Via::Service, Action::Forward(split)),
            (None, Some(split)) => (Via::Gateway, Action::Forward(split)),
            (None, None) => (Via::Unmatched, Action::Refuse(Refusal::NoRoute)),
        };
        (Match { via, route: None, action }, None)
    }

    /// Everything that may be drawn from a split by a connection to this port: the rest of [`Table::decide`] without chance.
    pub fn draws(&self, split: SplitId, port: u16) -> impl Iterator<Item = Draw<'_>> {
        let shares = &self.parts.splits[split.index()].shares;
        shares.iter().map(move |share| Draw { share, end: self.at_port(share.destination, port) })
    }

    /// With `sticky`: the destination that every connection of a source draws.
    pub(crate) fn fixed(&self, split: SplitId, source: IpAddr) -> Option<DestinationId> {
        self.drawings[split.index()].fixed(source)
    }

    /// The destination that was drawn, at the port that the client dialled where that decides.
    pub(crate) fn at_port(&self, drawn: DestinationId, port: u16) -> Result<DestinationId, Refusal> {
        let by_client_port = &self.targets[drawn.index()].by_client_port;
        if by_client_port.is_empty() {
            return Ok(drawn);
        }
        at_port(by_client_port, port).ok_or(Refusal::NoPort(drawn))
    }

    /// The workload that owns an address: of all that claim it the longest prefix. The address is in canonical form.
    pub fn workload(&self, address: IpAddr) -> Option<WorkloadId> {
        self.classifier.workload(address)
    }

    /// The policy in force for a destination.
    pub fn policy(&self, destination: DestinationId) -> &Policy {
        &self.targets[destination.index()].policy
    }

    /// The service of a destination, and the subset if it is one.
    pub fn service_of(&self, destination: DestinationId) -> (ServiceId, Option<SubsetId>) {
        let target = &self.targets[destination.index()];
        (target.service, target.subset)
    }

    /// The address of an endpoint; see [`dialled`](crate::dialled) for its port.
    pub fn address(&self, endpoint: EndpointId) -> SocketAddr {
        self.addresses[endpoint.index()]
    }

    /// An endpoint of a destination for one attempt: of those that are usable and were not tried, the lowest priority, then
    /// as the destination's policy balances. `None`: there is none.
    pub fn pick(
        &self,
        destination: DestinationId,
        source: IpAddr,
        loads: &impl Loads,
        attempt: Attempt<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<EndpointId> {
        self.targets[destination.index()].picker.pick(source, loads, attempt, rng)
    }

    /// Memory that a copy holds for itself, without the parts, which all copies share.
    pub fn bytes(&self) -> usize {
        let vips = self.vips.iter().map(|vips| size_of::<ByPort>() + size_of_val(&*vips.by_port));
        let targets = self
            .targets
            .iter()
            .map(|target| size_of::<Target>() + size_of_val(&*target.by_client_port) + target.picker.bytes());
        self.classifier.bytes()
            + size_of_val(&*self.actions)
            + vips.sum::<usize>()
            + size_of_val(&*self.defaults)
            + self.drawings.iter().map(Drawing::bytes).sum::<usize>()
            + targets.sum::<usize>()
            + size_of_val(&*self.addresses)
    }

    pub(crate) fn classifier(&self) -> &Classifier {
        &self.classifier
    }
}

/// A copy of a list in the order of its ports.
fn sorted<T: Copy>(by_port: &[(u16, T)]) -> Box<[(u16, T)]> {
    let mut sorted: Box<[(u16, T)]> = by_port.into();
    sorted.sort_by_key(|(port, _)| *port);
    sorted
}

/// The entry for a port in a list that is sorted by port.
fn at_port<T: Copy>(by_port: &[(u16, T)], port: u16) -> Option<T> {
    let at = by_port.binary_search_by_key(&port, |(port, _)| *port).ok()?;
    Some(by_port[at].1)
}
