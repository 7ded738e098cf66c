//! Builds the parts of a table by hand, for tests and benchmarks that are not about TOML.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use weir_routing::{
    Arrival, Balance, Block, Destination, DestinationId, Endpoint, EndpointId, Gateway, GatewayId,
    GatewayLimits, Loads, Origin, Parts, Place, Policy, Route, RouteAction, ServiceId, ServicePort, Share,
    Source, Sources, Split, SplitId, Subset, SubsetId, Timeouts, Workload, WorkloadId,
};

/// Line `line` of "a.toml".
pub(crate) fn line(line: u32) -> Place {
    Place { file: 0, start: line - 1, end: line - 1 }
}

/// A text of so many empty lines, so that [`line`] is a place in it.
fn sources(lines: usize) -> Sources {
    Sources(vec![Source::new("a.toml", "\n".repeat(lines))])
}

/// Some keys of [`policy`], and where they were set.
fn origins() -> Arc<[Origin]> {
    let origin = |key, value: &str, place| Origin { key, value: value.into(), place };
    Arc::from([
        origin("balance", "least_connections", None),
        origin("connect_timeout", "2s", None),
        origin("connect_attempts", "3", None),
        origin("idle_timeout", "4h", Some(line(40))),
        origin("user_timeout", "0s", None),
    ])
}

fn policy() -> Policy {
    Policy {
        balance: Balance::LeastConnections,
        timeouts: Timeouts {
            connect: Some(Duration::from_secs(2)),
            connect_deadline: Some(Duration::from_secs(10)),
            idle: Some(Duration::from_secs(4 * 3600)),
            half_close: Some(Duration::from_secs(600)),
            flush: Some(Duration::from_secs(5)),
            max_duration: None,
        },
        connect_attempts: 3,
        max_connections: None,
        keepalive: None,
        user_timeout: None,
    }
}

/// Parts that grow; everything that is declared gets the next id.
#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) parts: Parts,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self { parts: Parts { sources: sources(100), ..Parts::default() } }
    }

    pub(crate) fn gateway(&mut self, name: &str, default: Option<Split>) -> GatewayId {
        let default = default.map(|split| self.split(split));
        self.parts.gateways.push(Gateway {
            name: name.into(),
            listen: Vec::new(),
            default,
            limits: GatewayLimits::default(),
            place: line(1),
        });
        GatewayId(self.parts.gateways.len() as u32 - 1)
    }

    /// A service with its ports, and what its VIPs lead to.
    pub(crate) fn service(&mut self, name: &str, vips: &[IpNet], ports: &[u16]) -> ServiceId {
        let id = ServiceId(self.parts.services.len() as u32);
        let service_ports =
            ports.iter().map(|port| ServicePort { name: None, port: *port, target_port: *port });
        self.parts.services.push(weir_routing::Service {
            name: name.into(),
            vips: vips.to_vec(),
            ports: service_ports.collect(),
            subsets: Vec::new(),
            max_connections: None,
            by_port: Vec::new(),
            at_any_port: None,
            place: line(1),
        });
        for port in ports {
            let destination = self.destination(id, None, Some(*port), &[]);
            let split = self.split(split(&[(destination, 1)]));
            self.parts.services[id.index()].by_port.push((*port, split));
        }
        id
    }

    pub(crate) fn split(&mut self, split: Split) -> SplitId {
        self.parts.splits.push(split);
        SplitId(self.parts.splits.len() as u32 - 1)
    }

    /// The action of a route that forwards by this split.
    pub(crate) fn forward(&mut self, split: Split) -> RouteAction {
        RouteAction::Forward(self.split(split))
    }

    pub(crate) fn subset(&mut self, service: ServiceId, name: &str) -> SubsetId {
        let subsets = &mut self.parts.services[service.index()].subsets;
        subsets.push(Subset { name: name.into(), max_connections: None });
        SubsetId(subsets.len() as u32 - 1)
    }

    pub(crate) fn endpoint(
        &mut self,
        service: ServiceId,
        address: SocketAddr,
        weight: u32,
        priority: u32,
    ) -> EndpointId {
        self.parts.endpoints.push(Endpoint {
            service,
            address,
            weight,
            priority,
            locality: "cn-hangzhou/h".into(),
            host: None,
            place: line(1),
        });
        EndpointId(self.parts.endpoints.len() as u32 - 1)
    }

    pub(crate) fn destination(
        &mut self,
        service: ServiceId,
        subset: Option<SubsetId>,
        port: Option<u16>,
        endpoints: &[EndpointId],
    ) -> DestinationId {
        let of = &self.parts.services[service.index()];
        let mut name = of.name.to_string();
        if let Some(subset) = subset {
            name = format!("{name}/{}", of.subsets[subset.index()].name);
        }
        if let Some(port) = port {
            name = format!("{name}:{port}");
        }
        self.parts.destinations.push(Destination {
            name: name.into(),
            service,
            subset,
            port,
            by_client_port: Vec::new(),
            endpoints: endpoints.to_vec(),
            weightless: Vec::new(),
            policy: policy(),
            origins: origins(),
        });
        DestinationId(self.parts.destinations.len() as u32 - 1)
    }

    pub(crate) fn workload(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        addresses: &[IpNet],
    ) -> WorkloadId {
        let namespace = name.split_once('/').expect("namespace/name").0;
        self.parts.workloads.push(Workload {
            name: name.into(),
            namespace: namespace.into(),
            labels: label_map(labels),
            addresses: addresses.to_vec(),
            locality: "".into(),
            place: line(1),
        });
        WorkloadId(self.parts.workloads.len() as u32 - 1)
    }

    pub(crate) fn route(
        &mut self,
        name: &str,
        gateways: &[GatewayId],
        blocks: Vec<Block>,
        action: RouteAction,
    ) -> &mut Route {
        let (name, gateways, place) =
            (name.into(), gateways.to_vec(), line(self.parts.routes.len() as u32 % 90 + 10));
        self.parts.routes.push(Route { name, gateways, gateways_place: None, blocks, action, place });
        self.parts.routes.last_mut().expect("pushed")
    }
}

pub(crate) fn label_map(labels: &[(&str, &str)]) -> BTreeMap<Arc<str>, Arc<str>> {
    labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

pub(crate) fn shares(shares: &[(DestinationId, u32)]) -> Vec<Share> {
    shares
        .iter()
        .map(|(destination, weight)| Share { destination: *destination, weight: *weight, place: line(22) })
        .collect()
}

pub(crate) fn split(of: &[(DestinationId, u32)]) -> Split {
    Split { shares: shares(of), sticky: None }
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).expect("a network")
}

pub(crate) fn arrival(gateway: u32, source: &str, destination: &str) -> Arrival {
    let source = SocketAddr::new(source.parse().expect("an address"), 40_000);
    Arrival::new(GatewayId(gateway), source, destination.parse().expect("an address and a port"))
}

/// The process's counts, held by a test.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) out: BTreeSet<EndpointId>,
    pub(crate) connections: RefCell<BTreeMap<EndpointId, u64>>,
    pub(crate) position: Cell<u64>,
}

impl Loads for Counts {
    fn usable(&self, endpoint: EndpointId) -> bool {
        !self.out.contains(&endpoint)
    }

    fn connections(&self, endpoint: EndpointId) -> u64 {
        self.connections.borrow().get(&endpoint).copied().unwrap_or(0)
    }

    fn next_position(&self, _: DestinationId) -> u64 {
        self.position.replace(self.position.get() + 1)
    }
}
