//! Checks a stream as it comes, in pieces of any length, and names its fault.
//!
//! At the first wrong byte the checker goes on to gather the bytes behind it, and names the fault by their places, which each word
//! carries. It names one fault a stream; after that nothing is where it should be anyway.

use crate::payload::fault::{Fault, FaultKind};
use crate::payload::frame::{self, HEADER};
use crate::payload::pattern::{self, WORD, Way};
use crate::settings::Verify;

/// How many bytes are gathered from the first wrong one on before it is named. Pieces that changed places further apart than
/// this are named as missing.
pub const GATHERED: usize = 64 << 10;

/// A word alone is believed to be the stream's own when its place is no further off than this: two words that agree need no such
/// bound, but one word of chance would be taken for ours once in 2^25.
const NEAR: i64 = 1 << 30;

/// Follows one direction of one connection.
#[derive(Debug)]
pub struct Checker {
    connection: u32,
    way: Way,
    verify: Verify,
    offset: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// All is as it should be so far.
    Fine,
    /// Something is not, and the bytes behind it are gathered to name it.
    Gathering(Gathered),
    /// It has been named.
    Named,
}

/// The bytes from the first wrong one on.
#[derive(Debug)]
struct Gathered {
    /// Stream offset of the first of them.
    offset: u64,
    bytes: Vec<u8>,
    /// They begin with a header that makes no sense; the one that was sent, if that is known.
    header: Option<Header>,
}

#[derive(Debug)]
struct Header {
    expected: Option<[u8; HEADER]>,
}

impl Checker {
    /// A checker at the start of a stream.
    pub fn new(connection: u32, way: Way, verify: Verify) -> Checker {
        Checker { connection, way, verify, offset: 0, state: State::Fine }
    }

    /// Bytes seen so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// A wrong byte was seen and is not named yet. The reader of frames gives all bytes from now on to [`Checker::take`] as
    /// it comes: where headers are is no longer known.
    pub fn is_gathering(&self) -> bool {
        matches!(self.state, State::Gathering(_))
    }

    /// The next bytes, which have to be pattern. Returns the fault when it can be named.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Fault> {
        let start = self.offset;
        self.offset += bytes.len() as u64;
        match &mut self.state {
            State::Named => None,
            State::Gathering(gathered) => {
                gathered.bytes.extend_from_slice(bytes);
                self.name_when_enough()
            }
            State::Fine => {
                let wrong = self.first_wrong(bytes, start)?;
                let bytes = bytes[wrong..].to_vec();
                self.state = State::Gathering(Gathered { offset: start + wrong as u64, bytes, header: None });
                self.name_when_enough()
            }
        }
    }

    /// Counts bytes that are no pattern and that the caller has looked at: headers.
    pub fn skip(&mut self, bytes: usize) {
        self.offset += bytes as u64;
    }

    /// The next bytes should have been a header and are not, or are one out of place. `expected` is the right one, if known.
    pub fn misfit(&mut self, header: &[u8; HEADER], expected: Option<[u8; HEADER]>) {
        let expected = expected.or_else(|| frame::repaired(header));
        if matches!(self.state, State::Fine) {
            let header = (header.to_vec(), Some(Header { expected }));
            self.state =
                State::Gathering(Gathered { offset: self.offset, bytes: header.0, header: header.1 });
        }
        self.offset += HEADER as u64;
    }

    /// Nothing more comes, or not soon. Returns the fault, if there is one that was not named before; `expected_total` is how
    /// long the stream had to be, where that is known.
    pub fn finish(&mut self, expected_total: Option<u64>) -> Option<Fault> {
        match std::mem::replace(&mut self.state, State::Named) {
            State::Named => None,
            State::Gathering(gathered) => Some(self.fault(&gathered, expected_total)),
            State::Fine => {
                let kind = match expected_total {
                    Some(total) if total > self.offset => FaultKind::Cut(total - self.offset),
                    Some(total) if total < self.offset => FaultKind::Garbage,
                    _ => {
                        self.state = State::Fine;
                        return None;
                    }
                };
                let offset = expected_total.map_or(self.offset, |total| total.min(self.offset));
                Some(self.fault_of(offset, kind))
            }
        }
    }

    fn first_wrong(&self, bytes: &[u8], offset: u64) -> Option<usize> {
        match self.verify {
            Verify::Off => None,
            Verify::Full => pattern::mismatch(bytes, self.connection, self.way, offset),
            Verify::Stamp => pattern::stamps(offset, bytes.len()).find_map(|range| {
                let (start, at) = (range.start, offset + range.start as u64);
                pattern::mismatch(&bytes[range], self.connection, self.way, at).map(|wrong| start + wrong)
            }),
        }
    }

    fn name_when_enough(&mut self) -> Option<Fault> {
        match &self.state {
            State::Gathering(gathered) if gathered.bytes.len() >= GATHERED => self.finish(None),
            _ => None,
        }
    }

    fn fault_of(&self, offset: u64, kind: FaultKind) -> Fault {
        Fault { connection: self.connection, direction: self.way.name(), offset, kind }
    }

    fn fault(&self, gathered: &Gathered, expected_total: Option<u64>) -> Fault {
        self.fault_of(gathered.offset, self.name(gathered, expected_total))
    }

    /// The fault, by the first of the gathered bytes that carry a place.
    fn name(&self, gathered: &Gathered, expected_total: Option<u64>) -> FaultKind {
        if let Some(other) = gathered.foreign_header(self.connection) {
            return FaultKind::Foreign(other);
        }
        let runs = self.runs(gathered);
        let Some(first) = runs.first() else { return self.name_short(gathered, expected_total) };
        if (first.connection, first.way) != (self.connection, self.way) {
            return FaultKind::Foreign(first.connection);
        }
        let own = |run: &&Run| (run.connection, run.way) == (self.connection, self.way);
        let resumes = runs.iter().filter(own).any(|run| run.shift == 0);
        match first.shift {
            0 => FaultKind::Flipped(self.flipped_bits(gathered, first.start)),
            _ if resumes => FaultKind::Swapped,
            shift if shift < 0 => FaultKind::Duplicated(shift.unsigned_abs()),
            shift if self.comes_later(gathered, shift.unsigned_abs()) => FaultKind::Swapped,
            shift => FaultKind::Missing(shift.unsigned_abs()),
        }
    }

    /// The fault when too little came to hold a word that carries its place: the length that the stream had to have shows how far
    /// it was shifted, and otherwise a few bits are a flip.
    fn name_short(&self, gathered: &Gathered, expected_total: Option<u64>) -> FaultKind {
        let Gathered { offset, bytes, header } = gathered;
        let lacking = expected_total.map_or(0, |total| total as i64 - self.offset as i64);
        let shifted = |by: i64| {
            let at = offset.checked_add_signed(by);
            at.is_some_and(|at| self.first_wrong(bytes, at).is_none() && header.is_none())
        };
        if lacking != 0 && shifted(lacking) {
            return match lacking {
                1.. => FaultKind::Missing(lacking.unsigned_abs()),
                _ => FaultKind::Duplicated(lacking.unsigned_abs()),
            };
        }
        let bits = self.flipped_bits(gathered, bytes.len());
        let few = bits as usize * 4 <= bytes.len() * 8;
        if few { FaultKind::Flipped(bits) } else { FaultKind::Garbage }
    }

    /// Number of wrong bits in the gathered bytes before `end`. A header of which it is not known what it
    /// was counts as one.
    fn flipped_bits(&self, gathered: &Gathered, end: usize) -> u32 {
        let mut expected = gathered.bytes[..end].to_vec();
        for range in self.looked_at(gathered.offset, end) {
            let at = gathered.offset + range.start as u64;
            pattern::fill(&mut expected[range], self.connection, self.way, at);
        }
        let mut unknown = 0;
        if let Some(header) = &gathered.header {
            let length = end.min(HEADER);
            let was = header.expected.as_ref().map_or(&gathered.bytes[..length], |was| &was[..length]);
            expected[..length].copy_from_slice(was);
            unknown = u32::from(header.expected.is_none());
        }
        let differing =
            expected.iter().zip(&gathered.bytes).map(|(wanted, found)| (wanted ^ found).count_ones());
        differing.sum::<u32>() + unknown
    }

    /// The ranges that this level of verification looks at.
    fn looked_at(&self, offset: u64, length: usize) -> Vec<std::ops::Range<usize>> {
        match self.verify {
            Verify::Off => Vec::new(),
            Verify::Stamp => pattern::stamps(offset, length).collect(),
            Verify::Full => std::iter::once(0..length).collect(),
        }
    }

    /// Whether the bytes that had to come first are among the gathered ones. Fewer than a word would be found by chance.
    fn comes_later(&self, gathered: &Gathered, lacking: u64) -> bool {
        let length = lacking.min(2 * WORD as u64) as usize;
        let mut wanted = [0; 2 * WORD];
        pattern::fill(&mut wanted, self.connection, self.way, gathered.offset);
        length >= WORD && gathered.bytes.windows(length).any(|window| window == &wanted[..length])
    }

    /// Where in which stream the gathered bytes belong, in order: at each place two words that follow one another, or, if there
    /// is no such place, single words that are the stream's own.
    fn runs(&self, gathered: &Gathered) -> Vec<Run> {
        let pairs = gathered.runs(|first, second| second == Some((first.0, first.1, first.2 + 1)));
        if !pairs.is_empty() {
            return pairs;
        }
        let mut singles = gathered.runs(|first, _| (first.0, first.1) == (self.connection, self.way));
        singles.retain(|run| run.shift.abs() < NEAR);
        singles
    }
}

/// Gathered bytes that belong together.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    connection: u32,
    way: Way,
    /// How much later in its stream it belongs than where it came.
    shift: i64,
    /// Where among the gathered bytes it begins.
    start: usize,
}

type Origin = (u32, Way, u64);

impl Gathered {
    /// Whose header the first bytes are, if they had to be a header and are another connection's.
    fn foreign_header(&self, connection: u32) -> Option<u32> {
        self.header.as_ref()?;
        let owner = frame::owner(self.bytes.first_chunk()?)?;
        (owner != connection).then_some(owner)
    }

    /// The runs of words that `believe` takes for real, seeing where a word comes from and where the one after it does.
    fn runs(&self, believe: impl Fn(Origin, Option<Origin>) -> bool) -> Vec<Run> {
        let origin_at = |at: usize| {
            let word = self.bytes.get(at..)?.first_chunk()?;
            Some(pattern::origin(u64::from_le_bytes(*word)))
        };
        let mut runs: Vec<Run> = Vec::new();
        let mut start = 0;
        while let Some(first) = origin_at(start) {
            if !believe(first, origin_at(start + WORD)) {
                start += 1;
                continue;
            }
            let (connection, way, index) = first;
            let shift = (index * WORD as u64) as i64 - (self.offset + start as u64) as i64;
            let same = runs
                .last()
                .is_some_and(|run| (run.connection, run.way, run.shift) == (connection, way, shift));
            if !same {
                runs.push(Run { connection, way, shift, start });
            }
            start += WORD;
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONNECTION: u32 = 77;
    const OTHER: u32 = 1234;
    /// Two words at any alignment: shorter pieces do not carry a place.
    const TELLING: usize = 23;

    /// The stream of a connection as it had to be.
    fn stream(verify: Verify, connection: u32, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        pattern::fill_for(verify, &mut bytes, connection, Way::Up, 0);
        bytes
    }

    /// Verdict of a checker on these bytes, given in pieces of these lengths, over and over.
    fn verdict(verify: Verify, bytes: &[u8], pieces: &[usize], expected_total: Option<u64>) -> Option<Fault> {
        let mut checker = Checker::new(CONNECTION, Way::Up, verify);
        let mut rest = bytes;
        let mut faults = Vec::new();
        for &piece in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(piece.min(rest.len()));
            faults.extend(checker.take(now));
            rest = later;
        }
        assert_eq!(checker.offset(), bytes.len() as u64, "every byte is counted, fault or none");
        faults.extend(checker.finish(expected_total));
        assert_eq!(checker.finish(expected_total), None, "a fault is named once");
        assert!(faults.len() <= 1, "{faults:?}");
        faults.pop()
    }

    /// A way to spoil a stream, at a fraction of it, and the name of that fault.
    #[derive(Clone, Copy, Debug)]
    enum Spoil {
        Drop(usize),
        Repeat(usize),
        Flip(u8),
        Swap(usize, usize),
        Cross(usize),
        Overwrite(usize),
        Cut(usize),
    }

    /// Spoils a stream of which `before` bytes stay as they are.
    fn spoilt(clean: &[u8], foreign: &[u8], before: usize, spoil: Spoil) -> Vec<u8> {
        let (start, rest) = clean.split_at(before);
        match spoil {
            Spoil::Drop(length) => [start, &rest[length..]].concat(),
            Spoil::Repeat(length) => [start, &start[before - length..], rest].concat(),
            Spoil::Flip(mask) => [start, &[rest[0] ^ mask], &rest[1..]].concat(),
            Spoil::Swap(one, two) => {
                [start, &rest[one..one + two], &rest[..one], &rest[one + two..]].concat()
            }
            Spoil::Cross(length) => [start, &foreign[before..before + length], &rest[length..]].concat(),
            Spoil::Overwrite(length) => [start, &vec![0xa5; length]].concat(),
            Spoil::Cut(length) => clean[..clean.len() - length].to_vec(),
        }
    }

    fn name(spoil: Spoil) -> FaultKind {
        match spoil {
            Spoil::Drop(length) => FaultKind::Missing(length as u64),
            Spoil::Repeat(length) => FaultKind::Duplicated(length as u64),
            Spoil::Flip(mask) => FaultKind::Flipped(mask.count_ones()),
            Spoil::Swap(..) => FaultKind::Swapped,
            Spoil::Cross(_) => FaultKind::Foreign(OTHER),
            Spoil::Overwrite(_) => FaultKind::Garbage,
            Spoil::Cut(length) => FaultKind::Cut(length as u64),
        }
    }

    fn spoil() -> impl Strategy<Value = Spoil> {
        prop_oneof![
            (1usize..6000).prop_map(Spoil::Drop),
            (1usize..6000).prop_map(Spoil::Repeat),
            (1u8..=255).prop_map(Spoil::Flip),
            (TELLING..3000, TELLING..3000).prop_map(|(one, two)| Spoil::Swap(one, two)),
            (TELLING..6000).prop_map(Spoil::Cross),
            (64usize..6000).prop_map(Spoil::Overwrite),
            (1usize..6000).prop_map(Spoil::Cut),
        ]
    }

    fn verify() -> impl Strategy<Value = Verify> {
        prop_oneof![Just(Verify::Off), Just(Verify::Stamp), Just(Verify::Full)]
    }

    fn pieces() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(prop_oneof![1usize..40, 1usize..9000, Just(1 << 16)], 1..6)
    }

    proptest! {
        #[test]
        fn a_stream_as_it_should_be_has_no_fault(verify in verify(), length in 0usize..200_000, pieces in pieces()) {
            let clean = stream(verify, CONNECTION, length);
            prop_assert_eq!(verdict(verify, &clean, &pieces, None), None);
            prop_assert_eq!(verdict(verify, &clean, &pieces, Some(length as u64)), None);
        }

        #[test]
        fn each_fault_is_named(
            spoil in spoil(), before in 6000usize..30_000, after in TELLING..100_000, pieces in pieces(), length_is_known in any::<bool>(),
        ) {
            let length = before + 6000 + after;
            let (clean, foreign) = (stream(Verify::Full, CONNECTION, length), stream(Verify::Full, OTHER, length));
            let bytes = spoilt(&clean, &foreign, before, spoil);
            let length_is_known = length_is_known || matches!(spoil, Spoil::Cut(_));
            let fault = verdict(Verify::Full, &bytes, &pieces, length_is_known.then_some(length as u64)).expect("it is noticed");
            prop_assert_eq!(fault.kind, name(spoil));
            // The first bytes after the place may be right by chance.
            let place = if let Spoil::Cut(_) = spoil { bytes.len() } else { before } as u64;
            prop_assert!((place..place + 8).contains(&fault.offset), "{} for {}", fault.offset, place);
        }

        #[test]
        fn each_fault_is_named_near_the_end_when_the_length_is_known(
            lost in 1usize..20, left in 8usize..40, before in 100usize..2000, pieces in pieces(), repeat in any::<bool>(),
        ) {
            let length = before + lost + left;
            let spoil = if repeat { Spoil::Repeat(lost) } else { Spoil::Drop(lost) };
            let clean = stream(Verify::Full, CONNECTION, length);
            let bytes = spoilt(&clean, &clean, before, spoil);
            let fault = verdict(Verify::Full, &bytes, &pieces, Some(length as u64));
            prop_assert_eq!(fault.map(|fault| fault.kind), Some(name(spoil)));
        }

        #[test]
        fn stamps_notice_a_shifted_stream_and_show_how_far(
            length in 1usize..4000, repeat in any::<bool>(), before in 4000usize..30_000, pieces in pieces(),
        ) {
            let spoil = if repeat { Spoil::Repeat(length) } else { Spoil::Drop(length) };
            let clean = stream(Verify::Stamp, CONNECTION, 60_000);
            let bytes = spoilt(&clean, &clean, before, spoil);
            let fault = verdict(Verify::Stamp, &bytes, &pieces, None);
            prop_assert_eq!(fault.map(|fault| fault.kind), Some(name(spoil)));
        }

        #[test]
        fn counting_notices_what_changes_the_count(length in 1usize..4000, pieces in pieces()) {
            let clean = stream(Verify::Off, CONNECTION, 60_000);
            let bytes = spoilt(&clean, &clean, 10_000, Spoil::Drop(length));
            let fault = verdict(Verify::Off, &bytes, &pieces, Some(60_000));
            prop_assert_eq!(fault.map(|fault| fault.kind), Some(FaultKind::Cut(length as u64)));
        }
    }

    /// A stream of two frames, each a header and pattern, of which some bytes are spoilt at the second header.
    fn framed_verdict(spoil: impl Fn(&mut Vec<u8>, &[u8])) -> Option<FaultKind> {
        const FRAME: usize = 200;
        let frames = |connection| {
            let mut bytes = stream(Verify::Full, connection, 2 * FRAME);
            let (verify, kind) = (Verify::Full, frame::Kind::Exchange);
            let header = frame::Request { connection, length: FRAME as u32, answer: 64, verify, kind };
            bytes[..HEADER].copy_from_slice(&header.encode());
            bytes[FRAME..][..HEADER].copy_from_slice(&header.encode());
            bytes
        };
        let (mut bytes, foreign) = (frames(CONNECTION), frames(OTHER));
        spoil(&mut bytes, &foreign);
        let mut checker = Checker::new(CONNECTION, Way::Up, Verify::Full);
        checker.skip(HEADER);
        let fault = checker.take(&bytes[HEADER..FRAME]);
        assert_eq!(fault, None);
        let (header, rest) = bytes[FRAME..].split_first_chunk().expect("longer than a header");
        match frame::Request::decode(header) {
            Some(request) if request.connection == CONNECTION && !checker.is_gathering() => {
                checker.skip(HEADER)
            }
            _ => checker.misfit(header, None),
        }
        let fault = checker.take(rest);
        fault.or_else(|| checker.finish(None)).map(|fault| fault.kind)
    }

    /// A fault made in bytes, with another connection's at hand.
    type Spoiling = fn(&mut Vec<u8>, &[u8]);

    #[test]
    fn a_header_out_of_place_is_named_too() {
        let cases: [(&str, FaultKind, Spoiling); 6] = [
            ("in the header, 5 are missing", FaultKind::Missing(5), |bytes, _| drop(bytes.drain(203..208))),
            ("before it, 40 are missing", FaultKind::Missing(40), |bytes, _| drop(bytes.drain(160..200))),
            ("one bit", FaultKind::Flipped(1), |bytes, _| bytes[207] ^= 0x10),
            ("the last 8 twice", FaultKind::Duplicated(8), |bytes, _| {
                let twice = bytes[192..200].to_vec();
                drop(bytes.splice(200..200, twice));
            }),
            ("the whole frame is another's", FaultKind::Foreign(OTHER), |bytes, foreign| {
                bytes[200..].copy_from_slice(&foreign[200..]);
            }),
            ("the header alone is another's", FaultKind::Foreign(OTHER), |bytes, foreign| {
                bytes.truncate(216);
                bytes[200..].copy_from_slice(&foreign[200..216]);
            }),
        ];
        assert_eq!(framed_verdict(|_, _| {}), None);
        for (what, wanted, spoil) in cases {
            assert_eq!(framed_verdict(spoil), Some(wanted), "{what}");
        }
    }
}
