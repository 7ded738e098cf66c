//! Picking an endpoint of the destination that was drawn: those that are usable, of them the lowest priority, then balance.
//! Health and counts belong to the process and are asked for through [`Loads`]; nothing is allocated for a pick.

mod maglev;

use std::net::IpAddr;

use self::maglev::Maglev;
use crate::policy::Balance;
use crate::table::{Destination, DestinationId, Endpoint, EndpointId};

/// Up to this many endpoints `least_connections` looks at all of them: some hundred nanoseconds at most.
const EXACT_MAX: usize = 64;

/// Positions of a round robin that may fall on endpoints which are out before a draw by weight takes their place.
const POSITIONS_MAX: usize = 64;

/// What balancing looks at and does not own: the process's counts.
pub trait Loads {
    /// Whether an endpoint may be used (health, ejection, overrides).
    fn usable(&self, endpoint: EndpointId) -> bool;
    /// Open and dialling connections of the process to it.
    fn connections(&self, endpoint: EndpointId) -> u64;
    /// Takes the next position of a destination's round robin, of the process.
    fn next_position(&self, destination: DestinationId) -> u64;
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
        tried: &[EndpointId],
        rng: &mut fastrand::Rng,
    ) -> Option<EndpointId> {
        let available = Available { loads, tried };
        self.groups.iter().find_map(|group| {
            let index = match self.balance {
                Balance::LeastConnections if group.endpoints.len() <= EXACT_MAX => {
                    group.least_of_all(&available, rng)
                }
                Balance::LeastConnections => group.less_of_two(&available, rng),
                Balance::RoundRobin => group.next(self.destination, &available, rng),
                Balance::Random => group.by_weight(&available, rng),
                Balance::SourceIp => group.by_source(source, &available),
            };
            index.map(|index| group.endpoints[index])
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        let groups = self.groups.iter().map(|group| {
            let each = size_of::<EndpointId>() + size_of::<u32>() + size_of::<u64>();
            size_of::<Group>() + group.endpoints.len() * each + group.maglev.as_ref().map_or(0, Maglev::bytes)
        });
        size_of::<Self>() + groups.sum::<usize>()
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

    /// Fewest connections by weight, ties at random.
    fn least_of_all(&self, available: &Available<'_, impl Loads>, rng: &mut fastrand::Rng) -> Option<usize> {
        let mut least: Option<(u64, usize)> = None;
        let mut ties = 0;
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if !available.has(*endpoint) {
                continue;
            }
            // Asked once: the count belongs to the process and may change meanwhile.
            let connections = available.loads.connections(*endpoint);
            match least.map(|(fewest, of)| self.compare((connections, index), (fewest, of))) {
                None | Some(std::cmp::Ordering::Less) => {
                    least = Some((connections, index));
                    ties = 1;
                }
                Some(std::cmp::Ordering::Equal) => {
                    ties += 1;
                    // The nth of the tied replaces what was kept with chance 1/n, so each is kept with the same.
                    if rng.u32(..ties) == 0 {
                        least = Some((connections, index));
                    }
                }
                Some(std::cmp::Ordering::Greater) => {}
            }
        }
        least.map(|(_, index)| index)
    }

    /// The better of two drawn by weight (Mitzenmacher, "The power of two choices in randomized load balancing", 2001).
    fn less_of_two(&self, available: &Available<'_, impl Loads>, rng: &mut fastrand::Rng) -> Option<usize> {
        let one = self.by_weight(available, rng)?;
        let other = self.by_weight(available, rng)?;
        let loaded = |index: usize| (available.loads.connections(self.endpoints[index]), index);
        Some(if self.compare(loaded(other), loaded(one)).is_lt() { other } else { one })
    }

    /// Compares connections divided by weight, without dividing.
    fn compare(&self, one: (u64, usize), other: (u64, usize)) -> std::cmp::Ordering {
        let weight = |index: usize| u128::from(self.weights[index]);
        (u128::from(one.0) * weight(other.1)).cmp(&(u128::from(other.0) * weight(one.1)))
    }

    /// One draw; if what it hits is out, a second among those that are not: the chances are the same as if only they had
    /// been there from the start.
    fn by_weight(&self, available: &Available<'_, impl Loads>, rng: &mut fastrand::Rng) -> Option<usize> {
        let drawn = self.at(rng.u64(..total(&self.sums)));
        if available.has(self.endpoints[drawn]) {
            return Some(drawn);
        }
        // As each is looked at, it replaces what was kept with its share of the weight seen so far: one pass, so that an
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
