//! Maglev hashing (Eisenbud and others, "Maglev: a fast and reliable software network load balancer", NSDI 2016, 3.4): a
//! table of endpoints that sources are hashed into. Endpoints take turns to claim entries, each in an order of its own, so
//! shares are even, and few entries change hands when an endpoint comes or goes. All that goes in is addresses and weights:
//! every host with the same endpoints has the same table.

use std::net::{IpAddr, SocketAddr};

use crate::hash;

/// The paper's size for small disruption: a hundred entries an endpoint.
const ENTRIES_PER_ENDPOINT: usize = 100;

/// A prime; 256 KiB of table. More endpoints than this makes some of them take no source.
const ENTRIES_MAX: usize = 65_537;

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
        let size = size_for(keys.len());
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
    /// from source to source, so that they spread over all others; nobody else's source moves.
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

/// The smallest prime of at least a hundred entries an endpoint, and at most [`ENTRIES_MAX`].
fn size_for(endpoints: usize) -> usize {
    let wanted = endpoints * ENTRIES_PER_ENDPOINT;
    (wanted..ENTRIES_MAX).find(|size| is_prime(*size)).unwrap_or(ENTRIES_MAX)
}

fn is_prime(number: usize) -> bool {
    number > 1 && (2..).take_while(|factor| factor * factor <= number).all(|factor| number % factor != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_the_smallest_prime_with_a_hundred_entries_each() {
        for (endpoints, size) in
            [(1, 101), (2, 211), (10, 1009), (655, 65_519), (656, 65_537), (100_000, 65_537)]
        {
            assert_eq!(size_for(endpoints), size, "{endpoints} endpoints");
        }
    }

    #[test]
    fn shares_of_the_table_are_those_of_the_weights() {
        let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 80));
        let weights = [1, 2, 0x000f_4240, 500_000];
        let maglev = Maglev::build((0..4).map(address), &weights);
        let entries = |of: u32| maglev.entries.iter().filter(|entry| **entry == of).count();
        // 401 entries: weights far too light for one take none, the others two thirds and one.
        assert_eq!([entries(0), entries(1)], [0, 0]);
        assert!((266..=269).contains(&entries(2)), "{}", entries(2));
    }
}
