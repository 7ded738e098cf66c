//! Draws and picks: their weights, their independence, and who moves when something changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use weir_routing::{
    Arrival, Attempt, Balance, DestinationId, EndpointId, FirstBytes, Split, Table, Verdict, shard_rng,
};

use super::support::{Builder, Counts, arrival, shares};

const SEED: u64 = 0x0577_0c4a;

fn source(n: u32) -> IpAddr {
    IpAddr::from(n.wrapping_mul(0x9e37_79b1).to_be_bytes())
}

/// A table with one route to destinations of these names and weights.
fn drawing(weights: &[(&str, u32)], sticky: bool) -> Table {
    let mut builder = Builder::new();
    let gateway = builder.gateway("edge", None);
    let of: Vec<(DestinationId, u32)> = weights
        .iter()
        .map(|(name, weight)| {
            let service = builder.service(name, &[], &[]);
            (builder.destination(service, None, None, &[]), *weight)
        })
        .collect();
    let to = builder.forward(Split { shares: shares(&of), sticky: sticky.then(|| "canary".into()) });
    builder.route("canary", &[gateway], vec![Default::default()], to);
    Table::build(builder.parts)
}

/// The destination that a connection of a source draws.
fn draw(table: &Table, from: IpAddr, rng: &mut fastrand::Rng) -> DestinationId {
    let arrival = Arrival { source: (from, 40_000).into(), ..arrival(0, "10.0.0.1", "10.0.0.2:80") };
    match table.decide(&arrival, &FirstBytes::UNKNOWN, rng) {
        Verdict::Forward { destination, .. } => destination,
        verdict => panic!("the route forwards: {verdict:?}"),
    }
}

/// The destinations of the one split, in order.
fn drawn(table: &Table) -> Vec<DestinationId> {
    table.parts().splits[0].shares.iter().map(|share| share.destination).collect()
}

/// A table with one destination; endpoint `n` has the nth weight and priority.
fn picking(balance: Balance, endpoints: &[(u32, u32)]) -> Table {
    let mut builder = Builder::new();
    let service = builder.service("db", &[], &[]);
    let ids: Vec<EndpointId> = (0..)
        .zip(endpoints)
        .map(|(n, (weight, priority)): (u32, _)| {
            let address = SocketAddr::new(IpAddr::from((10 << 24 | n).to_be_bytes()), 5432);
            builder.endpoint(service, address, *weight, *priority)
        })
        .collect();
    let destination = builder.destination(service, None, None, &ids);
    builder.parts.destinations[destination.index()].policy.balance = balance;
    Table::build(builder.parts)
}

fn pick(
    table: &Table,
    from: u32,
    counts: &Counts,
    tried: &[EndpointId],
    rng: &mut fastrand::Rng,
) -> Option<EndpointId> {
    let attempt = if tried.is_empty() { Attempt::First } else { Attempt::Retry(tried) };
    table.pick(DestinationId(0), source(from), counts, attempt, rng)
}

/// Whether counts are those of the weights, each within 4 standard deviations of a fair draw.
fn check_weights(weights: &[u32], counts: &[u64]) {
    let sum: f64 = weights.iter().copied().map(f64::from).sum();
    let all: u64 = counts.iter().sum();
    assert!(all > 0);
    for (weight, count) in weights.iter().zip(counts) {
        let chance = f64::from(*weight) / sum;
        let mean = chance * all as f64;
        let sigma = (mean * (1.0 - chance)).sqrt();
        assert!((*count as f64 - mean).abs() <= 4.0 * sigma, "{weights:?} gave {counts:?} (seed {SEED})");
        assert!(*weight > 0 || *count == 0, "{weights:?} gave {counts:?} (seed {SEED})");
    }
}

#[test]
fn four_million_draws_are_the_weights() {
    for weights in [[20, 80, 0, 0], [0, 1, 0, 1_000_000], [1, 1, 1, 1], [0, 0, 7, 0]] {
        let table =
            drawing(&[("a", weights[0]), ("b", weights[1]), ("c", weights[2]), ("d", weights[3])], false);
        let mut rng = fastrand::Rng::with_seed(SEED);
        let of = drawn(&table);
        let mut counts = [0; 4];
        for _ in 0..1_000_000 {
            let drawn = draw(&table, source(0), &mut rng);
            counts[of.iter().position(|it| *it == drawn).expect("one of the split")] += 1;
        }
        check_weights(&weights, &counts);
    }
}

#[test]
fn random_picks_are_the_weights_also_while_one_is_out() {
    let weights = [1, 2, 3, 1_000, 0, 94];
    let table = picking(Balance::Random, &weights.map(|weight| (weight, 0)));
    for out in [None, Some(3), Some(1)] {
        let counts = Counts { out: out.map(EndpointId).into_iter().collect(), ..Counts::default() };
        let mut rng = fastrand::Rng::with_seed(SEED);
        let mut picked = [0; 6];
        for _ in 0..1_000_000 {
            picked[pick(&table, 0, &counts, &[], &mut rng).expect("some are usable").index()] += 1;
        }
        let mut weights = weights;
        if let Some(out) = out {
            weights[out as usize] = 0;
        }
        check_weights(&weights, &picked);
    }
}

/// Chi-square over the 2 by 2 table of what two shards drew at the same step, 3 degrees of freedom: 21.1 is passed once in 10,000 seeds.
#[test]
fn picks_of_two_shards_are_independent() {
    let table = drawing(&[("a", 50), ("b", 50)], false);
    let (mut one, mut other) = (shard_rng(SEED, 0), shard_rng(SEED, 1));
    let first = drawn(&table)[0];
    let mut seen = [[0_f64; 2]; 2];
    for _ in 0..200_000 {
        let draw = |rng| usize::from(draw(&table, source(0), rng) == first);
        seen[draw(&mut one)][draw(&mut other)] += 1.0;
    }
    let mean = 200_000.0 / 4.0;
    let chi: f64 = seen.iter().flatten().map(|count: &f64| (count - mean).powi(2) / mean).sum();
    assert!(chi < 21.1, "{seen:?} (seed {SEED})");
}

/// Names, by source.
fn homes(weights: &[(&str, u32)]) -> Vec<String> {
    let table = drawing(weights, true);
    let mut rng = fastrand::Rng::with_seed(SEED);
    let home = |n| table.parts().destinations[draw(&table, source(n), &mut rng).index()].name.to_string();
    (0..100_000).map(home).collect()
}

#[test]
fn sticky_sources_are_the_weights() {
    let homes = homes(&[("a", 20), ("b", 80), ("c", 0)]);
    let count = |name: &str| homes.iter().filter(|home| *home == name).count() as u64;
    check_weights(&[20, 80, 0], &[count("a"), count("b"), count("c")]);
}

#[test]
fn sticky_sources_do_not_see_the_order_of_lines() {
    assert_eq!(homes(&[("a", 20), ("b", 50), ("c", 30)]), homes(&[("c", 30), ("a", 20), ("b", 50)]));
}

#[test]
fn sticky_sources_move_only_to_what_grew() {
    let before = homes(&[("a", 20), ("b", 50), ("c", 30)]);
    for (grown, after) in [
        ("a", homes(&[("a", 40), ("b", 50), ("c", 30)])),
        ("c", homes(&[("a", 20), ("b", 50), ("c", 1_000_000)])),
        ("d", homes(&[("a", 20), ("b", 50), ("c", 30), ("d", 25)])),
        // It grew against the others, which shrank alike.
        ("b", homes(&[("a", 2), ("b", 50), ("c", 3)])),
    ] {
        let moved = before.iter().zip(&after).filter(|(from, to)| from != to);
        let targets: BTreeSet<&String> = moved.map(|(_, to)| to).collect();
        assert_eq!(targets.into_iter().collect::<Vec<_>>(), [grown]);
    }
}

#[test]
fn maglev_moves_the_sources_of_the_one_that_leaves_and_few_others() {
    for n in [2_u32, 10, 50] {
        let all: Vec<(u32, u32)> = (0..n).map(|_| (1, 0)).collect();
        // The last: endpoint addresses and ids of the others stay what they were.
        let (with, without) = (picking(Balance::SourceIp, &all), picking(Balance::SourceIp, &all[1..]));
        let mut rng = fastrand::Rng::with_seed(SEED);
        let counts = Counts::default();
        let out = Counts { out: [EndpointId(n - 1)].into(), ..Counts::default() };
        let (mut left, mut moved) = (0, 0);
        for from in 0..20_000 {
            let before = pick(&with, from, &counts, &[], &mut rng).expect("all are usable");
            let after = pick(&without, from, &counts, &[], &mut rng).expect("all are usable");
            let while_out = pick(&with, from, &out, &[], &mut rng).expect("others are usable");
            if before == EndpointId(n - 1) {
                left += 1;
                assert_ne!(while_out, before);
            } else {
                assert_eq!(while_out, before, "only the sources of the one that is out move");
                moved += u32::from(before != after);
            }
        }
        let fair = 20_000 / n;
        assert!((fair * 8 / 10..=fair * 12 / 10).contains(&left), "{left} of 20,000 were at one of {n}");
        assert!(moved <= 20_000 / 20, "{moved} of 20,000 moved although theirs stayed, of {n}");
    }
}

#[test]
fn maglev_spreads_the_sources_of_the_one_that_is_out() {
    let table = picking(Balance::SourceIp, &[(1, 0); 4]);
    let counts = Counts { out: [EndpointId(1)].into(), ..Counts::default() };
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut picked = [0_u64; 4];
    for from in 0..30_000 {
        picked[pick(&table, from, &counts, &[], &mut rng).expect("others are usable").index()] += 1;
    }
    assert_eq!(picked[1], 0);
    assert!(picked.iter().all(|count| *count == 0 || (9_000..11_000).contains(count)), "{picked:?}");
}

/// How far the count of each endpoint may be from its share, at any moment.
fn check_round_robin(weights: &[u32], away: f64) {
    let endpoints: Vec<(u32, u32)> = weights.iter().map(|weight| (*weight, 0)).collect();
    let table = picking(Balance::RoundRobin, &endpoints);
    let sum: u64 = weights.iter().copied().map(u64::from).sum();
    let (counts, mut rng) = (Counts::default(), fastrand::Rng::with_seed(SEED));
    let mut picked = vec![0_u64; weights.len()];
    for step in 1..=sum.min(100_000) {
        picked[pick(&table, 0, &counts, &[], &mut rng).expect("all are usable").index()] += 1;
        for (weight, count) in weights.iter().zip(&picked) {
            let fair = step as f64 * f64::from(*weight) / sum as f64;
            assert!((*count as f64 - fair).abs() <= away, "{weights:?} after {step} picks: {picked:?}");
        }
    }
    if sum <= 100_000 {
        let wanted: Vec<u64> = weights.iter().copied().map(u64::from).collect();
        assert_eq!(picked, wanted, "a whole round is exactly the weights");
    }
}

#[test]
fn round_robin_is_smooth_for_small_and_large_weights() {
    check_round_robin(&[1, 1, 1, 1], 1.0);
    check_round_robin(&[1; 37], 1.0);
    check_round_robin(&[5, 1, 1], 1.5);
    check_round_robin(&[20, 80], 2.0);
    check_round_robin(&[1, 2, 3, 4, 90], 2.5);
    check_round_robin(&[999_983, 1_000_000, 499_979], 8.0);
}

#[test]
fn round_robin_gives_the_share_of_one_that_is_out_to_all_others() {
    let table = picking(Balance::RoundRobin, &[(1, 0), (1, 0), (2, 0), (1, 0)]);
    let counts = Counts { out: [EndpointId(0)].into(), ..Counts::default() };
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut picked = [0; 4];
    for _ in 0..4_000 {
        picked[pick(&table, 0, &counts, &[], &mut rng).expect("others are usable").index()] += 1;
    }
    assert_eq!(picked, [0, 1_000, 2_000, 1_000]);
}

#[test]
fn round_robin_ends_where_nothing_is_usable() {
    let table = picking(Balance::RoundRobin, &[(1, 0), (1, 1)]);
    let counts = Counts { out: [EndpointId(0), EndpointId(1)].into(), ..Counts::default() };
    assert_eq!(pick(&table, 0, &counts, &[], &mut fastrand::Rng::with_seed(SEED)), None);
}

const BALANCES: [Balance; 4] =
    [Balance::LeastConnections, Balance::RoundRobin, Balance::Random, Balance::SourceIp];

proptest! {
    /// Whatever the balance: only what is usable and untried, of the lowest priority that has one, and never weight 0.
    #[test]
    fn picks_are_of_the_lowest_priority_that_has_one(
        endpoints in prop::collection::vec((0..3u32, 0..3u32, any::<bool>(), any::<bool>(), 0..5u64), 0..90),
        seed: u64,
    ) {
        let weights: Vec<(u32, u32)> = endpoints.iter().map(|it| (it.0, it.1)).collect();
        let ids = || (0..).map(EndpointId).zip(&endpoints);
        let out = ids().filter(|(_, it)| it.2).map(|(id, _)| id).collect();
        let tried: Vec<EndpointId> = ids().filter(|(_, it)| it.3).map(|(id, _)| id).collect();
        let connections: BTreeMap<EndpointId, u64> = ids().map(|(id, it)| (id, it.4)).collect();
        let counts = Counts { out, connections: connections.into(), ..Counts::default() };
        let left: Vec<_> = ids().filter(|(_, it)| it.0 > 0 && !it.2 && !it.3).collect();
        let lowest = left.iter().map(|(_, it)| it.1).min();
        let candidates: Vec<_> = left.into_iter().filter(|(_, it)| Some(it.1) == lowest).collect();
        for balance in BALANCES {
            let table = picking(balance, &weights);
            let mut rng = fastrand::Rng::with_seed(seed);
            let picked = pick(&table, seed as u32, &counts, &tried, &mut rng);
            prop_assert_eq!(picked.is_some(), lowest.is_some(), "{:?}", balance);
            let Some(picked) = picked else { continue };
            prop_assert!(candidates.iter().any(|(id, _)| *id == picked), "{:?}", balance);
            let in_group = weights.iter().filter(|it| it.0 > 0 && Some(it.1) == lowest).count();
            if balance == Balance::LeastConnections && in_group <= 64 {
                let load = |it: &(u32, u32, bool, bool, u64), new: u64| (it.4 + new) as f64 / f64::from(it.0);
                let least = candidates.iter().map(|(_, it)| load(it, 1)).fold(f64::INFINITY, f64::min);
                prop_assert!(load(&endpoints[picked.index()], 0) < least, "another would hold fewer with it");
            }
        }
    }
}

#[test]
fn a_retry_takes_no_position_of_the_round_robin() {
    let table = picking(Balance::RoundRobin, &[(1, 0); 2]);
    let (counts, mut rng) = (Counts::default(), fastrand::Rng::with_seed(SEED));
    let silent = EndpointId(1);
    let mut firsts = [0; 2];
    for _ in 0..20 {
        let first = pick(&table, 0, &counts, &[], &mut rng).expect("both are usable");
        firsts[first.index()] += 1;
        if first == silent {
            assert_eq!(pick(&table, 0, &counts, &[silent], &mut rng), Some(EndpointId(0)));
            // After both have failed everything is tried again.
            assert!(pick_again(&table, &counts, &mut rng).is_some());
        }
    }
    assert_eq!(firsts, [10, 10], "an endpoint that fails is tried first by every second connection");
}

/// A retry for which every endpoint has failed and may be tried again.
fn pick_again(table: &Table, counts: &Counts, rng: &mut fastrand::Rng) -> Option<EndpointId> {
    table.pick(DestinationId(0), source(0), counts, Attempt::Retry(&[]), rng)
}

#[test]
fn least_connections_breaks_ties_by_weight() {
    let table = picking(Balance::LeastConnections, &[(1, 0), (2, 0), (1, 0), (1, 0)]);
    let connections =
        BTreeMap::from([(EndpointId(0), 2), (EndpointId(1), 2), (EndpointId(2), 1), (EndpointId(3), 1)]);
    let counts = Counts { connections: connections.into(), ..Counts::default() };
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut picked = [0; 4];
    for _ in 0..300_000 {
        picked[pick(&table, 0, &counts, &[], &mut rng).expect("all are usable").index()] += 1;
    }
    check_weights(&[0, 2, 1, 1], &picked);
}

/// Connections that come one after the other, the last `still_counted` of them still counted, beside what is open all the time.
fn check_one_by_one(weights: &[u32], open: &[u64], still_counted: usize) {
    let endpoints: Vec<(u32, u32)> = weights.iter().map(|weight| (*weight, 0)).collect();
    let table = picking(Balance::LeastConnections, &endpoints);
    let connections: BTreeMap<EndpointId, u64> =
        open.iter().enumerate().map(|(n, open)| (EndpointId(n as u32), *open)).collect();
    let counts = Counts { connections: connections.into(), ..Counts::default() };
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut picked = vec![0; weights.len()];
    let mut counted = VecDeque::new();
    for _ in 0..40_000 {
        if counted.len() > still_counted {
            let over = counted.pop_front().expect("there are some");
            *counts.connections.borrow_mut().entry(over).or_default() -= 1;
        }
        let endpoint = pick(&table, 0, &counts, &[], &mut rng).expect("all are usable");
        picked[endpoint.index()] += 1;
        *counts.connections.borrow_mut().entry(endpoint).or_default() += 1;
        counted.push_back(endpoint);
    }
    check_weights(weights, &picked);
}

#[test]
fn least_connections_spreads_connections_one_by_one_by_weight() {
    for still_counted in [0, 1] {
        for weights in [&[100, 1][..], &[3, 1], &[300, 100], &[1, 1], &[5, 1, 1]] {
            check_one_by_one(weights, &vec![0; weights.len()], still_counted);
        }
        check_one_by_one(&[3, 1], &[30, 10], still_counted);
    }
}

/// How far the connections open at each endpoint may be from its share, while none is closed.
fn check_all_at_once(weights: &[u32], away: f64) {
    let endpoints: Vec<(u32, u32)> = weights.iter().map(|weight| (*weight, 0)).collect();
    let table = picking(Balance::LeastConnections, &endpoints);
    let connections: BTreeMap<EndpointId, u64> =
        (0..weights.len()).map(|n| (EndpointId(n as u32), 0)).collect();
    let counts = Counts { connections: connections.into(), ..Counts::default() };
    let mut rng = fastrand::Rng::with_seed(SEED);
    let sum: u64 = weights.iter().copied().map(u64::from).sum();
    for step in 1..=5_000 {
        let picked = pick(&table, 0, &counts, &[], &mut rng).expect("all are usable");
        *counts.connections.borrow_mut().entry(picked).or_default() += 1;
        for (weight, open) in weights.iter().zip(counts.connections.borrow().values()) {
            let fair = step as f64 * f64::from(*weight) / sum as f64;
            assert!((*open as f64 - fair).abs() <= away, "{weights:?} after {step}: {open} for {fair}");
        }
    }
}

#[test]
fn least_connections_holds_the_weights_of_open_connections() {
    check_all_at_once(&[1, 1, 1, 1], 1.0);
    check_all_at_once(&[3, 1], 1.0);
    check_all_at_once(&[100, 100, 1], 1.0);
    check_all_at_once(&[101, 100], 1.5);
    check_all_at_once(&[999_983, 1_000_000, 499_979], 2.0);
}

#[test]
fn least_connections_of_many_endpoints_evens_them_out() {
    let table = picking(Balance::LeastConnections, &[(1, 0); 200]);
    let counts = Counts::default();
    let mut rng = fastrand::Rng::with_seed(SEED);
    for _ in 0..20_000 {
        let picked = pick(&table, 0, &counts, &[], &mut rng).expect("all are usable");
        *counts.connections.borrow_mut().entry(picked).or_default() += 1;
    }
    // A draw without looking gives about 70 to 130.
    let connections = counts.connections.borrow();
    assert_eq!(connections.len(), 200);
    assert!(connections.values().all(|count| (94..=106).contains(count)), "{connections:?}");
}

/// Names and places are not copied for each shard.
#[test]
fn copies_of_a_table_share_its_parts() {
    let table = picking(Balance::Random, &[(1, 0)]);
    assert!(std::ptr::eq(table.clone().parts(), table.parts()));
}
