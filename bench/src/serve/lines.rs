//! `lines`: sends back each line with a prefix, so that a reader sees which back end answered.

use std::io;

use super::context::{Next, Shared, TURN};
use super::wire::{Read, Wire};

#[derive(Debug)]
pub(super) struct Lines {
    prefix: Vec<u8>,
    /// The next byte is a line's first. Lines are not kept until they end: they may be of any length.
    at_start: bool,
}

impl Lines {
    pub(super) fn new(prefix: &str) -> Lines {
        let mut prefix = Vec::from(prefix);
        if !prefix.is_empty() {
            prefix.push(b' ');
        }
        Lines { prefix, at_start: true }
    }

    pub(super) fn go(&mut self, wire: &mut Wire, shared: &mut Shared) -> io::Result<Next> {
        for _ in 0..TURN {
            if !wire.flush()? {
                return Ok(Next::Wait);
            }
            match wire.read(shared.piece())? {
                Read::Bytes(bytes) => wire.write(&self.answer(&shared.input[..bytes]))?,
                Read::Nothing => return Ok(Next::Wait),
                Read::End => return Ok(Next::Close),
            };
        }
        Ok(Next::Again)
    }

    fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::with_capacity(bytes.len() + self.prefix.len());
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.at_start {
                answer.extend_from_slice(&self.prefix);
            }
            answer.extend_from_slice(line);
            self.at_start = line.ends_with(b"\n");
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_the_prefix_once_in_whatever_pieces_it_comes() {
        let text = b"first\n\nthird without an end";
        let wanted = b"one first\none \none third without an end";
        for piece in 1..=text.len() {
            let mut lines = Lines::new("one");
            let answer: Vec<u8> = text.chunks(piece).flat_map(|piece| lines.answer(piece)).collect();
            assert_eq!(answer, wanted, "in pieces of {piece}");
        }
        assert_eq!(Lines::new("").answer(text), text, "no prefix, no space");
    }
}
