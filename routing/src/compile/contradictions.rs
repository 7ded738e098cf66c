//! Conditions of one match that can each hold, and never all at once: warnings.
//!
//! The question is whether one connection to one listener could fulfil them: it has one family, one address and one port. A
//! condition that cannot hold by itself is reported where conditions are looked at one by one.

use ipnet::IpNet;

use super::checked::Scene;
use super::conditions::{place_of, port_seen};
use super::gateways::can_hold;
use super::report::Report;
use crate::ids::{GatewayId, ServiceId};
use crate::parts::{Block, Listen, Route, Service};
use crate::problem::{Place, Problem};

/// How many ports or VIPs of a service a message names.
const SHOWN: usize = 4;

/// The facts that a listener settles for connections to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Services,
    Ports,
    Subnets,
    Sources,
}

impl Condition {
    const ALL: [Self; 4] = [Self::Services, Self::Ports, Self::Subnets, Self::Sources];

    fn key(self) -> &'static str {
        match self {
            Self::Services => "destination_services",
            Self::Ports => "ports",
            Self::Subnets => "destination_subnets",
            Self::Sources => "source_subnets",
        }
    }

    fn is_asked(self, block: &Block) -> bool {
        match self {
            Self::Services => !block.destination_services.is_empty(),
            Self::Ports => !block.ports.is_empty(),
            Self::Subnets => !block.destination_subnets.is_empty(),
            Self::Sources => !block.source_subnets.is_empty(),
        }
    }
}

/// Reports each match whose conditions contradict each other.
pub(super) fn check(report: &mut Report, scene: &Scene<'_>) {
    if report.incomplete {
        return;
    }
    for route in &scene.routes.used {
        // A part that a damaged gateway or service has lost may make them agree.
        if route.gateways.iter().any(|id: &GatewayId| scene.known.gateways.list[id.index()].damaged) {
            continue;
        }
        for block in &route.blocks {
            let is_damaged = |id: &ServiceId| scene.known.services[id.index()].damaged;
            if block.destination_services.iter().any(is_damaged) {
                continue;
            }
            if let Some(conditions) = contradiction(scene, route, block) {
                report.push(problem(scene, route, block, &conditions));
            }
        }
    }
}

/// The fewest conditions of a block that no listener of its route can fulfil; none where all can, or where one that fails alone
/// is reported elsewhere.
fn contradiction(scene: &Scene<'_>, route: &Route, block: &Block) -> Option<Vec<Condition>> {
    let listens = || route.gateways.iter().flat_map(|id| &scene.gateways[id.index()].listen);
    let can_hold = |asked: &[Condition]| listens().any(|listen| holds(scene, listen, block, asked));
    let asked: Vec<Condition> =
        Condition::ALL.into_iter().filter(|condition| condition.is_asked(block)).collect();
    if listens().next().is_none() || can_hold(&asked) {
        return None;
    }
    let mut subsets: Vec<Vec<Condition>> = (1..1_u32 << asked.len())
        .map(|chosen| {
            let is_chosen = |(at, _): &(u32, &Condition)| chosen >> at & 1 == 1;
            (0..).zip(&asked).filter(is_chosen).map(|(_, condition)| *condition).collect()
        })
        .collect();
    subsets.sort_by_key(Vec::len);
    let failing = subsets.into_iter().find(|conditions| !can_hold(conditions))?;
    (failing.len() > 1 || failing == [Condition::Sources]).then_some(failing)
}

/// Whether a connection to this listener could fulfil the conditions that are asked.
fn holds(scene: &Scene<'_>, listen: &Listen, block: &Block, asked: &[Condition]) -> bool {
    let wants = |condition| asked.contains(&condition);
    let ports = if wants(Condition::Ports) { &block.ports[..] } else { &[] };
    let nets = if wants(Condition::Subnets) { &block.destination_subnets[..] } else { &[] };
    let family = |net: &IpNet| net.addr().is_ipv4() == listen.address.is_ipv4();
    if wants(Condition::Sources) && !block.source_subnets.iter().any(family) {
        return false;
    }
    let any_port =
        || ports.is_empty() || ports.iter().any(|range| port_seen(listen, *range.start(), *range.end()));
    if !wants(Condition::Services) {
        return any_port() && (nets.is_empty() || nets.iter().any(|net| can_hold(listen, net)));
    }
    let has_address = |vip: &IpNet| {
        let both = |net: &IpNet| can_hold(listen, net) && (net.contains(vip) || vip.contains(net));
        can_hold(listen, vip) && (nets.is_empty() || nets.iter().any(both))
    };
    let has_port = |service: &Service| {
        let is_dialled = |port: u16| {
            port_seen(listen, port, port)
                && (ports.is_empty() || ports.iter().any(|range| range.contains(&port)))
        };
        match service.at_any_port {
            Some(_) => any_port(),
            None => service.ports.iter().any(|port| is_dialled(port.port)),
        }
    };
    let mut services = block.destination_services.iter().map(|id| &scene.services[id.index()]);
    services.any(|service| service.vips.iter().any(has_address) && has_port(service))
}

fn problem(scene: &Scene<'_>, route: &Route, block: &Block, conditions: &[Condition]) -> Problem {
    let places: Vec<(Condition, Place)> = conditions
        .iter()
        .filter_map(|condition| Some((*condition, place_of(block, condition.key())?)))
        .collect();
    let place = places.first().map_or(block.place.unwrap_or(route.place), |(_, place)| *place);
    if conditions == [Condition::Sources] {
        let message = format!(
            "`source_subnets` can never match: no gateway of route `{}` listens on an address of their family",
            route.name
        );
        return Problem::warning("never-matches", place, message).help(
            "a connection has the same family at both ends: listen on `[::]` for IPv6, on `0.0.0.0` for IPv4",
        );
    }
    let keys: Vec<String> = conditions.iter().map(|condition| format!("`{}`", condition.key())).collect();
    let (last, first) = keys.split_last().expect("two conditions or more");
    let message = format!(
        "{} and {last} can never hold together: no connection to a gateway of route `{}` has {}",
        first.join(", "),
        route.name,
        if keys.len() == 2 { "both" } else { "all of them" }
    );
    let mut problem = Problem::warning("never-matches", place, message);
    for (_, place) in places.iter().skip(1) {
        problem = problem.related(*place, "and this");
    }
    if conditions.contains(&Condition::Services) {
        for id in block.destination_services.iter().take(SHOWN) {
            let service = &scene.services[id.index()];
            problem =
                problem.related(service.place, format!("`{}` has {}", service.name, dialled_at(service)));
        }
    }
    problem.help(
        "conditions in one `{ ... }` must all hold; put those of which one is enough into blocks of their own: match = [{ ... }, { ... }]",
    )
}

/// "the VIPs 10.0.0.1 and the ports 80, 443".
fn dialled_at(service: &Service) -> String {
    let list = |all: Vec<String>| {
        let more = all.len().saturating_sub(SHOWN);
        let shown = all[..all.len().min(SHOWN)].join(", ");
        if more == 0 { shown } else { format!("{shown} and {more} more") }
    };
    let vips = service.vips.iter().map(|vip| {
        if vip.prefix_len() == vip.max_prefix_len() { vip.addr().to_string() } else { vip.to_string() }
    });
    let ports = match service.at_any_port {
        Some(_) => "every port".to_owned(),
        None => format!("port {}", list(service.ports.iter().map(|port| port.port.to_string()).collect())),
    };
    format!("VIP {} and {ports}", list(vips.collect()))
}
