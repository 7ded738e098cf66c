//! One timer per slot, in a hierarchical wheel of 10 ms ticks. Never early: a deadline is rounded up to the next tick.
//!
//! Activity does not touch the wheel: a session that moves bytes writes a timestamp, and when its timer fires it is set again. So
//! setting an earlier deadline moves a timer, and setting a later one leaves it where it is.

use crate::clock::Millis;

/// Granularity: coarse enough that a turn rarely wakes for one timer alone, fine enough for the 20 ms that users are promised.
const TICK: u64 = 10;
/// Buckets a level: one word of a bitmap.
const WIDTH: u64 = 64;
/// 64^4 ticks of 10 ms: 46 hours. Deadlines beyond wait in the last level and are set again from there.
const LEVELS: usize = 4;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    tick: u64,
    next: u32,
    previous: u32,
    /// Level * WIDTH + bucket, or NONE: not set.
    bucket: u32,
}

const UNSET: Node = Node { tick: 0, next: NONE, previous: NONE, bucket: NONE };

/// The wheel. Slots are small integers, as of a slab.
pub(crate) struct Wheel {
    /// Ticks served so far.
    now: u64,
    heads: [u32; LEVELS * WIDTH as usize],
    occupied: [u64; LEVELS],
    nodes: Vec<Node>,
}

impl Wheel {
    /// A wheel that begins at `now`.
    pub(crate) fn new(now: Millis) -> Self {
        Self {
            now: now.0 / TICK,
            heads: [NONE; LEVELS * WIDTH as usize],
            occupied: [0; LEVELS],
            nodes: Vec::new(),
        }
    }

    /// Makes the slot fire at the deadline, or earlier if it was set to earlier.
    pub(crate) fn set(&mut self, slot: u32, deadline: Millis) {
        let index = slot as usize;
        if index >= self.nodes.len() {
            self.nodes.resize(index + 1, UNSET);
        }
        let tick = deadline.0.div_ceil(TICK).max(self.now + 1);
        let node = self.nodes[index];
        if node.bucket != NONE {
            if node.tick <= tick {
                return;
            }
            self.unlink(slot);
        }
        self.link(slot, tick);
    }

    /// The slot fires no more.
    pub(crate) fn clear(&mut self, slot: u32) {
        if self.nodes.get(slot as usize).is_some_and(|node| node.bucket != NONE) {
            self.unlink(slot);
        }
    }

    /// Takes out every slot whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Millis, fired: &mut Vec<u32>) {
        let target = now.0 / TICK;
        while self.now < target {
            // Nothing lies between here and the next occupied bucket: a process that was stopped for an hour does not count ticks.
            let next = self.next_tick().map_or(target, |next| next.min(target));
            self.now = next.max(self.now + 1);
            for level in (1..LEVELS).rev() {
                let span = WIDTH.pow(level as u32);
                if self.now.is_multiple_of(span) {
                    self.cascade(level, self.now / span % WIDTH);
                }
            }
            let bucket = (self.now % WIDTH) as u32;
            while self.heads[bucket as usize] != NONE {
                let slot = self.heads[bucket as usize];
                self.unlink(slot);
                fired.push(slot);
            }
        }
    }

    /// When to look again: at or before the earliest deadline. `None`: nothing is set.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.next_tick().map(|tick| Millis(tick * TICK))
    }

    /// The earliest tick at which a bucket must be served or moved down.
    fn next_tick(&self) -> Option<u64> {
        (0..LEVELS)
            .filter_map(|level| {
                let span = WIDTH.pow(level as u32);
                let here = self.now / span;
                // Buckets after the present one come first; the present one itself is a full round away.
                let ahead = self.occupied[level].rotate_right(((here + 1) % WIDTH) as u32);
                (ahead != 0).then(|| (here + 1 + u64::from(ahead.trailing_zeros())) * span)
            })
            .min()
    }

    fn cascade(&mut self, level: usize, bucket: u64) {
        let index = level * WIDTH as usize + bucket as usize;
        let mut slot = std::mem::replace(&mut self.heads[index], NONE);
        self.occupied[level] &= !(1 << bucket);
        while slot != NONE {
            let node = std::mem::replace(&mut self.nodes[slot as usize], UNSET);
            self.link(slot, node.tick);
            slot = node.next;
        }
    }

    fn link(&mut self, slot: u32, tick: u64) {
        let distance = tick - self.now;
        let level =
            (0..LEVELS - 1).find(|&level| distance < WIDTH.pow(level as u32 + 1)).unwrap_or(LEVELS - 1);
        let span = WIDTH.pow(level as u32);
        // Beyond the last level: its farthest bucket, from where it is linked anew.
        let place = (tick / span).min(self.now / span + WIDTH - 1);
        let bucket = level as u32 * WIDTH as u32 + (place % WIDTH) as u32;
        let next = std::mem::replace(&mut self.heads[bucket as usize], slot);
        if next != NONE {
            self.nodes[next as usize].previous = slot;
        }
        self.nodes[slot as usize] = Node { tick, next, previous: NONE, bucket };
        self.occupied[level] |= 1 << (place % WIDTH);
    }

    fn unlink(&mut self, slot: u32) {
        let node = std::mem::replace(&mut self.nodes[slot as usize], UNSET);
        if node.next != NONE {
            self.nodes[node.next as usize].previous = node.previous;
        }
        if node.previous != NONE {
            self.nodes[node.previous as usize].next = node.next;
        } else {
            self.heads[node.bucket as usize] = node.next;
            if node.next == NONE {
                self.occupied[(node.bucket as u64 / WIDTH) as usize] &=
                    !(1 << (u64::from(node.bucket) % WIDTH));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Near and far alike: below 2^n for a random n.
    fn far(rng: &mut fastrand::Rng, bits: u32) -> u64 {
        let bits = rng.u32(1..bits);
        rng.u64(0..1 << bits)
    }

    /// Against a map from slot to deadline: fires exactly what is due, never early, never more than a tick late.
    #[test]
    fn agrees_with_a_sorted_map_over_random_operations() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut now = Millis(rng.u64(0..1 << 40));
            let mut wheel = Wheel::new(now);
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for _ in 0..2_000 {
                match rng.u8(0..4) {
                    0 | 1 => {
                        let slot = rng.u32(0..50);
                        let deadline = now.0 + far(&mut rng, 32);
                        let entry = model.entry(slot).or_insert(u64::MAX);
                        *entry = (*entry).min(deadline);
                        wheel.set(slot, Millis(deadline));
                    }
                    2 => {
                        let slot = rng.u32(0..50);
                        model.remove(&slot);
                        wheel.clear(slot);
                    }
                    _ => {
                        now.0 += far(&mut rng, 30);
                        let mut fired = Vec::new();
                        wheel.expire(now, &mut fired);
                        for slot in fired {
                            let deadline = model.remove(&slot).expect("fired what was set");
                            assert!(deadline <= now.0, "seed {seed}: early");
                        }
                        let due = now.0.saturating_sub(2 * TICK);
                        assert!(model.values().all(|&deadline| deadline > due), "seed {seed}: late");
                        if let Some(&earliest) = model.values().min() {
                            let next = wheel.next().expect("something is set");
                            assert!(
                                next.0 <= earliest.div_ceil(TICK).max(now.0 / TICK + 1) * TICK,
                                "seed {seed}: slept over"
                            );
                        } else {
                            assert_eq!(wheel.next(), None, "seed {seed}");
                        }
                    }
                }
            }
        }
    }
}
