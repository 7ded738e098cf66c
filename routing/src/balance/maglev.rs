//! Maglev hashing (Eisenbud and others, "Maglev: a fast and reliable software network load balancer", NSDI 2016, 3.4): a
//! table of endpoints that sources are hashed into. Endpoints take turns to claim entries, each in an order of its own, so
//! shares are even, and few entries change hands when an endpoint comes or goes. All that goes in is addresses and weights:
//! every host with the same endpoints has the same table.

use std::net::{IpAddr, SocketAddr};

use crate::hash;

/// Up to this many endpoints the small table does.
const SMALL_MAX: usize = 64;

/// Entries of the small table: the smallest prime of at least a hundred for each of 64 endpoints, the paper's number for even
/// shares. It is the same for one endpoint and for 64, because a source's entry depends on the size of the table: were there
/// a hundred entries for each endpoint that happens to be there, each that comes or goes would move nearly all sources.
const SMALL: usize = 6_421;

/// Entries of the large table, a prime: 256 KiB. From about 655 endpoints on their shares grow less even.
const LARGE: usize = 65_537;

const _: () = assert!(SMALL >= 100 * SMALL_MAX);

/// Entries that are looked at while they belong to endpoints which are out, before all endpoints are compared.
const PROBES_MAX: usize = 64;

/// The table of one priority of a destination.
#[derive(Clone, Debug)]
pub(super) struct Maglev {
    /// Index of an endpoint, by entry.
    entries: Vec<u32>,
    /// Hash of the address, by endpoint.
    keys: Vec<u64>,
}

impl Maglev {
    /// Weights are above 0. Turns are given by weight as Envoy does it: the heaviest claims an entry every round, one of a
    /// third of its weight every third round.
    pub(super) fn build(addresses: impl Iterator<Item = SocketAddr>, weights: &[u32]) -> Self {
        let keys: Vec<u64> = addresses
            .map(|address| {
                hash::join(hash::address(address.ip()), hash::bytes(&address.port().to_be_bytes()))
            })
            .collect();
        let size = if keys.len() <= SMALL_MAX { SMALL } else { LARGE };
        let mut claims: Vec<Claims> = keys.iter().map(|key| Claims::new(*key, size as u64)).collect();
        let heaviest = u64::from(weights.iter().copied().max().expect("a group has an endpoint"));
        let mut credits = vec![0; keys.len()];
        let mut entries = vec![u32::MAX; size];
        let mut free = size;
        while free > 0 {
            for (index, claims) in claims.iter_mut().enumerate() {
                credits[index] += u64::from(weights[index]);
                if credits[index] < heaviest || free == 0 {
                    continue;
                }
                credits[index] -= heaviest;
                let entry = claims.find(|entry| entries[*entry] == u32::MAX).expect("an entry is free");
                entries[entry] = index as u32;
                free -= 1;
            }
        }
        Self { entries, keys }
    }

    /// The endpoint of a source. One that is out leaves its sources to the endpoints of further entries, in steps that differ
    /// from source to source, so that they spread over all others; sources of other endpoints do not move.
    pub(super) fn pick(&self, source: IpAddr, available: impl Fn(usize) -> bool) -> Option<usize> {
        let source = hash::address(source);
        let size = self.entries.len() as u64;
        let mut probes = Claims::new(source, size).map(|entry| self.entries[entry] as usize);
        probes.by_ref().take(PROBES_MAX).find(|index| available(*index)).or_else(|| {
            let left = (0..self.keys.len()).filter(|index| available(*index));
            left.max_by_key(|index| hash::join(self.keys[*index], source))
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<u32>() + self.keys.capacity() * size_of::<u64>()
    }
}

/// All entries of a table in an order that depends on the key; each once, as the size is prime.
struct Claims {
    next: u64,
    skip: u64,
    size: u64,
}

impl Claims {
    fn new(key: u64, size: u64) -> Self {
        const OFFSET: u64 = 1;
        const SKIP: u64 = 2;
        Self { next: hash::join(key, OFFSET) % size, skip: hash::join(key, SKIP) % (size - 1) + 1, size }
    }
}

impl Iterator for Claims {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let entry = self.next;
        self.next = (self.next + self.skip) % self.size;
        Some(entry as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_prime() {
        for size in [SMALL, LARGE] {
            assert!(
                (2..).take_while(|factor| factor * factor <= size).all(|factor| size % factor != 0),
                "{size}"
            );
        }
    }

    #[test]
    fn shares_of_the_table_are_those_of_the_weights() {
        let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 80));
        let weights = [1, 2, 0x000f_4240, 500_000];
        let maglev = Maglev::build((0..4).map(address), &weights);
        let entries = |of: u32| maglev.entries.iter().filter(|entry| **entry == of).count();
        // Weights that come to less than one entry take none; the others two thirds and one.
        assert_eq!([entries(0), entries(1)], [0, 0]);
        assert!((4_279..=4_283).contains(&entries(2)), "{}", entries(2));
    }
}
