//! Routes: conditions and actions, in order of evaluation.

use std::collections::HashMap;
use std::sync::Arc;

use toml::Spanned;

use super::addresses::network;
use super::checked::{Known, Routes};
use super::destinations::Destinations;
use super::names::{Name, Registry, check_name};
use super::report::Report;
use super::values::{labels, port_range, word};
use crate::config::{Config, Gateway, Item, List, Match, Route as Written, place_of};
use crate::ids::{GatewayId, ServiceId};
use crate::parts::{Block, OffRoute, Route, RouteAction};
use crate::problem::{Place, Problem};

/// A checked route, and the facts that are not part of the table.
pub(super) struct Checked {
    pub(super) route: Route,
    pub(super) order: i64,
    pub(super) enabled: bool,
}

/// Checks them all.
pub(super) fn routes(
    report: &mut Report,
    config: &Config,
    known: &Known<'_, '_>,
    destinations: &mut Destinations<'_, '_>,
) -> Routes {
    let names = names(report, &config.routes);
    let mut checked: Vec<Checked> = Vec::new();
    for (item, name) in config.routes.iter().zip(&names) {
        checked.extend(route(report, item, name.printed(), known, destinations));
    }
    let left_out = report.incomplete || checked.len() < names.len();
    let nameless =
        report.incomplete || config.routes.iter().any(|item| item.damaged && item.value.name.is_none());
    // Stable: within an order, in order of reading.
    checked.sort_by_key(|checked| checked.order);
    let (mut used, mut off) = (Vec::new(), Vec::new());
    for Checked { route, enabled, .. } in checked {
        if enabled {
            used.push(route);
        } else {
            off.push(OffRoute { name: route.name, before: used.len(), place: route.place });
        }
    }
    let printed = |name: Name| {
        let printed = name.printed();
        (name, printed)
    };
    Routes { used, off, names: names.into_iter().map(printed).collect(), left_out, nameless }
}

/// The names of all routes; one without a name is "route-N", N its place among the unnamed.
fn names(report: &mut Report, items: &[Item<Written>]) -> Vec<Name> {
    let mut unnamed = 0;
    let mut first: HashMap<Name, Place> = HashMap::new();
    let mut names = Vec::new();
    for item in items {
        let namespace = report.namespaces[item.file as usize].clone();
        let (name, place) = match &item.value.name {
            Some(written) => {
                let place = place_of(item.file, written);
                check_name(report, place, "route name", written.get_ref());
                (Arc::from(written.get_ref().as_str()), place)
            }
            None => {
                unnamed += 1;
                (Arc::from(format!("route-{unnamed}")), item.place)
            }
        };
        let name = Name { namespace, name };
        if let Some(first) = first.insert(name.clone(), place) {
            let problem = Problem::error(
                "declared-twice",
                place,
                format!("route `{}` is declared twice", name.printed()),
            );
            report.push(problem.related(first, "first declared here").help("give each a name of its own"));
        }
        names.push(name);
    }
    names
}

fn route(
    report: &mut Report,
    item: &Item<Written>,
    name: Arc<str>,
    known: &Known<'_, '_>,
    destinations: &mut Destinations<'_, '_>,
) -> Option<Checked> {
    let (file, written) = (item.file, &item.value);
    let errors_before = report.errors;
    report.turn_to(item.damaged);
    let place = written.name.as_ref().map_or(item.place, |name| place_of(file, name));
    let gateways = gateways(report, item, &name, known.gateways);
    let enabled = written.enabled.as_ref().is_none_or(|enabled| *enabled.get_ref());
    let blocks = blocks(report, file, &name, enabled, written.blocks.as_ref(), known);
    let sticky = written.sticky.as_ref().and_then(|text| {
        word(report, file, "sticky", text, &[("source", ())], &[])?;
        Some(name.clone())
    });
    let reject = written.reject.as_ref().is_some_and(|written| *written.get_ref());
    let action = match (&written.to, reject) {
        (Some(to), false) => destinations.split(report, file, to, sticky).map(RouteAction::Forward),
        (None, true) => {
            if let Some(sticky) = &written.sticky {
                let message = "`sticky` has no effect on a route that rejects";
                report.push(Problem::warning("no-effect", place_of(file, sticky), message));
            }
            Some(RouteAction::Reject)
        }
        (Some(to), true) => {
            let message = format!("route `{name}` has `to` and `reject`: which of them?");
            let problem =
                Problem::error("two-actions", place_of(file, to), message).help("take one of them out");
            let reject = written.reject.as_ref().map(|written| place_of(file, written));
            report
                .push(reject.into_iter().fold(problem, |problem, place| problem.related(place, "and here")));
            None
        }
        (None, false) => {
            let message = format!("route `{name}` leads nowhere: TCP route is required");
            let problem = Problem::error("no-destination", place, message);
            report.lack(problem.wanted("to = [{ service = \"NAME\" }], or reject = true"));
            None
        }
    };
    // Of a condition with an error in it only a part is left, and further warnings about that would mislead.
    if report.errors > errors_before {
        return None;
    }
    Some(Checked {
        route: Route {
            name,
            gateways: gateways?,
            gateways_place: written.gateways.as_ref().map(|written| place_of(file, written)),
            blocks,
            action: action?,
            place,
        },
        order: written.order.as_ref().map_or(0, |order| *order.get_ref()),
        enabled,
    })
}

/// The gateways a route holds on, sorted. `None` where a problem was reported.
fn gateways(
    report: &mut Report,
    item: &Item<Written>,
    name: &str,
    registry: &Registry<'_, Gateway>,
) -> Option<Vec<GatewayId>> {
    let all = || (0..registry.list.len() as u32).map(GatewayId).collect::<Vec<_>>();
    let Some(written) = &item.value.gateways else {
        if registry.list.len() > 1 {
            let message = format!("route `{name}` names none of the {} gateways", registry.list.len());
            let problem = Problem::error("no-gateways", item.place, message);
            let mut first: Vec<String> =
                registry.list.iter().map(|gateway| format!("{:?}", gateway.printed)).collect();
            first.dedup();
            first.truncate(3);
            report.lack(
                problem
                    .wanted(format!("gateways = [{}]", first.join(", ")))
                    .help("with one gateway `gateways` may be left out; \"*\" stands for all"),
            );
            return None;
        }
        return Some(all());
    };
    if written.get_ref().is_empty() {
        report.lack(
            empty_list("gateways", place_of(item.file, written))
                .help("name a gateway, or write \"*\" for all"),
        );
        return None;
    }
    let mut ids = Vec::new();
    for reference in written.get_ref() {
        match reference.get_ref().as_str() {
            "*" => ids.extend(all()),
            _ => ids.push(GatewayId(registry.resolve(report, item.file, reference)? as u32)),
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Some(ids)
}

fn empty_list(key: &str, place: Place) -> Problem {
    Problem::error("empty-list", place, format!("`{key}` is an empty list, which nothing could match"))
        .found("[]")
}

/// Where nothing is written, one block without conditions.
fn blocks(
    report: &mut Report,
    file: u32,
    route: &str,
    enabled: bool,
    written: Option<&List<Match>>,
    known: &Known<'_, '_>,
) -> Vec<Block> {
    let Some(list) = written else { return vec![Block::default()] };
    if list.get_ref().is_empty() {
        report.lack(empty_list("match", place_of(file, list)).help("leave the key out to match everything"));
    }
    let blocks: Vec<Block> =
        list.get_ref().iter().map(|written| block(report, file, written, known)).collect();
    // One that is off may have conditions of later versions, which were left out.
    for block in blocks.iter().filter(|block| enabled && block.places.is_empty()) {
        let message = format!("a block without conditions: route `{route}` matches everything");
        let problem = Problem::warning("matches-everything", block.place, message).found("{}");
        report.lack(problem.help("leave `match` out to match everything, or name a condition"));
    }
    blocks
}

fn block(report: &mut Report, file: u32, written: &Spanned<Match>, known: &Known<'_, '_>) -> Block {
    let place = place_of(file, written);
    let written = written.get_ref();
    let mut block = Block { place: Some(place), ..Block::default() };
    if let Some(list) = condition(report, &mut block, file, "ports", &written.ports) {
        block.ports.extend(list.iter().filter_map(|text| port_range(report, file, text)));
    }
    if let Some(list) =
        condition(report, &mut block, file, "destination_subnets", &written.destination_subnets)
    {
        block.destination_subnets.extend(list.iter().filter_map(|text| network(report, file, text)));
    }
    if let Some(list) = condition(report, &mut block, file, "source_subnets", &written.source_subnets) {
        block.source_subnets.extend(list.iter().filter_map(|text| network(report, file, text)));
    }
    if let Some(written) = &written.source_labels {
        let place = place_of(file, written);
        block.places.push(("source_labels", place));
        block.source_labels = labels(report, file, Some(written));
        if block.source_labels.is_empty() {
            let problem = Problem::warning("no-effect", place, "`source_labels = {}` holds for every source");
            report.lack(problem.help("leave the key out, or name a label"));
        }
    }
    if let Some(list) = condition(report, &mut block, file, "source_namespaces", &written.source_namespaces) {
        for text in list {
            check_name(report, place_of(file, text), "namespace", text.get_ref());
            block.source_namespaces.push(Arc::from(text.get_ref().as_str()));
        }
    }
    if let Some(list) =
        condition(report, &mut block, file, "destination_services", &written.destination_services)
    {
        for reference in list {
            let Some(id) = known.registry.resolve(report, file, reference) else { continue };
            let service = &known.services[id];
            if service.vips.is_empty() {
                let message = format!(
                    "service `{}` has no VIP, so it is never an original destination",
                    service.printed
                );
                let problem = Problem::error("service-without-vip", place_of(file, reference), message);
                report.push_unless(
                    service.damaged,
                    problem
                        .related(service.place, "the service")
                        .help("give it `vips`, or match on `destination_subnets`"),
                );
            }
            block.destination_services.push(ServiceId(id as u32));
        }
    }
    block
}

/// The elements of a condition that is a list; an empty one is reported.
fn condition<'w, T>(
    report: &mut Report,
    block: &mut Block,
    file: u32,
    key: &'static str,
    written: &'w Option<List<T>>,
) -> Option<&'w [Spanned<T>]> {
    let list = written.as_ref()?;
    let place = place_of(file, list);
    block.places.push((key, place));
    if list.get_ref().is_empty() {
        report.lack(empty_list(key, place).help("leave the key out to match everything"));
    }
    Some(list.get_ref())
}
