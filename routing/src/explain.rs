//! Shows the walk of one arrival: every rule with the condition that failed, the split, the endpoints, the policy.
//!
//! It decides through the table itself, and reads which condition failed from the classes that the decision came from; it
//! compares no address, port or label of its own. It knows neither health nor load, which only a running proxy has.

mod rules;
mod shape;
mod text;

use std::net::SocketAddr;
use std::sync::Arc;

pub use shape::{
    ArrivalShown, At, Decision, EndpointShown, Explanation, Extent, Failed, Outcome, PolicyShown, Rule,
    RulesLeftOut, ShareShown,
};

use crate::arrival::Arrival;
use crate::balance::{Attempt, Loads};
use crate::classify::Classified;
use crate::first_bytes::FirstBytes;
use crate::ids::{DestinationId, EndpointId, SplitId};
use crate::parts::{Destination, Parts, dialled};
use crate::policy::{Balance, Origin};
use crate::table::{Action, Draw, Table};

/// The walk of an arrival.
pub fn explain(table: &Table, arrival: &Arrival, extent: Extent) -> Explanation {
    // Bytes that are neither TLS nor HTTP.
    let classified = table.classifier().classify(arrival, &FirstBytes::ABSENT);
    let (found, block) = table.matched_classified(arrival, &classified);
    let trace = Trace { table, parts: table.parts(), arrival, classified: &classified };
    let (rules, rules_left_out) = trace.rules(block, extent);
    let (split, sticky) = match found.action {
        Action::Forward(split) => (trace.split(split), trace.sticky(split)),
        Action::Refuse(_) | Action::Needs(_) => (Vec::new(), None),
    };
    let forwards = split.iter().any(|share| share.weight > 0 && !share.lacks_port);
    let mut explanation = Explanation {
        schema: 1,
        arrival: trace.arrival(),
        rules,
        rules_left_out,
        via: found.via,
        decision: if forwards { Decision::Forward } else { Decision::Reject },
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

/// The counts where no proxy runs: no endpoint is out, and none has a connection.
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
    parts: &'t Parts,
    arrival: &'t Arrival,
    classified: &'t Classified,
}

impl Trace<'_> {
    fn arrival(&self) -> ArrivalShown {
        let workload = self.classified.workload.map(|id| &self.parts.workloads[id.index()]);
        ArrivalShown {
            source: self.arrival.source,
            destination: self.arrival.destination,
            gateway: Arc::clone(&self.parts.gateways[self.arrival.gateway.index()].name),
            workload: workload.map(|workload| Arc::clone(&workload.name)),
            labels: workload.map(|workload| workload.labels.clone()).unwrap_or_default(),
        }
    }

    fn split(&self, split: SplitId) -> Vec<ShareShown> {
        let total = self.parts.splits[split.index()].total();
        let draws = self.table.draws(split, self.arrival.destination.port());
        draws.map(|draw| self.share(draw, total)).collect()
    }

    fn sticky(&self, split: SplitId) -> Option<Arc<str>> {
        let drawn = self.table.fixed(split, self.arrival.source.ip())?;
        let at_port = self.table.at_port(drawn, self.arrival.destination.port()).unwrap_or(drawn);
        Some(Arc::clone(&self.destination(at_port).name))
    }

    fn share(&self, Draw { share, end }: Draw<'_>, total: u64) -> ShareShown {
        let destination = self.destination(end.unwrap_or(share.destination));
        let service = &self.parts.services[destination.service.index()];
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
            policy: destination.origins.iter().map(|origin| self.policy(origin)).collect(),
            at: At::new(&self.parts.sources, share.place),
            name: Arc::clone(&destination.name),
            lacks_port: end.is_err(),
        }
    }

    fn destination(&self, id: DestinationId) -> &Destination {
        &self.parts.destinations[id.index()]
    }

    fn endpoints(&self, destination: &Destination) -> Vec<EndpointShown> {
        let endpoints = || destination.endpoints.iter().map(|id| &self.parts.endpoints[id.index()]);
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
        Some(self.dialled(self.parts.endpoints[picked.index()].address))
    }

    /// The address that is dialled at an endpoint.
    fn dialled(&self, address: SocketAddr) -> SocketAddr {
        dialled(address, self.arrival.destination.port())
    }

    fn policy(&self, origin: &Origin) -> PolicyShown {
        let at = origin.place.map(|place| At::new(&self.parts.sources, place));
        PolicyShown { key: origin.key, value: origin.value.clone(), at }
    }
}
