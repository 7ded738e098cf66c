//! Shows the walk of one arrival: every rule with the condition that failed, the split, the endpoints, the policy.
//!
//! It decides through the table itself, and reads which condition failed from the classes that the decision came from; it
//! compares no address, port or label of its own. What it prints of health and load is left to whoever runs the proxy.

mod text;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::classify::{Classified, Condition};
use crate::policy::Origin;
use crate::problem::{Place, Sources};
use crate::split::{Share, Split};
use crate::table::{
    Action, Arrival, Block, Destination, DestinationId, Parts, RouteId, Table, Via, WorkloadId,
};

/// The walk of one arrival. Serialises as `weirctl explain --json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Version of this shape.
    pub schema: u32,
    /// What arrived.
    pub arrival: ArrivalShown,
    /// Every rule, in order.
    pub rules: Vec<Rule>,
    /// Which step took it.
    pub via: Via,
    /// What is done.
    pub decision: Verdict,
    /// Where it may go.
    pub split: Vec<ShareShown>,
    /// With `sticky`: the destination of the split that this source always gets.
    pub sticky: Option<Arc<str>>,
}

/// An arrival and what is known of its source.
#[derive(Clone, Debug, Serialize)]
pub struct ArrivalShown {
    /// The client.
    pub source: SocketAddr,
    /// The original destination.
    pub destination: SocketAddr,
    /// The gateway's name.
    pub gateway: Arc<str>,
    /// "namespace/name" of the workload that owns the source.
    pub workload: Option<Arc<str>>,
    /// Its labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// What is done with an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// To one of the split.
    Forward,
    /// Reset.
    Reject,
}

/// One rule.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    /// The route's name.
    pub route: Arc<str>,
    /// Where it is declared.
    #[serde(flatten)]
    pub at: At,
    /// Whether it holds, as far as it was asked.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A place as people read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct At {
    /// The file's name.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
}

/// What became of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Outcome {
    /// It takes the arrival.
    Matched {
        /// Number of the block that holds, from 1.
        block: usize,
        /// What the block wants: "destination_subnets 192.168.0.0/16".
        wanted: String,
        /// Line of its first condition, or of the block.
        matched_line: usize,
    },
    /// None of its blocks holds.
    Failed {
        /// Number of the block that got furthest, from 1.
        block: usize,
        /// Its first condition that does not hold.
        failed: Failed,
    },
    /// A rule before it took the arrival.
    NotReached,
}

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Its key.
    pub condition: &'static str,
    /// As it is written.
    pub wanted: String,
    /// What the arrival has.
    pub found: String,
    /// Line of the condition, in the rule's file.
    pub line: usize,
    /// Whether all other conditions of the block come before it.
    #[serde(skip)]
    pub last: bool,
}

/// A share of a split.
#[derive(Clone, Debug, Serialize)]
pub struct ShareShown {
    /// The service.
    pub service: Arc<str>,
    /// Its subset.
    pub subset: Option<Arc<str>>,
    /// The service port in use.
    pub port: Option<u16>,
    /// The weight.
    pub weight: u32,
    /// The part of connections it gets, from 0 to 1.
    pub share: f64,
    /// All that it may be dialled at.
    pub endpoints: Vec<EndpointShown>,
    /// Key by key, in the order of the documentation; in JSON an object.
    #[serde(serialize_with = "by_key")]
    pub policy: Vec<PolicyShown>,
    /// The sum of all weights of the split.
    #[serde(skip)]
    pub total: u64,
    /// Where the share is written.
    #[serde(skip)]
    pub at: At,
    /// The destination's name.
    #[serde(skip)]
    pub name: Arc<str>,
    /// Whether the service lacks the port that was dialled.
    #[serde(skip)]
    pub lacks_port: bool,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointShown {
    /// What is dialled.
    pub address: SocketAddr,
    /// Its weight.
    pub weight: u32,
    /// Its priority.
    pub priority: u32,
    /// Its part of the weight of the first priority, from 0 to 1; 0 for those behind it.
    pub share: f64,
    /// "region/zone/subzone", or empty.
    pub locality: Arc<str>,
}

/// A value of the policy in force.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyShown {
    /// The key.
    #[serde(skip)]
    pub key: &'static str,
    /// As it would be written.
    pub value: String,
    /// Where it was set; none: built in.
    #[serde(flatten)]
    pub at: Option<At>,
}

fn by_key<S: Serializer>(policy: &[PolicyShown], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(policy.iter().map(|value| (value.key, value)))
}

/// The walk of an arrival.
pub fn explain(table: &Table, arrival: &Arrival) -> Explanation {
    let classified = table.classifier().classify(arrival);
    let (decision, block) = table.decide_classified(arrival, &classified);
    let trace = Trace { table, arrival, classified: &classified };
    let matched = block.map(|block| table.classifier().route(block));
    let rules = (0..).map(RouteId).zip(&table.routes).map(|(id, route)| {
        let outcome = match matched {
            Some((route, block)) if route == id => trace.matched(id, block),
            Some((route, _)) if route < id => Outcome::NotReached,
            _ => trace.failed(id),
        };
        Rule { route: Arc::clone(&route.name), at: at(&table.sources, route.place), outcome }
    });
    let (verdict, split, sticky) = match decision.action {
        Action::Forward(split) => (Verdict::Forward, trace.split(split), trace.sticky(split)),
        Action::Reject => (Verdict::Reject, Vec::new(), None),
    };
    Explanation {
        schema: 1,
        arrival: trace.arrival(),
        rules: rules.collect(),
        via: decision.via,
        decision: verdict,
        split,
        sticky,
    }
}

/// The walk of an arrival as people read it, as `weirctl explain` prints it without `--all`.
pub fn text(table: &Table, arrival: &Arrival) -> String {
    explain(table, arrival).to_text(false)
}

/// Reads the decision's own look-ups.
struct Trace<'t> {
    table: &'t Table,
    arrival: &'t Arrival,
    classified: &'t Classified,
}

impl Trace<'_> {
    fn arrival(&self) -> ArrivalShown {
        let workload = self.classified.workload.map(|id| &self.table.workloads[id.index()]);
        ArrivalShown {
            source: self.arrival.source,
            destination: self.arrival.destination,
            gateway: Arc::clone(&self.table.gateways[self.arrival.gateway.index()].name),
            workload: workload.map(|workload| Arc::clone(&workload.name)),
            labels: workload.map(|workload| workload.labels.clone()).unwrap_or_default(),
        }
    }

    fn matched(&self, route: RouteId, index: usize) -> Outcome {
        let block = &self.table.routes[route.index()].blocks[index];
        let asked = self.asked(route, index).filter(|condition| *condition != Condition::Gateways);
        let wanted: Vec<String> = asked
            .map(|condition| format!("{} {}", condition.key(), self.wanted(condition, route, block)))
            .collect();
        let first = block.places.iter().map(|(_, place)| *place).min();
        let place = first.or(block.place).unwrap_or(self.table.routes[route.index()].place);
        Outcome::Matched {
            block: index + 1,
            wanted: if wanted.is_empty() { "everything".to_owned() } else { wanted.join(", ") },
            matched_line: at(&self.table.sources, place).line,
        }
    }

    /// Of the blocks, the one whose first failing condition comes last; of equals the first.
    fn failed(&self, route: RouteId) -> Outcome {
        let blocks = &self.table.routes[route.index()].blocks;
        let failing = blocks.iter().enumerate().map(|(index, _)| {
            let id = self.table.classifier().block(route, index);
            let fails =
                |condition: &Condition| !self.table.classifier().holds(self.classified, *condition, id);
            let condition = self.asked(route, index).find(fails);
            (condition.expect("a block that holds would have taken the arrival"), index)
        });
        let furthest = failing.max_by_key(|(condition, index)| (*condition, std::cmp::Reverse(*index)));
        let (condition, index) = furthest.expect("a route has a block");
        let block = &blocks[index];
        let written = block.places.iter().find(|(key, _)| *key == condition.key()).map(|(_, place)| *place);
        let place = written.or(block.place).unwrap_or(self.table.routes[route.index()].place);
        let failed = Failed {
            condition: condition.key(),
            wanted: self.wanted(condition, route, block),
            found: self.found(condition),
            line: at(&self.table.sources, place).line,
            last: self.asked(route, index).last() == Some(condition),
        };
        Outcome::Failed { block: index + 1, failed }
    }

    fn asked(&self, route: RouteId, index: usize) -> impl Iterator<Item = Condition> {
        let block = self.table.classifier().block(route, index);
        Condition::ALL.into_iter().filter(move |condition| self.table.classifier().asks(*condition, block))
    }

    fn wanted(&self, condition: Condition, route: RouteId, block: &Block) -> String {
        let parts: &Parts = self.table;
        match condition {
            Condition::Gateways => {
                list(parts.routes[route.index()].gateways.iter().map(|id| &parts.gateways[id.index()].name))
            }
            Condition::Ports => list(block.ports.iter().map(|ports| match (ports.start(), ports.end()) {
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first}-{last}"),
            })),
            Condition::DestinationSubnets => list(&block.destination_subnets),
            Condition::SourceSubnets => list(&block.source_subnets),
            Condition::SourceLabels => {
                list(block.source_labels.iter().map(|(key, value)| format!("{key}={value}")))
            }
            Condition::SourceNamespaces => list(&block.source_namespaces),
            Condition::DestinationServices => {
                list(block.destination_services.iter().map(|id| &parts.services[id.index()].name))
            }
        }
    }

    fn found(&self, condition: Condition) -> String {
        let parts: &Parts = self.table;
        let workload = |show: fn(&Parts, WorkloadId) -> String| match self.classified.workload {
            Some(id) => show(parts, id),
            None => "no workload".to_owned(),
        };
        match condition {
            Condition::Gateways => parts.gateways[self.arrival.gateway.index()].name.to_string(),
            Condition::Ports => self.arrival.destination.port().to_string(),
            Condition::DestinationSubnets => self.arrival.destination.ip().to_string(),
            Condition::SourceSubnets => self.arrival.source.ip().to_string(),
            Condition::SourceLabels => workload(|parts, id| {
                let labels = parts.workloads[id.index()].labels.iter();
                let labels: Vec<_> = labels.map(|(key, value)| format!("{key}={value}")).collect();
                if labels.is_empty() { "no labels".to_owned() } else { labels.join(", ") }
            }),
            Condition::SourceNamespaces => {
                workload(|parts, id| parts.workloads[id.index()].namespace.to_string())
            }
            Condition::DestinationServices => match self.classified.service {
                Some(id) => parts.services[id.index()].name.to_string(),
                None => "no service".to_owned(),
            },
        }
    }

    fn split(&self, split: &Split) -> Vec<ShareShown> {
        split.shares.iter().map(|share| self.share(share, split.total())).collect()
    }

    fn sticky(&self, split: &Split) -> Option<Arc<str>> {
        let drawn = split.fixed(self.arrival.source.ip())?;
        let resolved = self.table.resolve(drawn, self.arrival).unwrap_or(drawn);
        Some(Arc::clone(&self.destination(resolved).name))
    }

    fn share(&self, share: &Share, total: u64) -> ShareShown {
        let resolved = self.table.resolve(share.destination, self.arrival);
        let destination = self.destination(resolved.unwrap_or(share.destination));
        let service = &self.table.services[destination.service.index()];
        let subset = destination.subset.map(|subset| Arc::clone(&service.subsets[subset.index()].name));
        ShareShown {
            service: Arc::clone(&service.name),
            subset,
            port: destination.port,
            weight: share.weight,
            share: f64::from(share.weight) / total as f64,
            total,
            endpoints: if resolved.is_some() { self.endpoints(destination) } else { Vec::new() },
            policy: destination.policy.origins.0.iter().map(|origin| self.policy(origin)).collect(),
            at: at(&self.table.sources, share.place),
            name: Arc::clone(&destination.name),
            lacks_port: resolved.is_none(),
        }
    }

    fn destination(&self, id: DestinationId) -> &Destination {
        &self.table.destinations[id.index()]
    }

    fn endpoints(&self, destination: &Destination) -> Vec<EndpointShown> {
        let endpoints = || destination.endpoints.iter().map(|id| &self.table.endpoints[id.index()]);
        let first = endpoints().map(|endpoint| endpoint.priority).min();
        let weight = |priority: u32, weight: u32| if Some(priority) == first { u64::from(weight) } else { 0 };
        let total: u64 = endpoints().map(|endpoint| weight(endpoint.priority, endpoint.weight)).sum();
        let shown = endpoints().map(|endpoint| EndpointShown {
            address: endpoint.address,
            weight: endpoint.weight,
            priority: endpoint.priority,
            share: weight(endpoint.priority, endpoint.weight) as f64 / total.max(1) as f64,
            locality: Arc::clone(&endpoint.locality),
        });
        shown.collect()
    }

    fn policy(&self, origin: &Origin) -> PolicyShown {
        let at = origin.place.map(|place| at(&self.table.sources, place));
        PolicyShown { key: origin.key, value: origin.value.clone(), at }
    }
}

fn at(sources: &Sources, place: Place) -> At {
    At { file: Arc::clone(&sources.source(place).name), line: sources.position(place).line }
}

/// The first few of a list, and how many more there are: a rule may name thousands of networks.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 3;
    let all: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match all.len().checked_sub(SHOWN + 1) {
        None => all.join(" or "),
        Some(_) => format!("{} or {} more", all[..SHOWN].join(" or "), all.len() - SHOWN),
    }
}
