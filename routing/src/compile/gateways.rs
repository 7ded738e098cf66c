//! Gateways: where they listen, and which addresses are therefore our own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::addresses::advice;
use super::names::{Declared, Registry};
use super::report::Report;
use super::values::{count, ports_of_text, word};
use crate::config::{Gateway, Number, Text, not_in_this_version, place_of};
use crate::parts::{GatewayLimits, Listen};
use crate::problem::{Place, Problem};

/// The listeners of each gateway, in the order of the registry.
pub(super) fn listens(report: &mut Report, gateways: &Registry<'_, Gateway>) -> Vec<Vec<Listen>> {
    if gateways.list.is_empty() {
        let problem =
            Problem::error("no-gateway", None, "no file declares a gateway: nothing would be listened on");
        let problem = problem.wanted("[gateway.NAME]").help("[gateway.edge]\nlisten = [\"0.0.0.0:5432\"]");
        report.push_unless(report.incomplete, problem);
    }
    let mut all = Vec::new();
    for gateway in &gateways.list {
        report.turn_to(gateway.damaged);
        let mut listens = Vec::new();
        let written = gateway.written.listen.as_ref();
        if written.is_none_or(|list| list.get_ref().is_empty()) {
            let place = written.map_or(gateway.place, |list| place_of(gateway.file, list));
            let message = format!("gateway `{}` listens nowhere", gateway.printed);
            report.lack(Problem::error("no-listen", place, message).wanted("listen = [\"0.0.0.0:5432\"]"));
        }
        for text in written.into_iter().flat_map(|list| list.get_ref()) {
            listens.extend(listen(report, gateway.file, text));
        }
        if let Some(unmatched) = &gateway.written.unmatched {
            word(report, gateway.file, "unmatched", unmatched, &[("reject", ())], &["passthrough"]);
            if gateway.written.to.is_some() {
                let message =
                    "`unmatched` has no effect beside `to`: connections that no route took go there";
                let problem = Problem::warning("no-effect", place_of(gateway.file, unmatched), message);
                report.push(problem.help("keep one of them"));
            }
        }
        all.push(listens);
    }
    overlaps(report, &all);
    all
}

/// How many connections a gateway takes.
pub(super) fn limits(report: &mut Report, gateway: &Declared<'_, Gateway>) -> GatewayLimits {
    let mut limit = |key: &str, written: &Option<Number>, most: u64| {
        let count = written.as_ref().and_then(|written| count(report, gateway.file, key, written, 0..=most));
        count.filter(|count| *count > 0)
    };
    let written = gateway.written;
    let (connections, rate) = (u64::from(u32::MAX), 1_000_000);
    GatewayLimits {
        connections: limit("max_connections", &written.max_connections, connections),
        connections_per_source: limit(
            "max_connections_per_source",
            &written.max_connections_per_source,
            connections,
        ),
        rate: limit("max_connection_rate", &written.max_connection_rate, rate),
        rate_per_source: limit(
            "max_connection_rate_per_source",
            &written.max_connection_rate_per_source,
            rate,
        ),
    }
}

/// "0.0.0.0:5432", "[::]:31400", "10.0.0.5:6000-6099".
fn listen(report: &mut Report, file: u32, written: &Text) -> Option<Listen> {
    let (text, place) = (written.get_ref().as_str(), place_of(file, written));
    if text.starts_with("systemd:") {
        let problem = not_in_this_version(&format!("listen = \"{text}\""), place);
        report.push(problem.wanted("an address and a port, such as \"0.0.0.0:5432\""));
        return None;
    }
    let bad = |message: String| {
        Problem::error("bad-listen", place, message)
            .found(format!("\"{text}\""))
            .wanted("ADDRESS:PORT or ADDRESS:FIRST-LAST, such as \"0.0.0.0:5432\" or \"[::]:6000-6099\"")
    };
    let Some((host, ports)) = text.rsplit_once(':') else {
        let problem = bad(format!("`{text}` has no port"));
        let port = text.parse::<u16>().ok();
        report.push(match advice(text) {
            Some(advice) => problem.help(advice),
            None => port
                .into_iter()
                .fold(problem, |problem, port| problem.help(format!("write \"0.0.0.0:{port}\""))),
        });
        return None;
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = match bracketed {
        Some(host) => host.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    let Some(address) = address else {
        let problem = bad(format!("`{text}` is not an address to listen on"));
        report.push(match host {
            "" | "*" => problem
                .help(format!("write \"0.0.0.0:{ports}\" for all IPv4 addresses, \"[::]:{ports}\" for IPv6")),
            "localhost" => {
                problem.help(format!("write \"127.0.0.1:{ports}\", and \"[::1]:{ports}\" for IPv6"))
            }
            _ => {
                problem.help(advice(text).unwrap_or("gateways listen on addresses, not on names".to_owned()))
            }
        });
        return None;
    };
    match ports_of_text(ports) {
        Ok(ports) => Some(Listen { address: address.to_canonical(), ports, place }),
        Err(wrong) => {
            report.push(bad(wrong));
            None
        }
    }
}

/// Two listeners on one address and port would share its connections by chance.
fn overlaps(report: &mut Report, all: &[Vec<Listen>]) {
    let mut listens: Vec<&Listen> = all.iter().flatten().filter(|listen| *listen.ports.start() > 0).collect();
    listens.sort_by_key(|listen| (listen.address, *listen.ports.start(), listen.place));
    let mut widest: Option<&Listen> = None;
    for listen in listens {
        if let Some(before) = widest.filter(|before| before.address == listen.address) {
            if before.ports.contains(listen.ports.start()) {
                let (first, second) =
                    if before.place < listen.place { (before, listen) } else { (listen, before) };
                let port = listen.ports.start();
                let message = format!("port {port} of {} is listened on twice", listen.address);
                let problem = Problem::error("listen-twice", second.place, message);
                report.push(
                    problem.related(first.place, "also here").help("give each listener a port of its own"),
                );
            }
            if before.ports.end() >= listen.ports.end() {
                continue;
            }
        }
        widest = Some(listen);
    }
}

/// Which addresses are our own: connections to them would come back.
#[derive(Debug, Default)]
pub(super) struct OwnAddresses {
    listens: HashMap<IpAddr, Vec<Listen>>,
    admin: Option<SocketAddr>,
}

impl OwnAddresses {
    /// Of all gateways, and of Weir's admin.
    pub(super) fn new(all: &[Vec<Listen>], admin: Option<SocketAddr>) -> Self {
        let mut own = Self { admin, ..Self::default() };
        for listen in all.iter().flatten() {
            own.listens.entry(listen.address).or_default().push(listen.clone());
        }
        own
    }

    /// Whether `address` is where Weir answers about itself.
    pub(super) fn is_admin(&self, address: SocketAddr) -> bool {
        self.admin == Some(address)
    }

    /// Where `address` is listened on, if it is. Of a wildcard only loopback addresses are known to be ours: which others
    /// this host has is not known at load, and is found at run time.
    pub(super) fn holds(&self, address: SocketAddr) -> Option<Place> {
        let mut listens = self.at(address.ip());
        listens.find(|listen| listen.ports.contains(&address.port())).map(|listen| listen.place)
    }

    /// The listeners of an address that is known to be ours.
    pub(super) fn at(&self, ip: IpAddr) -> impl Iterator<Item = &Listen> {
        let wildcard: IpAddr = match ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let on = |ip: IpAddr| self.listens.get(&ip).into_iter().flatten();
        on(ip).chain(ip.is_loopback().then(|| on(wildcard)).into_iter().flatten())
    }
}

/// Whether a connection to `address` can arrive at this listener.
pub(super) fn can_hold(listen: &Listen, net: &ipnet::IpNet) -> bool {
    match (listen.address, net) {
        (IpAddr::V4(address), ipnet::IpNet::V4(net)) => address.is_unspecified() || net.contains(&address),
        (IpAddr::V6(address), ipnet::IpNet::V6(net)) => address.is_unspecified() || net.contains(&address),
        _ => false,
    }
}
