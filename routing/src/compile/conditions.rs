//! Conditions that can never hold, and rules that do something else than they seem to: warnings.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::checked::Scene;
use super::coverage::{spans, touches};
use super::gateways::can_hold;
use super::report::Report;
use crate::ids::{GatewayId, ServiceId};
use crate::parts::{Block, Listen, Route, RouteAction, Service};
use crate::problem::{Place, Problem};

/// Reports them.
pub(super) fn check(report: &mut Report, scene: &Scene<'_>) {
    let namespaces = scene.workloads.namespaces();
    let mut known = HashMap::new();
    for route in &scene.routes.used {
        for block in &route.blocks {
            out_of_reach(report, scene, route, block);
            never_owned(report, scene, &namespaces, &mut known, block);
        }
        passed_by_unknown(report, route);
    }
    uncovered_vips(report, scene);
    leads_nowhere(report, scene);
}

/// Where a condition of a block is written.
pub(super) fn place_of(block: &Block, key: &str) -> Option<Place> {
    block.places.iter().find(|(other, _)| *other == key).map(|(_, place)| *place)
}

/// Conditions on the original destination that no listener of the rule's gateways can see.
fn out_of_reach(report: &mut Report, scene: &Scene<'_>, route: &Route, block: &Block) {
    // The condition may be about a part that a damaged gateway or service has lost.
    let damaged_gateway = |id: &GatewayId| scene.known.gateways.list[id.index()].damaged;
    if report.incomplete || route.gateways.iter().any(damaged_gateway) {
        return;
    }
    let damaged_service = |id: &ServiceId| scene.known.services[id.index()].damaged;
    let listens = || route.gateways.iter().flat_map(|id| &scene.gateways[id.index()].listen);
    let where_listened = |problem: Problem| match listens().next() {
        Some(listen) => problem.related(listen.place, "listened on here"),
        None => problem,
    };
    if let Some(place) = place_of(block, "ports") {
        let seen = block
            .ports
            .iter()
            .any(|range| listens().any(|listen| port_seen(listen, *range.start(), *range.end())));
        if !seen {
            let message = format!(
                "`ports` can never match: no gateway of route `{}` listens on such a port",
                route.name
            );
            report.push(where_listened(Problem::warning("never-matches", place, message)));
        }
    }
    if let Some(place) = place_of(block, "destination_subnets") {
        let seen = block.destination_subnets.iter().any(|net| listens().any(|listen| can_hold(listen, net)));
        if !seen {
            let message = format!(
                "`destination_subnets` can never match: no gateway of route `{}` listens on an address in them",
                route.name
            );
            let problem = where_listened(Problem::warning("never-matches", place, message));
            report.push(
                problem.help("it looks at the address that the client dialled, never at the endpoint's"),
            );
        }
    }
    if let Some(place) = place_of(block, "destination_services") {
        let seen = block
            .destination_services
            .iter()
            .map(|id| &scene.services[id.index()])
            .any(|service| listens().any(|listen| can_arrive(listen, service)));
        if !seen && !block.destination_services.iter().any(damaged_service) {
            let message = format!(
                "`destination_services` can never match: no gateway of route `{}` listens on a VIP and port of them",
                route.name
            );
            report.push(where_listened(Problem::warning("never-matches", place, message)));
        }
    }
}

/// Whether a listener can get connections to a port of this range. A free port may turn out to be any.
pub(super) fn port_seen(listen: &Listen, first: u16, last: u16) -> bool {
    *listen.ports.start() == 0 || (*listen.ports.start() <= last && first <= *listen.ports.end())
}

/// Whether it can get connections to a VIP and port of a service.
fn can_arrive(listen: &Listen, service: &Service) -> bool {
    service.vips.iter().any(|vip| can_hold(listen, vip))
        && (service.at_any_port.is_some()
            || service.ports.iter().any(|port| port_seen(listen, port.port, port.port)))
}

type Identity<'a> = (&'a BTreeMap<Arc<str>, Arc<str>>, &'a [Arc<str>]);

/// Conditions on the source that no workload fulfils.
fn never_owned<'a>(
    report: &mut Report,
    scene: &Scene<'a>,
    namespaces: &BTreeSet<Arc<str>>,
    known: &mut HashMap<Identity<'a>, bool>,
    block: &'a Block,
) {
    if !scene.workloads.whole {
        return;
    }
    let unknown = block.source_namespaces.iter().filter(|namespace| !namespaces.contains(*namespace));
    let unknown: Vec<&str> = unknown.map(|namespace| &**namespace).collect();
    if let (Some(place), false) = (place_of(block, "source_namespaces"), unknown.is_empty()) {
        let message = format!("no workload is in namespace `{}`", unknown.join("`, `"));
        let message = if unknown.len() == block.source_namespaces.len() {
            format!("`source_namespaces` can never match: {message}")
        } else {
            format!("a part of `source_namespaces` has no effect: {message}")
        };
        let problem = Problem::warning("never-matches", place, message);
        report.push(problem.help("declare the sources: [workload.\"NAMESPACE/NAME\"] with their addresses"));
        return;
    }
    let Some(place) = place_of(block, "source_labels").filter(|_| !block.source_labels.is_empty()) else {
        return;
    };
    let identity = (&block.source_labels, &block.source_namespaces[..]);
    let fulfilled = *known.entry(identity).or_insert_with(|| {
        let searched = |namespace: &Arc<str>| {
            scene.workloads.with_labels(namespace, &block.source_labels).next().is_some()
        };
        if block.source_namespaces.is_empty() {
            namespaces.iter().any(searched)
        } else {
            block.source_namespaces.iter().any(searched)
        }
    });
    if !fulfilled {
        let problem = Problem::warning(
            "never-matches",
            place,
            "`source_labels` can never match: no workload has these labels",
        );
        report.push(problem.help("declare the sources: [workload.NAME] with labels and addresses"));
    }
}

/// A rule that rejects by identity alone lets those pass whose identity is not known.
fn passed_by_unknown(report: &mut Report, route: &Route) {
    if !matches!(route.action, RouteAction::Reject) {
        return;
    }
    for block in &route.blocks {
        let by_identity = !block.source_labels.is_empty() || !block.source_namespaces.is_empty();
        if by_identity && block.source_subnets.is_empty() {
            let message = format!(
                "route `{}` rejects by labels or namespace: sources that no workload owns pass it",
                route.name
            );
            let problem =
                Problem::warning("unknown-sources-pass", block.place.unwrap_or(route.place), message);
            report.push(
                problem.help("reject everything in a last route, and let known sources through before it"),
            );
        }
    }
}

/// VIPs that arrive at a gateway and that none of its rules names: they go to their service, past the gateway's `to`.
fn uncovered_vips(report: &mut Report, scene: &Scene<'_>) {
    // A rule that was left out may name them.
    if scene.routes.left_out {
        return;
    }
    for (at, gateway) in scene.gateways.iter().enumerate() {
        let mut named = BTreeSet::new();
        let mut nets = Vec::new();
        let mut everything = false;
        let routes =
            scene.routes.used.iter().filter(|route| route.gateways.iter().any(|id| id.index() == at));
        for block in routes.flat_map(|route| &route.blocks) {
            named.extend(block.destination_services.iter().map(|id| id.index()));
            nets.extend_from_slice(&block.destination_subnets);
            everything |= block.destination_services.is_empty() && block.destination_subnets.is_empty();
        }
        if everything {
            continue;
        }
        let arrives = |service: &Service| {
            gateway.listen.iter().any(|listen| {
                service.vips.iter().any(|vip| can_hold(listen, vip))
                    && (service.at_any_port.is_some()
                        || service.ports.iter().any(|port| listen.ports.contains(&port.port)))
            })
        };
        let nets = spans(&nets);
        let overlaps = |service: &Service| spans(&service.vips).iter().any(|vip| touches(&nets, vip));
        let past: Vec<&Service> = scene
            .services
            .iter()
            .enumerate()
            .filter(|(id, _)| !scene.known.services[*id].damaged && !named.contains(id))
            .filter(|(_, service)| arrives(service) && !overlaps(service))
            .map(|(_, service)| service)
            .collect();
        let Some(first) = past.first() else { continue };
        let names: Vec<&str> = past.iter().take(3).map(|service| &*service.name).collect();
        let more = if past.len() > 3 { format!(" and of {} more", past.len() - 3) } else { String::new() };
        let message = format!(
            "gateway `{}` covers the VIP of `{}`{more}, which no route of it names: such connections go to the service itself",
            gateway.name,
            names.join("`, `")
        );
        let problem =
            Problem::warning("vip-without-route", gateway.place, message).related(first.place, "the service");
        report.push(
            problem.help("name it in a route with `destination_services`, if that is not what you want"),
        );
    }
}

/// Gateways that can forward no connection: no `to`, no rule, no VIP that could arrive.
fn leads_nowhere(report: &mut Report, scene: &Scene<'_>) {
    // It may lead to a thing with a problem (a rule left out, a VIP cut out).
    if report.errors > 0 {
        return;
    }
    for (id, gateway) in (0..).map(GatewayId).zip(scene.gateways) {
        let has_rule = scene.routes.used.iter().any(|route| route.gateways.contains(&id));
        let arrives = |service: &Service| gateway.listen.iter().any(|listen| can_arrive(listen, service));
        if gateway.default.is_some() || has_rule || scene.services.iter().any(arrives) {
            continue;
        }
        let message = format!(
            "gateway `{}` leads nowhere: every connection to it would be reset (`no_route`)",
            gateway.name
        );
        let problem = Problem::warning("leads-nowhere", gateway.place, message);
        report.push(problem.help("give it `to = [{ service = \"NAME\" }]`, or a route"));
    }
}
