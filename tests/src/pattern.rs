//! Streams whose bytes say where they belong: each eight are a word that carries connection, direction and position, mixed
//! by a bijection, so that a checker that finds the wrong byte can name the fault (lost, doubled, crossed or torn).

/// Which way a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the client to the upstream.
    Up,
    /// From the upstream to the client.
    Down,
}

/// The bytes of one direction of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Connections are numbered below 2^23.
    pub connection: u32,
    /// Which of its two streams.
    pub way: Way,
}

const WORD: usize = 8;
const MAGIC: u64 = 0xA7;
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
const INVERSE: u64 = inverse(FACTOR);

/// The inverse of an odd number modulo 2^64, by Newton's iteration: each round doubles the bits that are right, from 3.
const fn inverse(odd: u64) -> u64 {
    let mut guess = odd;
    let mut round = 0;
    while round < 5 {
        guess = guess.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(guess)));
        round += 1;
    }
    guess
}

fn mix(word: u64) -> u64 {
    let word = word.wrapping_mul(FACTOR);
    let word = (word ^ (word >> 32)).wrapping_mul(FACTOR);
    word ^ (word >> 32)
}

fn unmix(word: u64) -> u64 {
    let word = (word ^ (word >> 32)).wrapping_mul(INVERSE);
    (word ^ (word >> 32)).wrapping_mul(INVERSE)
}

impl Pattern {
    fn word(self, index: u64) -> [u8; WORD] {
        let way = u64::from(self.way == Way::Down);
        mix(MAGIC << 56 | u64::from(self.connection) << 33 | way << 32 | index).to_le_bytes()
    }

    /// Writes the bytes from `offset` on.
    pub fn fill(self, offset: u64, bytes: &mut [u8]) {
        let word = WORD as u64;
        let head = bytes.len().min(((word - offset % word) % word) as usize);
        let (first, rest) = bytes.split_at_mut(head);
        let skipped = (offset % word) as usize;
        first.copy_from_slice(&self.word(offset / word)[skipped.min(WORD - head)..][..head]);
        let start = offset.div_ceil(word);
        for (chunk, index) in rest.chunks_mut(WORD).zip(start..) {
            chunk.copy_from_slice(&self.word(index)[..chunk.len()]);
        }
    }

    /// Whether these bytes are those from `offset` on. Errors: which is the first that is not, and what stands there instead.
    pub fn check(self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let mut wanted = vec![0; bytes.len()];
        self.fill(offset, &mut wanted);
        if wanted == bytes {
            return Ok(());
        }
        let at = bytes.iter().zip(&wanted).position(|(have, want)| have != want).expect("they differ");
        let offset = offset + at as u64;
        Err(format!("{self:?}: wrong byte at {offset}: {}", self.diagnose(offset, &bytes[at..])))
    }

    /// What stands at `offset`, where something else should.
    fn diagnose(self, offset: u64, bytes: &[u8]) -> String {
        let Some((shift, pattern, index)) = (0..WORD).find_map(|shift| {
            let (pattern, index) = decode(bytes.get(shift..)?)?;
            Some((shift, pattern, index))
        }) else {
            return format!("torn or foreign bytes ({} were left to look at)", bytes.len());
        };
        let (here, there) = (offset + shift as u64, index * WORD as u64);
        if pattern != self {
            format!("crossed: these are bytes of {pattern:?} from {there} on")
        } else if there > here {
            format!("lost: {} bytes are missing", there - here)
        } else {
            format!("doubled: {} bytes again", here - there)
        }
    }
}

/// Which pattern, and which word of it, these bytes begin with: two words in a row must agree.
fn decode(bytes: &[u8]) -> Option<(Pattern, u64)> {
    let word = |at: usize| {
        let bytes: [u8; WORD] = bytes.get(at..at + WORD)?.try_into().ok()?;
        Some(unmix(u64::from_le_bytes(bytes)))
    };
    let (first, second) = (word(0)?, word(WORD)?);
    if first >> 56 != MAGIC || second != first + 1 {
        return None;
    }
    let way = if first >> 32 & 1 == 1 { Way::Down } else { Way::Up };
    Some((Pattern { connection: (first >> 33 & 0x7F_FFFF) as u32, way }, first & 0xFFFF_FFFF))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Pattern = Pattern { connection: 1, way: Way::Up };

    fn bytes(pattern: Pattern, from: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        pattern.fill(from, &mut bytes);
        bytes
    }

    #[test]
    fn a_stream_is_the_same_however_it_is_cut() {
        let whole = bytes(ONE, 0, 100);
        for from in 0..40 {
            for length in 0..40 {
                assert_eq!(bytes(ONE, from, length), whole[from as usize..][..length], "{from} {length}");
            }
        }
    }

    #[test]
    fn the_checker_names_the_fault() {
        let two = Pattern { connection: 2, way: Way::Down };
        let join = |parts: [Vec<u8>; 2]| parts.concat();
        for (name, stream, wanted) in [
            ("right", join([bytes(ONE, 0, 37), bytes(ONE, 37, 50)]), None),
            ("lost", join([bytes(ONE, 0, 37), bytes(ONE, 42, 50)]), Some("lost: 5 bytes")),
            ("doubled", join([bytes(ONE, 0, 37), bytes(ONE, 30, 50)]), Some("doubled: 7 bytes")),
            (
                "crossed",
                join([bytes(ONE, 0, 37), bytes(two, 37, 50)]),
                Some("crossed: these are bytes of Pattern { connection: 2, way: Down"),
            ),
            ("torn", join([bytes(ONE, 0, 37), vec![0; 50]]), Some("torn")),
        ] {
            let verdict = ONE.check(0, &stream);
            match wanted {
                None => assert_eq!(verdict, Ok(()), "{name}"),
                Some(words) => {
                    assert!(verdict.as_ref().is_err_and(|text| text.contains(words)), "{name}: {verdict:?}")
                }
            }
        }
    }
}
