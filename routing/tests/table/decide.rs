//! Decisions against a model that evaluates block after block, on random tables; and explanations against both.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use weir_routing::explain::{Extent, Outcome, explain};
use weir_routing::{
    Action, Arrival, Block, DestinationId, FirstBytes, FirstPart, GatewayId, Known, Parts, Refusal,
    RouteAction, RouteId, ServiceId, Table, Verdict, Via, WorkloadId,
};

use super::support::{Builder, split};

/// Few values of each kind, so that random conditions meet random arrivals.
const GATEWAYS: u32 = 3;
const SERVICES: u32 = 4;
const LABELS: [(&str, &str); 4] = [("app", "web"), ("app", "db"), ("tier", "gold"), ("tier", "")];
const NAMES: [&str; 2] = ["a.example.com", "b.example.com"];
const NAMESPACES: [&str; 3] = ["foo", "bar", "default"];

/// The workload of the longest prefix; of equals the first.
fn workload(parts: &Parts, address: IpAddr) -> Option<WorkloadId> {
    let mut longest: Option<(u8, WorkloadId)> = None;
    for (id, workload) in (0..).map(WorkloadId).zip(&parts.workloads) {
        for net in workload.addresses.iter().filter(|net| net.contains(&address)) {
            if longest.is_none_or(|(length, _)| net.prefix_len() > length) {
                longest = Some((net.prefix_len(), id));
            }
        }
    }
    longest.map(|(_, id)| id)
}

/// Of the services that have the port the one with the longest VIP; of equals the first.
fn service(parts: &Parts, arrival: &Arrival) -> Option<ServiceId> {
    let mut longest: Option<(u8, ServiceId)> = None;
    for (id, service) in (0..).map(ServiceId).zip(&parts.services) {
        if service.ports.iter().all(|port| port.port != arrival.destination.port()) {
            continue;
        }
        for vip in service.vips.iter().filter(|vip| vip.contains(&arrival.destination.ip())) {
            if longest.is_none_or(|(length, _)| vip.prefix_len() > length) {
                longest = Some((vip.prefix_len(), id));
            }
        }
    }
    longest.map(|(_, id)| id)
}

/// Whether one condition of a block holds; that on the SNI as where there is none.
fn holds(parts: &Parts, arrival: &Arrival, block: &Block, condition: &str) -> bool {
    let (source, destination) = (arrival.source.ip(), arrival.destination.ip());
    let workload = workload(parts, source).map(|id| &parts.workloads[id.index()]);
    match condition {
        "ports" => {
            block.ports.is_empty()
                || block.ports.iter().any(|ports| ports.contains(&arrival.destination.port()))
        }
        "destination_subnets" => in_any(&block.destination_subnets, destination),
        "source_subnets" => in_any(&block.source_subnets, source),
        "source_labels" => {
            block.source_labels.is_empty()
                || workload.is_some_and(|workload| {
                    block.source_labels.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
                })
        }
        "source_namespaces" => {
            block.source_namespaces.is_empty()
                || workload.is_some_and(|workload| block.source_namespaces.contains(&workload.namespace))
        }
        "destination_services" => {
            block.destination_services.is_empty()
                || service(parts, arrival)
                    .is_some_and(|service| block.destination_services.contains(&service))
        }
        "sni" => block.sni.is_empty(),
        other => panic!("{other} is no condition of a block"),
    }
}

fn in_any(nets: &[IpNet], address: IpAddr) -> bool {
    nets.is_empty() || nets.iter().any(|net| net.contains(&address))
}

const CONDITIONS: [&str; 7] = [
    "ports",
    "destination_subnets",
    "source_subnets",
    "source_labels",
    "source_namespaces",
    "destination_services",
    "sni",
];

/// Every verdict that chance may lead to.
fn verdicts(parts: &Parts, arrival: &Arrival, sni: Known<&str>) -> Vec<Verdict> {
    let (via, route, waits) = model(parts, arrival, sni);
    if waits {
        return vec![Verdict::Needs(FirstPart::Sni)];
    }
    let port = arrival.destination.port();
    let action = route.map(|route| &parts.routes[route.index()].action);
    let split = match (via, action) {
        (_, Some(RouteAction::Forward(split))) => *split,
        (_, Some(RouteAction::Reject)) => {
            return vec![Verdict::Refuse { refusal: Refusal::Rejected, via, route }];
        }
        (Via::Service, None) => {
            let id = service(parts, arrival).expect("a service took it");
            let mut by_port = parts.services[id.index()].by_port.iter();
            by_port.find(|(other, _)| *other == port).expect("it has the port").1
        }
        (Via::Gateway, None) => parts.gateways[arrival.gateway.index()].default.expect("a default took it"),
        (_, None) => return vec![Verdict::Refuse { refusal: Refusal::NoRoute, via, route }],
    };
    let end = |drawn: DestinationId| {
        let by_client_port = &parts.destinations[drawn.index()].by_client_port;
        let at_port = by_client_port.iter().find(|(other, _)| *other == port);
        match at_port {
            Some((_, destination)) => Verdict::Forward { destination: *destination, via, route },
            None if by_client_port.is_empty() => Verdict::Forward { destination: drawn, via, route },
            None => Verdict::Refuse { refusal: Refusal::NoPort(drawn), via, route },
        }
    };
    let shares = parts.splits[split.index()].shares.iter();
    shares.filter(|share| share.weight > 0).map(|share| end(share.destination)).collect()
}

/// Which step takes an arrival, by which route, and whether that has to wait for the SNI.
fn model(parts: &Parts, arrival: &Arrival, sni: Known<&str>) -> (Via, Option<RouteId>, bool) {
    let holds_but_for_sni = |block: &&Block| {
        let mut others = CONDITIONS.iter().filter(|condition| **condition != "sni");
        others.all(|condition| holds(parts, arrival, block, condition))
    };
    let may_hold = |block: &&Block| match sni {
        Known::Unknown => true,
        Known::Absent => block.sni.is_empty(),
        Known::Value(name) => block.sni.is_empty() || block.sni.iter().any(|other| **other == *name),
    };
    for (id, route) in (0..).map(RouteId).zip(&parts.routes) {
        let blocks = route.blocks.iter().filter(holds_but_for_sni).filter(may_hold);
        let blocks: Vec<&Block> = blocks.filter(|_| route.gateways.contains(&arrival.gateway)).collect();
        if !blocks.is_empty() {
            let waits = sni == Known::Unknown && blocks.iter().all(|block| !block.sni.is_empty());
            return (Via::Route, Some(id), waits);
        }
    }
    let via = match (service(parts, arrival), &parts.gateways[arrival.gateway.index()].default) {
        (Some(_), _) => Via::Service,
        (None, Some(_)) => Via::Gateway,
        (None, None) => Via::Unmatched,
    };
    (via, None, false)
}

fn address() -> impl Strategy<Value = IpAddr> {
    // Eight bits of freedom at the top and a few at the bottom: prefixes nest, and addresses fall into them.
    let v4 = (0..4u32, 0..4u32)
        .prop_map(|(top, bottom)| IpAddr::from((top << 30 | bottom << 8 | bottom).to_be_bytes()));
    let v6 = (0..4u128, 0..4u128)
        .prop_map(|(top, bottom)| IpAddr::from((top << 126 | bottom << 60 | 1).to_be_bytes()));
    prop_oneof![3 => v4, 1 => v6]
}

fn net() -> impl Strategy<Value = IpNet> {
    let length =
        prop_oneof![Just(0), Just(1), Just(2), Just(8), Just(20), Just(23), Just(24), Just(31), Just(32)];
    (address(), length).prop_map(|(address, length): (IpAddr, u8)| match address {
        IpAddr::V4(v4) => Ipv4Net::new_assert(v4, length).trunc().into(),
        IpAddr::V6(v6) => Ipv6Net::new_assert(v6, length * 4).trunc().into(),
    })
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(1), Just(80), Just(443), Just(9000), Just(65_534), Just(65_535)]
}

fn ports() -> impl Strategy<Value = RangeInclusive<u16>> {
    (port(), port()).prop_map(|(one, other)| one.min(other)..=one.max(other))
}

/// Mostly nothing, sometimes a few: a block rarely has all conditions.
fn some<S: Strategy>(of: S) -> impl Strategy<Value = Vec<S::Value>>
where
    S::Value: Clone,
{
    prop_oneof![3 => Just(0..1usize), 2 => Just(1..4usize)].prop_flat_map({
        let of = Arc::new(of);
        move |count| prop::collection::vec(Arc::clone(&of), count)
    })
}

fn block() -> impl Strategy<Value = Block> {
    let label = prop::sample::select(&LABELS[..]);
    let namespace = prop::sample::select(&NAMESPACES[..]);
    let service = (0..SERVICES).prop_map(ServiceId);
    let name = prop::sample::select(&NAMES[..]);
    (some(ports()), some(net()), some(net()), some(label), some(namespace), some(service), some(name))
        .prop_map(
            |(
                ports,
                destination_subnets,
                source_subnets,
                labels,
                namespaces,
                destination_services,
                names,
            )| Block {
                ports,
                destination_subnets,
                source_subnets,
                source_labels: super::support::label_map(&labels),
                source_namespaces: namespaces.into_iter().map(Arc::from).collect(),
                destination_services,
                sni: names.into_iter().map(Arc::from).collect(),
                ..Block::default()
            },
        )
}

/// Labels, namespace and networks of a workload.
type WorkloadParts = (Vec<(&'static str, &'static str)>, &'static str, Vec<IpNet>);

fn workloads() -> impl Strategy<Value = Vec<WorkloadParts>> {
    let labels = prop::collection::vec(prop::sample::select(&LABELS[..]), 0..3);
    let namespace = prop::sample::select(&NAMESPACES[..]);
    prop::collection::vec((labels, namespace, prop::collection::vec(net(), 1..4)), 0..8)
}

fn routes() -> impl Strategy<Value = Vec<(Vec<GatewayId>, Vec<Block>, bool)>> {
    let gateways =
        prop::sample::subsequence((0..GATEWAYS).map(GatewayId).collect::<Vec<_>>(), 1..=GATEWAYS as usize);
    // Enough of them for more than a word of bits, and for classes that are bit sets.
    prop::collection::vec((gateways, prop::collection::vec(block(), 1..4), any::<bool>()), 0..80)
}

fn parts() -> impl Strategy<Value = Parts> {
    let services =
        prop::collection::vec((some(net()), prop::collection::vec(port(), 1..3)), SERVICES as usize);
    let flags = (any::<bool>(), any::<bool>());
    (routes(), workloads(), services, flags).prop_map(|(routes, workloads, services, (default, asks_sni))| {
        let mut builder = Builder::new();
        for (number, (vips, mut ports)) in services.into_iter().enumerate() {
            ports.dedup();
            builder.service(&format!("service-{number}"), &vips, &ports);
        }
        // Two destinations: at one port, and where the client's port decides.
        let somewhere = builder.destination(ServiceId(0), None, Some(80), &[]);
        let by_client = builder.destination(ServiceId(0), None, None, &[]);
        let at_ports = builder.parts.services[0].by_port.iter();
        let at_ports = at_ports
            .map(|(port, split)| (*port, builder.parts.splits[split.index()].shares[0].destination))
            .collect();
        builder.parts.destinations[by_client.index()].by_client_port = at_ports;
        let either = [(somewhere, 1), (by_client, 2), (somewhere, 0)];
        for gateway in 0..GATEWAYS {
            let default = (default && gateway == 1).then(|| split(&either));
            builder.gateway(&format!("gateway-{gateway}"), default);
        }
        for (number, (labels, namespace, nets)) in workloads.into_iter().enumerate() {
            builder.workload(&format!("{namespace}/workload-{number}"), &labels, &nets);
        }
        for (number, (gateways, mut blocks, reject)) in routes.into_iter().enumerate() {
            // Most tables have no such condition, and fewer sets.
            blocks.iter_mut().filter(|_| !asks_sni).for_each(|block| block.sni.clear());
            let action = if reject { RouteAction::Reject } else { builder.forward(split(&either)) };
            builder.route(&format!("route-{number}"), &gateways, blocks, action);
        }
        builder.parts
    })
}

fn sni() -> impl Strategy<Value = Known<&'static str>> {
    let named = prop::sample::select(&["a.example.com", "b.example.com", "c.example.com"][..]);
    prop_oneof![Just(Known::Unknown), Just(Known::Absent), named.prop_map(Known::Value)]
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let arrival =
        (0..GATEWAYS, address(), address(), port()).prop_map(|(gateway, source, destination, port)| {
            Arrival::new(GatewayId(gateway), (source, 40_000).into(), (destination, port).into())
        });
    prop::collection::vec(arrival, 60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn table_decides_as_a_scan_over_the_rules(parts in parts(), arrivals in arrivals(), snis in prop::collection::vec(sni(), 60)) {
        let table = Table::build(parts.clone());
        let mut rng = fastrand::Rng::with_seed(7);
        for (arrival, sni) in arrivals.into_iter().zip(snis) {
            let first_bytes = FirstBytes { sni };
            let found = table.matched(&arrival, &first_bytes);
            let (via, route, waits) = model(&parts, &arrival, sni);
            prop_assert_eq!((found.via, found.route), (via, route), "{:?} {:?}", arrival, sni);
            prop_assert_eq!(matches!(found.action, Action::Needs(_)), waits, "{:?} {:?}", arrival, sni);
            let wanted = verdicts(&parts, &arrival, sni);
            let drawn: Vec<Verdict> = (0..20).map(|_| table.decide(&arrival, &first_bytes, &mut rng)).collect();
            prop_assert!(drawn.iter().all(|verdict| wanted.contains(verdict)), "{drawn:?} of {wanted:?}");
            if let Action::Forward(split) = found.action {
                let draws = table.draws(split, arrival.destination.port()).filter(|draw| draw.share.weight > 0);
                let ends = draws.map(|draw| match draw.end {
                    Ok(destination) => Verdict::Forward { destination, via, route },
                    Err(refusal) => Verdict::Refuse { refusal, via, route },
                });
                prop_assert_eq!(ends.collect::<Vec<_>>(), wanted);
            }
            prop_assert_eq!(table.workload(arrival.source.ip()), workload(&parts, arrival.source.ip()));
        }
    }

    #[test]
    fn conditions_that_explain_shows_as_failed_do_fail(parts in parts(), arrivals in arrivals()) {
        let table = Table::build(parts.clone());
        for arrival in arrivals.into_iter().take(10) {
            let explanation = explain(&table, &arrival, Extent::Whole);
            let (via, taken, _) = model(&parts, &arrival, Known::Absent);
            prop_assert_eq!(explanation.via, via);
            prop_assert_eq!(explanation.rules.len(), parts.routes.len());
            for (rule, (id, route)) in explanation.rules.iter().zip((0..).map(RouteId).zip(&parts.routes)) {
                match &rule.outcome {
                    Outcome::Matched { block, .. } => {
                        prop_assert_eq!(taken, Some(id));
                        let block = &route.blocks[block - 1];
                        prop_assert!(CONDITIONS.iter().all(|condition| holds(&parts, &arrival, block, condition)));
                    }
                    Outcome::NotReached => prop_assert!(taken.is_some_and(|taken| taken < id)),
                    Outcome::Off => prop_assert!(false, "no route is off"),
                    Outcome::Failed { failed, .. } if failed.condition == "gateways" => {
                        prop_assert!(!route.gateways.contains(&arrival.gateway));
                    }
                    Outcome::Failed { block, failed } => {
                        let first_failing = |block: &Block| {
                            CONDITIONS.iter().position(|condition| !holds(&parts, &arrival, block, condition))
                        };
                        let failing = first_failing(&route.blocks[block - 1]);
                        let name = failing.map(|failing| CONDITIONS[failing]);
                        prop_assert_eq!(name, Some(failed.condition));
                        let furthest = route.blocks.iter().map(first_failing).max();
                        prop_assert_eq!(furthest, Some(failing), "the block that got furthest is shown");
                    }
                }
            }
        }
    }
}

/// The rules with many names in one place: classes beyond a list, nested in one another.
#[test]
fn a_thousand_rules_inside_one_network_are_distinguished() {
    let mut builder = Builder::new();
    let gateway = builder.gateway("mesh", None);
    for n in 0..1_000u16 {
        let [high, low] = n.to_be_bytes();
        let all = if n % 2 == 0 { "10.0.0.0/8" } else { "10.0.0.0/9" };
        let block = Block {
            source_subnets: vec![
                super::support::net(all),
                Ipv4Net::new_assert([11, 0, high, low].into(), 32).into(),
            ],
            ports: vec![n..=n],
            ..Block::default()
        };
        builder.route(&format!("route-{n}"), &[gateway], vec![block], RouteAction::Reject);
    }
    let table = Table::build(builder.parts);
    for n in 0..1_000u16 {
        let check = |source: String, wanted: bool| {
            let arrival = super::support::arrival(0, &source, &format!("1.1.1.1:{n}"));
            let wanted = wanted.then_some(RouteId(n.into()));
            assert_eq!(table.matched(&arrival, &FirstBytes::UNKNOWN).route, wanted, "{source} to port {n}");
        };
        check("10.1.2.3".to_owned(), true);
        check("10.200.2.3".to_owned(), n % 2 == 0);
        check(format!("11.0.{}.{}", n >> 8, n & 255), true);
        check("12.0.0.0".to_owned(), false);
    }
}

#[test]
fn an_ipv4_prefix_never_holds_for_an_ipv6_address() {
    let mut builder = Builder::new();
    let gateway = builder.gateway("mesh", None);
    let block = Block { source_subnets: vec![super::support::net("0.0.0.0/0")], ..Block::default() };
    builder.route("v4", &[gateway], vec![block], RouteAction::Reject);
    let table = Table::build(builder.parts);
    for (source, wanted) in
        [("1.2.3.4", Some(RouteId(0))), ("::ffff:1.2.3.4", Some(RouteId(0))), ("::1", None), ("::", None)]
    {
        assert_eq!(
            table.matched(&super::support::arrival(0, source, "1.1.1.1:1"), &FirstBytes::UNKNOWN).route,
            wanted,
            "{source}"
        );
    }
}

/// A rule that does not ask takes a connection at once, and so does one that asks in one block and holds by another. A rule behind
/// one that asks takes it once the name is known, or known to be absent.
#[test]
fn only_a_rule_that_holds_in_all_else_makes_a_connection_wait_for_its_bytes() {
    let mut builder = Builder::new();
    let gateway = builder.gateway("mesh", None);
    let asks = |port: u16, name: &str| Block {
        ports: vec![port..=port],
        sni: vec![name.into()],
        ..Block::default()
    };
    let port = |port: u16| Block { ports: vec![port..=port], ..Block::default() };
    for (name, blocks) in [
        ("ssh", vec![port(22)]),
        ("a", vec![asks(443, "a.example.com")]),
        ("ssh-by-name", vec![asks(22, "a.example.com")]),
        ("rest", vec![port(443)]),
        ("mail", vec![asks(25, "a.example.com"), port(25)]),
    ] {
        builder.route(name, &[gateway], blocks, RouteAction::Reject);
    }
    let table = Table::build(builder.parts);
    let needs = Verdict::Needs(FirstPart::Sni);
    let by =
        |route| Verdict::Refuse { refusal: Refusal::Rejected, via: Via::Route, route: Some(RouteId(route)) };
    let none = Verdict::Refuse { refusal: Refusal::NoRoute, via: Via::Unmatched, route: None };
    for (port, sni, wanted) in [
        (443, Known::Unknown, needs),
        (443, Known::Value("a.example.com"), by(1)),
        (443, Known::Value("b.example.com"), by(3)),
        (443, Known::Absent, by(3)),
        (22, Known::Unknown, by(0)),
        (25, Known::Unknown, by(4)),
        (80, Known::Unknown, none),
    ] {
        let arrival = super::support::arrival(0, "10.0.0.1", &format!("10.0.0.2:{port}"));
        let verdict = table.decide(&arrival, &FirstBytes { sni }, &mut fastrand::Rng::with_seed(7));
        assert_eq!(verdict, wanted, "port {port}, {sni:?}");
    }
}
