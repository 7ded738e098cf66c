//! Longest-prefix look-up, flat: nested prefixes cut the line of keys into intervals, and the class of an interval is worked
//! out when it is built, enclosing prefixes included. An index over equal stretches of the line between the first and the
//! last cut gives the place to begin, a binary search within the stretch does the rest: for prefixes that lie evenly that is one
//! cache line of the index and one of intervals, and never more steps than a search of them all.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use super::sets::{Class, ClassBuilder, LIST_MAX, WILD};

/// Bounds the index at 256 KiB: beyond that it would push out of a core's cache more than it saves.
const STRETCHES_MAX: usize = 1 << 16;

/// A key that is looked up: a port (`u16`), an IPv4 address (`u32`), an IPv6 address (`u128`).
pub(super) trait Key: Copy + Ord + Debug {
    const FIRST: Self;
    const LAST: Self;
    /// The last key whose first `length` bits are those of `self`.
    fn last_of(self, length: u8) -> Self;
    /// The next key; none after the last.
    fn next(self) -> Option<Self>;
    /// Which stretch this is in, of `1 << shift` keys each, the first at `low`; keys below `low` count as in the first.
    fn stretch(self, low: Self, shift: u32) -> usize;
    /// How many bits the distance from `low` has.
    fn distance_bits(self, low: Self) -> u32;
}

macro_rules! keys {
    ($($key:ty)*) => {$(
        impl Key for $key {
            const FIRST: Self = 0;
            const LAST: Self = Self::MAX;
            fn last_of(self, length: u8) -> Self {
                self | Self::MAX.checked_shr(length.into()).unwrap_or(0)
            }
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn stretch(self, low: Self, shift: u32) -> usize {
                usize::try_from(self.saturating_sub(low) >> shift).unwrap_or(usize::MAX)
            }
            fn distance_bits(self, low: Self) -> u32 {
                Self::BITS - self.saturating_sub(low).leading_zeros()
            }
        }
    )*};
}

keys! { u16 u32 u128 }

/// The class and the owner of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// The blocks that name a prefix around it.
    pub(super) class: Class,
    /// The owner of the longest prefix that has one (a workload, a VIP), or [`NO_OWNER`].
    pub(super) owner: u32,
}

/// No owner: an `Option` would make each leaf half as large again.
pub(super) const NO_OWNER: u32 = u32::MAX;

/// Who names a prefix, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    /// A condition of this block.
    Block(u32),
    /// It belongs to this owner; of two the first has it.
    Owner(u32),
}

/// A prefix and who names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix<K> {
    pub(super) first: K,
    pub(super) length: u8,
    pub(super) named: Named,
}

/// The intervals, and an index of them.
#[derive(Clone, Debug)]
pub(super) struct Ranges<K> {
    intervals: Vec<Interval<K>>,
    /// The interval that holds the first key of each stretch (of the first stretch: the first interval), and one that ends
    /// the last.
    index: Vec<u32>,
    /// Where the first stretch begins: the first cut.
    low: K,
    /// A stretch is `1 << shift` keys.
    shift: u32,
}

/// Key and leaf side by side: the leaf at which a search ends is then in the cache already.
#[derive(Clone, Copy, Debug)]
struct Interval<K> {
    first: K,
    leaf: Leaf,
}

impl<K: Key> Ranges<K> {
    /// The intervals of these prefixes.
    pub(super) fn build(mut prefixes: Vec<Prefix<K>>, classes: &mut ClassBuilder<'_>) -> Self {
        // Enclosing prefixes come before those that they enclose, and all names of one prefix stand together.
        prefixes.sort_unstable();
        prefixes.dedup();
        let mut sweep = Sweep::new(classes);
        for same in prefixes.chunk_by(|a, b| (a.first, a.length) == (b.first, b.length)) {
            sweep.enter(same);
        }
        Self::index(sweep.finish())
    }

    fn index(intervals: Vec<Interval<K>>) -> Self {
        let last = intervals.len() - 1;
        let low = intervals[last.min(1)].first;
        let stretches = intervals.len().next_power_of_two().min(STRETCHES_MAX);
        let shift = intervals[last].first.distance_bits(low).saturating_sub(stretches.ilog2());
        let mut index = vec![0];
        for (at, interval) in intervals.iter().enumerate().skip(1) {
            // Stretches up to that of this cut begin in the interval before it.
            index.resize(interval.first.stretch(low, shift) + 1, at as u32 - 1);
        }
        index.push(last as u32);
        Self { intervals, index, low, shift }
    }

    /// The interval of a key.
    #[inline]
    pub(super) fn leaf(&self, key: K) -> Leaf {
        // Keys above the last cut count as in the last stretch.
        let stretch = key.stretch(self.low, self.shift).min(self.index.len() - 2);
        let (from, to) = (self.index[stretch] as usize, self.index[stretch + 1] as usize);
        let cuts = &self.intervals[from + 1..=to];
        self.intervals[from + cuts.partition_point(|interval| interval.first <= key)].leaf
    }

    pub(super) fn bytes(&self) -> usize {
        self.intervals.capacity() * size_of::<Interval<K>>() + self.index.capacity() * size_of::<u32>()
    }
}

/// One pass over the sorted prefixes, with those around the present one on a stack.
struct Sweep<'s, 'b, K> {
    classes: &'s mut ClassBuilder<'b>,
    around: Vec<Frame<K>>,
    intervals: Vec<Interval<K>>,
}

/// A prefix that is open.
struct Frame<K> {
    last: K,
    /// The blocks that it holds, as a class does: enclosing prefixes included.
    base: u32,
    list: Vec<u32>,
    /// The blocks that it holds and the prefix around it does not.
    own: Vec<u32>,
    leaf: Leaf,
}

impl<'s, 'b, K: Key> Sweep<'s, 'b, K> {
    fn new(classes: &'s mut ClassBuilder<'b>) -> Self {
        let leaf = Leaf { class: Class::NONE, owner: NO_OWNER };
        let all = Frame { last: K::LAST, base: WILD, list: Vec::new(), own: Vec::new(), leaf };
        Self { classes, around: vec![all], intervals: vec![Interval { first: K::FIRST, leaf }] }
    }

    /// The next prefix, named by all of `same`.
    fn enter(&mut self, same: &[Prefix<K>]) {
        let Prefix { first, length, .. } = same[0];
        self.leave_before(Some(first));
        let parent = self.around.last().expect("the frame of all keys stays until the end");
        let mut owner = parent.leaf.owner;
        let mut own = Vec::new();
        for prefix in same.iter().rev() {
            match prefix.named {
                Named::Owner(named) => owner = named,
                Named::Block(block) if parent.list.binary_search(&block).is_ok() => {}
                Named::Block(block) if self.classes.base_contains(parent.base, block) => {}
                Named::Block(block) => own.push(block),
            }
        }
        own.reverse();
        let (base, list) = self.held_with(&own);
        let leaf = Leaf { class: self.classes.class(base, &list), owner };
        self.begin(first, leaf);
        self.around.push(Frame { last: first.last_of(length), base, list, own, leaf });
    }

    /// The set of a prefix that adds `own` to the innermost open one. Too much for a list goes into a bit set: of the
    /// outermost open prefix that leaves at most half a list beneath it, so that its other prefixes use the set too. Each set
    /// so stands for more than half a list of names, which bounds how many there are.
    fn held_with(&mut self, own: &[u32]) -> (u32, Vec<u32>) {
        let innermost = self.around.len() - 1;
        let parent = &self.around[innermost];
        if parent.list.len() + own.len() <= LIST_MAX {
            return (parent.base, merged(&parent.list, own));
        }
        if own.len() > LIST_MAX / 2 {
            return (self.classes.base(parent.base, &merged(&parent.list, own)), Vec::new());
        }
        let mut outer = innermost;
        let mut beneath = own.len();
        while beneath + self.around[outer].own.len() <= LIST_MAX / 2 {
            beneath += self.around[outer].own.len();
            outer -= 1;
        }
        let base = self.classes.base(self.around[outer].base, &self.around[outer].list);
        let mut list = Vec::new();
        self.around[outer].base = base;
        self.around[outer].list.clear();
        for frame in &mut self.around[outer + 1..] {
            list = merged(&list, &frame.own);
            frame.base = base;
            frame.list.clone_from(&list);
        }
        (base, merged(&list, own))
    }

    /// Closes the prefixes that end before `next`, all but that of all keys if there is none.
    fn leave_before(&mut self, next: Option<K>) {
        while self.around.len() > 1 {
            let last = self.around[self.around.len() - 1].last;
            if next.is_some_and(|next| next <= last) {
                return;
            }
            self.around.pop();
            if let Some(after) = last.next() {
                self.begin(after, self.around[self.around.len() - 1].leaf);
            }
        }
    }

    fn begin(&mut self, first: K, leaf: Leaf) {
        self.intervals.pop_if(|last| last.first == first);
        if self.intervals.last().is_none_or(|last| last.leaf != leaf) {
            self.intervals.push(Interval { first, leaf });
        }
    }

    fn finish(mut self) -> Vec<Interval<K>> {
        self.leave_before(None);
        self.intervals.shrink_to_fit();
        self.intervals
    }
}

/// Two sorted lists without a common member as one.
fn merged(left: &[u32], right: &[u32]) -> Vec<u32> {
    let mut all = [left, right].concat();
    all.sort_unstable();
    all
}

/// The prefixes that make up a range of ports, fewest first to last.
pub(super) fn prefixes_of(range: &RangeInclusive<u16>) -> impl Iterator<Item = (u16, u8)> {
    let last = u32::from(*range.end());
    let mut next = u32::from(*range.start());
    std::iter::from_fn(move || {
        if next > last {
            return None;
        }
        // The largest block that is aligned here and does not reach past the end.
        let aligned = next.trailing_zeros().min(16);
        let fits = (last - next + 1).ilog2();
        let bits = aligned.min(fits);
        let prefix = (next as u16, 16 - bits as u8);
        next += 1 << bits;
        Some(prefix)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sets::Sets;
    use super::*;

    const BLOCKS: u32 = 200;

    /// A few long nested chains and many names, so that lists overflow into bit sets.
    fn prefixes() -> impl Strategy<Value = Vec<Prefix<u16>>> {
        let named =
            prop_oneof![4 => (0..BLOCKS).prop_map(Named::Block), 1 => (0..4u32).prop_map(Named::Owner)];
        let length = prop_oneof![3 => 0..=16u8, 2 => 0..=4u8, 1 => Just(16)];
        prop::collection::vec((any::<u16>(), length, named), 0..400).prop_map(|all| {
            let masked = |(key, length, named): (u16, u8, Named)| {
                let mask = u16::MAX.checked_shl(u32::from(16 - length)).unwrap_or(0);
                Prefix { first: key & mask, length, named }
            };
            all.into_iter().map(masked).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_key_holds_what_its_prefixes_name(prefixes in prefixes()) {
            let mut sets = Sets::new(BLOCKS as usize);
            let wild = sets.push([]);
            let ranges = Ranges::build(prefixes.clone(), &mut ClassBuilder::new(&mut sets, wild));
            for key in (0..=u16::MAX).step_by(41).chain([u16::MAX]) {
                let leaf = ranges.leaf(key);
                let around = |prefix: &&Prefix<u16>| (prefix.first..=prefix.first.last_of(prefix.length)).contains(&key);
                let mut wanted: Vec<u32> = prefixes
                    .iter()
                    .filter(around)
                    .filter_map(|prefix| match prefix.named { Named::Block(block) => Some(block), Named::Owner(_) => None })
                    .collect();
                wanted.sort_unstable();
                wanted.dedup();
                let found: Vec<u32> = (0..BLOCKS).filter(|block| sets.contains(leaf.class, *block)).collect();
                prop_assert_eq!(found, wanted, "key {}", key);
                let owner = prefixes
                    .iter()
                    .filter(around)
                    .filter_map(|prefix| match prefix.named {
                        Named::Owner(owner) => Some((std::cmp::Reverse(prefix.length), owner)),
                        Named::Block(_) => None,
                    })
                    .min();
                prop_assert_eq!(leaf.owner, owner.map_or(NO_OWNER, |(_, owner)| owner), "key {}", key);
            }
        }

        #[test]
        fn prefixes_of_a_range_are_the_range(one: u16, other: u16) {
            let range = one.min(other)..=one.max(other);
            let prefixes: Vec<_> = prefixes_of(&range).collect();
            prop_assert!(prefixes.len() <= 30);
            let ports = prefixes.iter().flat_map(|(first, length)| *first..=first.last_of(*length));
            prop_assert!(ports.eq(range));
        }
    }
}
