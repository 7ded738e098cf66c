//! The pattern itself: `word = mix(connection, way, index)`, a bijection, so that a word carries its origin.
//!
//! Words are little endian, one for each 8 bytes of a connection's stream in one direction, and `index` is the stream offset
//! divided by 8. Pieces may begin and end inside a word.

use std::ops::Range;

use crate::settings::Verify;

/// Bytes of a word.
pub const WORD: usize = 8;
/// Connections have ids below this: they share a word's 64 bits with the way and the index.
pub const CONNECTIONS: u32 = 1 << 24;
/// Where [`Verify::Stamp`] looks: at each multiple of this many bytes of the stream ...
pub const STRIDE: usize = 4096;
/// ... at this many bytes, two words, which vouch for each other.
pub const STAMP: usize = 2 * WORD;

const WAY_BIT: u32 = 39;
const CONNECTION_BIT: u32 = 40;
const INDEX_MASK: u64 = (1 << WAY_BIT) - 1;

const _: () = assert!(CONNECTION_BIT + CONNECTIONS.trailing_zeros() == u64::BITS);
const _: () = assert!(STRIDE.is_multiple_of(WORD));

/// Which way the bytes of a stream go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

impl Way {
    /// The opposite one.
    pub fn opposite(self) -> Way {
        match self {
            Way::Up => Way::Down,
            Way::Down => Way::Up,
        }
    }

    /// "up" or "down".
    pub fn name(self) -> &'static str {
        match self {
            Way::Up => "up",
            Way::Down => "down",
        }
    }
}

// The finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): each step can be
// undone. The increment goes first, or word 0 of connection 0 would be eight zeros, which any cleared buffer holds.
const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;
const FIRST: u64 = 0xbf58_476d_1ce4_e5b9;
const SECOND: u64 = 0x94d0_49bb_1331_11eb;
const FIRST_INVERSE: u64 = inverse(FIRST);
const SECOND_INVERSE: u64 = inverse(SECOND);

/// The multiplicative inverse modulo 2^64 of an odd number, by Newton: each step doubles the bits that are right.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut step = 0;
    while step < 5 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

#[inline]
const fn mix(key: u64) -> u64 {
    let x = key.wrapping_add(INCREMENT);
    let x = (x ^ (x >> 30)).wrapping_mul(FIRST);
    let x = (x ^ (x >> 27)).wrapping_mul(SECOND);
    x ^ (x >> 31)
}

#[inline]
const fn unmix(word: u64) -> u64 {
    let x = word ^ (word >> 31) ^ (word >> 62);
    let x = x.wrapping_mul(SECOND_INVERSE);
    let x = x ^ (x >> 27) ^ (x >> 54);
    let x = x.wrapping_mul(FIRST_INVERSE);
    let x = x ^ (x >> 30) ^ (x >> 60);
    x.wrapping_sub(INCREMENT)
}

#[inline]
fn key(connection: u32, way: Way, index: u64) -> u64 {
    debug_assert!(connection < CONNECTIONS, "connection ids are below {CONNECTIONS}");
    u64::from(connection) << CONNECTION_BIT | (way as u64) << WAY_BIT | (index & INDEX_MASK)
}

/// The word at `index` of a stream.
#[inline]
pub fn word(connection: u32, way: Way, index: u64) -> u64 {
    mix(key(connection, way, index))
}

/// The origin of a word, if it is one of ours: the inverse of [`word`]. Any 64 bits come from somewhere, so it takes a second
/// word, or an index that makes sense, to believe it.
#[inline]
pub fn origin(word: u64) -> (u32, Way, u64) {
    let key = unmix(word);
    let way = if key >> WAY_BIT & 1 == 0 { Way::Up } else { Way::Down };
    ((key >> CONNECTION_BIT) as u32, way, key & INDEX_MASK)
}

/// Cuts `length` bytes at `offset` into the rest of a word, whole words, and the beginning of a word.
fn pieces(offset: u64, length: usize) -> (usize, usize) {
    let head = ((WORD as u64 - offset % WORD as u64) % WORD as u64) as usize;
    let head = head.min(length);
    (head, (length - head) / WORD * WORD)
}

/// The bytes of the word that holds `offset`, from there on.
fn partial(connection: u32, way: Way, offset: u64) -> impl Iterator<Item = u8> {
    let bytes = word(connection, way, offset / WORD as u64).to_le_bytes();
    bytes.into_iter().skip((offset % WORD as u64) as usize)
}

/// Writes the stream's bytes from `offset` on.
pub fn fill(bytes: &mut [u8], connection: u32, way: Way, offset: u64) {
    let (head, body) = pieces(offset, bytes.len());
    let (start, rest) = bytes.split_at_mut(head);
    let (middle, end) = rest.split_at_mut(body);
    for (byte, wanted) in start.iter_mut().zip(partial(connection, way, offset)) {
        *byte = wanted;
    }
    let first = (offset + head as u64) / WORD as u64;
    for (index, bytes) in (first..).zip(middle.as_chunks_mut::<WORD>().0) {
        *bytes = word(connection, way, index).to_le_bytes();
    }
    for (byte, wanted) in end.iter_mut().zip(partial(connection, way, offset + (head + body) as u64)) {
        *byte = wanted;
    }
}

/// Writes those bytes of [`fill`] that a check at this level looks at. Between stamps it leaves zeros, so that no stamp of
/// another place, left over in a buffer, is taken for one that was sent there.
pub fn fill_for(verify: Verify, bytes: &mut [u8], connection: u32, way: Way, offset: u64) {
    match verify {
        Verify::Off => {}
        Verify::Full => fill(bytes, connection, way, offset),
        Verify::Stamp => {
            bytes.fill(0);
            for range in stamps(offset, bytes.len()) {
                let at = offset + range.start as u64;
                fill(&mut bytes[range], connection, way, at);
            }
        }
    }
}

/// Which of `length` bytes from `offset` on belong to stamps.
pub fn stamps(offset: u64, length: usize) -> impl Iterator<Item = Range<usize>> {
    let into = (offset % STRIDE as u64) as usize;
    let begun = (into < STAMP).then(|| 0..(STAMP - into).min(length));
    let first = if into == 0 { STRIDE } else { STRIDE - into };
    let later = (first..length).step_by(STRIDE).map(move |start| start..(start + STAMP).min(length));
    begun.into_iter().chain(later)
}

/// Where the first byte is that differs from those of [`fill`].
pub fn mismatch(bytes: &[u8], connection: u32, way: Way, offset: u64) -> Option<usize> {
    let (head, body) = pieces(offset, bytes.len());
    let (start, rest) = bytes.split_at(head);
    let (middle, end) = rest.split_at(body);
    differs(start, connection, way, offset)
        .or_else(|| differs_in_words(middle, connection, way, offset + head as u64).map(|at| head + at))
        .or_else(|| differs(end, connection, way, offset + (head + body) as u64).map(|at| head + body + at))
}

/// [`mismatch`] of a piece of one word.
fn differs(bytes: &[u8], connection: u32, way: Way, offset: u64) -> Option<usize> {
    bytes.iter().zip(partial(connection, way, offset)).position(|(&found, wanted)| found != wanted)
}

/// [`mismatch`] of whole words. Differences of a block are gathered without a branch, because there hardly ever is one.
fn differs_in_words(bytes: &[u8], connection: u32, way: Way, offset: u64) -> Option<usize> {
    const BLOCK: usize = 32;
    let words = bytes.as_chunks::<WORD>().0;
    let mut index = offset / WORD as u64;
    for (number, block) in words.chunks(BLOCK).enumerate() {
        let difference = (index..)
            .zip(block)
            .fold(0, |all, (index, bytes)| all | (u64::from_le_bytes(*bytes) ^ word(connection, way, index)));
        if difference != 0 {
            let (at, bits) = (index..)
                .zip(block)
                .map(|(index, bytes)| u64::from_le_bytes(*bytes) ^ word(connection, way, index))
                .enumerate()
                .find(|&(_, bits)| bits != 0)?;
            return Some((number * BLOCK + at) * WORD + bits.trailing_zeros() as usize / 8);
        }
        index += BLOCK as u64;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn way() -> impl Strategy<Value = Way> {
        prop_oneof![Just(Way::Up), Just(Way::Down)]
    }

    proptest! {
        #[test]
        fn a_word_carries_its_origin(connection in 0..CONNECTIONS, way in way(), index in 0..=INDEX_MASK) {
            prop_assert_eq!(origin(word(connection, way, index)), (connection, way, index));
        }

        #[test]
        fn pieces_of_any_length_are_those_of_the_whole(
            connection in 0..CONNECTIONS, way in way(), offset in 0u64..1 << 41, length in 0usize..300, cut in 0usize..300,
        ) {
            let mut whole = vec![0; length];
            fill(&mut whole, connection, way, offset);
            for (at, &byte) in (offset..).zip(&whole) {
                let bytes = word(connection, way, at / 8).to_le_bytes();
                prop_assert_eq!(byte, bytes[(at % 8) as usize]);
            }
            let cut = cut.min(length);
            let mut rest = vec![0; length - cut];
            fill(&mut rest, connection, way, offset + cut as u64);
            prop_assert_eq!(&rest, &whole[cut..]);
        }

        #[test]
        fn the_first_wrong_byte_is_found(
            connection in 0..CONNECTIONS, way in way(), offset in 0u64..1 << 41, length in 1usize..700,
            wrong in prop::collection::vec(any::<prop::sample::Index>(), 0..3), bit in 0u8..8,
        ) {
            let mut bytes = vec![0; length];
            fill(&mut bytes, connection, way, offset);
            let wrong: std::collections::BTreeSet<usize> = wrong.iter().map(|at| at.index(length)).collect();
            for &at in &wrong {
                bytes[at] ^= 1u8 << bit;
            }
            prop_assert_eq!(mismatch(&bytes, connection, way, offset), wrong.first().copied());
        }

        #[test]
        fn stamps_are_the_first_bytes_of_each_stride(offset in 0u64..20_000, length in 0usize..20_000) {
            let mut covered = vec![false; length];
            for range in stamps(offset, length) {
                covered[range].fill(true);
            }
            for (at, covered) in (offset..).zip(covered) {
                prop_assert_eq!(covered, at % (STRIDE as u64) < STAMP as u64);
            }
        }
    }
}
