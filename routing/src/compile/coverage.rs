//! Rules that never get a connection, because a rule before them takes it.
//!
//! A block of conditions is covered if a block before it, on the same gateways, holds wherever it holds. With 10,000 rules not every pair can be
//! compared, so each block is filed under the elements of one of its conditions, the one that fewest blocks share; whatever
//! covers a block has an element there that covers the block's first one.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::report::Report;
use crate::ids::ServiceId;
use crate::parts::{Block, Route};
use crate::problem::Problem;

/// Port ranges up to this wide are filed under each of their ports.
const NARROW: usize = 64;

/// Reports the rules that are covered by earlier ones. `routes` stand in order of evaluation.
pub(super) fn check(report: &mut Report, routes: &[Route]) {
    let blocks: Vec<(usize, usize, Area<'_>)> = routes
        .iter()
        .enumerate()
        .flat_map(|(at, route)| {
            route.blocks.iter().enumerate().map(move |(of, block)| (at, of, Area::new(block)))
        })
        .collect();
    let mut shared: HashMap<Key<'_>, u32> = HashMap::new();
    for key in blocks.iter().flat_map(|(_, _, area)| area.conditions()).flatten() {
        *shared.entry(key).or_default() += 1;
    }
    let mut filed = Files::default();
    let mut covered_blocks: Vec<Option<usize>> = Vec::with_capacity(blocks.len());
    for (index, (at, _, area)) in blocks.iter().enumerate() {
        let covers = |earlier: usize| {
            let (before, _, other) = &blocks[earlier];
            superset(&routes[*before].gateways, &routes[*at].gateways) && other.covers(area)
        };
        covered_blocks.push(filed.candidates(area).find(|earlier| covers(*earlier)));
        filed.add(index, area, &shared);
    }
    let mut index = 0;
    for (at, route) in routes.iter().enumerate() {
        let covered = &covered_blocks[index..index + route.blocks.len()];
        report_covered(report, routes, at, covered, &blocks);
        index += route.blocks.len();
    }
}

fn report_covered(
    report: &mut Report,
    routes: &[Route],
    at: usize,
    covered: &[Option<usize>],
    blocks: &[(usize, usize, Area<'_>)],
) {
    let route = &routes[at];
    if covered.iter().all(Option::is_some) {
        let by: Vec<usize> = covered.iter().flatten().map(|index| blocks[*index].0).collect();
        if by.iter().all(|by| *by == at) {
            return;
        }
        let first = &routes[by[0]];
        let everything = first.blocks.iter().any(|block| conditions_of(block) == 0);
        let why = if everything {
            "route without matches defined before".to_owned()
        } else if covered.len() == 1 {
            format!("duplicate/overlapping match in route `{}`", first.name)
        } else {
            "all matches used by prior routes".to_owned()
        };
        let message = format!("route `{}` can never match: not used ({why})", route.name);
        // Two files are rarely read side by side: across files it is refused.
        let elsewhere = by.iter().all(|other| *other == by[0]) && first.place.file != route.place.file;
        let mut problem = if elsewhere {
            Problem::error("never-matches", route.place, message)
        } else {
            Problem::warning("never-matches", route.place, message)
        };
        let mut named = HashSet::new();
        for by in by.into_iter().filter(|by| named.insert(*by)).take(8) {
            problem =
                problem.related(routes[by].place, format!("route `{}` takes it first", routes[by].name));
        }
        report.push(
            problem.help("move it before the other route, give it a lower `order`, or take the route out"),
        );
        return;
    }
    for (of, index) in covered.iter().enumerate() {
        let Some((by, of_other, _)) = index.map(|index| &blocks[index]) else { continue };
        let other = &routes[*by];
        let message = format!(
            "route `{}` match {} is not used (duplicate/overlapping match in route `{}`)",
            route.name,
            of + 1,
            other.name
        );
        let place = route.blocks[of].place.unwrap_or(route.place);
        let other_place = other.blocks[*of_other].place.unwrap_or(other.place);
        report.push(
            Problem::warning("never-matches", place, message)
                .related(other_place, "this match takes it first"),
        );
    }
}

fn superset<T: Ord>(larger: &[T], smaller: &[T]) -> bool {
    smaller.iter().all(|item| larger.binary_search(item).is_ok())
}

fn conditions_of(block: &Block) -> usize {
    usize::from(!block.ports.is_empty())
        + usize::from(!block.destination_subnets.is_empty())
        + usize::from(!block.source_subnets.is_empty())
        + usize::from(!block.source_labels.is_empty())
        + usize::from(!block.source_namespaces.is_empty())
        + usize::from(!block.destination_services.is_empty())
}

/// An element that a block is filed under.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key<'b> {
    Destination(IpNet),
    Source(IpNet),
    Service(ServiceId),
    Namespace(&'b str),
    Label(&'b str, &'b str),
    Port(u16),
    WidePorts,
}

/// A block with its sets in a form that is quick to compare.
struct Area<'b> {
    block: &'b Block,
    ports: Vec<(u16, u16)>,
    destinations: Vec<(IpAddr, IpAddr)>,
    sources: Vec<(IpAddr, IpAddr)>,
}

impl<'b> Area<'b> {
    fn new(block: &'b Block) -> Self {
        let ports =
            merged(block.ports.iter().map(|range| (*range.start(), *range.end())).collect(), |port| {
                port.checked_add(1)
            });
        Self {
            block,
            ports,
            destinations: spans(&block.destination_subnets),
            sources: spans(&block.source_subnets),
        }
    }

    /// Whether this block holds wherever `other` does.
    fn covers(&self, other: &Self) -> bool {
        let (mine, others) = (self.block, other.block);
        condition(&mine.source_namespaces, &others.source_namespaces, |mine, others| {
            others.iter().all(|namespace| mine.contains(namespace))
        }) && condition(&mine.destination_services, &others.destination_services, |mine, others| {
            others.iter().all(|service| mine.contains(service))
        }) && mine.source_labels.iter().all(|(key, value)| others.source_labels.get(key) == Some(value))
            && condition(&self.ports, &other.ports, inside)
            && condition(&self.sources, &other.sources, inside)
            && condition(&self.destinations, &other.destinations, inside)
    }

    /// The elements of each condition that is asked, to file the block under one of these lists.
    fn conditions(&self) -> Vec<Vec<Key<'b>>> {
        let block = self.block;
        let all = [
            block.destination_subnets.iter().map(|net| Key::Destination(*net)).collect(),
            block.source_subnets.iter().map(|net| Key::Source(*net)).collect(),
            block.destination_services.iter().map(|id| Key::Service(*id)).collect(),
            block.source_namespaces.iter().map(|namespace| Key::Namespace(namespace)).collect(),
            // Of labels all must hold, so one of them is enough to find the block by.
            block.source_labels.iter().take(1).map(|(key, value)| Key::Label(key, value)).collect(),
            self.port_keys(),
        ];
        all.into_iter().filter(|keys: &Vec<Key<'b>>| !keys.is_empty()).collect()
    }

    fn port_keys(&self) -> Vec<Key<'b>> {
        let wide = |(first, last): &(u16, u16)| usize::from(last - first) >= NARROW;
        if self.ports.iter().any(wide) {
            return vec![Key::WidePorts];
        }
        self.ports.iter().flat_map(|(first, last)| (*first..=*last).map(Key::Port)).collect()
    }
}

/// A condition covers another if it is not asked, or if both are and its set contains the other's.
fn condition<T>(mine: &[T], others: &[T], contains: impl Fn(&[T], &[T]) -> bool) -> bool {
    mine.is_empty() || (!others.is_empty() && contains(mine, others))
}

/// Whether each of `others` lies within one of `mine`, which are sorted and do not touch.
pub(super) fn inside<T: Ord>(mine: &[(T, T)], others: &[(T, T)]) -> bool {
    others.iter().all(|(first, last)| {
        let at = mine.partition_point(|(start, _)| start <= first);
        at > 0 && mine[at - 1].1 >= *last
    })
}

/// Sorted ranges, those that overlap or touch as one.
pub(super) fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end || next(*end) == Some(first) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// First and last addresses of networks, IPv4 before IPv6.
pub(super) fn spans(nets: &[IpNet]) -> Vec<(IpAddr, IpAddr)> {
    let next = |address| match address {
        IpAddr::V4(address) => u32::from(address).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(address) => u128::from(address).checked_add(1).map(|next| IpAddr::V6(next.into())),
    };
    merged(nets.iter().map(|net| (net.network(), net.broadcast())).collect(), next)
}

/// Whether a range has anything in common with one of `ranges`, which are sorted and do not touch.
pub(super) fn touches<T: Ord>(ranges: &[(T, T)], (first, last): &(T, T)) -> bool {
    let at = ranges.partition_point(|(_, end)| end < first);
    ranges.get(at).is_some_and(|(start, _)| start <= last)
}

/// The blocks so far, by the element that they are filed under.
#[derive(Default)]
struct Files<'b> {
    by_key: HashMap<Key<'b>, Vec<usize>>,
    /// Those without conditions.
    all: Vec<usize>,
    /// Prefix lengths that occur: v4 and v6.
    lengths: (Lengths, Lengths),
}

/// A set of prefix lengths, 0 to 128.
#[derive(Clone, Copy)]
struct Lengths([bool; 129]);

impl Default for Lengths {
    fn default() -> Self {
        Self([false; 129])
    }
}

impl<'b> Files<'b> {
    fn add(&mut self, index: usize, area: &Area<'b>, shared: &HashMap<Key<'b>, u32>) {
        let most = |keys: &Vec<Key<'b>>| keys.iter().map(|key| shared.get(key).copied().unwrap_or(0)).max();
        let Some(rarest) = area.conditions().into_iter().min_by_key(most) else {
            self.all.push(index);
            return;
        };
        for key in rarest {
            if let Key::Destination(net) | Key::Source(net) = key {
                self.lengths_of(net).0[usize::from(net.prefix_len())] = true;
            }
            self.by_key.entry(key).or_default().push(index);
        }
    }

    fn lengths_of(&mut self, net: IpNet) -> &mut Lengths {
        match net {
            IpNet::V4(_) => &mut self.lengths.0,
            IpNet::V6(_) => &mut self.lengths.1,
        }
    }

    /// The blocks that may cover `area`, each perhaps more than once.
    fn candidates<'s>(&'s self, area: &'s Area<'b>) -> impl Iterator<Item = usize> + use<'s, 'b> {
        let block = area.block;
        let lists = self
            .above(block.destination_subnets.first(), Key::Destination)
            .chain(self.above(block.source_subnets.first(), Key::Source))
            .chain(block.destination_services.first().map(|id| Key::Service(*id)))
            .chain(block.source_namespaces.first().map(|namespace| Key::Namespace(namespace)))
            .chain(block.source_labels.iter().map(|(key, value)| Key::Label(key, value)))
            .chain(area.ports.first().map(|(first, _)| Key::Port(*first)))
            .chain((!area.ports.is_empty()).then_some(Key::WidePorts));
        let filed = lists.flat_map(|key| self.by_key.get(&key).into_iter().flatten().copied());
        self.all.iter().copied().chain(filed)
    }

    /// A network and all around it that occur.
    fn above<'s>(
        &'s self,
        net: Option<&'s IpNet>,
        key: fn(IpNet) -> Key<'b>,
    ) -> impl Iterator<Item = Key<'b>> + use<'s, 'b> {
        net.into_iter().flat_map(move |net| {
            let lengths = if matches!(net, IpNet::V4(_)) { &self.lengths.0 } else { &self.lengths.1 };
            (0..=net.prefix_len())
                .rev()
                .filter(move |length| lengths.0[usize::from(*length)])
                .filter_map(move |length| IpNet::new(net.addr(), length).ok())
                .map(move |net| key(net.trunc()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::GatewayId;
    use crate::parts::RouteAction;
    use crate::problem::Place;

    const NETS: [&str; 6] =
        ["10.0.0.0/30", "10.0.0.0/31", "10.0.0.2/31", "10.0.0.1/32", "fd00::/127", "fd00::1/128"];
    const ADDRESSES: [&str; 7] =
        ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::", "fd00::1"];

    /// A block over few ports and addresses, so that covering happens often.
    fn block() -> impl Strategy<Value = Block> {
        let net = || prop::sample::select(&NETS[..]).prop_map(|net| net.parse::<IpNet>().expect("a network"));
        let port = (1..5_u16, 0..100_u16)
            .prop_map(|(first, wide)| first..=first + if wide > 90 { wide } else { wide % 3 });
        let label = (0..2_u8, 0..2_u8)
            .prop_map(|(key, value)| (Arc::from(key.to_string()), Arc::from(value.to_string())));
        let namespace = (0..2_u8).prop_map(|name| Arc::from(name.to_string()));
        (
            prop::collection::vec(port, 0..3),
            prop::collection::vec(net(), 0..3),
            prop::collection::vec(net(), 0..2),
            prop::collection::btree_map(
                label.clone().prop_map(|(key, _): (Arc<str>, Arc<str>)| key),
                label.prop_map(|(_, value): (Arc<str>, Arc<str>)| value),
                0..2,
            ),
            prop::collection::vec(namespace, 0..2),
        )
            .prop_map(
                |(ports, destination_subnets, source_subnets, source_labels, source_namespaces)| Block {
                    ports,
                    destination_subnets,
                    source_subnets,
                    source_labels,
                    source_namespaces,
                    ..Block::default()
                },
            )
    }

    fn route(at: usize, blocks: Vec<Block>) -> Route {
        let place = Place { file: 0, start: at as u32, end: at as u32 };
        let name = Arc::from(at.to_string());
        Route {
            name,
            gateways: vec![GatewayId(0)],
            gateways_place: None,
            blocks,
            action: RouteAction::Reject,
            place,
        }
    }

    /// Every arrival there can be, as (port, destination, source) that the block takes. Labels and namespaces are compared
    /// apart: a source has those that the block asks for and no others.
    fn points(block: &Block) -> Vec<(u16, IpAddr, IpAddr)> {
        let inside = |nets: &[IpNet], address: &IpAddr| {
            nets.is_empty() || nets.iter().any(|net| net.contains(address))
        };
        let addresses = || ADDRESSES.iter().map(|address| address.parse::<IpAddr>().expect("an address"));
        let mut points = Vec::new();
        for port in (1..112)
            .filter(|port| block.ports.is_empty() || block.ports.iter().any(|range| range.contains(port)))
        {
            for destination in addresses().filter(|address| inside(&block.destination_subnets, address)) {
                let sources = addresses().filter(|address| inside(&block.source_subnets, address));
                points.extend(sources.map(|source| (port, destination, source)));
            }
        }
        points
    }

    /// The stupid model: asks each arrival.
    fn covers(earlier: &Block, later: &Block) -> bool {
        let namespaces = earlier.source_namespaces.is_empty()
            || (!later.source_namespaces.is_empty()
                && later.source_namespaces.iter().all(|name| earlier.source_namespaces.contains(name)));
        let labels =
            earlier.source_labels.iter().all(|(key, value)| later.source_labels.get(key) == Some(value));
        let taken: HashSet<_> = points(earlier).into_iter().collect();
        namespaces && labels && points(later).iter().all(|point| taken.contains(point))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_reported_block_is_covered_and_one_covered_by_a_single_element_is_reported(
            blocks in prop::collection::vec(block(), 1..8),
        ) {
            let routes: Vec<Route> = blocks.iter().enumerate().map(|(at, block)| route(at, vec![block.clone()])).collect();
            let mut report = Report::default();
            check(&mut report, &routes);
            let problems = report.sorted();
            for (at, later) in blocks.iter().enumerate() {
                let reported = problems.iter().any(|problem| problem.place == Some(routes[at].place));
                let covered = blocks[..at].iter().any(|earlier| covers(earlier, later));
                prop_assert!(!reported || covered, "{at} is reported and not covered: {blocks:#?}");
                let single = |block: &Block| {
                    block.ports.len() < 2 && block.destination_subnets.len() < 2 && block.source_subnets.len() < 2
                };
                let by_one = blocks[..at].iter().any(|earlier| {
                    single(earlier) && Area::new(earlier).covers(&Area::new(later))
                });
                prop_assert!(reported || !by_one, "{at} is covered and not reported: {blocks:#?}");
            }
        }
    }
}
