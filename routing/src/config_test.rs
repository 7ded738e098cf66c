//! A `[[test]]` of a configuration: one arrival by hand, and the decision that is expected for it. It never draws: all
//! destinations of a split are compared as a set.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::arrival::Arrival;
use crate::first_bytes::FirstBytes;
use crate::ids::DestinationId;
use crate::parts::{Destination, dialled};
use crate::problem::{Place, Problem};
use crate::table::{Action, Match, Refusal, Table};

/// One `[[test]]`, its names checked.
#[derive(Clone, Debug)]
pub struct ConfigTest {
    /// Its name.
    pub name: Arc<str>,
    /// The arrival.
    pub(crate) arrival: Arrival,
    /// Where it is written.
    pub(crate) place: Place,
    /// The decision that is expected.
    pub(crate) expect: Expect,
}

/// The decision that a `[[test]]` expects, each part with the place where it is written; `None` is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expect {
    /// The route that takes it; "": none.
    pub(crate) route: Option<(Arc<str>, Place)>,
    /// The service of all destinations with a weight above 0.
    pub(crate) service: Option<(Arc<str>, Place)>,
    /// The subsets of those destinations; "": no subset.
    pub(crate) subsets: Option<(BTreeSet<Arc<str>>, Place)>,
    /// The addresses behind those destinations.
    pub(crate) endpoints: Option<(BTreeSet<SocketAddr>, Place)>,
    /// Reset: by a route, because nothing took it, or because the service lacks the port that was dialled.
    pub(crate) reject: Option<(bool, Place)>,
}

impl ConfigTest {
    /// Runs it. The problem has no help yet: see [`ConfigTest::walk`].
    #[expect(clippy::result_large_err, reason = "asked once a test at load, never a connection")]
    pub fn check(&self, table: &Table) -> Result<(), Problem> {
        let differences = self.differences(table, &table.matched(&self.arrival, &FirstBytes::ABSENT));
        let Some(first) = differences.first().map(|(_, _, place)| *place) else { return Ok(()) };
        let (wanted, found): (Vec<String>, Vec<String>) =
            differences.into_iter().map(|(wanted, found, _)| (wanted, found)).unzip();
        Err(Problem::error("test-failed", first, format!("test `{}` fails", self.name))
            .related(self.place, "of this test")
            .wanted(wanted.join(", "))
            .found(found.join(", ")))
    }

    /// The help of a test that fails: the `explain` of its arrival.
    pub fn walk(&self, table: &Table) -> String {
        crate::explain::text(table, &self.arrival)
    }

    /// The shorter help, after some tests have printed theirs in full: the command that prints it.
    pub fn command(&self, table: &Table) -> String {
        let Arrival { gateway, source, destination } = self.arrival;
        let gateway = &table.parts().gateways[gateway.index()].name;
        let source = match source.port() {
            0 => source.ip().to_string(),
            _ => source.to_string(),
        };
        format!("weirctl explain --source {source} --destination {destination} --gateway {gateway}")
    }

    /// (wanted, found, where it is written) of each key that is there and not so.
    fn differences(&self, table: &Table, found: &Match) -> Vec<(String, String, Place)> {
        let parts = table.parts();
        let ends = self.ends(table, found);
        let destinations: Vec<&Destination> =
            ends.iter().filter_map(|end| end.ok()).map(|id| &parts.destinations[id.index()]).collect();
        let refusals: Vec<Refusal> = ends.iter().filter_map(|end| end.err()).collect();
        let route = found.route.map_or("", |id| &*parts.routes[id.index()].name);
        let services: BTreeSet<Arc<str>> = destinations
            .iter()
            .map(|destination| parts.services[destination.service.index()].name.clone())
            .collect();
        let subset = |destination: &&Destination| match destination.subset {
            Some(id) => parts.services[destination.service.index()].subsets[id.index()].name.clone(),
            None => Arc::from(""),
        };
        let subsets: BTreeSet<Arc<str>> = destinations.iter().map(subset).collect();
        let endpoints: BTreeSet<SocketAddr> = destinations
            .iter()
            .flat_map(|destination| &destination.endpoints)
            .map(|id| dialled(parts.endpoints[id.index()].address, self.arrival.destination.port()))
            .collect();

        let expect = &self.expect;
        let mut differences = Vec::new();
        let mut compare = |same: bool, place: &Place, key: &str, wanted: String, found: String| {
            if !same {
                differences.push((format!("{key} {wanted}"), format!("{key} {found}"), *place));
            }
        };
        if let Some((wanted, place)) = &expect.route {
            compare(&**wanted == route, place, "route", format!("{wanted:?}"), format!("{route:?}"));
        }
        if let Some((wanted, place)) = &expect.service {
            let same = services.len() == 1 && services.contains(wanted);
            compare(same, place, "service", format!("{wanted:?}"), list(&services));
        }
        if let Some((wanted, place)) = &expect.subsets {
            compare(*wanted == subsets, place, "subsets", list(wanted), list(&subsets));
        }
        if let Some((wanted, place)) = &expect.endpoints {
            compare(*wanted == endpoints, place, "endpoints", list(wanted), list(&endpoints));
        }
        // A test that expects a destination expects every connection to get one.
        let places = [place(&expect.service), place(&expect.subsets), place(&expect.endpoints)];
        let forwarded = places.into_iter().flatten().next();
        let implied = forwarded.filter(|_| !refusals.is_empty()).map(|place| (false, place));
        if let Some((wanted, place)) = expect.reject.or(implied) {
            let same = if wanted { destinations.is_empty() } else { refusals.is_empty() };
            compare(same, &place, "reject", wanted.to_string(), rejected(table, &refusals, &destinations));
        }
        // In the order in which they are written, so that the first one is where the problem is.
        differences.sort_by_key(|(_, _, place)| *place);
        differences
    }

    /// How a connection may end: one end for each share that may be drawn, or the one refusal.
    fn ends(&self, table: &Table, found: &Match) -> Vec<Result<DestinationId, Refusal>> {
        let split = match found.action {
            Action::Forward(split) => split,
            Action::Refuse(refusal) => return vec![Err(refusal)],
            Action::Needs(_) => return Vec::new(),
        };
        let drawn = table.draws(split, self.arrival.destination.port());
        drawn.filter(|draw| draw.share.weight > 0).map(|draw| draw.end).collect()
    }
}

/// The value found for `reject`: "true", "false", or which destinations are refused.
fn rejected(table: &Table, refusals: &[Refusal], destinations: &[&Destination]) -> String {
    let name = |refusal: &Refusal| match refusal {
        Refusal::NoPort(drawn) => Some(&*table.parts().destinations[drawn.index()].name),
        Refusal::Rejected | Refusal::NoRoute => None,
    };
    let names: Vec<&str> = refusals.iter().filter_map(name).collect();
    let rejected = if destinations.is_empty() { "true" } else { "true for some connections" };
    match &names[..] {
        [] => (!refusals.is_empty()).to_string(),
        names => format!("{rejected}: {} lacks the port that was dialled", names.join(", ")),
    }
}

fn place<T>(expected: &Option<(T, Place)>) -> Option<Place> {
    expected.as_ref().map(|(_, place)| *place)
}

fn list<T: std::fmt::Debug>(set: &BTreeSet<T>) -> String {
    let items: Vec<String> = set.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(", "))
}
