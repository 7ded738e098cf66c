//! `echo`: sends back all bytes, and reads no further than it could send.

use std::io;

use super::context::{Next, Shared, TURN};
use super::wire::{Read, Wire};

#[derive(Debug)]
pub(super) struct Echo;

impl Echo {
    pub(super) fn go(&self, wire: &mut Wire, shared: &mut Shared) -> io::Result<Next> {
        for _ in 0..TURN {
            if !wire.flush()? {
                return Ok(Next::Wait);
            }
            match wire.read(shared.piece())? {
                Read::Bytes(bytes) => wire.write(&shared.input[..bytes])?,
                Read::Nothing => return Ok(Next::Wait),
                Read::End => return Ok(Next::Close),
            };
        }
        Ok(Next::Again)
    }
}
