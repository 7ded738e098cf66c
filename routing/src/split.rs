//! Drawing a destination by weight: one draw a connection, or, with `sticky`, a weighted rendezvous hash of the source.

use std::net::IpAddr;

use crate::hash;
use crate::ids::DestinationId;
use crate::parts::{Destination, Split};

/// A split, ready to be drawn from.
#[derive(Clone, Debug)]
pub(crate) struct Drawing {
    /// Of each share: the sum of the weights up to and with it, and where it leads. In order of writing.
    shares: Box<[(u64, DestinationId)]>,
    /// With `sticky`: who competes for a source. Empty otherwise.
    rivals: Box<[Rival]>,
}

/// A destination that competes for a source.
#[derive(Clone, Copy, Debug)]
struct Rival {
    destination: DestinationId,
    /// Of all shares that lead there.
    weight: f64,
    /// Hash of the route's name and the destination's: no id and no order of lines goes into it.
    key: u64,
}

impl Drawing {
    /// Sums the weights and hashes the names, so that drawing does not.
    pub(crate) fn new(split: &Split, destinations: &[Destination]) -> Self {
        let shares = split.shares.iter().scan(0, |sum, share| {
            *sum += u64::from(share.weight);
            Some((*sum, share.destination))
        });
        let drawing = Self { shares: shares.collect(), rivals: rivals(split, destinations) };
        assert!(drawing.total() > 0, "a split whose weights sum up to 0 is a problem at load");
        drawing
    }

    fn total(&self) -> u64 {
        self.shares.last().map_or(0, |(sum, _)| *sum)
    }

    /// The destination for one connection.
    pub(crate) fn draw(&self, source: IpAddr, rng: &mut fastrand::Rng) -> DestinationId {
        self.fixed(source).unwrap_or_else(|| self.draw_by_weight(rng))
    }

    /// With `sticky`: the destination for every connection of a source.
    pub(crate) fn fixed(&self, source: IpAddr) -> Option<DestinationId> {
        (!self.rivals.is_empty()).then(|| self.draw_by_source(source))
    }

    /// One draw. A share of weight 0 ends where the one before it ends, so no point lies in it.
    fn draw_by_weight(&self, rng: &mut fastrand::Rng) -> DestinationId {
        let point = rng.u64(..self.total());
        self.shares[self.shares.partition_point(|(sum, _)| *sum <= point)].1
    }

    /// Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005): the least of
    /// exponential variables whose rates are the weights wins. A share that grows lowers its own scores only, so sources
    /// move to it and to nothing else. `ln` may differ in its last bit between C libraries: about one source in 10^15.
    fn draw_by_source(&self, source: IpAddr) -> DestinationId {
        let source = hash::address(source);
        let score = |rival: &Rival| -unit(hash::join(rival.key, source)).ln() / rival.weight;
        let least = self.rivals.iter().min_by(|one, other| score(one).total_cmp(&score(other)));
        least.expect("a sticky split has a rival: its weights sum up to more than 0").destination
    }

    /// Memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.shares) + size_of_val(&*self.rivals)
    }
}

/// Who competes for a source. A destination that is listed twice competes once, with both weights.
fn rivals(split: &Split, destinations: &[Destination]) -> Box<[Rival]> {
    let Some(salt) = &split.sticky else { return Box::default() };
    let salt = hash::bytes(salt.as_bytes());
    let mut rivals: Vec<Rival> = Vec::new();
    for share in split.shares.iter().filter(|share| share.weight > 0) {
        let (destination, weight) = (share.destination, f64::from(share.weight));
        let key = hash::join(salt, hash::bytes(destinations[destination.index()].name.as_bytes()));
        match rivals.iter_mut().find(|rival| rival.key == key) {
            Some(rival) => rival.weight += weight,
            None => rivals.push(Rival { destination, weight, key }),
        }
    }
    // Equal scores go to the smaller key, whatever the order of lines.
    rivals.sort_unstable_by_key(|rival| rival.key);
    rivals.into()
}

/// The chance of one shard, of a seed that all shards share. Seeds that lie near each other give related numbers (wyrand has
/// no step that scatters its seed): shards seeded with 1, 2, 3 would draw alike.
pub fn shard_rng(seed: u64, shard: usize) -> fastrand::Rng {
    fastrand::Rng::with_seed(hash::join(seed, shard as u64))
}

/// A hash as a number between 0 and 1, both excluded.
fn unit(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}
