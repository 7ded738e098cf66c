//! A table bound to the boards: a shard's own copy, with the rows that the table's ids stand for. The loader makes it, once a table
//! and shard; nothing is looked up by name per connection.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use weir_routing::CLIENTS_PORT;
use weir_routing::{DestinationId, EndpointId, Loads, Route, Table};

use crate::boards::health::{HealthBoard, Rows};
use crate::boards::labels::Labels;
use crate::boards::limits::{GatewayRow, Limit, LimitsBoard, Reservation};
use crate::listener::{is_local, is_on, reaches};
use crate::reason::Reason;

/// A table in force on one shard.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    /// Which table this is, counted from 1.
    pub(crate) generation: u64,
    /// The shard's own copy.
    pub(crate) table: Table,
    /// Whether anything looks at the original destination's address, which costs a call on a wildcard listener.
    pub(crate) wants_destination: bool,
    /// The labels of its connections' counters; one for all shards.
    pub(crate) labels: Arc<Labels>,
    /// The limits of gateways, by gateway.
    pub(crate) gateways: Vec<GatewayRow>,
    rows: Rows,
    limits: Vec<ServiceLimits>,
    /// By endpoint.
    leads: Vec<EndpointLeads>,
    source_ports: RangeInclusive<u16>,
}

/// Where dials to an endpoint lead.
#[derive(Clone, Debug)]
enum EndpointLeads {
    /// It has one port.
    OnePort(Leads),
    /// It is dialled on the port that the client dialled.
    ByPort {
        /// The ports at which one of this process's own listeners answers there, sorted.
        own: Vec<u16>,
        /// Whether this host holds the address.
        is_local: bool,
    },
}

impl EndpointLeads {
    fn new(address: SocketAddr, bound: &[SocketAddr], source_ports: &RangeInclusive<u16>) -> Self {
        let ip = address.ip().to_canonical();
        if address.port() == CLIENTS_PORT {
            let is_local = is_local(ip);
            let ours = bound.iter().filter(|&&bound| is_on(bound, ip, || is_local));
            let mut own: Vec<u16> = ours.map(SocketAddr::port).collect();
            own.sort_unstable();
            return Self::ByPort { own, is_local };
        }
        Self::OnePort(if bound.iter().any(|&bound| reaches(bound, address)) {
            Leads::BackToUs
        } else if source_ports.contains(&address.port()) && is_local(ip) {
            Leads::PerhapsToItself
        } else {
            Leads::Away
        })
    }
}

/// Where a dial to an endpoint may end up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leads {
    /// Somewhere else.
    Away,
    /// Perhaps back to its own socket: where nothing listens on a port of this host that the kernel also draws source ports
    /// from, a socket may be given that very port and connect to itself.
    PerhapsToItself,
    /// To one of this process's own listeners.
    BackToUs,
}

/// The limits of one service. Where nothing is limited connections are counted all the same: a reload may bring a limit.
#[derive(Clone, Debug)]
struct ServiceLimits {
    service: Arc<Limit>,
    subsets: Vec<Arc<Limit>>,
}

impl InForce {
    /// Binds a table to the boards. `bound`: every address that this process will listen on.
    pub(crate) fn new(
        generation: u64,
        table: Table,
        labels: Arc<Labels>,
        health: &HealthBoard,
        limits: &LimitsBoard,
        bound: &[SocketAddr],
    ) -> Self {
        let gateway_limits =
            table.parts().gateways.iter().map(|gateway| limits.gateway(&gateway.name, gateway.limits));
        let service_limits = table
            .parts()
            .services
            .iter()
            .map(|service| ServiceLimits {
                service: limits.limit(&service.name, None, service.max_connections),
                subsets: service
                    .subsets
                    .iter()
                    .map(|subset| limits.limit(&service.name, Some(&subset.name), subset.max_connections))
                    .collect(),
            })
            .collect();
        let source_ports = source_ports();
        let leads = table.parts().endpoints.iter();
        let leads =
            leads.map(|endpoint| EndpointLeads::new(endpoint.address, bound, &source_ports)).collect();
        let asks = |route: &Route| {
            route
                .blocks
                .iter()
                .any(|block| !block.destination_subnets.is_empty() || !block.destination_services.is_empty())
        };
        Self {
            generation,
            wants_destination: table.parts().services.iter().any(|service| !service.vips.is_empty())
                || table.parts().routes.iter().any(asks),
            labels,
            rows: health.rows(generation, &table),
            gateways: gateway_limits.collect(),
            limits: service_limits,
            leads,
            source_ports,
            table,
        }
    }

    /// Reserves a place of the destination's service, and of its subset; `None`: one of them is full.
    pub(crate) fn reserve(&self, destination: DestinationId) -> Option<[Option<Reservation>; 2]> {
        let (service, subset) = self.table.service_of(destination);
        let limits = &self.limits[service.index()];
        let of_service = limits.service.reserve()?;
        let of_subset = match subset {
            Some(subset) => Some(limits.subsets[subset.index()].reserve()?),
            None => None,
        };
        Some([Some(of_service), of_subset])
    }

    /// Counts a connection to an endpoint.
    pub(crate) fn connect(&self, endpoint: EndpointId) -> crate::boards::health::EndpointUse {
        self.rows.endpoints[endpoint.index()].connect()
    }

    /// Counts a dial to an endpoint that failed.
    pub(crate) fn fail(&self, endpoint: EndpointId, reason: Reason) {
        self.rows.fail(endpoint.index(), reason);
    }

    /// Where dialling an endpoint at this port leads to.
    pub(crate) fn leads(&self, endpoint: EndpointId, port: u16) -> Leads {
        match &self.leads[endpoint.index()] {
            EndpointLeads::OnePort(leads) => *leads,
            EndpointLeads::ByPort { own, .. } if own.binary_search(&port).is_ok() => Leads::BackToUs,
            EndpointLeads::ByPort { is_local: true, .. } if self.source_ports.contains(&port) => {
                Leads::PerhapsToItself
            }
            EndpointLeads::ByPort { .. } => Leads::Away,
        }
    }
}

/// Ports that the kernel gives to sockets which ask for none; its own default where that cannot be read.
fn source_ports() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = text.split_whitespace().filter_map(|word| word.parse().ok());
    ports.next().unwrap_or(32_768)..=ports.next().unwrap_or(60_999)
}

impl Loads for InForce {
    fn usable(&self, _: EndpointId) -> bool {
        // Nothing takes an endpoint out yet: no health checks, no ejections, no overrides.
        true
    }

    fn connections(&self, endpoint: EndpointId) -> u64 {
        self.rows.endpoints[endpoint.index()].connections()
    }

    fn next_position(&self, destination: DestinationId) -> u64 {
        self.rows.positions[destination.index()].fetch_add(1, Relaxed)
    }
}
