//! Shows the walk of one arrival: every rule with the condition that failed, the split, the endpoints, the policy.
//!
//! It decides through the table itself, and reads which condition failed from the classes that the decision came from; it
//! compares no address, port or label of its own. What it prints of health and load is left to whoever runs the proxy.

mod rules;
mod text;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::balance::{Attempt, Loads};
use crate::classify::Classified;
use crate::policy::{Balance, Origin};
use crate::problem::{Place, Sources};
use crate::split::Split;
use crate::table::{Action, Arrival, Destination, DestinationId, Draw, EndpointId, Table, Via, dialled};

/// How much of a walk is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Of more than 50 rules, shares or endpoints only those that a reader looks for, and how many others there
    /// are: what is printed has a bound, and what is left out costs next to nothing.
    Near,
    /// Everything.
    Whole,
}

/// Up to this many rules, shares and endpoints are all shown: what a person reads through.
const SHOWN_MAX: usize = 50;

/// The walk of one arrival. Serialises as `weirctl explain --json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Version of this shape.
    pub schema: u32,
    /// What arrived.
    pub arrival: ArrivalShown,
    /// The rules, in order.
    pub rules: Vec<Rule>,
    /// How many of them are not shown.
    #[serde(skip)]
    pub rules_left_out: RulesLeftOut,
    /// Which step took it.
    pub via: Via,
    /// What is done.
    pub decision: Verdict,
    /// Where it may go.
    pub split: Vec<ShareShown>,
    /// How many further shares are not shown.
    #[serde(skip)]
    pub shares_left_out: usize,
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
    /// The workload that owns the source.
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
    /// Reset, whatever is drawn.
    Reject,
}

/// One rule.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    /// Its place in the order, from 1.
    #[serde(skip)]
    pub number: usize,
    /// The route's name.
    pub route: Arc<str>,
    /// Where it is declared.
    #[serde(flatten)]
    pub at: At,
    /// Whether it holds, as far as it was asked.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Rules that are not shown, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RulesLeftOut {
    /// None of their conditions held.
    pub far: usize,
    /// A condition held, and others are nearer to a match.
    pub farther: usize,
    /// They stand after the one that matched.
    pub not_reached: usize,
    /// They have `enabled = false`.
    pub off: usize,
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
    /// It has `enabled = false`.
    Off,
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
    /// Where it may be dialled.
    pub endpoints: Vec<EndpointShown>,
    /// How many further endpoints are not shown.
    #[serde(skip)]
    pub endpoints_left_out: usize,
    /// With `balance = "source_ip"`: the endpoint that this source always gets while all of them are usable.
    pub source_ip: Option<SocketAddr>,
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
    /// Its weight; with 0 it gets no new connection.
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
pub fn explain(table: &Table, arrival: &Arrival, extent: Extent) -> Explanation {
    let classified = table.classifier().classify(arrival);
    let (found, block) = table.matched_classified(arrival, &classified);
    let trace = Trace { table, arrival, classified: &classified };
    let (rules, rules_left_out) = trace.rules(block, extent);
    let (split, sticky) = match found.action {
        Action::Forward(split) => (trace.split(split), trace.sticky(split)),
        Action::Refuse(_) => (Vec::new(), None),
    };
    let forwards = split.iter().any(|share| share.weight > 0 && !share.lacks_port);
    let mut explanation = Explanation {
        schema: 1,
        arrival: trace.arrival(),
        rules,
        rules_left_out,
        via: found.via,
        decision: if forwards { Verdict::Forward } else { Verdict::Reject },
        split,
        shares_left_out: 0,
        sticky,
    };
    if extent == Extent::Near {
        explanation.shorten_split();
    }
    explanation
}

/// The walk of an arrival as people read it, as `weirctl explain` prints it without `--all`.
pub fn text(table: &Table, arrival: &Arrival) -> String {
    explain(table, arrival, Extent::Near).to_text()
}

impl Explanation {
    /// Leaves out shares and endpoints, all of the split's together, beyond the first.
    fn shorten_split(&mut self) {
        self.shares_left_out = self.split.len().saturating_sub(SHOWN_MAX);
        self.split.truncate(SHOWN_MAX);
        let mut room = SHOWN_MAX;
        for share in &mut self.split {
            share.endpoints_left_out = share.endpoints.len().saturating_sub(room);
            share.endpoints.truncate(room);
            room -= share.endpoints.len();
        }
    }
}

/// No endpoint is out and none has a connection: what is known where no proxy runs.
struct AllUsable;

impl Loads for AllUsable {
    fn usable(&self, _: EndpointId) -> bool {
        true
    }

    fn connections(&self, _: EndpointId) -> u64 {
        0
    }

    fn next_position(&self, _: DestinationId) -> u64 {
        0
    }
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

    fn split(&self, split: &Split) -> Vec<ShareShown> {
        let draws = self.table.draws(split, self.arrival.destination.port());
        draws.map(|draw| self.share(draw, split.total())).collect()
    }

    fn sticky(&self, split: &Split) -> Option<Arc<str>> {
        let drawn = split.fixed(self.arrival.source.ip())?;
        let at_port = self.table.at_port(drawn, self.arrival.destination.port()).unwrap_or(drawn);
        Some(Arc::clone(&self.destination(at_port).name))
    }

    fn share(&self, Draw { share, end }: Draw<'_>, total: u64) -> ShareShown {
        let destination = self.destination(end.unwrap_or(share.destination));
        let service = &self.table.services[destination.service.index()];
        let subset = destination.subset.map(|subset| Arc::clone(&service.subsets[subset.index()].name));
        ShareShown {
            service: Arc::clone(&service.name),
            subset,
            port: destination.port,
            weight: share.weight,
            share: f64::from(share.weight) / total as f64,
            total,
            endpoints: if end.is_ok() { self.endpoints(destination) } else { Vec::new() },
            endpoints_left_out: 0,
            source_ip: end.ok().and_then(|id| self.source_ip(id)),
            policy: destination.policy.origins.0.iter().map(|origin| self.policy(origin)).collect(),
            at: at(&self.table.sources, share.place),
            name: Arc::clone(&destination.name),
            lacks_port: end.is_err(),
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
        let weighted = endpoints().map(|endpoint| EndpointShown {
            address: self.dialled(endpoint.address),
            weight: endpoint.weight,
            priority: endpoint.priority,
            share: weight(endpoint.priority, endpoint.weight) as f64 / total.max(1) as f64,
            locality: Arc::clone(&endpoint.locality),
        });
        let weightless = destination.weightless.iter().map(|endpoint| EndpointShown {
            address: self.dialled(endpoint.address),
            weight: 0,
            priority: endpoint.priority,
            share: 0.0,
            locality: Arc::clone(&endpoint.locality),
        });
        let mut shown: Vec<_> = weighted.chain(weightless).collect();
        shown.sort_by_key(|endpoint| (endpoint.priority, endpoint.address));
        shown
    }

    fn source_ip(&self, id: DestinationId) -> Option<SocketAddr> {
        if self.destination(id).policy.balance != Balance::SourceIp {
            return None;
        }
        // This balance draws nothing.
        let mut rng = fastrand::Rng::with_seed(0);
        let picked = self.table.pick(id, self.arrival.source.ip(), &AllUsable, Attempt::First, &mut rng)?;
        Some(self.dialled(self.table.endpoints[picked.index()].address))
    }

    /// What is dialled at an endpoint's address.
    fn dialled(&self, address: SocketAddr) -> SocketAddr {
        dialled(address, self.arrival.destination.port())
    }

    fn policy(&self, origin: &Origin) -> PolicyShown {
        let at = origin.place.map(|place| at(&self.table.sources, place));
        PolicyShown { key: origin.key, value: origin.value.clone(), at }
    }
}

fn at(sources: &Sources, place: Place) -> At {
    At { file: Arc::clone(&sources.source(place).name), line: sources.position(place).line }
}
