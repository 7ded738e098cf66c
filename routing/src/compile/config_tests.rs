//! `[[test]]`s: their names checked, their arrivals made.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use toml::Spanned;

use super::addresses::socket;
use super::checked::{Known, Routes, Service};
use super::destinations::unknown_subset;
use super::names::{Name, check_name};
use super::report::Report;
use crate::arrival::Arrival;
use crate::config::spelling::nearest;
use crate::config::{Config, Expect as WrittenExpect, Item, Test, Text, place_of};
use crate::config_test::{ConfigTest, Expect};
use crate::ids::GatewayId;
use crate::parts::Gateway;
use crate::problem::{Place, Problem};

/// All that are whole.
pub(super) fn config_tests(
    report: &mut Report,
    config: &Config,
    known: &Known<'_, '_>,
    gateways: &[Gateway],
    routes: &Routes,
) -> Vec<ConfigTest> {
    let mut names: HashMap<(Arc<str>, Arc<str>), Place> = HashMap::new();
    let mut tests = Vec::new();
    for (at, item) in config.tests.iter().enumerate() {
        let name: Arc<str> = match &item.value.name {
            Some(name) => Arc::from(name.get_ref().as_str()),
            None => Arc::from(format!("test-{}", at + 1)),
        };
        let place = item.value.name.as_ref().map_or(item.place, |name| place_of(item.file, name));
        let namespace = report.namespaces[item.file as usize].clone();
        if let Some(first) = names.insert((namespace, name.clone()), place) {
            let message = format!("test `{name}` is declared twice");
            let problem = Problem::error("declared-twice", place, message).found(&*name);
            report.push(problem.related(first, "first declared here").help("give each a name of its own"));
        }
        tests.extend(config_test(report, (name, place), item, known, gateways, routes));
    }
    tests
}

fn config_test(
    report: &mut Report,
    (name, place): (Arc<str>, Place),
    item: &Item<Test>,
    known: &Known<'_, '_>,
    gateways: &[Gateway],
    routes: &Routes,
) -> Option<ConfigTest> {
    report.turn_to(item.damaged);
    let (file, written) = (item.file, &item.value);
    let mut missing = |key: &str, wanted: &str| {
        report.lack(
            Problem::error("missing-key", item.place, format!("test `{name}` needs `{key}`")).wanted(wanted),
        );
    };
    if written.source.is_none() {
        missing("source", "source = \"10.0.1.1\"");
    }
    if written.destination.is_none() {
        missing("destination", "destination = \"192.168.10.10:9000\"");
    }
    if written.expect.is_none() {
        missing("expect", "expect = { service = \"NAME\" }");
    }
    let source = written.source.as_ref().and_then(|text| source(report, file, text));
    let destination = written.destination.as_ref().and_then(|text| {
        let address = socket(report, file, text)?;
        Some((address, place_of(file, text)))
    });
    let expect = written.expect.as_ref().and_then(|written| {
        let place = place_of(file, written);
        expect(report, file, place, written.get_ref(), known, routes)
    });
    let gateway = match (&written.gateway, destination) {
        (Some(name), _) => known.gateways.resolve(report, file, name).map(|at| GatewayId(at as u32)),
        (None, Some((address, place))) => only_listener(report, known, gateways, address, place),
        (None, None) => None,
    };
    let arrival = Arrival::new(gateway?, source?, destination?.0);
    Some(ConfigTest { name, arrival, place, expect: expect? })
}

/// An address, with or without a port; nothing decides by the port of a source.
fn source(report: &mut Report, file: u32, written: &Text) -> Option<SocketAddr> {
    let text = written.get_ref();
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, 0));
    }
    socket(report, file, written)
}

/// The gateway that a connection to this address arrives at, where exactly one listens there.
fn only_listener(
    report: &mut Report,
    known: &Known<'_, '_>,
    gateways: &[Gateway],
    address: SocketAddr,
    place: Place,
) -> Option<GatewayId> {
    let found = Gateway::listening(gateways, address);
    if let [only] = found[..] {
        return Some(only);
    }
    let message = match found.len() {
        0 => format!("no gateway listens on {address}: the test names no gateway"),
        count => format!("{count} gateways listen on {address}: the test names no gateway"),
    };
    let mut names: Vec<String> =
        gateways.iter().map(|gateway| format!("gateway = \"{}\"", gateway.name)).collect();
    // One that is declared twice is one suggestion.
    names.dedup();
    names.truncate(3);
    let problem = Problem::error("which-gateway", place, message).wanted(names.join(" or "));
    let may_listen = found.is_empty() && !known.gateways.is_whole(report);
    report.push_unless(may_listen || report.damaged, problem);
    None
}

fn expect(
    report: &mut Report,
    file: u32,
    place: Place,
    written: &WrittenExpect,
    known: &Known<'_, '_>,
    routes: &Routes,
) -> Option<Expect> {
    // Each is resolved before any is given up, so that all unknown names are reported.
    let service = written.service.as_ref().map(|name| known.registry.resolve(report, file, name));
    let route = written.route.as_ref().map(|text| route(report, file, text, routes));
    let (service, route) = (transposed(service)?, transposed(route)?);
    let subsets = written.subsets.as_ref().map(|list| {
        let mut names = BTreeSet::new();
        for text in list.get_ref() {
            let name = text.get_ref().as_str();
            let service = service.map(|at| &known.services[at]);
            let unknown = |service: &&Service| {
                !name.is_empty() && !service.subsets.iter().any(|subset| &*subset.name == name)
            };
            let allowed = name.is_empty() || check_name(report, place_of(file, text), "subset name", name);
            if let Some(service) = service.filter(|service| allowed && unknown(service)) {
                report.push_unless(service.damaged, unknown_subset(service, name, place_of(file, text)));
            }
            names.insert(Arc::from(name));
        }
        names
    });
    let endpoints = written.endpoints.as_ref().map(|list| {
        list.get_ref().iter().filter_map(|text| socket(report, file, text)).collect::<BTreeSet<_>>()
    });
    let expect = Expect {
        route: placed(file, route, written.route.as_ref()),
        service: placed(file, service.map(|at| known.services[at].printed.clone()), written.service.as_ref()),
        subsets: placed(file, subsets, written.subsets.as_ref()),
        endpoints: placed(file, endpoints, written.endpoints.as_ref()),
        reject: placed(
            file,
            written.reject.as_ref().map(|written| *written.get_ref()),
            written.reject.as_ref(),
        ),
    };
    if expect == Expect::default() {
        let problem = Problem::error("empty-expect", place, "`expect` is empty, so the test could not fail");
        report.lack(problem.wanted("one of route, service, subsets, endpoints, reject"));
    }
    Some(expect)
}

/// A value, with the place where it is written.
fn placed<T, W>(file: u32, read: Option<T>, written: Option<&Spanned<W>>) -> Option<(T, Place)> {
    read.zip(written.map(|written| place_of(file, written)))
}

/// `Some(None)`: nothing is written. `None`: a wrong value is written, which was reported.
fn transposed<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
        None => Some(None),
    }
}

/// The printed name of a route; "" stands for none.
fn route(report: &mut Report, file: u32, written: &Text, routes: &Routes) -> Option<Arc<str>> {
    let text = written.get_ref().as_str();
    if text.is_empty() {
        return Some(Arc::from(""));
    }
    let namespace = report.namespaces[file as usize].clone();
    let name = Name::read(text, &namespace);
    if !name.check_reference(report, place_of(file, written), "route", text) {
        return None;
    }
    if let Some(printed) = routes.names.get(&name) {
        return Some(printed.clone());
    }
    let mut names: Vec<&str> = routes.names.keys().map(|name| &*name.name).collect();
    names.sort_unstable();
    let problem =
        Problem::error("unknown-reference", place_of(file, written), format!("unknown route `{text}`"))
            .found(text);
    let problem = match nearest(text, names) {
        Some(meant) => problem.help(format!("did you mean `{meant}`?")),
        None => problem.help("\"\" is no route"),
    };
    report.push_unless(routes.nameless, problem);
    None
}
