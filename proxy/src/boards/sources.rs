//! The sources board: how many connections each client address has at a gateway, and how fast it makes them. Looked at once a
//! connection, at accept, and only at gateways that limit sources.
//!
//! 64 parts, each with a lock of its own. An address has an entry only while it has a connection or its bucket is not full, so
//! that a flood of addresses takes a bounded memory: idle entries are at most [`IDLE_MAX`], and the oldest of them leave first.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rate;

/// Parts of the board.
const PARTS: usize = 64;
/// Entries without a connection, in the process.
pub(crate) const IDLE_MAX: usize = 65_536;
const IDLE_MAX_A_PART: usize = IDLE_MAX / PARTS;

/// The limits of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceLimits {
    /// Connections at a time; `None`: no limit.
    pub(crate) connections: Option<u64>,
    /// Connections a second; `None`: no limit.
    pub(crate) per_second: Option<u64>,
}

impl SourceLimits {
    /// Whether sources are limited at all.
    pub(crate) fn is_any(self) -> bool {
        self != Self::default()
    }
}

/// A source at a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// The gateway's number.
    gateway: u32,
    /// The address, as [`subject`] has it.
    address: [u8; 16],
}

/// The address that limits are about: IPv4 in full, IPv6 by its /64, which one client has for itself.
fn subject(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).octets(),
    }
}

#[derive(Debug, Default)]
struct Entry {
    connections: u32,
    /// It stands in its part's queue of idle entries.
    is_queued: bool,
    /// When its bucket is full, in nanoseconds of the monotonic clock.
    full_at: u64,
}

#[derive(Debug)]
struct Part {
    entries: HashMap<Key, Entry>,
    /// Entries that had no connection when they were put here, oldest first, with the time at which their bucket was to be full then.
    /// Some may have a connection again, or have had one since.
    idle: VecDeque<(Key, u64)>,
}

/// See the file's opening.
#[derive(Debug)]
pub(crate) struct Sources {
    parts: Vec<Mutex<Part>>,
    /// Seeded, so that clients cannot choose their part.
    hasher: RandomState,
}

impl Default for Sources {
    fn default() -> Self {
        // Each part's map has another seed: keys of one part have hashes here that end alike.
        let part = || Part { entries: HashMap::default(), idle: VecDeque::new() };
        Self { parts: (0..PARTS).map(|_| Mutex::new(part())).collect(), hasher: RandomState::new() }
    }
}

/// A source's place for one connection, given back by dropping it.
#[derive(Debug)]
pub(crate) struct SourcePlace {
    sources: Arc<Sources>,
    key: Key,
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        self.sources.part(self.key).leave(self.key);
    }
}

impl Sources {
    /// Reserves a place for a connection of this source; `None`: one of its limits is reached. `now`: nanoseconds of the monotonic
    /// clock.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        gateway: u32,
        source: IpAddr,
        limits: SourceLimits,
        now: u64,
    ) -> Option<SourcePlace> {
        let key = Key { gateway, address: subject(source) };
        self.part(key).enter(key, limits, now).then(|| SourcePlace { sources: Arc::clone(self), key })
    }

    /// Forgets entries without a connection whose bucket is full, in some of the parts: `turn` counts the calls.
    pub(crate) fn sweep(&self, turn: usize, now: u64) {
        const AT_ONCE: usize = 16;
        for index in 0..AT_ONCE {
            self.lock((turn * AT_ONCE + index) % PARTS).sweep(now);
        }
    }

    /// How many entries each gateway has.
    pub(crate) fn kept(&self) -> HashMap<u32, u64> {
        let mut kept = HashMap::new();
        for part in 0..PARTS {
            for key in self.lock(part).entries.keys() {
                *kept.entry(key.gateway).or_default() += 1;
            }
        }
        kept
    }

    fn part(&self, key: Key) -> MutexGuard<'_, Part> {
        self.lock(self.hasher.hash_one(key) as usize % PARTS)
    }

    fn lock(&self, index: usize) -> MutexGuard<'_, Part> {
        self.parts[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn enter(&mut self, key: Key, limits: SourceLimits, now: u64) -> bool {
        let entry = self.entries.entry(key).or_default();
        if limits.connections.is_some_and(|maximum| u64::from(entry.connections) >= maximum) {
            return false;
        }
        if let Some(per_second) = limits.per_second {
            match rate::take(entry.full_at, per_second, now) {
                Some(full_at) => entry.full_at = full_at,
                None => return false,
            }
        }
        entry.connections += 1;
        true
    }

    fn leave(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        debug_assert!(entry.connections > 0, "a source's place was given back twice");
        entry.connections -= 1;
        if entry.connections > 0 {
            return;
        }
        if entry.full_at == 0 {
            // Its rate was never limited.
            self.forget(key);
        } else if !entry.is_queued {
            entry.is_queued = true;
            self.idle.push_back((key, entry.full_at));
            while self.idle.len() > IDLE_MAX_A_PART {
                self.forget_oldest();
            }
        }
    }

    /// Takes the first one out of the queue, and forgets it if it has been idle since it was put there.
    fn forget_oldest(&mut self) {
        let Some((key, full_at)) = self.idle.pop_front() else { return };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.is_queued = false;
        if entry.connections > 0 {
            return;
        }
        if entry.full_at == full_at {
            self.entries.remove(&key);
        } else {
            entry.is_queued = true;
            self.idle.push_back((key, entry.full_at));
        }
    }

    fn forget(&mut self, key: Key) {
        // One that is queued leaves with its turn in the queue.
        if self.entries.get(&key).is_some_and(|entry| !entry.is_queued) {
            self.entries.remove(&key);
        }
    }

    fn sweep(&mut self, now: u64) {
        let entries = &mut self.entries;
        self.idle.retain(|(key, _)| {
            let Some(entry) = entries.get_mut(key) else { return false };
            entry.is_queued = entry.connections == 0 && entry.full_at > now;
            if entry.connections == 0 && !entry.is_queued {
                entries.remove(key);
                return false;
            }
            entry.is_queued
        });
        let (held, queued) = (self.entries.len(), self.idle.len());
        if self.entries.capacity() > 4 * held.max(16) {
            self.entries.shrink_to(2 * held);
        }
        if self.idle.capacity() > 4 * queued.max(16) {
            self.idle.shrink_to(2 * queued);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limits(connections: u64, per_second: u64) -> SourceLimits {
        let some = |limit: u64| (limit > 0).then_some(limit);
        SourceLimits { connections: some(connections), per_second: some(per_second) }
    }

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    impl Sources {
        fn len(&self) -> usize {
            self.kept().values().sum::<u64>() as usize
        }

        fn bytes(&self) -> usize {
            let one = size_of::<(Key, Entry)>() + 1;
            (0..PARTS)
                .map(|part| self.lock(part))
                .map(|part| {
                    part.entries.capacity() * 8 / 7 * one + part.idle.capacity() * size_of::<(Key, u64)>()
                })
                .sum()
        }
    }

    #[test]
    fn a_source_is_an_address_or_a_network_of_ipv6() {
        let same = |one: &str, other: &str| {
            let subjects = [one, other].map(|text| subject(text.parse().expect("an address")));
            subjects[0] == subjects[1]
        };
        assert!(same("10.0.0.1", "::ffff:10.0.0.1"));
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::"));
        for (one, other) in
            [("10.0.0.1", "10.0.0.2"), ("2001:db8:1:2::1", "2001:db8:1:3::1"), ("::1", "1::1")]
        {
            assert!(!same(one, other), "{one} and {other}");
        }
    }

    #[test]
    fn connections_are_counted_by_source_and_gateway() {
        let sources: Arc<Sources> = Arc::default();
        let two = limits(2, 0);
        let first = sources.reserve(1, v4(1), two, 0).expect("the first");
        let _second = sources.reserve(1, v4(1), two, 0).expect("the second");
        assert!(sources.reserve(1, v4(1), two, 0).is_none(), "a third");
        assert!(sources.reserve(1, v4(2), two, 0).is_some(), "of another source");
        assert!(sources.reserve(2, v4(1), two, 0).is_some(), "at another gateway");
        assert!(sources.reserve(1, v4(1), limits(3, 0), 0).is_some(), "after a reload raised the limit");
        drop(first);
        assert!(sources.reserve(1, v4(1), two, 0).is_some(), "after one has ended");
        assert_eq!(
            sources.kept(),
            [(1, 1)].into(),
            "what has no connection and no rate is forgotten at once"
        );
    }

    #[test]
    fn rates_hold_for_a_source_that_comes_and_goes() {
        let sources: Arc<Sources> = Arc::default();
        let three = limits(0, 3);
        let let_in = |now: u64| (0..10).filter(|_| sources.reserve(1, v4(1), three, now).is_some()).count();
        assert_eq!(let_in(SECOND), 3);
        assert_eq!(let_in(SECOND + SECOND / 10), 0);
        assert_eq!(let_in(SECOND + SECOND / 2), 1);
        (0..4).for_each(|turn| sources.sweep(turn, 2 * SECOND));
        assert_eq!(sources.len(), 1, "its bucket is not full");
        (0..4).for_each(|turn| sources.sweep(turn, 4 * SECOND));
        assert_eq!(sources.len(), 0);
        assert_eq!(let_in(4 * SECOND), 3);
    }

    /// Against a map that forgets nothing, with few sources, so that none is evicted.
    #[test]
    fn it_agrees_with_a_map_that_forgets_nothing() {
        let mut rng = fastrand::Rng::with_seed(3);
        let sources: Arc<Sources> = Arc::default();
        let mut model: HashMap<u32, (u64, u64)> = HashMap::new();
        let mut held: Vec<(u32, SourcePlace)> = Vec::new();
        let mut now = SECOND;
        for step in 0..200_000 {
            now += rng.u64(0..2_000_000);
            let source = rng.u32(0..300);
            if rng.u8(..) < 120 && !held.is_empty() {
                let (source, place) = held.swap_remove(rng.usize(..held.len()));
                drop(place);
                model.get_mut(&source).expect("known").0 -= 1;
            } else {
                let (connections, full_at) = model.entry(source).or_default();
                let then = rate::take(*full_at, 5, now);
                let wanted = *connections < 4 && then.is_some();
                let place = sources.reserve(9, v4(source), limits(4, 5), now);
                assert_eq!(
                    place.is_some(),
                    wanted,
                    "step {step}: {connections} connections, full at {full_at}"
                );
                if let Some(place) = place {
                    *connections += 1;
                    *full_at = then.expect("wanted");
                    held.push((source, place));
                }
            }
            if step % 1_000 == 0 {
                sources.sweep(step / 1_000, now);
            }
        }
    }

    #[test]
    fn a_flood_of_sources_takes_a_bounded_memory_and_gives_it_back() {
        let sources: Arc<Sources> = Arc::default();
        let mut held = VecDeque::new();
        let mut refused = 0;
        for number in 0..1_000_000_u32 {
            let now = SECOND + u64::from(number) * 10_000;
            match sources.reserve(1, v4(number), limits(10, 1), now) {
                Some(place) => held.push_back(place),
                None => refused += 1,
            }
            if held.len() > 10_000 {
                held.pop_front();
            }
            if number % 100_000 == 0 {
                sources.sweep(number as usize / 100_000, now);
            }
        }
        assert_eq!(refused, 0, "each is its first");
        assert!(sources.len() <= 10_001 + IDLE_MAX, "{} entries", sources.len());
        assert!(sources.bytes() <= 32 << 20, "{} bytes", sources.bytes());
        held.clear();
        let later = 16 * SECOND;
        (0..4).for_each(|turn| sources.sweep(turn, later));
        assert_eq!(sources.len(), 0);
        assert!(sources.bytes() <= 1 << 20, "{} bytes are kept", sources.bytes());
    }

    /// A source that keeps coming is not the longest idle one, so its account outlives a flood of others.
    #[test]
    fn a_flood_of_others_gains_a_source_nothing() {
        let sources: Arc<Sources> = Arc::default();
        let (mut let_in, mut now) = (0, SECOND);
        for number in 0..400_000_u32 {
            now += 10_000;
            drop(sources.reserve(1, v4(1_000 + number), limits(0, 1), now));
            if number % 100 == 0 {
                let_in += u32::from(sources.reserve(1, v4(1), limits(0, 5), now).is_some());
            }
        }
        // Four seconds at five a second, and one second's worth at first.
        assert!((24..=26).contains(&let_in), "{let_in} connections");
    }

    #[test]
    fn four_threads_never_exceed_a_sources_limit_and_give_everything_back() {
        let sources: Arc<Sources> = Arc::default();
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let sources = &sources;
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed);
                    let mut held: Vec<SourcePlace> = Vec::new();
                    for _ in 0..50_000 {
                        if rng.bool() {
                            held.extend(sources.reserve(1, v4(rng.u32(0..3)), limits(7, 0), 0));
                        } else {
                            held.pop();
                        }
                        assert!(held.len() <= 21, "three sources have at most seven each");
                    }
                });
            }
        });
        assert_eq!(sources.len(), 0);
    }
}
