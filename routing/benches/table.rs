//! Look-up and build, small and large. `cargo bench -p weir-routing`.
//!
//! Seen on two shared cores of a VM (AMD EPYC, 1 MiB of L2 a core, 32 MiB of L3), Rust 1.95, in a quiet minute; mean of a
//! million look-ups, and the time of one build. With six compilers beside it the large tables took three times as long. The times
//! are of a table with seven dimensions, before the one of names.
//!
//! | rules, prefixes | look-up | IPv6 | all in 10.0.0.0/8 | build | a copy |
//! | --- | --- | --- | --- | --- | --- |
//! | 10, 20 | 51 ns | 58 ns | 43 ns | 0.06 ms | 44 KiB |
//! | 1,000, 10,000 | 65 ns | 67 ns | 59 ns | 1.3 ms | 596 KiB |
//! | 10,000, 100,000 | 132 ns | 156 ns | 151 ns | 18 ms | 4.9 MiB |
//!
//! It does not show what a connection pays whose look-up is the first in a while: then each of the look-up's cache lines comes
//! from memory.

#[allow(dead_code, reason = "tests use the rest")]
#[path = "../tests/table/support.rs"]
mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use divan::Bencher;
use divan::counter::ItemsCount;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use support::Builder;
use weir_routing::{Arrival, Block, FirstBytes, GatewayId, Parts, RouteAction, Table};

/// 68 MB: more than the caches hold.
const ARRIVALS: usize = 1_000_000;

const GATEWAYS: u32 = 4;

fn main() {
    for (rules, prefixes) in SIZES {
        let table = Table::build(Random::new().parts(rules, prefixes, Family::V4));
        println!("{rules} rules, {prefixes} prefixes: {} KiB a copy beside the parts", table.bytes() / 1024);
    }
    divan::main();
}

const SIZES: [(usize, usize); 3] = [(10, 20), (1_000, 10_000), (10_000, 100_000)];

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// A million random arrivals, half of them chosen inside some prefix, in 100 samples: short ones, so that the median is of
/// samples without interruptions.
#[divan::bench(args = SIZES, sample_count = 100, sample_size = 1)]
fn decide(bencher: Bencher<'_, '_>, (rules, prefixes): (usize, usize)) {
    decide_all(bencher, Random::new().parts(rules, prefixes, Family::V4));
}

/// The same with IPv6.
#[divan::bench(args = SIZES, sample_count = 100, sample_size = 1)]
fn decide_v6(bencher: Bencher<'_, '_>, (rules, prefixes): (usize, usize)) {
    decide_all(bencher, Random::new().parts(rules, prefixes, Family::V6));
}

/// The same with all prefixes inside 10.0.0.0/8, which the last rule names.
#[divan::bench(args = SIZES, sample_count = 100, sample_size = 1)]
fn decide_crowded(bencher: Bencher<'_, '_>, (rules, prefixes): (usize, usize)) {
    let mut random = Random::new();
    random.crowded = true;
    decide_all(bencher, random.parts(rules, prefixes, Family::V4));
}

fn decide_all(bencher: Bencher<'_, '_>, parts: Parts) {
    let arrivals = Random::new().arrivals(&parts);
    let table = Table::build(parts);
    let mut samples = arrivals.chunks(ARRIVALS / 100).cycle();
    bencher.counter(ItemsCount::new(ARRIVALS / 100)).bench_local(|| {
        let sample = samples.next().expect("a cycle has no end");
        sample.iter().filter(|arrival| table.matched(arrival, &FirstBytes::UNKNOWN).route.is_some()).count()
    });
}

#[divan::bench(args = SIZES, sample_count = 5, sample_size = 1)]
fn build(bencher: Bencher<'_, '_>, (rules, prefixes): (usize, usize)) {
    let parts = Random::new().parts(rules, prefixes, Family::V4);
    bencher.with_inputs(|| parts.clone()).bench_local_values(Table::build);
}

struct Random {
    rng: fastrand::Rng,
    crowded: bool,
}

impl Random {
    fn new() -> Self {
        Self { rng: fastrand::Rng::with_seed(7), crowded: false }
    }

    /// Rules with about the same number of prefixes each, of the source or of the destination; a third asks for a port, a
    /// tenth for labels, a tenth for a namespace; each holds on one gateway.
    fn parts(&mut self, rules: usize, prefixes: usize, family: Family) -> Parts {
        let mut builder = Builder::new();
        let service = builder.service("db", &[], &[5432]);
        for gateway in 0..GATEWAYS {
            builder.gateway(&format!("gateway-{gateway}"), None);
        }
        let labels = |n: u32| [("app", ["web", "db", "cache", "batch"][n as usize % 4])];
        for n in 0..100 {
            let nets: Vec<_> = (0..10).map(|_| self.net(family)).collect();
            builder.workload(&format!("space-{}/workload-{n}", n % 8), &labels(n), &nets);
        }
        for rule in 0..rules {
            let mut block = Block::default();
            let of_source = self.rng.bool();
            let nets = if of_source { &mut block.source_subnets } else { &mut block.destination_subnets };
            nets.extend((0..prefixes / rules).map(|_| self.net(family)));
            if self.crowded && rule + 1 == rules {
                nets.push(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8)));
            }
            if self.rng.u8(..3) == 0 {
                let port = self.rng.u16(1..10_000);
                block.ports.push(port..=port + self.rng.u16(0..100));
            }
            if self.rng.u8(..10) == 0 {
                block.source_labels = support::label_map(&labels(self.rng.u32(..4)));
            }
            if self.rng.u8(..10) == 0 {
                block.source_namespaces.push(format!("space-{}", self.rng.u8(..8)).into());
            }
            let action = RouteAction::Forward(builder.parts.services[service.index()].by_port[0].1);
            builder.route(
                &format!("route-{rule}"),
                &[GatewayId(self.rng.u32(..GATEWAYS))],
                vec![block],
                action,
            );
        }
        builder.parts
    }

    fn net(&mut self, family: Family) -> IpNet {
        match family {
            Family::V4 => {
                let length = self.rng.u8(if self.crowded { 20..=32 } else { 16..=32 });
                let mut address = self.rng.u32(..);
                if self.crowded {
                    address = 10 << 24 | address >> 8;
                }
                Ipv4Net::new_assert(Ipv4Addr::from_bits(address), length).trunc().into()
            }
            Family::V6 => {
                let length = self.rng.u8(32..=128);
                Ipv6Net::new_assert(Ipv6Addr::from_bits(0x2001 << 112 | self.rng.u128(..) >> 16), length)
                    .trunc()
                    .into()
            }
        }
    }

    fn arrivals(&mut self, parts: &Parts) -> Vec<Arrival> {
        let blocks = || parts.routes.iter().flat_map(|route| &route.blocks);
        let sources: Vec<_> = blocks().flat_map(|block| &block.source_subnets).copied().collect();
        let destinations: Vec<_> = blocks().flat_map(|block| &block.destination_subnets).copied().collect();
        let v6 = sources.iter().chain(&destinations).any(|net| matches!(net, IpNet::V6(_)));
        (0..ARRIVALS)
            .map(|_| {
                let inside = self.rng.u8(..4);
                let source = self.address(if inside == 0 { &sources } else { &[] }, v6);
                let destination = self.address(if inside == 1 { &destinations } else { &[] }, v6);
                let port = self.rng.u16(1..10_000);
                let gateway = GatewayId(self.rng.u32(..GATEWAYS));
                Arrival::new(gateway, SocketAddr::new(source, 40_000), SocketAddr::new(destination, port))
            })
            .collect()
    }

    /// A random address, inside one of the nets if there are any.
    fn address(&mut self, nets: &[IpNet], v6: bool) -> IpAddr {
        let net = if nets.is_empty() { None } else { Some(nets[self.rng.usize(..nets.len())]) };
        match net {
            Some(IpNet::V4(net)) => {
                Ipv4Addr::from_bits(net.network().to_bits() | self.rng.u32(..) & net.hostmask().to_bits())
                    .into()
            }
            Some(IpNet::V6(net)) => {
                Ipv6Addr::from_bits(net.network().to_bits() | self.rng.u128(..) & net.hostmask().to_bits())
                    .into()
            }
            None if v6 => Ipv6Addr::from_bits(self.rng.u128(..)).into(),
            None => Ipv4Addr::from_bits(self.rng.u32(..)).into(),
        }
    }
}
