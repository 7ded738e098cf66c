//! The ports that can arrive where a split is drawn, and those of them that its services lack, or that lead back to ourselves.
//!
//! Only a destination whose port the client decides is looked at. The ports that can arrive are those that the gateways listen
//! on, narrowed by the route's match, without those that an earlier rule always takes.

use std::collections::HashSet;

use super::checked::{Scene, Targets};
use super::coverage::{inside, merged};
use super::gateways::can_hold;
use super::members::loops;
use super::report::Report;
use crate::ids::{EndpointId, GatewayId, ServiceId, SplitId};
use crate::parts::{Block, CLIENTS_PORT, Destination, Listen, RouteAction, Service, Share, dialled};
use crate::problem::{Place, Problem};

/// How many ports or ranges a message names.
const SHOWN: usize = 4;

/// Reports each destination that no port can lead to, each that some ports cannot, and each endpoint that is dialled on the
/// client's port where that is one of our own listeners.
pub(super) fn check(report: &mut Report, scene: &Scene<'_>, targets: &Targets<'_>) {
    let mut checker = Checker { scene, targets, looping: HashSet::new() };
    if targets.destinations.iter().all(|destination| !checker.is_decided_by_client(destination)) {
        return;
    }
    let mut taken = vec![Ports::default(); scene.gateways.len()];
    for route in &scene.routes.used {
        if let RouteAction::Forward(split) = route.action {
            let arriving = || {
                let mut ports = Ports::default();
                for gateway in &route.gateways {
                    let taken = &taken[gateway.index()];
                    for block in &route.blocks {
                        ports = ports.or(&arriving(scene, *gateway, block).without(taken));
                    }
                }
                ports
            };
            checker.split(report, split, &route.gateways, arriving);
        }
        for block in route.blocks.iter().filter(|block| asks_only_for_ports(block)) {
            let ports =
                if block.ports.is_empty() { Ports::all() } else { Ports::of(block.ports.iter().cloned()) };
            for gateway in &route.gateways {
                let taken = &mut taken[gateway.index()];
                *taken = taken.or(&ports);
            }
        }
    }
    let gateways: Vec<GatewayId> = (0..scene.gateways.len() as u32).map(GatewayId).collect();
    for id in &gateways {
        let Some(split) = scene.gateways[id.index()].default else { continue };
        let arriving = || arriving(scene, *id, &Block::default()).without(&taken[id.index()]);
        checker.split(report, split, &[*id], arriving);
    }
    for (id, service) in (0..).map(ServiceId).zip(scene.services) {
        let Some(split) = service.at_any_port else { continue };
        let block = Block { destination_services: vec![id], ..Block::default() };
        let arriving = || {
            let arriving = gateways.iter().map(|gateway| arriving(scene, *gateway, &block));
            arriving.fold(Ports::default(), |all, ports| all.or(&ports))
        };
        checker.split(report, split, &gateways, arriving);
    }
}

struct Checker<'a> {
    scene: &'a Scene<'a>,
    targets: &'a Targets<'a>,
    /// Endpoints that were reported.
    looping: HashSet<EndpointId>,
}

impl<'a> Checker<'a> {
    /// Whether the port that the client dials decides how the destination is dialled, or whether it is.
    fn is_decided_by_client(&self, destination: &Destination) -> bool {
        !destination.by_client_port.is_empty() || self.dialled_as_client(destination).next().is_some()
    }

    /// The endpoints that are dialled on the client's port.
    fn dialled_as_client(&self, destination: &'a Destination) -> impl Iterator<Item = EndpointId> + use<'a> {
        let endpoints = self.targets.endpoints;
        let is_one = |id: &EndpointId| endpoints[id.index()].address.port() == CLIENTS_PORT;
        destination.endpoints.iter().copied().filter(is_one)
    }

    fn split(
        &mut self,
        report: &mut Report,
        split: SplitId,
        gateways: &[GatewayId],
        arriving: impl FnOnce() -> Ports,
    ) {
        let destinations = self.targets.destinations;
        let shares = self.targets.splits[split.index()].shares.iter();
        let decided = shares.map(|share| (share, &destinations[share.destination.index()]));
        let mut decided =
            decided.filter(|(_, destination)| self.is_decided_by_client(destination)).peekable();
        if decided.peek().is_none() {
            return;
        }
        let decided: Vec<(&Share, &Destination)> = decided.collect();
        let arriving = arriving();
        let mut reported = HashSet::new();
        for (share, destination) in decided {
            if destination.by_client_port.is_empty() {
                self.loops(report, destination, &arriving);
            } else if reported.insert(destination.service) {
                self.lacking(report, share, destination.service, gateways, &arriving);
            }
        }
    }

    /// Reports the ports that the service lacks.
    fn lacking(
        &self,
        report: &mut Report,
        share: &Share,
        id: ServiceId,
        gateways: &[GatewayId],
        arriving: &Ports,
    ) {
        let scene = self.scene;
        let service = &scene.services[id.index()];
        let lacking = arriving.without(&ports_of(service));
        if lacking.is_empty() {
            return;
        }
        // A port that was cut out of the gateway or the service may be the one that meets.
        let damaged = report.incomplete
            || scene.known.services[id.index()].damaged
            || gateways.iter().any(|id| scene.known.gateways.list[id.index()].damaged);
        let mut listens = gateways.iter().flat_map(|id| &scene.gateways[id.index()].listen);
        let listen = listens.find(|listen| !listened(listen).and(&lacking).is_empty());
        let none_meets = lacking == *arriving;
        if none_meets || !damaged {
            report.push_unless(damaged, problem(service, &lacking, none_meets, share.place, listen));
        }
    }

    /// Reports endpoints that would be dialled where we listen ourselves.
    fn loops(&mut self, report: &mut Report, destination: &'a Destination, arriving: &Ports) {
        for id in self.dialled_as_client(destination) {
            let endpoint = &self.targets.endpoints[id.index()];
            // The number of a free port is known only once it is bound; a loop there is found when it is dialled.
            let mut own = self.targets.own.at(endpoint.address.ip()).filter(|own| *own.ports.start() > 0);
            let listened = own.find_map(|own| {
                let port = listened(own).and(arriving).0.first()?.0;
                Some((dialled(endpoint.address, port), own.place))
            });
            if let Some((address, listen)) = listened.filter(|_| self.looping.insert(id)) {
                report.push(loops(address, endpoint.place, endpoint.host.is_some(), listen));
            }
        }
    }
}

fn problem(
    service: &Service,
    lacking: &Ports,
    none_meets: bool,
    place: Place,
    listen: Option<&Listen>,
) -> Problem {
    let (name, has) = (&service.name, ports_of(service).shown());
    let first = service.ports.first().map_or(0, |port| port.port);
    let problem = if none_meets {
        let message = format!(
            "nothing can be forwarded to `{name}`: it has the ports {has}, and clients dial {}",
            lacking.shown()
        );
        Problem::error("port-not-served", place, message)
    } else {
        let message =
            format!("connections to {} are refused: `{name}` has only the ports {has}", lacking.with_noun());
        Problem::warning("port-not-served", place, message)
    };
    let problem = problem.found(lacking.shown()).wanted(has);
    let problem = match listen {
        Some(listen) => problem.related(listen.place, "clients dial a port of this listener"),
        None => problem,
    };
    problem.related(service.place, "the service").help(format!(
        "name the port of the service that is meant: {{ service = \"{name}\", port = {first} }}"
    ))
}

/// The ports of connections for which all conditions of a block on the original destination can hold at a gateway.
fn arriving(scene: &Scene<'_>, gateway: GatewayId, block: &Block) -> Ports {
    let mut arriving = Ports::default();
    for listen in &scene.gateways[gateway.index()].listen {
        if !block.destination_subnets.is_empty()
            && !block.destination_subnets.iter().any(|net| can_hold(listen, net))
        {
            continue;
        }
        let mut ports = listened(listen);
        if !block.ports.is_empty() {
            ports = ports.and(&Ports::of(block.ports.iter().cloned()));
        }
        if !block.destination_services.is_empty() {
            let services = block.destination_services.iter().map(|id| &scene.services[id.index()]);
            let here = services.filter(|service| service.vips.iter().any(|vip| can_hold(listen, vip)));
            ports = ports.and(&here.fold(Ports::default(), |all, service| all.or(&ports_of(service))));
        }
        arriving = arriving.or(&ports);
    }
    arriving
}

fn asks_only_for_ports(block: &Block) -> bool {
    block.destination_subnets.is_empty()
        && block.source_subnets.is_empty()
        && block.source_labels.is_empty()
        && block.source_namespaces.is_empty()
        && block.destination_services.is_empty()
}

/// The ports of a listener; a free port may be any.
fn listened(listen: &Listen) -> Ports {
    if *listen.ports.start() == 0 { Ports::all() } else { Ports::of([listen.ports.clone()]) }
}

fn ports_of(service: &Service) -> Ports {
    match service.at_any_port {
        Some(_) => Ports::all(),
        None => Ports::of(service.ports.iter().map(|port| port.port..=port.port)),
    }
}

/// A set of ports: sorted ranges, which neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ports(Vec<(u16, u16)>);

impl Ports {
    fn all() -> Self {
        Self(vec![(1, u16::MAX)])
    }

    fn of(ranges: impl IntoIterator<Item = std::ops::RangeInclusive<u16>>) -> Self {
        Self::merged(ranges.into_iter().map(|range| (*range.start(), *range.end())).collect())
    }

    fn merged(ranges: Vec<(u16, u16)>) -> Self {
        Self(merged(ranges, |port| port.checked_add(1)))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn or(&self, other: &Self) -> Self {
        if inside(&self.0, &other.0) {
            return self.clone();
        }
        Self::merged([&self.0[..], &other.0[..]].concat())
    }

    fn and(&self, other: &Self) -> Self {
        self.without(&self.without(other))
    }

    fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut others = other.0.iter().copied().peekable();
        for &(first, last) in &self.0 {
            let mut next = Some(first);
            while let Some((from, to)) = others.peek().copied().filter(|(from, _)| *from <= last) {
                match next {
                    Some(first) if first < from => left.push((first, from - 1)),
                    _ => {}
                }
                next = next.and_then(|first| Some(first.max(to.checked_add(1)?)));
                // A range that reaches beyond this one is still needed for the next.
                if to > last {
                    break;
                }
                others.next();
            }
            left.extend(next.filter(|first| *first <= last).map(|first| (first, last)));
        }
        Self(left)
    }

    /// "port 80", "ports 80-81".
    fn with_noun(&self) -> String {
        let is_one = matches!(self.0[..], [(first, last)] if first == last);
        format!("{} {}", if is_one { "port" } else { "ports" }, self.shown())
    }

    /// "80, 443, 6000-6099", or the first few and how many more ports there are.
    fn shown(&self) -> String {
        let range = |(first, last): &(u16, u16)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let shown: Vec<String> = self.0.iter().take(SHOWN).map(range).collect();
        let more: usize = self.0.iter().skip(SHOWN).map(|(first, last)| usize::from(last - first) + 1).sum();
        match more {
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ports() -> impl Strategy<Value = Ports> {
        let near = || prop_oneof![0..12_u16, 65_530..=u16::MAX];
        prop::collection::vec((near(), near()), 0..5).prop_map(|ranges| {
            Ports::of(ranges.into_iter().map(|(one, other)| one.min(other)..=one.max(other)))
        })
    }

    proptest! {
        #[test]
        fn sets_of_ports_are_sets(one in ports(), other in ports()) {
            let has = |ports: &Ports, port: u16| ports.0.iter().any(|(first, last)| (*first..=*last).contains(&port));
            for port in (0..20).chain(30_000..30_002).chain(65_520..=u16::MAX) {
                let (in_one, in_other) = (has(&one, port), has(&other, port));
                prop_assert_eq!(has(&one.or(&other), port), in_one || in_other, "{}", port);
                prop_assert_eq!(has(&one.and(&other), port), in_one && in_other, "{}", port);
                prop_assert_eq!(has(&one.without(&other), port), in_one && !in_other, "{}", port);
            }
            for set in [one.or(&other), one.and(&other), one.without(&other)] {
                prop_assert_eq!(&Ports::merged(set.0.clone()), &set, "sorted, apart");
            }
        }
    }
}
