//! Members of a service: the addresses in `endpoints` and of the workloads that `selector` selects, each once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use toml::Spanned;

use super::addresses::{advice, bracketed, cannot_be_dialled};
use super::checked::{Member, Service, Surroundings};
use super::names::Declared;
use super::report::Report;
use super::values::{bad_port, count, labels, locality, port, weight};
use crate::config::{Endpoint, EndpointTable, Service as Written, Text, place_of};
use crate::problem::{Place, Problem, Severity};

/// More priorities than any service needs.
const MAX_PRIORITY: u64 = 127;

/// Gathers the members of one service.
pub(super) struct Members<'a, 'c> {
    service: &'a Service,
    file: u32,
    around: &'a Surroundings<'a, 'c>,
    pub(super) list: Vec<Member>,
    seen: HashMap<(IpAddr, Option<u16>), Place>,
    /// There may be more: a host name has no address yet, or a workload is damaged.
    pub(super) waiting: bool,
}

impl<'a, 'c> Members<'a, 'c> {
    /// None yet.
    pub(super) fn new(service: &'a Service, file: u32, around: &'a Surroundings<'a, 'c>) -> Self {
        Self { service, file, around, list: Vec::new(), seen: HashMap::new(), waiting: false }
    }

    /// An element of `endpoints`.
    pub(super) fn listed(
        &mut self,
        report: &mut Report,
        written: &Spanned<Endpoint>,
        hosts: &mut HashSet<Arc<str>>,
    ) {
        let (file, place) = (self.file, place_of(self.file, written));
        let bare;
        let (table, address) = match written.get_ref() {
            Endpoint::Address(text) => {
                bare = Spanned::new(written.span(), text.clone());
                (&EndpointTable::default(), Some(&bare))
            }
            Endpoint::Table(table) => (table, table.address.as_ref()),
        };
        let Some(address) = address else {
            let problem = Problem::error("missing-key", place, "an endpoint needs `address`");
            report.lack(problem.wanted("{ address = \"10.0.0.1:5432\" }"));
            return;
        };
        let member = Member {
            address: IpAddr::from([0, 0, 0, 0]),
            port: None,
            named_ports: BTreeMap::new(),
            labels: labels(report, file, table.labels.as_ref()),
            locality: locality(report, file, table.locality.as_ref()),
            weight: table.weight.as_ref().and_then(|written| weight(report, file, written)).unwrap_or(1),
            priority: table
                .priority
                .as_ref()
                .and_then(|written| count(report, file, "priority", written, 0..=MAX_PRIORITY))
                .unwrap_or(0) as u32,
            host: None,
            place: place_of(file, address),
        };
        let Some((target, port)) = target(report, file, address) else { return };
        self.check_port(report, member.place, port, address.get_ref());
        if let (0, Some(written)) = (member.weight, &table.weight) {
            self.warn_weightless(report, place_of(file, written));
        }
        match target {
            Target::Address(ip) => self.add(report, Member { address: ip, port, ..member }),
            Target::Host(host) => {
                hosts.insert(host.clone());
                self.resolved(report, Member { port, host: Some(host), ..member });
            }
        }
    }

    /// All addresses of a host name.
    fn resolved(&mut self, report: &mut Report, member: Member) {
        let host = member.host.as_deref().unwrap_or_default();
        let addresses = self.around.resolved.get(host).map_or(&[][..], Vec::as_slice);
        if addresses.is_empty() {
            self.waiting = true;
            let message =
                format!("`{host}` has no address yet: until a name server gives one it is no endpoint");
            report.push(Problem::warning("not-resolved", member.place, message).found(host));
        }
        for ip in addresses {
            self.add(report, Member { address: ip.to_canonical(), ..member.clone() });
        }
    }

    /// The workloads that the service's selector selects.
    pub(super) fn selected(&mut self, report: &mut Report, declared: &Declared<'_, Written>) {
        let Some(written) = &declared.written.selector else { return };
        let place = place_of(self.file, written);
        let selector = labels(report, self.file, Some(written));
        // A label that was cut out would make it select more than was meant.
        if declared.damaged {
            return;
        }
        self.waiting |= !self.around.workloads.whole;
        if selector.is_empty() {
            let problem = Problem::warning("no-effect", place, "an empty `selector` selects nothing");
            report.push(problem.help("leave it out, or name the labels of the workloads"));
            return;
        }
        if self.service.ports.is_empty() && !self.service.any_port {
            let message = format!("service `{}` selects workloads and has no `ports`", declared.printed);
            let problem =
                Problem::error("selector-without-ports", place, message).wanted("ports = [{ port = 9000 }]");
            report.push(problem.help("a workload is dialled on the `target_port` of a port of the service"));
            return;
        }
        let mut any = false;
        for at in self.around.workloads.with_labels(&declared.name.namespace, &selector) {
            any = true;
            let (workload, membership) =
                (&self.around.workloads.list[at], &self.around.workloads.members[at]);
            if membership.damaged {
                continue;
            }
            let Some((address, address_place)) = membership.address else {
                let message = format!(
                    "workload `{}` is selected by service `{}` and has no single address: it is no endpoint",
                    workload.name, declared.printed
                );
                report.push(
                    Problem::warning("no-address", workload.place, message).related(place, "selected here"),
                );
                continue;
            };
            if let Some(place) = membership.weightless {
                self.warn_weightless(report, place);
            }
            self.add(
                report,
                Member {
                    address,
                    port: None,
                    named_ports: membership.ports.clone(),
                    labels: workload.labels.clone(),
                    locality: workload.locality.clone(),
                    weight: membership.weight,
                    priority: 0,
                    host: None,
                    place: address_place,
                },
            );
        }
        if !any && self.around.workloads.whole {
            let message =
                format!("`selector` selects no workload of namespace `{}`", declared.name.namespace);
            report.push(Problem::warning("no-effect", place, message));
        }
    }

    fn check_port(&self, report: &mut Report, place: Place, port: Option<u16>, written: &str) {
        let count = self.service.ports.len();
        if port.is_none() && count == 0 && !self.service.any_port {
            let message = format!(
                "an endpoint of service `{}`, which has no `ports`, needs a port",
                self.service.printed
            );
            let problem = Problem::error("endpoint-without-port", place, message)
                .found(written)
                .wanted("\"ADDRESS:PORT\"");
            // All of "::1:80" is an address.
            let bracketed = bracketed(written).map(|text| format!("write \"{text}\""));
            report.lack(bracketed.into_iter().fold(problem, Problem::help));
        }
        if port.is_some() && count > 1 {
            let message = format!(
                "an endpoint with a port serves all ports of its service, and `{}` has {count}",
                self.service.printed
            );
            let problem =
                Problem::error("endpoint-with-port", place, message).wanted("an address without a port");
            report.push(problem.help("leave the port out: the `target_port` of the port in use is dialled"));
        }
    }

    fn warn_weightless(&self, report: &mut Report, place: Place) {
        let message = format!("weight 0: this endpoint of `{}` gets no connections", self.service.printed);
        report.push(Problem::warning("weight-zero", place, message).found("0"));
    }

    /// Reports an endpoint that cannot be used. The answer of a name server must not refuse a configuration that was good yesterday.
    fn refuse(report: &mut Report, member: &Member, problem: Problem) {
        let severity = if member.host.is_some() { Severity::Warning } else { Severity::Error };
        report.push(Problem { severity, ..problem });
    }

    /// A member whose address is known.
    fn add(&mut self, report: &mut Report, member: Member) {
        if let Some(why) = cannot_be_dialled(member.address) {
            let ip = member.address;
            let problem =
                Problem::error("bad-address", member.place, format!("{ip} cannot be dialled: {why}"));
            let problem = problem.found(ip.to_string()).help("name the address of one host");
            return Self::refuse(report, &member, problem);
        }
        let ports = &self.service.ports;
        let mut dialled: Vec<SocketAddr> =
            ports.iter().filter_map(|port| member.dialled(Some(port))).collect();
        dialled.extend(member.dialled(None).filter(|_| ports.is_empty()));
        if let Some(address) = dialled.iter().find(|address| self.around.own.is_admin(**address)) {
            let message = format!("{address} is where Weir itself answers (`admin`), and no endpoint");
            let problem = Problem::error("loop", member.place, message).found(address.to_string());
            let problem = problem.help(
                "name the address of the server that should answer, or give `admin` another in [proxy]",
            );
            return Self::refuse(report, &member, problem);
        }
        if let Some((address, listen)) = dialled.iter().find_map(|to| Some((to, self.around.own.holds(*to)?)))
        {
            let problem = loops(*address, member.place, member.host.is_some(), listen);
            // The port that is dialled is the endpoint's own, or one that may have been cut out of the service.
            report.push_unless(report.damaged && member.port.is_none(), problem);
            return;
        }
        if let Some(first) = self.seen.insert((member.address, member.port), member.place) {
            if member.host.is_none() {
                let message =
                    format!("{} is an endpoint of `{}` twice", member.address, self.service.printed);
                let problem = Problem::error("declared-twice", member.place, message);
                report.push(problem.related(first, "also here").help("keep one of them, with its weight"));
            }
            return;
        }
        self.list.push(member);
    }
}

/// The problem of an endpoint that leads back to us.
pub(super) fn loops(address: SocketAddr, place: Place, by_name: bool, listen: Place) -> Problem {
    let message = format!("{address} is one of our own listeners: a connection to it would come back");
    // The answer of a name server must not refuse a configuration that was good yesterday.
    let problem = match by_name {
        true => Problem::warning("loop", place, message),
        false => Problem::error("loop", place, message),
    };
    problem
        .found(address.to_string())
        .related(listen, "listened on here")
        .help("name the address of the server that should answer, or listen elsewhere")
}

enum Target {
    Address(IpAddr),
    Host(Arc<str>),
}

/// "10.0.0.1:80", "10.0.0.1", "[fd00::1]:80", "fd00::1", "db.example.com:80", "db.example.com".
fn target(report: &mut Report, file: u32, written: &Text) -> Option<(Target, Option<u16>)> {
    let (text, place) = (written.get_ref().as_str(), place_of(file, written));
    let bad = |message: String| {
        Problem::error("bad-address", place, message)
            .found(text)
            .wanted("an address or a host name, with or without a port: \"10.0.0.1:5432\", \"[fd00::1]:5432\", \"db.example.com\"")
    };
    let (host, port_text) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.starts_with('[') && host.ends_with(']') => {
            (host, Some(port))
        }
        _ => (text, None),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let target = match inner.parse::<IpAddr>() {
        Ok(ip) => Target::Address(ip.to_canonical()),
        Err(_) if is_host_name(inner) => Target::Host(Arc::from(inner.to_ascii_lowercase())),
        Err(_) => {
            let problem = bad(format!("`{host}` is neither an address nor a host name"));
            report.push(advice(text).into_iter().fold(problem, Problem::help));
            return None;
        }
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port_text {
        None => None,
        Some(text) if digits(text) => match text.parse() {
            Ok(number) => Some(port(report, place, number)?),
            Err(_) => {
                report.push(bad_port(place, text));
                return None;
            }
        },
        Some(text) => {
            report.push(bad(format!("`{text}` is not a port")));
            return None;
        }
    };
    Some((target, port))
}

/// RFC 952 and 1123; a last label of digits alone would be a mistyped address.
fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let last_is_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    name.len() <= 253 && !last_is_number && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_distinguished_from_mistyped_addresses() {
        let cases = [
            ("db.example.com", true),
            ("db", true),
            ("db.", true),
            ("a_b.c", true),
            ("10.0.0.256", false),
            ("1.1", false),
            ("", false),
            ("-a", false),
            ("a..b", false),
            ("a b", false),
            ("ä", false),
        ];
        for (name, wanted) in cases {
            assert_eq!(is_host_name(name), wanted, "{name}");
        }
    }
}
