//! Services: their ports, VIPs and subsets. Their members are gathered in `members.rs`; destinations are made of them in
//! `destinations.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;
use toml::Spanned;

use super::addresses::network;
use super::checked::{Member, Service, Subset, Surroundings};
use super::members::Members;
use super::names::{Declared, Registry, check_name};
use super::policies::{Layer, Policies};
use super::report::Report;
use super::values::{labels, port};
use super::workloads::has_labels;
use crate::config::{Ports, Service as Written, ServicePort as WrittenPort, place_of};
use crate::parts::ServicePort;
use crate::problem::{Place, Problem};

/// All services in the order of the registry, and the host names among their endpoints.
pub(super) fn services(
    report: &mut Report,
    registry: &Registry<'_, Written>,
    around: &Surroundings<'_, '_>,
) -> (Vec<Service>, Vec<Arc<str>>) {
    let mut hosts = HashSet::new();
    let services: Vec<Service> =
        registry.list.iter().map(|declared| service(report, declared, around, &mut hosts)).collect();
    shared_vips(report, &services);
    let mut hosts: Vec<Arc<str>> = hosts.into_iter().collect();
    hosts.sort();
    (services, hosts)
}

fn service(
    report: &mut Report,
    declared: &Declared<'_, Written>,
    around: &Surroundings<'_, '_>,
    hosts: &mut HashSet<Arc<str>>,
) -> Service {
    let (file, written) = (declared.file, declared.written);
    let errors_before = report.errors;
    report.turn_to(declared.damaged);
    let listed = match written.ports.as_ref().map(|ports| ports.get_ref()) {
        None => Some(&[][..]),
        Some(Ports::Listed(list)) => Some(&list[..]),
        Some(Ports::Any) => None,
    };
    let any_port = listed.is_none();
    let ports = ports(report, file, listed.unwrap_or_default());
    let mut vips = Vec::new();
    for text in written.vips.iter().flat_map(|list| list.get_ref()) {
        vips.extend(network(report, file, text).map(|net| (net, place_of(file, text))));
    }
    if let Some(list) = written.vips.as_ref().filter(|_| ports.is_empty() && !any_port && !vips.is_empty()) {
        let message = format!("service `{}` has VIPs and no `ports`", declared.printed);
        let problem = Problem::error("vip-without-ports", place_of(file, list), message);
        report.lack(
            problem
                .wanted("ports = [{ port = 9000 }]")
                .help("clients dial a VIP at one of the service's ports"),
        );
    }
    let default = around.policies.default_of(&declared.name.namespace);
    let policy = default.under(around.policies.written(report, file, written.policy.as_ref()));
    let mut service = Service {
        printed: declared.printed.clone(),
        place: declared.place,
        damaged: declared.damaged,
        vips,
        ports,
        any_port,
        members: Vec::new(),
        subsets: Vec::new(),
        policy,
    };
    let mut members = Members::new(&service, file, around);
    for endpoint in written.endpoints.iter().flat_map(|list| list.get_ref()) {
        members.listed(report, endpoint, hosts);
    }
    members.selected(report, declared);
    let (members, waiting) = (members.list, members.waiting);
    service.subsets = subsets(report, declared, around.policies, policy);
    // Nothing is reported that follows from an error, or that may still come.
    if report.errors == errors_before && !waiting {
        warn_of_emptiness(report, &service, &members);
    }
    service.members = members;
    service
}

fn ports(report: &mut Report, file: u32, written: &[Spanned<WrittenPort>]) -> Vec<ServicePort> {
    let mut ports: Vec<(ServicePort, Place)> = Vec::new();
    for entry in written {
        let place = place_of(file, entry);
        let entry = entry.get_ref();
        let Some(number) = &entry.port else {
            report.lack(
                Problem::error("missing-key", place, "a port of a service needs `port`")
                    .wanted("{ port = 9000 }"),
            );
            continue;
        };
        let number_place = place_of(file, number);
        let Some(number) = port(report, number_place, *number.get_ref()) else { continue };
        let target = entry.target_port.as_ref();
        let target_port = target.and_then(|target| port(report, place_of(file, target), *target.get_ref()));
        if let Some(name) = &entry.name {
            check_name(report, place_of(file, name), "port name", name.get_ref());
        }
        let name: Option<Arc<str>> = entry.name.as_ref().map(|name| Arc::from(name.get_ref().as_str()));
        let same = |(other, _): &&(ServicePort, Place)| {
            other.port == number || (name.is_some() && other.name == name)
        };
        if let Some((other, first)) = ports.iter().find(same) {
            let what = if other.port == number { format!("port {number}") } else { "port name".to_owned() };
            let problem = Problem::error("declared-twice", place, format!("{what} is declared twice"));
            report.push(problem.related(*first, "first declared here"));
        }
        ports.push((ServicePort { name, port: number, target_port: target_port.unwrap_or(number) }, place));
    }
    ports.into_iter().map(|(port, _)| port).collect()
}

fn subsets(
    report: &mut Report,
    declared: &Declared<'_, Written>,
    policies: &Policies<'_>,
    service: Layer,
) -> Vec<Subset> {
    let file = declared.file;
    let mut subsets = Vec::new();
    for (name, written) in &declared.written.subset {
        check_name(report, place_of(file, name), "subset name", name.get_ref());
        let own = policies.written(report, file, written.policy.as_ref());
        subsets.push(Subset {
            name: Arc::from(name.get_ref().as_str()),
            labels: labels(report, file, written.labels.as_ref()),
            place: place_of(file, name),
            policy: service.under(own),
            max_connections: own.max_connections().flatten(),
        });
    }
    subsets
}

fn warn_of_emptiness(report: &mut Report, service: &Service, members: &[Member]) {
    let usable = |subset: Option<&Subset>| {
        members.iter().any(|member| {
            member.weight > 0 && subset.is_none_or(|subset| has_labels(&member.labels, &subset.labels))
        })
    };
    if !usable(None) {
        let message =
            format!("service `{}` has no endpoint: connections routed to it are reset", service.printed);
        let problem = Problem::warning("no-endpoint", service.place, message);
        report.push(problem.help("list some in `endpoints`, or select workloads with `selector`"));
        return;
    }
    for subset in service.subsets.iter().filter(|subset| !usable(Some(subset))) {
        let message = format!(
            "no endpoint of `{}` has the labels of subset `{}`: connections routed to it are reset",
            service.printed, subset.name
        );
        let labels: Vec<String> =
            subset.labels.iter().map(|(key, value)| format!("{key} = {value:?}")).collect();
        report.push(
            Problem::warning("no-endpoint", subset.place, message)
                .wanted(format!("{{ {} }}", labels.join(", "))),
        );
    }
}

/// Two services behind one VIP and port would share its connections by chance.
fn shared_vips(report: &mut Report, services: &[Service]) {
    /// Where the VIP is declared, by port.
    #[derive(Default)]
    struct Owners {
        by_port: BTreeMap<u16, Place>,
        any_port: Option<Place>,
    }
    let mut owners: HashMap<IpNet, Owners> = HashMap::new();
    for service in services {
        let mut reported = HashSet::new();
        for (vip, place) in &service.vips {
            let Owners { by_port, any_port } = owners.entry(*vip).or_default();
            let every = service.any_port.then(|| {
                let first = any_port.replace(*place).or(by_port.values().next().copied());
                (first, "any port".to_owned())
            });
            let listed = service
                .ports
                .iter()
                .map(|port| (by_port.insert(port.port, *place).or(*any_port), format!("port {}", port.port)));
            for (first, port) in every.into_iter().chain(listed) {
                let Some(first) = first.filter(|first| first != place) else { continue };
                if reported.insert(*vip) {
                    let message = format!("VIP {vip} at {port} is declared twice");
                    let problem = Problem::error("shared-vip", *place, message);
                    report
                        .push(problem.related(first, "also here").help("a VIP and port lead to one service"));
                }
            }
        }
    }
}
