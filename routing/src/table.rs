//! The compiled table: built once, frozen, then read for every connection. No maybes, names are indexes.
//! `compile` makes the [`Parts`]; this file freezes them and decides what becomes of an [`Arrival`] (step 6 of the walk):
//! match, draw, port. Shards, `[[test]]`s, `explain` and `/ready` all ask [`Table::decide`] or the parts it is made of.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;

use crate::balance::{Attempt, Loads, Picker};
use crate::classify::{BlockId, Classified, Classifier};
use crate::policy::Policy;
use crate::problem::{Place, Sources};
use crate::split::{Share, Split};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// The index this id stands for.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// Index into [`Parts::gateways`].
    GatewayId;
    /// Index into [`Parts::routes`], which stand in order of evaluation.
    RouteId;
    /// Index into [`Parts::services`].
    ServiceId;
    /// Index into [`Service::subsets`].
    SubsetId;
    /// Index into [`Parts::destinations`].
    DestinationId;
    /// Index into [`Parts::endpoints`].
    EndpointId;
    /// Index into [`Parts::workloads`].
    WorkloadId;
}

/// What is known of a connection before any of its bytes is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The gateway whose listener took it.
    pub gateway: GatewayId,
    /// The client; an IPv4-mapped IPv6 address has become IPv4.
    pub source: SocketAddr,
    /// The original destination; an IPv4-mapped IPv6 address has become IPv4.
    pub destination: SocketAddr,
}

impl Arrival {
    /// An arrival with its addresses in canonical form.
    pub fn new(gateway: GatewayId, source: SocketAddr, destination: SocketAddr) -> Self {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { gateway, source: canonical(source), destination: canonical(destination) }
    }
}

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
#[derive(Clone, Copy, Debug)]
pub struct Match<'t> {
    /// Which step took it.
    pub via: Via,
    /// The route, where one took it.
    pub route: Option<RouteId>,
    /// And then?
    pub action: Action<'t>,
}

/// What a match leads to.
#[derive(Clone, Copy, Debug)]
pub enum Action<'t> {
    /// Draw a destination from this split.
    Forward(&'t Split),
    /// Refuse the connection.
    Refuse(Refusal),
}

/// A share of a split, and what becomes of a connection that draws it.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'t> {
    /// The share; one of weight 0 is never drawn.
    pub share: &'t Share,
    /// The destination at the port in use, or why the connection is refused.
    pub end: Result<DestinationId, Refusal>,
}

/// Addresses a gateway listens on: one address, a range of ports. Port 0: a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `[::]` takes IPv6 only.
    pub address: IpAddr,
    /// First and last port.
    pub ports: RangeInclusive<u16>,
    /// Where it is written.
    pub place: Place,
}

/// Where connections come in.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// "edge", or "namespace/edge" outside namespace default.
    pub name: Arc<str>,
    /// What it listens on.
    pub listen: Vec<Listen>,
    /// Its `to`: where what no route took goes.
    pub default: Option<Split>,
    /// Where it is declared.
    pub place: Place,
}

impl Gateway {
    /// Which of all gateways listen on an address. A listener on the very address gets a connection before one on all
    /// addresses does. A free port may turn out to be any that no other gateway has.
    pub fn listening(gateways: &[Self], address: SocketAddr) -> Vec<GatewayId> {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let own = |listen: &Listen| listen.address == ip;
        let all =
            |listen: &Listen| listen.address.is_unspecified() && listen.address.is_ipv4() == ip.is_ipv4();
        let fixed = |listen: &Listen| listen.ports.contains(&port);
        let free = |listen: &Listen| *listen.ports.start() == 0;
        let at = |listening: &dyn Fn(&Listen) -> bool| -> Vec<GatewayId> {
            let gateways = (0..).map(GatewayId).zip(gateways);
            gateways.filter(|(_, gateway)| gateway.listen.iter().any(listening)).map(|(id, _)| id).collect()
        };
        let ways: [&dyn Fn(&Listen) -> bool; 4] = [
            &|listen| own(listen) && fixed(listen),
            &|listen| all(listen) && fixed(listen),
            &|listen| own(listen) && free(listen),
            &|listen| all(listen) && free(listen),
        ];
        ways.into_iter().map(at).find(|found| !found.is_empty()).unwrap_or_default()
    }
}

/// A rule. Routes stand in order of evaluation.
#[derive(Clone, Debug)]
pub struct Route {
    /// "canary", "foo/canary" or "route-3".
    pub name: Arc<str>,
    /// The gateways it holds on, sorted.
    pub gateways: Vec<GatewayId>,
    /// Where they are named, if they are.
    pub gateways_place: Option<Place>,
    /// Blocks of its match, of which one must hold; one without conditions stands for "everything".
    pub blocks: Vec<Block>,
    /// What to do with what it takes.
    pub action: RouteAction,
    /// Where it is declared.
    pub place: Place,
}

/// A route with `enabled = false`. It takes nothing; `explain` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffRoute {
    /// As of a [`Route`].
    pub name: Arc<str>,
    /// How many of [`Parts::routes`] stand before it.
    pub before: usize,
    /// Where it is declared.
    pub place: Place,
}

/// What a route does.
#[derive(Clone, Debug)]
pub enum RouteAction {
    /// To a destination.
    Forward(Split),
    /// Reset.
    Reject,
}

/// Conditions that must all hold. Empty: not asked.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Ports of the original destination.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Networks of the original destination, host bits masked.
    pub destination_subnets: Vec<IpNet>,
    /// Networks of the source, host bits masked.
    pub source_subnets: Vec<IpNet>,
    /// Labels that the source's workload has with these values.
    pub source_labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Namespaces of the source's workload.
    pub source_namespaces: Vec<Arc<str>>,
    /// Services of whose VIPs and ports one is the original destination.
    pub destination_services: Vec<ServiceId>,
    /// Where the block stands, then each condition that was written, by its key.
    pub place: Option<Place>,
    /// (key, place) of each condition.
    pub places: Vec<(&'static str, Place)>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, if it has one.
    pub name: Option<Arc<str>>,
    /// What clients dial.
    pub port: u16,
    /// What endpoints without a port of their own listen on.
    pub target_port: u16,
}

/// A subset of a service.
#[derive(Clone, Debug)]
pub struct Subset {
    /// "v1".
    pub name: Arc<str>,
    /// Labels that its endpoints have.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Its own connection limit, where its own policy sets one.
    pub max_connections: Option<u64>,
    /// Where it is declared.
    pub place: Place,
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// "db" or "namespace/db".
    pub name: Arc<str>,
    /// Addresses clients dial.
    pub vips: Vec<IpNet>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Its subsets, by name.
    pub subsets: Vec<Subset>,
    /// Its connection limit.
    pub max_connections: Option<u64>,
    /// What its VIP leads to, for each of its ports: (port, split with one destination: the service, all endpoints).
    pub by_port: Vec<(u16, Split)>,
    /// With `ports = "any"`: what its VIPs lead to at every port.
    pub at_any_port: Option<Split>,
    /// Where it is declared.
    pub place: Place,
}

/// Who owns an address.
#[derive(Clone, Debug)]
pub struct Workload {
    /// "client" or "namespace/client".
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// The networks it owns; the longest prefix of all workloads wins.
    pub addresses: Vec<IpNet>,
    /// "region/zone/subzone", or empty.
    pub locality: Arc<str>,
    /// Where it is declared.
    pub place: Place,
}

/// The port of an endpoint that is dialled on the port that the client dialled (`ports = "any"`). One endpoint for each of these
/// ports would be tens of thousands; and its state (connections, health) is that of the address, whatever port is dialled.
pub const CLIENTS_PORT: u16 = 0;

/// What is dialled at an endpoint's address for a client that dialled `port`.
pub fn dialled(address: SocketAddr, port: u16) -> SocketAddr {
    match address.port() {
        CLIENTS_PORT => SocketAddr::new(address.ip(), port),
        _ => address,
    }
}

/// The name of an endpoint in metrics, logs and listings: its address, without a port where that is the client's.
pub fn endpoint_name(address: SocketAddr) -> String {
    match address.port() {
        CLIENTS_PORT => address.ip().to_string(),
        _ => address.to_string(),
    }
}

/// One address behind a service, with the port that is dialled. Interned by (service, address): the same one in two subsets,
/// or under two service ports with the same target, is one endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its service.
    pub service: ServiceId,
    /// What is dialled; with [`CLIENTS_PORT`] the port is the one that the client dialled, see [`dialled`].
    pub address: SocketAddr,
    /// Relative weight, at least 0.
    pub weight: u32,
    /// 0 is used first; 1 only when all of 0 are out; and so on.
    pub priority: u32,
    /// "region/zone/subzone", or empty.
    pub locality: Arc<str>,
    /// Its labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// The host name it was resolved from, if it was.
    pub host: Option<Arc<str>>,
    /// Where it is written: the endpoint's or the workload's place.
    pub place: Place,
}

/// An address of a service that gets no new connection, because its weight is 0. `explain` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weightless {
    /// The address with the port that would be dialled.
    pub address: SocketAddr,
    /// As of an [`Endpoint`].
    pub priority: u32,
    /// "region/zone/subzone", or empty.
    pub locality: Arc<str>,
}

/// A service or subset, at one of the service's ports: what a split leads to.
#[derive(Clone, Debug)]
pub struct Destination {
    /// "tcp-echo/v1:9000": service, subset if any, port if any.
    pub name: Arc<str>,
    /// Its service.
    pub service: ServiceId,
    /// Its subset.
    pub subset: Option<SubsetId>,
    /// The service port in use; `None` for a service without ports, and for one with several where the client's decides.
    pub port: Option<u16>,
    /// Where the port that the client dialled decides: (service port, the destination at it). Empty otherwise.
    pub by_client_port: Vec<(u16, DestinationId)>,
    /// Its endpoints with a weight above 0, by priority, then by address.
    pub endpoints: Vec<EndpointId>,
    /// Those with weight 0, by priority, then by address.
    pub weightless: Vec<Weightless>,
    /// The policy in force.
    pub policy: Policy,
}

/// Everything `compile` made, before it is frozen.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// By name.
    pub gateways: Vec<Gateway>,
    /// In order of evaluation.
    pub routes: Vec<Route>,
    /// Routes that are off, in the same order.
    pub off_routes: Vec<OffRoute>,
    /// By name.
    pub services: Vec<Service>,
    /// What splits lead to.
    pub destinations: Vec<Destination>,
    /// All endpoints of all services.
    pub endpoints: Vec<Endpoint>,
    /// By name.
    pub workloads: Vec<Workload>,
    /// "region/zone/subzone" of this proxy, or empty.
    pub locality: Arc<str>,
    /// The texts that places point into, for `explain`; shared, never changed.
    pub sources: Arc<Sources>,
}

/// The frozen table. A clone is a whole copy: each shard owns one.
#[derive(Clone, Debug)]
pub struct Table {
    parts: Parts,
    classifier: Classifier,
    /// By destination.
    pickers: Vec<Picker>,
}

impl Table {
    /// Freezes what `compile` made: splits learn the names of their destinations, and everything that a connection would
    /// have to work out is worked out.
    pub fn build(mut parts: Parts) -> Self {
        for service in &mut parts.services {
            service.by_port.sort_by_key(|(port, _)| *port);
        }
        for destination in &mut parts.destinations {
            destination.by_client_port.sort_by_key(|(port, _)| *port);
        }
        let destinations = &parts.destinations;
        let routes = parts.routes.iter_mut().filter_map(|route| match &mut route.action {
            RouteAction::Forward(split) => Some(split),
            RouteAction::Reject => None,
        });
        let gateways = parts.gateways.iter_mut().filter_map(|gateway| gateway.default.as_mut());
        let services = parts.services.iter_mut().flat_map(|service| {
            service.by_port.iter_mut().map(|(_, split)| split).chain(&mut service.at_any_port)
        });
        for split in routes.chain(gateways).chain(services) {
            split.freeze(destinations);
        }
        let classifier = Classifier::build(&parts);
        let pickers = (0..).map(DestinationId).zip(&parts.destinations);
        let pickers =
            pickers.map(|(id, destination)| Picker::build(id, destination, &parts.endpoints)).collect();
        Self { parts, classifier, pickers }
    }

    /// Decides what becomes of a connection: match, draw, port. First bytes, once they are looked at, are a further argument,
    /// and bytes to wait for a further verdict.
    pub fn decide(&self, arrival: &Arrival, chance: &mut fastrand::Rng) -> Verdict {
        let Match { via, route, action } = self.matched(arrival);
        let end = match action {
            Action::Forward(split) => {
                self.at_port(split.draw(arrival.source.ip(), chance), arrival.destination.port())
            }
            Action::Refuse(refusal) => Err(refusal),
        };
        match end {
            Ok(destination) => Verdict::Forward { destination, via, route },
            Err(refusal) => Verdict::Refuse { refusal, via, route },
        }
    }

    /// Which step takes an arrival: the first part of [`Table::decide`].
    pub fn matched(&self, arrival: &Arrival) -> Match<'_> {
        self.matched_classified(arrival, &self.classifier.classify(arrival)).0
    }

    /// [`Table::matched`] after the look-ups; and the block that held, if a route took it.
    pub(crate) fn matched_classified(
        &self,
        arrival: &Arrival,
        classified: &Classified,
    ) -> (Match<'_>, Option<BlockId>) {
        if let Some(block) = self.classifier.first(classified) {
            let route = self.classifier.route(block).0;
            let action = match &self.routes[route.index()].action {
                RouteAction::Forward(split) => Action::Forward(split),
                RouteAction::Reject => Action::Refuse(Refusal::Rejected),
            };
            return (Match { via: Via::Route, route: Some(route), action }, Some(block));
        }
        let by_vip = classified.service.and_then(|service| {
            let service = &self.services[service.index()];
            at_port(&service.by_port, arrival.destination.port()).or(service.at_any_port.as_ref())
        });
        let (via, action) = match (by_vip, &self.gateways[arrival.gateway.index()].default) {
            (Some(split), _) => (Via::Service, Action::Forward(split)),
            (None, Some(split)) => (Via::Gateway, Action::Forward(split)),
            (None, None) => (Via::Unmatched, Action::Refuse(Refusal::NoRoute)),
        };
        (Match { via, route: None, action }, None)
    }

    /// Everything that may be drawn from a split by a connection to this port: the rest of [`Table::decide`] without chance.
    pub fn draws<'t>(&'t self, split: &'t Split, port: u16) -> impl Iterator<Item = Draw<'t>> {
        split.shares.iter().map(move |share| Draw { share, end: self.at_port(share.destination, port) })
    }

    /// The destination that was drawn, at the port that the client dialled where that decides.
    pub(crate) fn at_port(&self, drawn: DestinationId, port: u16) -> Result<DestinationId, Refusal> {
        let by_client_port = &self.destinations[drawn.index()].by_client_port;
        if by_client_port.is_empty() {
            return Ok(drawn);
        }
        at_port(by_client_port, port).copied().ok_or(Refusal::NoPort(drawn))
    }

    /// The workload that owns an address: of all that claim it the longest prefix. The address is in canonical form.
    pub fn workload(&self, address: IpAddr) -> Option<WorkloadId> {
        self.classifier.workload(address)
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
        self.pickers[destination.index()].pick(source, loads, attempt, rng)
    }

    /// Memory that matching and picking hold, without the parts: what a copy costs beyond the configuration itself.
    pub fn bytes(&self) -> usize {
        self.classifier.bytes() + self.pickers.iter().map(Picker::bytes).sum::<usize>()
    }

    pub(crate) fn classifier(&self) -> &Classifier {
        &self.classifier
    }
}

/// What stands at a port in a list sorted by port, as [`Table::build`] leaves them.
fn at_port<T>(by_port: &[(u16, T)], port: u16) -> Option<&T> {
    let at = by_port.binary_search_by_key(&port, |(port, _)| *port).ok()?;
    Some(&by_port[at].1)
}

impl std::ops::Deref for Table {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}
