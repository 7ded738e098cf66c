//! The parts of a compiled configuration: gateways, routes, services, splits, destinations, endpoints, workloads.
//!
//! `compile` makes them and [`Table::build`](crate::Table::build) freezes them. They have names, labels and places, which
//! `explain` and messages read, so all shards share one [`Parts`]; each table owns a copy of all that a connection reads.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;

use crate::ids::{DestinationId, EndpointId, GatewayId, ServiceId, SplitId, SubsetId};
use crate::policy::{Origin, Policy};
use crate::problem::{Place, Sources};

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
    /// Its listeners.
    pub listen: Vec<Listen>,
    /// Its `to`: where connections go that no route took.
    pub default: Option<SplitId>,
    /// How many connections it takes.
    pub limits: GatewayLimits,
    /// Where it is declared.
    pub place: Place,
}

/// How many connections a gateway takes; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GatewayLimits {
    /// At one time.
    pub connections: Option<u64>,
    /// At one time, of one source.
    pub connections_per_source: Option<u64>,
    /// In a second.
    pub rate: Option<u64>,
    /// In a second, of one source.
    pub rate_per_source: Option<u64>,
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
    /// Where its connections go.
    pub action: RouteAction,
    /// Where it is declared.
    pub place: Place,
}

/// A route with `enabled = false`. It takes no connection; `explain` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffRoute {
    /// As of a [`Route`].
    pub name: Arc<str>,
    /// How many of [`Parts::routes`] stand before it.
    pub before: usize,
    /// Where it is declared.
    pub place: Place,
}

/// The action of a route.
#[derive(Clone, Debug)]
pub enum RouteAction {
    /// To a destination.
    Forward(SplitId),
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
    /// Server names of a TLS ClientHello, in lower case. No configuration has the condition yet.
    pub sni: Vec<Arc<str>>,
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
    /// The port that clients dial.
    pub port: u16,
    /// The port that is dialled at endpoints without a port of their own.
    pub target_port: u16,
}

/// A subset of a service.
#[derive(Clone, Debug)]
pub struct Subset {
    /// "v1".
    pub name: Arc<str>,
    /// Its own connection limit, where its own policy sets one.
    pub max_connections: Option<u64>,
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
    /// For each of its ports, where its VIPs lead: (port, split with one destination: the service, all endpoints).
    pub by_port: Vec<(u16, SplitId)>,
    /// With `ports = "any"`: where its VIPs lead at every port.
    pub at_any_port: Option<SplitId>,
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

/// The address that is dialled at an endpoint for a client that dialled `port`.
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
    /// The address that is dialled; with [`CLIENTS_PORT`] the port is the one that the client dialled, see [`dialled`].
    pub address: SocketAddr,
    /// Relative weight, at least 0.
    pub weight: u32,
    /// 0 is used first; 1 only when all of 0 are out; and so on.
    pub priority: u32,
    /// "region/zone/subzone", or empty.
    pub locality: Arc<str>,
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

/// A service or subset, at one of the service's ports: where a split leads.
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
    /// Where each key of the policy got its value, in the order of the documentation; shared by equal ones.
    pub origins: Arc<[Origin]>,
}

/// One destination of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Where it leads.
    pub destination: DestinationId,
    /// Its weight; 0 gets nothing. Without weights in the file all are 1.
    pub weight: u32,
    /// Where it is written.
    pub place: Place,
}

/// Weighted destinations, as they are written.
#[derive(Clone, Debug)]
pub struct Split {
    /// In order of writing; the sum of the weights is above 0.
    pub shares: Vec<Share>,
    /// With `sticky = "source"`: the salt of the hash, which is the route's name.
    pub sticky: Option<Arc<str>>,
}

impl Split {
    /// The sum of the weights.
    pub(crate) fn total(&self) -> u64 {
        self.shares.iter().map(|share| u64::from(share.weight)).sum()
    }
}

/// Everything that `compile` makes of a configuration. Never changed once a table is built of it.
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
    /// Of routes, of the `to` of gateways, and of VIPs.
    pub splits: Vec<Split>,
    /// Where splits lead.
    pub destinations: Vec<Destination>,
    /// All endpoints of all services.
    pub endpoints: Vec<Endpoint>,
    /// By name.
    pub workloads: Vec<Workload>,
    /// The texts that places point into.
    pub sources: Sources,
}
