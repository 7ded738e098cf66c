//! Picking an endpoint of the destination that was drawn: those that are usable, of them the lowest priority, then balance.
//! Health and counts belong to the process and are asked for through [`Loads`]; nothing is allocated for a pick.

mod maglev;

use std::net::IpAddr;

use self::maglev::Maglev;
use crate::ids::{DestinationId, EndpointId};
use crate::parts::{Destination, Endpoint};
use crate::policy::Balance;

/// Up to this many endpoints `least_connections` looks at all of them: some hundred nanoseconds at most.
const EXACT_MAX: usize = 64;

/// Positions of a round robin that may fall on endpoints which are out before a draw by weight takes their place.
const POSITIONS_MAX: usize = 64;

/// The process's counts, which balancing looks at and does not own.
pub trait Loads {
    /// Whether an endpoint may be used (health, ejection, overrides).
    fn usable(&self, endpoint: EndpointId) -> bool;
    /// Open and dialling connections of the process to it.
    fn connections(&self, endpoint: EndpointId) -> u64;
    /// Takes the next position of a destination's round robin, of the process.
    fn next_position(&self, destination: DestinationId) -> u64;
}

/// Which attempt of a connection an endpoint is picked for.
#[derive(Clone, Copy, Debug)]
pub enum Attempt<'a> {
    /// The first.
    First,
    /// A later one. It goes to none of these, and takes no position of a round robin: positions belong to connections, or an
    /// endpoint that fails would send each retry's successor back to itself.
    Retry(&'a [EndpointId]),
}

impl<'a> Attempt<'a> {
    fn tried(self) -> &'a [EndpointId] {
        match self {
            Self::First => &[],
            Self::Retry(tried) => tried,
        }
    }
}

/// The endpoints of a destination, ready to be picked from.
#[derive(Clone, Debug)]
pub(crate) struct Picker {
    destination: DestinationId,
    balance: Balance,
    /// By priority, lowest first.
    groups: Vec<Group>,
}

/// Endpoints of one priority, with weights above 0.
#[derive(Clone, Debug)]
struct Group {
    endpoints: Vec<EndpointId>,
    weights: Vec<u32>,
    /// Sums of the weights up to and with each endpoint.
    sums: Vec<u64>,
    /// Of round robin: how far each position is from the one before, see [`stride`].
    stride: u64,
    /// With [`Balance::SourceIp`].
    maglev: Option<Maglev>,
}

/// Which endpoints may be picked now.
struct Available<'a, L> {
    loads: &'a L,
    tried: &'a [EndpointId],
}

impl<L: Loads> Available<'_, L> {
    fn has(&self, endpoint: EndpointId) -> bool {
        !self.tried.contains(&endpoint) && self.loads.usable(endpoint)
    }
}

impl Picker {
    pub(crate) fn build(id: DestinationId, destination: &Destination, endpoints: &[Endpoint]) -> Self {
        let endpoint = |id: &EndpointId| &endpoints[id.index()];
        let mut ids: Vec<EndpointId> =
            destination.endpoints.iter().copied().filter(|id| endpoint(id).weight > 0).collect();
        // By address and not by id, which is different on a host that has another configuration around this service.
        ids.sort_by_key(|id| (endpoint(id).priority, endpoint(id).address));
        let balance = destination.policy.balance;
        let groups = ids.chunk_by(|one, other| endpoint(one).priority == endpoint(other).priority);
        let groups = groups.map(|ids| Group::build(ids, endpoints, balance)).collect();
        Self { destination: id, balance, groups }
    }

    pub(crate) fn pick(
        &self,
        source: IpAddr,
        loads: &impl Loads,
        attempt: Attempt<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<EndpointId> {
        let available = Available { loads, tried: attempt.tried() };
        self.groups.iter().find_map(|group| {
            let index = match (self.balance, attempt) {
                (Balance::LeastConnections, _) if group.endpoints.len() <= EXACT_MAX => {
                    group.least_of_all(&available, rng)
                }
                (Balance::LeastConnections, _) => group.less_of_two(&available, rng),
                (Balance::RoundRobin, Attempt::First) => group.next(self.destination, &available, rng),
                (Balance::Random, _) | (Balance::RoundRobin, Attempt::Retry(_)) => {
                    group.by_weight(&available, rng)
                }
                (Balance::SourceIp, _) => group.by_source(source, &available),
            };
            index.map(|index| group.endpoints[index])
        })
    }

    /// Memory it holds beside itself.
    pub(crate) fn bytes(&self) -> usize {
        let groups = self.groups.iter().map(|group| {
            let each = size_of::<EndpointId>() + size_of::<u32>() + size_of::<u64>();
            size_of::<Group>() + group.endpoints.len() * each + group.maglev.as_ref().map_or(0, Maglev::bytes)
        });
        groups.sum()
    }
}

impl Group {
    fn build(ids: &[EndpointId], endpoints: &[Endpoint], balance: Balance) -> Self {
        let weights: Vec<u32> = ids.iter().map(|id| endpoints[id.index()].weight).collect();
        let divisor = u64::from(weights.iter().copied().fold(0, gcd));
        let sums = weights.iter().scan(0, |sum, weight| {
            *sum += u64::from(*weight) / divisor;
            Some(*sum)
        });
        let sums: Vec<u64> = sums.collect();
        let addresses = || ids.iter().map(|id| endpoints[id.index()].address);
        let maglev = (balance == Balance::SourceIp).then(|| Maglev::build(addresses(), &weights));
        Self { endpoints: ids.to_vec(), stride: stride(total(&sums)), sums, weights, maglev }
    }

    /// Fewest connections by weight, the new one included. Several endpoints tie as long as each holds fewer now, by weight, than
    /// any would hold with the new connection; the draw among them is by weight.
    ///
    /// The draw is among places: an endpoint has as many in each layer as its weight is times the least weight, connections fill
    /// one layer after the other, and a place that is taken is not drawn. So connections that come one after the other, while the
    /// one before is still counted or not, are spread by weight, and many at once hold their weights exactly.
    fn least_of_all(&self, available: &Available<'_, impl Loads>, rng: &mut fastrand::Rng) -> Option<usize> {
        // Asked once: the count belongs to the process and may change meanwhile.
        let mut open = [None; EXACT_MAX];
        let mut unit = u32::MAX;
        let mut least: Option<(u64, usize)> = None;
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if available.has(*endpoint) {
                let with_new = available.loads.connections(*endpoint).saturating_add(1);
                open[index] = Some(with_new - 1);
                unit = unit.min(self.weights[index]);
                if least.is_none_or(|least| self.is_less((with_new, index), least)) {
                    least = Some((with_new, index));
                }
            }
        }
        let least = least?;
        let tied = || (0..self.endpoints.len()).filter_map(|index| Some((open[index]?, index)));
        let tied = || tied().filter(|&one| self.is_less(one, least));
        let unit = u128::from(unit);
        let taken = |open: u64| u128::from(open) * unit;
        let layer = tied().map(|(open, index)| taken(open) / u128::from(self.weights[index])).min()?;
        // As each is looked at, it replaces the one kept so far with its share of the free places seen so far.
        let (mut kept, mut seen) = (None, 0);
        for (open, index) in tied() {
            let places = (layer + 1) * u128::from(self.weights[index]);
            let free = places.saturating_sub(taken(open)) as u64;
            seen += free;
            if free > 0 && rng.u64(..seen) < free {
                kept = Some(index);
            }
        }
        kept
    }

    /// One drawn by weight, or a second if that would hold fewer with the new connection than the first does now (Mitzenmacher,
    /// "The power of two choices in randomized load balancing", 2001).
    fn less_of_two(&self, available: &Available<'_, impl Loads>, rng: &mut fastrand::Rng) -> Option<usize> {
        let one = self.by_weight(available, rng)?;
        let other = self.by_weight(available, rng)?;
        let open = |index: usize| available.loads.connections(self.endpoints[index]);
        let other_with_new = (open(other).saturating_add(1), other);
        Some(if self.is_less((open(one), one), other_with_new) { one } else { other })
    }

    /// Compares connections divided by weight, without dividing.
    fn is_less(&self, one: (u64, usize), other: (u64, usize)) -> bool {
        let weight = |index: usize| u128::from(self.weights[index]);
        u128::from(one.0) * weight(other.1) < u128::from(other.0) * weight(one.1)
    }

    /// One draw; if the endpoint that it hits is out, a second among those that are not: the chances are the same as if only they had
    /// been there from the start.
    fn by_weight(&self, available: &Available<'_, impl Loads>, rng: &mut fastrand::Rng) -> Option<usize> {
        let drawn = self.at(rng.u64(..total(&self.sums)));
        if available.has(self.endpoints[drawn]) {
            return Some(drawn);
        }
        // As each is looked at, it replaces the one kept so far with its share of the weight seen so far: one pass, so that an
        // endpoint that goes out meanwhile does no harm.
        let mut kept = None;
        let mut seen = 0;
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if available.has(*endpoint) {
                let weight = u64::from(self.weights[index]);
                seen += weight;
                if rng.u64(..seen) < weight {
                    kept = Some(index);
                }
            }
        }
        kept
    }

    /// The endpoint at the next position. One that is out uses up its positions, so its share goes to all others by weight
    /// and not to whichever stands next.
    fn next(
        &self,
        destination: DestinationId,
        available: &Available<'_, impl Loads>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        for _ in 0..POSITIONS_MAX {
            let total = total(&self.sums);
            let position = u128::from(available.loads.next_position(destination) % total);
            let index = self.at((position * u128::from(self.stride) % u128::from(total)) as u64);
            if available.has(self.endpoints[index]) {
                return Some(index);
            }
        }
        self.by_weight(available, rng)
    }

    fn by_source(&self, source: IpAddr, available: &Available<'_, impl Loads>) -> Option<usize> {
        let maglev = self.maglev.as_ref().expect("built for this balance");
        maglev.pick(source, |index| available.has(self.endpoints[index]))
    }

    /// The endpoint in whose part of the sum a point lies.
    fn at(&self, point: u64) -> usize {
        self.sums.partition_point(|sum| *sum <= point)
    }
}

fn total(sums: &[u64]) -> u64 {
    sums.last().copied().expect("a group has an endpoint")
}

/// How far apart two successive positions of a round robin are on the line of `total` weights. Prime to the total, so that
/// as many positions visit every point once and weights are kept exactly; next to the golden section of it, whose multiples
/// are spread evenly at every length (Knuth, TAOCP 3, 6.4), so that the picks of each endpoint are, too. A schedule that
/// is written down would be smoother by a hair, and as long as the weights are large.
fn stride(total: u64) -> u64 {
    let golden = (total as f64 * 0.618_033_988_749_894_9) as u64;
    let near = (0..total).flat_map(|step| [golden.saturating_sub(step), golden + step]);
    near.into_iter().find(|stride| *stride > 0 && gcd64(*stride, total) == 1).unwrap_or(1)
}

fn gcd(one: u32, other: u32) -> u32 {
    gcd64(one.into(), other.into()) as u32
}

fn gcd64(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd64(other, one % other) }
}
