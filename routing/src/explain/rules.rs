//! The outcome of each rule, and which of them a reader looks for.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Trace;
use super::shape::{At, Extent, Failed, Outcome, Rule, RulesLeftOut, SHOWN_MAX};
use crate::classify::{BlockId, Condition};
use crate::ids::{RouteId, WorkloadId};
use crate::parts::{Block, Parts};

impl Trace<'_> {
    /// The rules in order, and those that `extent` leaves out.
    pub(super) fn rules(&self, taken_by: Option<BlockId>, extent: Extent) -> (Vec<Rule>, RulesLeftOut) {
        let matched = taken_by.map(|block| self.table.classifier().route(block));
        let ids = (0..self.parts.routes.len() as u32).map(RouteId);
        let off = &self.parts.off_routes;
        if extent == Extent::Whole || ids.len() + off.len() <= SHOWN_MAX {
            let rules = ids.map(|id| self.rule(id, matched));
            let off = (0..).zip(off).map(|(off_before, route)| Rule {
                number: route.before + off_before + 1,
                route: Arc::clone(&route.name),
                at: At::new(&self.parts.sources, route.place),
                outcome: Outcome::Off,
            });
            let mut rules: Vec<Rule> = rules.chain(off).collect();
            rules.sort_unstable_by_key(|rule| rule.number);
            return (rules, RulesLeftOut::default());
        }
        let reached = matched.map_or(ids.len(), |(route, _)| route.index());
        let mut near: Vec<(usize, RouteId)> =
            ids.take(reached).filter_map(|id| Some((self.distance(id)?, id))).collect();
        let left_out = RulesLeftOut {
            far: reached - near.len(),
            farther: near.len().saturating_sub(SHOWN_MAX),
            not_reached: self.parts.routes.len() - reached - usize::from(matched.is_some()),
            off: off.len(),
        };
        near.sort_unstable();
        let near = near.into_iter().take(SHOWN_MAX).map(|(_, id)| id);
        let shown: BTreeSet<RouteId> = near.chain(matched.map(|(route, _)| route)).collect();
        (shown.into_iter().map(|id| self.rule(id, matched)).collect(), left_out)
    }

    fn rule(&self, id: RouteId, matched: Option<(RouteId, usize)>) -> Rule {
        let route = &self.parts.routes[id.index()];
        let outcome = match matched {
            Some((route, block)) if route == id => self.matched(id, block),
            Some((route, _)) if route < id => Outcome::NotReached,
            _ => self.failed(id),
        };
        let at = At::new(&self.parts.sources, route.place);
        let off_before = self.parts.off_routes.partition_point(|off| off.before <= id.index());
        Rule { number: id.index() + off_before + 1, route: Arc::clone(&route.name), at, outcome }
    }

    /// How many conditions keep a rule from matching, in the block where they are fewest. `None`: nothing held that would
    /// distinguish it from any other rule, for every rule of a gateway has the gateway.
    fn distance(&self, route: RouteId) -> Option<usize> {
        let blocks = 0..self.parts.routes[route.index()].blocks.len();
        let distances = blocks.filter_map(|index| {
            let id = self.table.classifier().block(route, index);
            let holds = |condition| self.table.classifier().holds(self.classified, condition, id);
            let near = self.asked(route, index).any(|it| it != Condition::Gateways && holds(it));
            near.then(|| self.asked(route, index).filter(|condition| !holds(*condition)).count())
        });
        distances.min()
    }

    fn matched(&self, route: RouteId, index: usize) -> Outcome {
        let block = &self.parts.routes[route.index()].blocks[index];
        let asked = self.asked(route, index).filter(|condition| *condition != Condition::Gateways);
        let wanted: Vec<String> = asked
            .map(|condition| format!("{} {}", condition.key(), self.wanted(condition, route, block)))
            .collect();
        let first = block.places.iter().map(|(_, place)| *place).min();
        let place = first.or(block.place).unwrap_or(self.parts.routes[route.index()].place);
        Outcome::Matched {
            block: index + 1,
            wanted: if wanted.is_empty() { "everything".to_owned() } else { wanted.join(", ") },
            matched_line: At::new(&self.parts.sources, place).line,
        }
    }

    /// Of the blocks, the one whose first failing condition comes last; of equals the first.
    fn failed(&self, route: RouteId) -> Outcome {
        let blocks = &self.parts.routes[route.index()].blocks;
        let failing = blocks.iter().enumerate().map(|(index, _)| {
            let id = self.table.classifier().block(route, index);
            let fails =
                |condition: &Condition| !self.table.classifier().holds(self.classified, *condition, id);
            let condition = self.asked(route, index).find(fails);
            (condition.expect("a block that holds would have taken the arrival"), index)
        });
        let furthest = failing.max_by_key(|(condition, index)| (*condition, Reverse(*index)));
        let (condition, index) = furthest.expect("a route has a block");
        let block = &blocks[index];
        let written = match condition {
            Condition::Gateways => self.parts.routes[route.index()].gateways_place,
            _ => block.places.iter().find(|(key, _)| *key == condition.key()).map(|(_, place)| *place),
        };
        let place = written.or(block.place).unwrap_or(self.parts.routes[route.index()].place);
        let failed = Failed {
            condition: condition.key(),
            wanted: self.wanted(condition, route, block),
            found: self.found(condition),
            line: At::new(&self.parts.sources, place).line,
        };
        Outcome::Failed { block: index + 1, failed }
    }

    fn asked(&self, route: RouteId, index: usize) -> impl Iterator<Item = Condition> {
        let block = self.table.classifier().block(route, index);
        Condition::ALL.into_iter().filter(move |condition| self.table.classifier().asks(*condition, block))
    }

    fn wanted(&self, condition: Condition, route: RouteId, block: &Block) -> String {
        let parts = self.parts;
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
            Condition::Sni => list(&block.sni),
            Condition::DestinationServices => {
                list(block.destination_services.iter().map(|id| &parts.services[id.index()].name))
            }
        }
    }

    fn found(&self, condition: Condition) -> String {
        let parts = self.parts;
        let workload = |show: fn(&Parts, WorkloadId) -> String| match self.classified.workload {
            Some(id) => show(parts, id),
            None => "no workload".to_owned(),
        };
        match condition {
            Condition::Gateways => parts.gateways[self.arrival.gateway.index()].name.to_string(),
            Condition::Ports => self.arrival.destination.port().to_string(),
            Condition::DestinationSubnets => self.arrival.destination.ip().to_string(),
            Condition::SourceSubnets => self.arrival.source.ip().to_string(),
            Condition::Sni => "no TLS".to_owned(),
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
                None => self.no_service(),
            },
        }
    }

    /// "no service", and whether that is for the port alone: `ports` and VIP are easily mixed up.
    fn no_service(&self) -> String {
        let (ip, port) = (self.arrival.destination.ip(), self.arrival.destination.port());
        let at_vip = self.table.classifier().services_at(ip);
        let names: Vec<String> =
            at_vip.iter().map(|id| format!("`{}`", self.parts.services[id.index()].name)).collect();
        match &names[..] {
            [] => "no service".to_owned(),
            [only] => format!("no service: {only} has no port {port}"),
            several => format!("no service: {port} is no port of {}", list(several)),
        }
    }
}

/// The first few of a list, and how many more there are: a rule may name thousands of networks.
fn list<T: ToString, I: IntoIterator<Item = T, IntoIter: ExactSizeIterator>>(items: I) -> String {
    const SHOWN: usize = 3;
    let mut items = items.into_iter();
    let first: Vec<String> = items.by_ref().take(SHOWN).map(|item| item.to_string()).collect();
    let first = first.join(" or ");
    match items.len() {
        0 => first,
        more => format!("{first} or {more} more"),
    }
}
