//! Routes that take connections to more services than they lead to: a warning. Istio's `hosts` keep the rules of a
//! VirtualService to its own services, even if connections to others arrive at the same gateway; here a rule without a condition on the
//! destination takes every service behind its gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::checked::{Scene, Targets};
use super::conditions::port_seen;
use super::gateways::can_hold;
use super::report::Report;
use crate::ids::{GatewayId, ServiceId};
use crate::parts::{Block, Gateway, Route, RouteAction, Service};
use crate::problem::Problem;

/// A service whose VIP arrives at a gateway, with the ports that do.
struct Covered<'a> {
    id: ServiceId,
    service: &'a Service,
    ports: Vec<u16>,
}

/// The services of a gateway of which a connection comes as far as the route that is looked at. With thousands of services
/// and of routes no route may look at each service.
struct Left<'a> {
    services: BTreeMap<ServiceId, &'a Covered<'a>>,
    /// By the first address of the first VIP.
    by_vip: BTreeMap<IpAddr, Vec<ServiceId>>,
}

impl<'a> Left<'a> {
    fn new(covered: &'a BTreeMap<ServiceId, Covered<'a>>) -> Self {
        let mut by_vip: BTreeMap<IpAddr, Vec<ServiceId>> = BTreeMap::new();
        for it in covered.values() {
            let first = it.service.vips.first().map(|vip| vip.network());
            first.into_iter().for_each(|vip| by_vip.entry(vip).or_default().push(it.id));
        }
        Self { services: covered.iter().map(|(id, it)| (*id, it)).collect(), by_vip }
    }

    /// Removes the services of which a block takes every connection.
    fn take(&mut self, block: &Block) {
        if !asks_nothing_else(block) {
            return;
        }
        if !names_destination(block) {
            self.services.retain(|_, it| !takes_all(block, it));
            return;
        }
        let nets = block.destination_subnets.iter();
        let inside =
            nets.flat_map(|net| self.by_vip.range(net.network()..=net.broadcast())).flat_map(|(_, ids)| ids);
        let named = if block.destination_services.is_empty() {
            inside.copied().collect()
        } else {
            block.destination_services.clone()
        };
        for id in named {
            if self.services.get(&id).is_some_and(|it| takes_all(block, it)) {
                self.services.remove(&id);
            }
        }
    }
}

/// Reports them. It is a warning only where the route leads to one of the services that it takes: one that leads elsewhere,
/// to an inspecting proxy or to nothing, is meant for all of them.
pub(super) fn check(report: &mut Report, scene: &Scene<'_>, targets: &Targets<'_>) {
    // A route or service that is damaged may have had the condition that seems to be missing here.
    if report.incomplete || scene.routes.left_out {
        return;
    }
    let mut reported = BTreeSet::new();
    for (id, gateway) in (0..).map(GatewayId).zip(scene.gateways) {
        let covered = covered(scene, id);
        if covered.len() < 2 {
            continue;
        }
        let mut left = Left::new(&covered);
        for route in scene.routes.used.iter().filter(|route| route.gateways.contains(&id)) {
            if !reported.contains(&route.place)
                && let Some(problem) = problem(gateway, route, targets, &covered, &left)
            {
                report.push(problem);
                reported.insert(route.place);
            }
            route.blocks.iter().for_each(|block| left.take(block));
        }
    }
}

/// The services that connections to a gateway may be meant for.
fn covered<'a>(scene: &Scene<'a>, gateway: GatewayId) -> BTreeMap<ServiceId, Covered<'a>> {
    let listens = &scene.gateways[gateway.index()].listen;
    let arrives = |service: &Service, port: u16| {
        let mut listens = listens.iter().filter(|listen| port_seen(listen, port, port));
        listens.any(|listen| {
            service.vips.iter().any(|vip| {
                // A gateway that listens on the VIP itself gets the connection instead of one on all addresses.
                let single = vip.prefix_len() == vip.max_prefix_len();
                let at_vip = || Gateway::listening(scene.gateways, (vip.addr(), port).into());
                can_hold(listen, vip) && (!single || at_vip().contains(&gateway))
            })
        })
    };
    let services = (0..).map(ServiceId).zip(scene.services);
    let services = services.filter(|(id, _)| !scene.known.services[id.index()].damaged);
    let covered = services.map(|(id, service)| {
        let ports = service.ports.iter().map(|port| port.port).filter(|port| arrives(service, *port));
        (id, Covered { id, service, ports: ports.collect() })
    });
    covered.filter(|(_, it)| !it.ports.is_empty()).collect()
}

fn names_destination(block: &Block) -> bool {
    !block.destination_services.is_empty() || !block.destination_subnets.is_empty()
}

/// No condition but those on destination and port.
fn asks_nothing_else(block: &Block) -> bool {
    block.source_subnets.is_empty() && block.source_labels.is_empty() && block.source_namespaces.is_empty()
}

fn takes_port(block: &Block, port: u16) -> bool {
    block.ports.is_empty() || block.ports.iter().any(|range| range.contains(&port))
}

/// Whether a block takes every connection to a service.
fn takes_all(block: &Block, covered: &Covered<'_>) -> bool {
    let subnets = &block.destination_subnets;
    let inside = |vip: &ipnet::IpNet| subnets.iter().any(|net| net.contains(vip));
    asks_nothing_else(block)
        && covered.ports.iter().all(|port| takes_port(block, *port))
        && (block.destination_services.is_empty() || block.destination_services.contains(&covered.id))
        && (subnets.is_empty() || covered.service.vips.iter().all(inside))
}

/// Whether a block that names no destination takes connections to a service.
fn takes_some(block: &Block, covered: &Covered<'_>) -> bool {
    covered.ports.iter().any(|port| takes_port(block, *port))
}

fn problem(
    gateway: &Gateway,
    route: &Route,
    targets: &Targets<'_>,
    covered: &BTreeMap<ServiceId, Covered<'_>>,
    left: &Left<'_>,
) -> Option<Problem> {
    const NAMED: usize = 3;
    let RouteAction::Forward(split) = route.action else { return None };
    let shares = targets.splits[split.index()].shares.iter();
    let to: BTreeSet<ServiceId> =
        shares.map(|share| targets.destinations[share.destination.index()].service).collect();
    let own = to.iter().filter_map(|id| covered.get(id));
    let own: Vec<String> = own.map(|it| format!("{:?}", it.service.name)).collect();
    if own.is_empty() {
        return None;
    }
    let (block, others) =
        route.blocks.iter().filter(|block| !names_destination(block)).find_map(|block| {
            let others = left.services.values().filter(|it| takes_some(block, it) && !to.contains(&it.id));
            let others: Vec<_> = others.take(NAMED + 1).collect();
            (!others.is_empty()).then_some((block, others))
        })?;
    let named: Vec<String> = others.iter().take(NAMED).map(|it| format!("`{}`", it.service.name)).collect();
    let message = format!(
        "route `{}` names no destination: it also takes connections to {}{}, which arrive at gateway `{}` too",
        route.name,
        named.join(", "),
        if others.len() > NAMED { " and others" } else { "" },
        gateway.name
    );
    let problem = Problem::warning("takes-other-services", block.place.unwrap_or(route.place), message)
        .related(others[0].service.place, "the service")
        .related(gateway.place, "the gateway");
    Some(problem.help(format!(
        "write `destination_services = [{}]` in every block of its `match`, as `hosts` of a VirtualService does",
        own.join(", ")
    )))
}
