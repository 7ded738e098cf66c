//! Drawing a destination by weight: one draw a connection, or, with `sticky`, a weighted rendezvous hash of the source.

use std::net::IpAddr;
use std::sync::Arc;

use crate::hash;
use crate::problem::Place;
use crate::table::{Destination, DestinationId};

/// One destination of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Where it leads.
    pub destination: DestinationId,
    /// Its weight; 0 gets nothing. Without weights in the file all are 1.
    pub weight: u32,
    /// Where it is written.
    pub place: Place,
}

/// Weighted destinations.
#[derive(Clone, Debug)]
pub struct Split {
    /// In order of writing; the sum of the weights is above 0.
    pub shares: Vec<Share>,
    /// With `sticky = "source"`: what the hash is salted with (the route's name).
    pub sticky: Option<Arc<str>>,
    /// Sums of the weights up to and with each share.
    sums: Vec<u64>,
    /// With `sticky`: who competes for a source. Empty until [`Split::freeze`].
    rivals: Vec<Rival>,
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

impl Split {
    /// A split as it is written. [`Table::build`](crate::Table::build) freezes it, which `sticky` needs: only the table knows
    /// the names of destinations.
    pub fn new(shares: Vec<Share>, sticky: Option<Arc<str>>) -> Self {
        let weights = shares.iter().map(|share| u64::from(share.weight));
        let sums = weights.scan(0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { sums: sums.collect(), shares, sticky, rivals: Vec::new() }
    }

    /// The sum of the weights.
    pub fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    /// Hashes the names, so that drawing does not. A destination that is listed twice competes once, with both weights.
    pub(crate) fn freeze(&mut self, destinations: &[Destination]) {
        assert!(self.total() > 0, "a split whose weights sum up to 0 is a problem at load");
        let Some(salt) = &self.sticky else { return };
        let salt = hash::bytes(salt.as_bytes());
        self.rivals.clear();
        for share in self.shares.iter().filter(|share| share.weight > 0) {
            let key = hash::join(salt, hash::bytes(destinations[share.destination.index()].name.as_bytes()));
            match self.rivals.iter_mut().find(|rival| rival.key == key) {
                Some(rival) => rival.weight += f64::from(share.weight),
                None => self.rivals.push(Rival {
                    destination: share.destination,
                    weight: f64::from(share.weight),
                    key,
                }),
            }
        }
        // Equal scores go to the smaller key, whatever the order of lines.
        self.rivals.sort_unstable_by_key(|rival| rival.key);
    }

    /// The destination for one connection.
    pub fn draw(&self, source: IpAddr, rng: &mut fastrand::Rng) -> DestinationId {
        self.fixed(source).unwrap_or_else(|| self.draw_by_weight(rng))
    }

    /// With `sticky`: the destination for every connection of a source.
    pub(crate) fn fixed(&self, source: IpAddr) -> Option<DestinationId> {
        self.sticky.as_ref().map(|_| self.draw_by_source(source))
    }

    /// One draw. A share of weight 0 ends where the one before it ends, so no point lies in it.
    fn draw_by_weight(&self, rng: &mut fastrand::Rng) -> DestinationId {
        let point = rng.u64(..self.total());
        self.shares[self.sums.partition_point(|sum| *sum <= point)].destination
    }

    /// Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005): the least of
    /// exponential variables whose rates are the weights wins. A share that grows lowers its own scores only, so sources
    /// move to it and to nothing else. `ln` may differ in its last bit between C libraries: about one source in 10^15.
    fn draw_by_source(&self, source: IpAddr) -> DestinationId {
        let source = hash::address(source);
        let score = |rival: &Rival| -unit(hash::join(rival.key, source)).ln() / rival.weight;
        let least = self.rivals.iter().min_by(|one, other| score(one).total_cmp(&score(other)));
        least.expect("a frozen split has a rival: its weights sum up to more than 0").destination
    }
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
