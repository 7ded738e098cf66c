//! Destinations, where splits lead: a service or a subset of it at one of its ports, with endpoints and the policy in force.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use toml::Spanned;

use super::checked::{Member, Service};
use super::names::{Registry, check_name};
use super::report::Report;
use super::values::{port, weight};
use super::workloads::has_labels;
use crate::config::spelling::nearest;
use crate::config::{List, Service as Written, To, as_key, place_of};
use crate::ids::{DestinationId, EndpointId, ServiceId, SplitId, SubsetId};
use crate::parts::{self, CLIENTS_PORT, Destination, Endpoint, Weightless};
use crate::parts::{Share, Split};
use crate::problem::{Place, Problem};

/// The destinations and endpoints that something leads to, each made once.
pub(super) struct Destinations<'a, 'c> {
    registry: &'a Registry<'c, Written>,
    services: &'a [Service],
    pub(super) splits: Vec<Split>,
    pub(super) list: Vec<Destination>,
    pub(super) endpoints: Vec<Endpoint>,
    made: HashMap<(ServiceId, Option<SubsetId>, Option<u16>), DestinationId>,
    interned: HashMap<(ServiceId, SocketAddr), EndpointId>,
}

impl<'a, 'c> Destinations<'a, 'c> {
    /// None yet.
    pub(super) fn new(registry: &'a Registry<'c, Written>, services: &'a [Service]) -> Self {
        Self {
            registry,
            services,
            splits: Vec::new(),
            list: Vec::new(),
            endpoints: Vec::new(),
            made: HashMap::new(),
            interned: HashMap::new(),
        }
    }

    /// The services as they stand in the table, with the splits of their VIPs.
    pub(super) fn services(&mut self) -> Vec<parts::Service> {
        let services = self.services;
        services
            .iter()
            .enumerate()
            .map(|(at, service)| parts::Service {
                name: service.printed.clone(),
                vips: service.vips.iter().map(|(net, _)| *net).collect(),
                ports: service.ports.clone(),
                subsets: service
                    .subsets
                    .iter()
                    .map(|subset| parts::Subset {
                        name: subset.name.clone(),
                        max_connections: subset.max_connections,
                    })
                    .collect(),
                max_connections: service.policy.max_connections().flatten(),
                by_port: self.by_port(ServiceId(at as u32), service),
                at_any_port: self.at_any_port(ServiceId(at as u32), service),
                place: service.place,
            })
            .collect()
    }

    fn by_port(&mut self, id: ServiceId, service: &Service) -> Vec<(u16, SplitId)> {
        let Some((_, place)) = service.vips.first() else { return Vec::new() };
        let mut by_port = Vec::new();
        for port in &service.ports {
            let destination = self.make(id, None, Some(port.port));
            by_port.push((port.port, self.split_of_one(destination, *place)));
        }
        by_port
    }

    fn at_any_port(&mut self, id: ServiceId, service: &Service) -> Option<SplitId> {
        let (_, place) = service.vips.first().filter(|_| service.any_port)?;
        let destination = self.make(id, None, None);
        Some(self.split_of_one(destination, *place))
    }

    fn split_of_one(&mut self, destination: DestinationId, place: Place) -> SplitId {
        self.push(Split { shares: vec![Share { destination, weight: 1, place }], sticky: None })
    }

    fn push(&mut self, split: Split) -> SplitId {
        self.splits.push(split);
        SplitId(self.splits.len() as u32 - 1)
    }

    /// The split of a `to`. `None` where a problem was reported.
    pub(super) fn split(
        &mut self,
        report: &mut Report,
        file: u32,
        to: &List<To>,
        sticky: Option<Arc<str>>,
    ) -> Option<SplitId> {
        let place = place_of(file, to);
        let to = to.get_ref();
        if to.is_empty() {
            let problem = Problem::error("no-destination", place, "`to` is empty: TCP route is required");
            report.lack(problem.wanted("to = [{ service = \"NAME\" }]"));
            return None;
        }
        let weights = weights(report, file, place, to);
        let mut shares: Vec<Share> = Vec::new();
        for (at, entry) in to.iter().enumerate() {
            let Some(destination) = self.destination(report, file, entry) else { continue };
            let place = place_of(file, entry);
            if let Some(first) = shares.iter().find(|share| share.destination == destination) {
                let message = format!("`{}` is in this split twice", self.list[destination.index()].name);
                let problem =
                    Problem::warning("listed-twice", place, message).related(first.place, "first here");
                report.lack(problem.help("keep one, with the sum of the weights"));
            }
            shares.push(Share {
                destination,
                weight: weights.as_ref().map_or(1, |weights| weights[at]),
                place,
            });
        }
        (weights.is_some() && shares.len() == to.len()).then(|| self.push(Split { shares, sticky }))
    }

    fn destination(
        &mut self,
        report: &mut Report,
        file: u32,
        written: &Spanned<To>,
    ) -> Option<DestinationId> {
        let place = place_of(file, written);
        let to = written.get_ref();
        let Some(name) = &to.service else {
            report.lack(
                Problem::error("missing-key", place, "a destination needs `service`")
                    .wanted("{ service = \"NAME\" }"),
            );
            return None;
        };
        let id = self.registry.resolve(report, file, name)?;
        let service = &self.services[id];
        let subset = match &to.subset {
            None => None,
            Some(name) => {
                let (name, place) = (name.get_ref(), place_of(file, name));
                let allowed = check_name(report, place, "subset name", name);
                let found = service.subsets.iter().position(|subset| *subset.name == **name);
                if allowed && found.is_none() {
                    report.push_unless(service.damaged, unknown_subset(service, name, place));
                }
                Some(SubsetId(found? as u32))
            }
        };
        let port = match &to.port {
            None => None,
            Some(written) => Some(known_port(report, service, *written.get_ref(), place_of(file, written))?),
        };
        Some(self.make(ServiceId(id as u32), subset, port))
    }

    /// The destination for a service or subset, at a port if one is named.
    fn make(&mut self, id: ServiceId, subset: Option<SubsetId>, port: Option<u16>) -> DestinationId {
        let services = self.services;
        let service = &services[id.index()];
        let port = port.or(match &service.ports[..] {
            [only] => Some(only.port),
            _ => None,
        });
        if let Some(made) = self.made.get(&(id, subset, port)) {
            return *made;
        }
        // Where the client's port decides there is a destination for each, and this one has no endpoints of its own.
        let deciding = if port.is_none() { &service.ports[..] } else { &[] };
        let by_client_port: Vec<(u16, DestinationId)> =
            deciding.iter().map(|port| (port.port, self.make(id, subset, Some(port.port)))).collect();
        let (endpoints, weightless) =
            if by_client_port.is_empty() { self.endpoints(id, subset, port) } else { Default::default() };
        let part = subset.map(|subset| &service.subsets[subset.index()]);
        let mut name = service.printed.to_string();
        if let Some(subset) = part {
            name = format!("{name}/{}", subset.name);
        }
        if let Some(port) = port {
            name = format!("{name}:{port}");
        }
        let (policy, origins) = match part {
            Some(subset) => subset.policy.policy(subset.max_connections),
            None => service.policy.policy(service.policy.max_connections().flatten()),
        };
        let made = DestinationId(self.list.len() as u32);
        self.list.push(Destination {
            name: Arc::from(name),
            service: id,
            subset,
            port,
            by_client_port,
            endpoints,
            weightless,
            policy,
            origins,
        });
        self.made.insert((id, subset, port), made);
        made
    }

    /// The endpoints that are dialled, and those that have no weight.
    fn endpoints(
        &mut self,
        id: ServiceId,
        subset: Option<SubsetId>,
        port: Option<u16>,
    ) -> (Vec<EndpointId>, Vec<Weightless>) {
        let services = self.services;
        let service = &services[id.index()];
        let port = service.ports.iter().find(|other| Some(other.port) == port);
        let wanted = subset.map(|subset| &service.subsets[subset.index()].labels);
        let (mut endpoints, mut weightless) = (Vec::new(), Vec::new());
        for member in &service.members {
            if wanted.is_some_and(|wanted| !has_labels(&member.labels, wanted)) {
                continue;
            }
            let clients_port = || SocketAddr::new(member.address, CLIENTS_PORT);
            let address = member.dialled(port).or_else(|| service.any_port.then(clients_port));
            let Some(address) = address else { continue };
            if member.weight == 0 {
                let (priority, locality) = (member.priority, member.locality.clone());
                weightless.push(Weightless { address, priority, locality });
            } else {
                endpoints.push(self.intern(id, member, address));
            }
        }
        endpoints.sort_by_key(|id| (self.endpoints[id.index()].priority, self.endpoints[id.index()].address));
        endpoints.dedup();
        weightless.sort_by_key(|endpoint| (endpoint.priority, endpoint.address));
        (endpoints, weightless)
    }

    fn intern(&mut self, service: ServiceId, member: &Member, address: SocketAddr) -> EndpointId {
        *self.interned.entry((service, address)).or_insert_with(|| {
            self.endpoints.push(Endpoint {
                service,
                address,
                weight: member.weight,
                priority: member.priority,
                locality: member.locality.clone(),
                host: member.host.clone(),
                place: member.place,
            });
            EndpointId(self.endpoints.len() as u32 - 1)
        })
    }
}

/// The weights of a split, all 1 where none is written. `None` where a problem was reported.
fn weights(report: &mut Report, file: u32, place: Place, to: &[Spanned<To>]) -> Option<Vec<u32>> {
    let written: Vec<_> = to.iter().filter_map(|entry| entry.get_ref().weight.as_ref()).collect();
    if written.is_empty() {
        return Some(vec![1; to.len()]);
    }
    let weights: Vec<u32> = written.iter().filter_map(|written| weight(report, file, written)).collect();
    if written.len() < to.len() {
        let without = to.iter().find(|entry| entry.get_ref().weight.is_none());
        let place = without.map_or(place, |entry| place_of(file, entry));
        let problem =
            Problem::error("weights-on-some", place, "some destinations have a weight and others have none");
        report.lack(
            problem
                .related(place_of(file, written[0]), "this one has a weight")
                .help("give each a weight, or none"),
        );
        return None;
    }
    if weights.len() < to.len() {
        return None;
    }
    if weights.iter().all(|weight| *weight == 0) {
        let problem = Problem::error("no-weight", place, "total destination weight = 0");
        report.lack(
            problem.help("a destination with weight 0 gets nothing: give one of them a weight above 0"),
        );
        return None;
    }
    Some(weights)
}

pub(super) fn unknown_subset(service: &Service, name: &str, place: Place) -> Problem {
    let message = format!("unknown subset `{name}` of service `{}`", service.printed);
    let problem =
        Problem::error("unknown-reference", place, message).found(name).related(service.place, "the service");
    let names = || service.subsets.iter().map(|subset| &*subset.name);
    match nearest(name, names()) {
        Some(meant) => problem.help(format!("did you mean `{meant}`?")),
        None if service.subsets.is_empty() => {
            let header = format!("[service.{}.subset.{}]", as_key(&service.printed), as_key(name));
            problem.help(format!("the service has none: declare {header}"))
        }
        None => problem.wanted(names().collect::<Vec<_>>().join(", ")),
    }
}

fn known_port(report: &mut Report, service: &Service, number: i64, place: Place) -> Option<u16> {
    let port = port(report, place, number)?;
    if service.ports.iter().any(|other| other.port == port) {
        return Some(port);
    }
    let problem = if service.any_port {
        let message = format!("service `{}` has any port, so a destination cannot name one", service.printed);
        Problem::error("unknown-port", place, message)
            .help("leave `port` out: the port that the client dialled decides")
    } else if service.ports.is_empty() {
        let message =
            format!("service `{}` has no `ports`, so a destination cannot name one", service.printed);
        Problem::error("unknown-port", place, message).help("leave `port` out: each endpoint has its own")
    } else {
        let ports: Vec<String> = service.ports.iter().map(|port| port.port.to_string()).collect();
        Problem::error("unknown-port", place, format!("service `{}` has no port {port}", service.printed))
            .wanted(ports.join(" or "))
    };
    let problem = problem.found(port.to_string()).related(service.place, "the service");
    report.push_unless(service.damaged, problem);
    None
}
