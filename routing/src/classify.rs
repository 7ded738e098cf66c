//! Which block of which route takes an arrival, at a cost that hardly grows with their number.
//!
//! Each dimension (a [`Condition`]) is looked up once and gives a class: the set of blocks that hold in it. The first member
//! of the intersection of the eight is the answer. Blocks without a condition in a dimension are in all of its classes, so
//! they are kept once, for every combination of dimensions (see [`Classifier::sets`]); the rest of a class is short, as a rule.
//! `explain` reads which condition failed from the same classes.
//!
//! Intervals of addresses and ports are left to `ranges`, sets to `sets`, the service that has a VIP's port to `vips`.

mod ranges;
mod sets;
mod vips;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use self::ranges::{NO_OWNER, Named, Prefix, Ranges, prefixes_of};
use self::sets::{Class, ClassBuilder, Sets, WILD};
use self::vips::Vips;
use crate::arrival::Arrival;
use crate::first_bytes::{FirstBytes, FirstPart, Known};
use crate::ids::{GatewayId, RouteId, ServiceId, WorkloadId};
use crate::parts::{Block, Parts, Route};

/// A dimension of the match, in the order in which `explain` tries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    Gateways,
    Ports,
    DestinationSubnets,
    SourceSubnets,
    SourceLabels,
    SourceNamespaces,
    DestinationServices,
    Sni,
}

const DIMENSIONS: usize = Condition::ALL.len();
const _: () = assert!(DIMENSIONS == u8::BITS as usize, "a bit of a byte for each");
/// The dimensions of a table in which no block asks for a name.
const WITHOUT_NAMES: usize = Condition::Sni as usize;
const _: () = assert!(WITHOUT_NAMES == DIMENSIONS - 1, "the one that is left out is the last");

impl Condition {
    pub(crate) const ALL: [Self; 8] = [
        Self::Gateways,
        Self::Ports,
        Self::DestinationSubnets,
        Self::SourceSubnets,
        Self::SourceLabels,
        Self::SourceNamespaces,
        Self::DestinationServices,
        Self::Sni,
    ];

    const RAREST_FIRST: [Self; 8] = [
        Self::Sni,
        Self::DestinationSubnets,
        Self::SourceSubnets,
        Self::DestinationServices,
        Self::Ports,
        Self::SourceLabels,
        Self::SourceNamespaces,
        Self::Gateways,
    ];

    /// As it is written.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Gateways => "gateways",
            Self::Ports => "ports",
            Self::DestinationSubnets => "destination_subnets",
            Self::SourceSubnets => "source_subnets",
            Self::SourceLabels => "source_labels",
            Self::SourceNamespaces => "source_namespaces",
            Self::DestinationServices => "destination_services",
            Self::Sni => "sni",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn asked(self, gateways: usize, route: &Route, block: &Block) -> bool {
        match self {
            Self::Gateways => route.gateways.len() < gateways,
            Self::Ports => !block.ports.is_empty(),
            Self::DestinationSubnets => !block.destination_subnets.is_empty(),
            Self::SourceSubnets => !block.source_subnets.is_empty(),
            Self::SourceLabels => !block.source_labels.is_empty(),
            Self::SourceNamespaces => !block.source_namespaces.is_empty(),
            Self::DestinationServices => !block.destination_services.is_empty(),
            Self::Sni => !block.sni.is_empty(),
        }
    }
}

/// A block of a match, numbered through all routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockId(u32);

/// The classes of one arrival, by dimension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Classified {
    classes: [Class; DIMENSIONS],
    /// The workload that owns the source.
    pub(crate) workload: Option<WorkloadId>,
    /// The service whose VIP and port is the original destination.
    pub(crate) service: Option<ServiceId>,
    /// Blocks that ask for the SNI hold because it is not known yet.
    awaits_sni: bool,
}

/// The blocks of all routes, by dimension.
#[derive(Clone, Debug)]
pub(crate) struct Classifier {
    /// Route and place within it, by block.
    blocks: Vec<(RouteId, u32)>,
    /// First block, by route.
    first_blocks: Vec<u32>,
    /// By block.
    asked: Vec<Asked>,
    /// First one set for each combination of dimensions, numbered by its bits: the blocks with no condition in any of them.
    /// Where no block asks for a name these are half as many. Then the bases of classes.
    sets: Sets,
    /// Class by gateway.
    gateways: Vec<Class>,
    ports: Ranges<u16>,
    /// Owner: the VIP.
    destinations: Addresses,
    /// Owner: the workload.
    sources: Addresses,
    /// Classes of labels and of namespace, by workload.
    identities: Vec<(Class, Class)>,
    vips: Vips,
    /// Class by service.
    services: Vec<Class>,
    names: Names,
}

/// Classes of server names.
#[derive(Clone, Debug)]
struct Names {
    by_name: HashMap<Arc<str>, Class>,
    /// Of a name that is not known yet: all blocks that ask for one. `None`: no block does.
    unknown: Option<Class>,
}

impl Names {
    fn class(&self, name: Known<&str>) -> Class {
        let class = match name {
            Known::Unknown => self.unknown,
            Known::Absent => None,
            Known::Value(name) => self.by_name.get(name).copied(),
        };
        class.unwrap_or(Class::NONE)
    }

    fn bytes(&self) -> usize {
        let names: usize = self.by_name.keys().map(|name| name.len()).sum();
        names + self.by_name.capacity() * size_of::<(Arc<str>, Class)>()
    }
}

/// The conditions of a block.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// [`Condition::bit`]s of the conditions that it has.
    conditions: u8,
    /// Of these the one that as a rule holds least often: where it is looked for first.
    home: u8,
}

impl Asked {
    fn new(gateways: usize, route: &Route, block: &Block) -> Self {
        let asked = |condition: &Condition| condition.asked(gateways, route, block);
        let home = Condition::RAREST_FIRST.into_iter().find(asked).unwrap_or(Condition::Gateways);
        let conditions = Condition::ALL.into_iter().filter(asked);
        Self { conditions: conditions.fold(0, |bits, condition| bits | condition.bit()), home: home as u8 }
    }
}

/// Both families, apart: an IPv4 prefix never holds for an IPv6 address.
#[derive(Clone, Debug)]
struct Addresses {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl Classifier {
    pub(crate) fn build(parts: &Parts) -> Self {
        Builder::new(parts).build()
    }

    /// Looks up every dimension.
    pub(crate) fn classify(&self, arrival: &Arrival, first_bytes: &FirstBytes<'_>) -> Classified {
        let source = self.sources.leaf(arrival.source.ip());
        let destination = self.destinations.leaf(arrival.destination.ip());
        let port = arrival.destination.port();
        let workload = (source.owner != NO_OWNER).then_some(WorkloadId(source.owner));
        let service = self.vips.service(destination.owner, port);
        let (labels, namespace) =
            workload.map_or((Class::NONE, Class::NONE), |workload| self.identities[workload.index()]);
        let classes = [
            self.gateways[arrival.gateway.index()],
            self.ports.leaf(port).class,
            destination.class,
            source.class,
            labels,
            namespace,
            service.map_or(Class::NONE, |service| self.services[service.index()]),
            self.names.class(first_bytes.sni),
        ];
        let awaits_sni = self.names.unknown.is_some() && matches!(first_bytes.sni, Known::Unknown);
        Classified { classes, workload, service, awaits_sni }
    }

    /// The first block all of whose conditions hold.
    pub(crate) fn first(&self, classified: &Classified) -> Option<BlockId> {
        let classes = &classified.classes;
        match (self.names.unknown, classes.first_chunk::<WITHOUT_NAMES>()) {
            (None, Some(classes)) => self.first_of(classes),
            _ => self.first_of(classes),
        }
    }

    /// [`Classifier::first`] in so many dimensions, a number that is known when the loops are compiled.
    fn first_of<const N: usize>(&self, classes: &[Class; N]) -> Option<BlockId> {
        let has_no_base = classes.iter().enumerate().filter(|(_, class)| class.base() == WILD);
        let wild = has_no_base.fold(0, |wild, (dimension, _)| wild | 1 << dimension);
        let mut first = u32::MAX;
        for (dimension, class) in classes.iter().enumerate() {
            for block in self.sets.list(class).iter().take_while(|block| **block < first) {
                let Asked { conditions, home } = self.asked[*block as usize];
                // Many rules may name a port; few of them an address as well. A block with a home elsewhere is found there, or,
                // where that class is but a list, does not hold.
                if home as usize != dimension && wild >> home & 1 == 1 {
                    continue;
                }
                if self.holds_in_all(classes, conditions & !(1 << dimension), *block) {
                    first = *block;
                    break;
                }
            }
        }
        self.first_in_bases(classes, wild, first).map(BlockId)
    }

    /// The part of the first bytes that has to be known before it is certain that the route of this block, its first that holds,
    /// takes the arrival. None where a later block of the route holds whatever the bytes are.
    pub(crate) fn needs(&self, classified: &Classified, BlockId(first): BlockId) -> Option<FirstPart> {
        if !classified.awaits_sni {
            return None;
        }
        let (route, _) = self.route(BlockId(first));
        let end = self.first_blocks.get(route.index() + 1).map_or(self.blocks.len() as u32, |next| *next);
        let asks_or_fails = |block| {
            self.asks(Condition::Sni, block)
                || Condition::ALL.into_iter().any(|condition| !self.holds(classified, condition, block))
        };
        (first..end).map(BlockId).all(asks_or_fails).then_some(FirstPart::Sni)
    }

    /// Whether a condition of a block holds; one that it does not have does.
    pub(crate) fn holds(&self, classified: &Classified, condition: Condition, block: BlockId) -> bool {
        !self.asks(condition, block) || self.sets.contains(classified.classes[condition as usize], block.0)
    }

    /// Whether a block has a condition.
    pub(crate) fn asks(&self, condition: Condition, block: BlockId) -> bool {
        self.asked[block.0 as usize].conditions & condition.bit() != 0
    }

    /// The route of a block, and its index among the blocks of that route.
    pub(crate) fn route(&self, block: BlockId) -> (RouteId, usize) {
        let (route, index) = self.blocks[block.0 as usize];
        (route, index as usize)
    }

    /// A block of a route.
    pub(crate) fn block(&self, route: RouteId, index: usize) -> BlockId {
        BlockId(self.first_blocks[route.index()] + index as u32)
    }

    /// The workload that owns an address.
    pub(crate) fn workload(&self, address: IpAddr) -> Option<WorkloadId> {
        let owner = self.sources.leaf(address).owner;
        (owner != NO_OWNER).then_some(WorkloadId(owner))
    }

    /// The services that have a VIP at an address, whatever their ports.
    pub(crate) fn services_at(&self, address: IpAddr) -> BTreeSet<ServiceId> {
        self.vips.services(self.destinations.leaf(address).owner)
    }

    /// Memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        let by_block =
            self.blocks.capacity() * size_of::<(RouteId, u32)>() + self.asked.capacity() * size_of::<Asked>();
        let by_id = self.gateways.capacity() + self.services.capacity() + 2 * self.identities.capacity();
        by_block
            + self.first_blocks.capacity() * size_of::<u32>()
            + by_id * size_of::<Class>()
            + self.sets.bytes()
            + self.ports.bytes()
            + self.destinations.bytes()
            + self.sources.bytes()
            + self.vips.bytes()
            + self.names.bytes()
    }

    /// Whether a block holds in all dimensions of `conditions`, all of which it asks.
    fn holds_in_all<const N: usize>(&self, classes: &[Class; N], mut conditions: u8, block: u32) -> bool {
        while conditions != 0 {
            if !self.sets.contains(classes[conditions.trailing_zeros() as usize], block) {
                return false;
            }
            conditions &= conditions - 1;
        }
        true
    }

    /// The first block before `bound` that is in the bases of all classes, or `bound` itself if it is a block. The dimensions
    /// of `wild`, whose class has no base of its own, are one set together.
    fn first_in_bases<const N: usize>(&self, classes: &[Class; N], wild: u32, bound: u32) -> Option<u32> {
        let wild = self.sets.get(wild);
        let mut bases = [wild; N];
        let mut len = 0;
        for class in classes.iter().filter(|class| class.base() != WILD) {
            bases[len] = self.sets.get(class.base());
            len += 1;
        }
        let bases = &bases[..len];
        for at in 0..wild.summary.len() {
            let mut summary = bases.iter().fold(wild.summary[at], |all, base| all & base.summary[at]);
            while summary != 0 {
                let word = at * 64 + summary.trailing_zeros() as usize;
                let blocks = bases.iter().fold(wild.words[word], |all, base| all & base.words[word]);
                if blocks != 0 {
                    return Some(bound.min(word as u32 * 64 + blocks.trailing_zeros()));
                }
                if word as u32 >= bound / 64 {
                    return Some(bound);
                }
                summary &= summary - 1;
            }
        }
        (bound != u32::MAX).then_some(bound)
    }
}

impl Addresses {
    fn leaf(&self, address: IpAddr) -> ranges::Leaf {
        match address {
            IpAddr::V4(v4) => self.v4.leaf(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.leaf(v6.to_bits()),
        }
    }

    fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }

    fn build(named: impl Iterator<Item = (IpNet, Named)>, classes: &mut ClassBuilder<'_>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (net, named) in named {
            let length = net.prefix_len();
            match net.network() {
                IpAddr::V4(first) => v4.push(Prefix { first: first.to_bits(), length, named }),
                IpAddr::V6(first) => v6.push(Prefix { first: first.to_bits(), length, named }),
            }
        }
        Self { v4: Ranges::build(v4, classes), v6: Ranges::build(v6, classes) }
    }
}

type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// Labels that blocks want of a source, and which blocks.
type Wanted<'p> = (&'p Labels, Vec<u32>);

/// The blocks in order, while their classes are made.
struct Builder<'p> {
    parts: &'p Parts,
    blocks: Vec<(&'p Route, &'p Block)>,
    ids: Vec<(RouteId, u32)>,
    first_blocks: Vec<u32>,
    asked: Vec<Asked>,
}

impl<'p> Builder<'p> {
    fn new(parts: &'p Parts) -> Self {
        let mut builder =
            Self { parts, blocks: Vec::new(), ids: Vec::new(), first_blocks: Vec::new(), asked: Vec::new() };
        for (route, id) in parts.routes.iter().zip((0..).map(RouteId)) {
            builder.first_blocks.push(builder.blocks.len() as u32);
            for (block, index) in route.blocks.iter().zip(0..) {
                builder.asked.push(Asked::new(parts.gateways.len(), route, block));
                builder.blocks.push((route, block));
                builder.ids.push((id, index));
            }
        }
        builder
    }

    fn build(self) -> Classifier {
        let mut sets = Sets::new(self.blocks.len());
        let asks_names = self.asking(Condition::Sni).next().is_some();
        let dimensions = if asks_names { DIMENSIONS } else { WITHOUT_NAMES };
        for combination in 0..1_u32 << dimensions {
            let wild =
                (0..).zip(&self.asked).filter(|(_, asked)| u32::from(asked.conditions) & combination == 0);
            sets.push(wild.map(|(block, _)| block));
        }
        let (vips, vip_owners) = Vips::build(self.parts);
        let workloads = self.parts.workloads.iter().zip(0..);
        let source_owners =
            workloads.flat_map(|(workload, id)| workload.addresses.iter().map(move |net| (*net, id)));
        let gateways = self.gateways(&mut sets);
        let ports = self.ports(&mut sets);
        let destinations = self.addresses(
            &mut sets,
            Condition::DestinationSubnets,
            |block| &block.destination_subnets,
            vip_owners,
        );
        let sources =
            self.addresses(&mut sets, Condition::SourceSubnets, |block| &block.source_subnets, source_owners);
        let identities = self.labels(&mut sets).into_iter().zip(self.namespaces(&mut sets)).collect();
        let services = self.services(&mut sets);
        let names = self.names(&mut sets);
        sets.shrink();
        Classifier {
            blocks: self.ids,
            first_blocks: self.first_blocks,
            asked: self.asked,
            sets,
            gateways,
            ports,
            destinations,
            sources,
            identities,
            vips,
            services,
            names,
        }
    }

    /// The blocks that have a condition, with the number of each.
    fn asking(&self, condition: Condition) -> impl Iterator<Item = (u32, &'p Route, &'p Block)> {
        let blocks = (0..).zip(&self.blocks).zip(&self.asked);
        blocks
            .filter(move |(_, asked)| asked.conditions & condition.bit() != 0)
            .map(|((number, (route, block)), _)| (number, *route, *block))
    }

    fn gateways(&self, sets: &mut Sets) -> Vec<Class> {
        let mut members = vec![Vec::new(); self.parts.gateways.len()];
        for (number, route, _) in self.asking(Condition::Gateways) {
            for GatewayId(gateway) in &route.gateways {
                members[*gateway as usize].push(number);
            }
        }
        classes_of(sets, Condition::Gateways, members)
    }

    fn services(&self, sets: &mut Sets) -> Vec<Class> {
        let mut members = vec![Vec::new(); self.parts.services.len()];
        for (number, _, block) in self.asking(Condition::DestinationServices) {
            for service in &block.destination_services {
                members[service.index()].push(number);
            }
        }
        classes_of(sets, Condition::DestinationServices, members)
    }

    fn names(&self, sets: &mut Sets) -> Names {
        let mut members: BTreeMap<&Arc<str>, Vec<u32>> = BTreeMap::new();
        for (number, _, block) in self.asking(Condition::Sni) {
            for name in &block.sni {
                members.entry(name).or_default().push(number);
            }
        }
        let mut classes = ClassBuilder::new(sets, Condition::Sni.bit().into());
        let all: Vec<u32> = self.asking(Condition::Sni).map(|(number, ..)| number).collect();
        let unknown = (!all.is_empty()).then(|| classes.class_of(all));
        let by_name =
            members.into_iter().map(|(name, members)| (Arc::clone(name), classes.class_of(members)));
        Names { by_name: by_name.collect(), unknown }
    }

    fn ports(&self, sets: &mut Sets) -> Ranges<u16> {
        let prefixes = self.asking(Condition::Ports).flat_map(|(number, _, block)| {
            let prefixes = block.ports.iter().flat_map(prefixes_of);
            prefixes.map(move |(first, length)| Prefix { first, length, named: Named::Block(number) })
        });
        Ranges::build(prefixes.collect(), &mut ClassBuilder::new(sets, Condition::Ports.bit().into()))
    }

    fn addresses(
        &self,
        sets: &mut Sets,
        condition: Condition,
        nets: impl Fn(&'p Block) -> &'p Vec<IpNet>,
        owners: impl IntoIterator<Item = (IpNet, u32)>,
    ) -> Addresses {
        let named = self
            .asking(condition)
            .flat_map(|(number, _, block)| nets(block).iter().map(move |net| (*net, Named::Block(number))));
        let owned = owners.into_iter().map(|(net, owner)| (net, Named::Owner(owner)));
        Addresses::build(named.chain(owned), &mut ClassBuilder::new(sets, condition.bit().into()))
    }

    /// Classes by workload. A condition is filed under one of its labels, so that a workload looks only at those it may meet.
    fn labels(&self, sets: &mut Sets) -> Vec<Class> {
        let mut wanted: HashMap<&Labels, Vec<u32>> = HashMap::new();
        for (number, _, block) in self.asking(Condition::SourceLabels) {
            wanted.entry(&block.source_labels).or_default().push(number);
        }
        let mut filed: HashMap<(&Arc<str>, &Arc<str>), Vec<Wanted<'_>>> = HashMap::new();
        for (labels, numbers) in wanted {
            filed
                .entry(labels.iter().next().expect("asked, so not empty"))
                .or_default()
                .push((labels, numbers));
        }
        let mut classes = ClassBuilder::new(sets, Condition::SourceLabels.bit().into());
        let mut known: HashMap<&Labels, Class> = HashMap::new();
        let by_workload = self.parts.workloads.iter().map(|workload| {
            *known.entry(&workload.labels).or_insert_with(|| {
                let candidates = workload.labels.iter().filter_map(|label| filed.get(&label)).flatten();
                let met = candidates.filter(|(wanted, _)| {
                    wanted.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
                });
                classes.class_of(met.flat_map(|(_, numbers)| numbers).copied().collect())
            })
        });
        by_workload.collect()
    }

    fn namespaces(&self, sets: &mut Sets) -> Vec<Class> {
        let mut wanted: HashMap<&Arc<str>, Vec<u32>> = HashMap::new();
        for (number, _, block) in self.asking(Condition::SourceNamespaces) {
            for namespace in &block.source_namespaces {
                wanted.entry(namespace).or_default().push(number);
            }
        }
        let mut classes = ClassBuilder::new(sets, Condition::SourceNamespaces.bit().into());
        let mut known: HashMap<&Arc<str>, Class> = HashMap::new();
        let by_workload = self.parts.workloads.iter().map(|workload| {
            *known.entry(&workload.namespace).or_insert_with(|| {
                classes.class_of(wanted.get(&workload.namespace).cloned().unwrap_or_default())
            })
        });
        by_workload.collect()
    }
}

/// A class for each list of members.
fn classes_of(sets: &mut Sets, condition: Condition, members: Vec<Vec<u32>>) -> Vec<Class> {
    let mut classes = ClassBuilder::new(sets, condition.bit().into());
    members.into_iter().map(|members| classes.class_of(members)).collect()
}
