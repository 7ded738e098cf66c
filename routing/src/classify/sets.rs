//! Sets of blocks, made to be intersected: each is a bit set that many classes share (its base) and a short sorted list of
//! the blocks that the class holds beyond it. So 100,000 prefixes inside one network that thousands of rules name cost that network's
//! bit set once, and a few numbers each.

use std::collections::HashMap;

/// A class whose list would be longer gets a bit set instead.
pub(super) const LIST_MAX: usize = 16;

/// The base of a class that holds nothing but its list and the blocks without a condition in its dimension.
pub(super) const WILD: u32 = 0;

/// A set of blocks: those of the bit set `base` and a list. The blocks without a condition in its dimension are in every
/// class; a base has them, and without one ([`WILD`]) the classifier adds them.
///
/// Small, for a leaf of `ranges` has one in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// The base, and in the last bits how long the list is.
    base_and_len: u32,
    /// The list itself if it is one block, else where it begins.
    list: u32,
}

const LEN_BITS: u32 = 5;
const _: () = assert!(LIST_MAX < 1 << LEN_BITS);

impl Class {
    /// Only the blocks without a condition.
    pub(super) const NONE: Self = Self::new(WILD, 0, 0);

    const fn new(base: u32, len: u32, list: u32) -> Self {
        assert!(base < 1 << (u32::BITS - LEN_BITS), "more bit sets than any memory holds");
        Self { base_and_len: base << LEN_BITS | len, list }
    }

    #[inline]
    pub(super) fn base(self) -> u32 {
        self.base_and_len >> LEN_BITS
    }

    fn len(self) -> u32 {
        self.base_and_len & ((1 << LEN_BITS) - 1)
    }
}

/// The bit sets and lists that classes are made of.
#[derive(Clone, Debug)]
pub(super) struct Sets {
    summary_len: usize,
    words_len: usize,
    /// Bit sets one after the other: first a summary (a bit for each word that is not zero), then the words. The first
    /// is the base of no class.
    bits: Vec<u64>,
    /// The lists, each sorted.
    members: Vec<u32>,
}

/// One bit set.
#[derive(Clone, Copy)]
pub(super) struct BitSet<'a> {
    pub(super) summary: &'a [u64],
    pub(super) words: &'a [u64],
}

impl Sets {
    /// No sets yet, of `blocks` bits each.
    pub(super) fn new(blocks: usize) -> Self {
        // At least a word, so that sets have numbers even where there are no blocks.
        let words_len = blocks.div_ceil(64).max(1);
        Self { summary_len: words_len.div_ceil(64), words_len, bits: Vec::new(), members: Vec::new() }
    }

    /// A new bit set of `blocks`.
    pub(super) fn push(&mut self, blocks: impl IntoIterator<Item = u32>) -> u32 {
        let start = self.bits.len();
        self.bits.resize(start + self.stride(), 0);
        self.fill(start, blocks)
    }

    /// A new bit set of all that `from` has, and `blocks`.
    fn push_onto(&mut self, from: u32, blocks: impl IntoIterator<Item = u32>) -> u32 {
        let (start, from) = (self.bits.len(), self.start(from));
        self.bits.extend_from_within(from..from + self.stride());
        self.fill(start, blocks)
    }

    fn fill(&mut self, start: usize, blocks: impl IntoIterator<Item = u32>) -> u32 {
        for block in blocks {
            let word = block as usize / 64;
            self.bits[start + word / 64] |= 1 << (word % 64);
            self.bits[start + self.summary_len + word] |= 1 << (block % 64);
        }
        (start / self.stride()) as u32
    }

    fn stride(&self) -> usize {
        self.summary_len + self.words_len
    }

    fn start(&self, set: u32) -> usize {
        set as usize * self.stride()
    }

    pub(super) fn get(&self, set: u32) -> BitSet<'_> {
        let (summary, words) = self.bits[self.start(set)..][..self.stride()].split_at(self.summary_len);
        BitSet { summary, words }
    }

    /// The list of a class.
    #[inline]
    pub(super) fn list<'a>(&'a self, class: &'a Class) -> &'a [u32] {
        match class.len() {
            1 => std::slice::from_ref(&class.list),
            len => &self.members[class.list as usize..][..len as usize],
        }
    }

    /// Whether a class has a block, which has a condition in its dimension.
    pub(super) fn contains(&self, class: Class, block: u32) -> bool {
        self.list(&class).contains(&block) || self.base_contains(class.base(), block)
    }

    fn base_contains(&self, base: u32, block: u32) -> bool {
        let word = || self.bits[self.start(base) + self.summary_len + block as usize / 64];
        base != WILD && word() >> (block % 64) & 1 == 1
    }

    pub(super) fn shrink(&mut self) {
        self.bits.shrink_to_fit();
        self.members.shrink_to_fit();
    }

    pub(super) fn bytes(&self) -> usize {
        self.bits.capacity() * size_of::<u64>() + self.members.capacity() * size_of::<u32>()
    }
}

/// Makes the classes of one dimension. Equal sets are kept once.
pub(super) struct ClassBuilder<'s> {
    sets: &'s mut Sets,
    /// The bit set of the dimension's blocks without a condition, which [`WILD`] stands for here.
    wild: u32,
    classes: HashMap<(u32, Box<[u32]>), Class>,
    bases: HashMap<(u32, Box<[u32]>), u32>,
}

impl<'s> ClassBuilder<'s> {
    pub(super) fn new(sets: &'s mut Sets, wild: u32) -> Self {
        Self { sets, wild, classes: HashMap::new(), bases: HashMap::new() }
    }

    /// The class that holds `base` and `list`; the list is sorted and short.
    pub(super) fn class(&mut self, base: u32, list: &[u32]) -> Class {
        debug_assert!(list.len() <= LIST_MAX && list.is_sorted());
        let members = &mut self.sets.members;
        let len = list.len() as u32;
        match list {
            [] => Class::new(base, 0, 0),
            [block] => Class::new(base, 1, *block),
            list => *self.classes.entry((base, list.into())).or_insert_with(|| {
                let start = members.len() as u32;
                members.extend_from_slice(list);
                Class::new(base, len, start)
            }),
        }
    }

    /// The class that holds `blocks`, however many.
    pub(super) fn class_of(&mut self, mut blocks: Vec<u32>) -> Class {
        blocks.sort_unstable();
        blocks.dedup();
        if blocks.len() <= LIST_MAX {
            return self.class(WILD, &blocks);
        }
        let base = self.base(WILD, &blocks);
        self.class(base, &[])
    }

    /// A bit set of `base` and `blocks`.
    pub(super) fn base(&mut self, base: u32, blocks: &[u32]) -> u32 {
        let from = if base == WILD { self.wild } else { base };
        let sets = &mut *self.sets;
        let new = || sets.push_onto(from, blocks.iter().copied());
        *self.bases.entry((base, blocks.into())).or_insert_with(new)
    }

    /// Whether the bit set `base` has `block`, which has a condition in this dimension.
    pub(super) fn base_contains(&self, base: u32, block: u32) -> bool {
        self.sets.base_contains(base, block)
    }
}
