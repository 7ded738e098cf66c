//! `banner`: speaks first, which proves to its reader that the connection reached this end; then only listens.

use std::io;

use super::context::{Next, Shared, TURN};
use super::wire::{Read, Wire};

#[derive(Debug)]
pub(super) struct Banner {
    /// The greeting, until it is sent.
    text: Vec<u8>,
}

impl Banner {
    pub(super) fn new(text: &str) -> Banner {
        Banner { text: text.into() }
    }

    pub(super) fn go(&mut self, wire: &mut Wire, shared: &mut Shared) -> io::Result<Next> {
        if !self.text.is_empty() {
            wire.write(&std::mem::take(&mut self.text))?;
        }
        for _ in 0..TURN {
            let sent = wire.flush()?;
            match wire.discard(&mut shared.input)? {
                Read::Bytes(_) => {}
                Read::End if sent => return Ok(Next::Close),
                Read::Nothing | Read::End => return Ok(Next::Wait),
            }
        }
        Ok(Next::Again)
    }
}
