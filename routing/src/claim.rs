//! A `[[test]]` of a configuration: one arrival by hand, and what should be decided for it. It never draws: what a split may
//! lead to is compared as a set.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::problem::{Place, Problem};
use crate::table::{Action, Arrival, Decision, Destination, Table};

/// One `[[test]]`, its names checked.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its name.
    pub name: Arc<str>,
    /// What arrives.
    pub arrival: Arrival,
    /// Where it is written.
    pub place: Place,
    /// What should be decided.
    pub expect: Expect,
}

/// What a `[[test]]` expects; `None` is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// The route that takes it; "": none.
    pub route: Option<Arc<str>>,
    /// The service of all destinations with a weight above 0.
    pub service: Option<Arc<str>>,
    /// The subsets of those destinations; "": no subset.
    pub subsets: Option<BTreeSet<Arc<str>>>,
    /// The addresses behind those destinations.
    pub endpoints: Option<BTreeSet<SocketAddr>>,
    /// Reset, by a route or because nothing took it.
    pub reject: Option<bool>,
}

impl Claim {
    /// Runs it. The problem has no help yet: see [`Claim::walk`].
    #[expect(clippy::result_large_err, reason = "asked once a test at load, never a connection")]
    pub fn check(&self, table: &Table) -> Result<(), Problem> {
        let decision = table.decide(&self.arrival);
        let differences = self.differences(table, &decision);
        if differences.is_empty() {
            return Ok(());
        }
        let (wanted, found): (Vec<String>, Vec<String>) = differences.into_iter().unzip();
        Err(Problem::error("test-failed", self.place, format!("test `{}` fails", self.name))
            .wanted(wanted.join(", "))
            .found(found.join(", ")))
    }

    /// The help of a test that fails: the `explain` of its arrival.
    pub fn walk(&self, table: &Table) -> String {
        crate::explain::text(table, &self.arrival)
    }

    /// The same for a reader who has seen enough of them: the command that prints it.
    pub fn command(&self, table: &Table) -> String {
        let Arrival { gateway, source, destination } = self.arrival;
        let gateway = &table.gateways[gateway.index()].name;
        let source = match source.port() {
            0 => source.ip().to_string(),
            _ => source.to_string(),
        };
        format!("weirctl explain --source {source} --destination {destination} --gateway {gateway}")
    }

    /// (wanted, found) of each key that is there and not so.
    fn differences(&self, table: &Table, decision: &Decision<'_>) -> Vec<(String, String)> {
        let destinations = self.destinations(table, decision);
        let route = decision.route.map_or("", |id| &*table.routes[id.index()].name);
        let services: BTreeSet<Arc<str>> = destinations
            .iter()
            .map(|destination| table.services[destination.service.index()].name.clone())
            .collect();
        let subset = |destination: &&Destination| match destination.subset {
            Some(id) => table.services[destination.service.index()].subsets[id.index()].name.clone(),
            None => Arc::from(""),
        };
        let subsets: BTreeSet<Arc<str>> = destinations.iter().map(subset).collect();
        let endpoints: BTreeSet<SocketAddr> = destinations
            .iter()
            .flat_map(|destination| &destination.endpoints)
            .map(|id| table.endpoints[id.index()].address)
            .collect();
        let rejected = matches!(decision.action, Action::Reject);

        let expect = &self.expect;
        let mut differences = Vec::new();
        let mut compare = |same: bool, key: &str, wanted: String, found: String| {
            if !same {
                differences.push((format!("{key} {wanted}"), format!("{key} {found}")));
            }
        };
        if let Some(wanted) = &expect.route {
            compare(&**wanted == route, "route", format!("{wanted:?}"), format!("{route:?}"));
        }
        if let Some(wanted) = &expect.service {
            let same = services.len() == 1 && services.contains(wanted);
            compare(same, "service", format!("{wanted:?}"), list(&services));
        }
        if let Some(wanted) = &expect.subsets {
            compare(*wanted == subsets, "subsets", list(wanted), list(&subsets));
        }
        if let Some(wanted) = &expect.endpoints {
            compare(*wanted == endpoints, "endpoints", list(wanted), list(&endpoints));
        }
        if let Some(wanted) = expect.reject {
            compare(wanted == rejected, "reject", wanted.to_string(), rejected.to_string());
        }
        differences
    }

    /// The destinations that a connection may be drawn to.
    fn destinations<'t>(&self, table: &'t Table, decision: &Decision<'t>) -> Vec<&'t Destination> {
        let Action::Forward(split) = decision.action else { return Vec::new() };
        let port = self.arrival.destination.port();
        split
            .shares
            .iter()
            .filter(|share| share.weight > 0)
            .map(|share| {
                let destination = &table.destinations[share.destination.index()];
                let at_port = destination.by_client_port.iter().find(|(other, _)| *other == port);
                at_port.map_or(destination, |(_, id)| &table.destinations[id.index()])
            })
            .collect()
    }
}

fn list<T: std::fmt::Debug>(set: &BTreeSet<T>) -> String {
    let items: Vec<String> = set.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(", "))
}
