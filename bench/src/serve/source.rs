//! `source`: a header, then pattern until the reader is gone.
//!
//! A client that asks with a header names the connection and how closely it looks. For any other the stream begins when it
//! has sent as many bytes of something else, or has closed its side: whether a header comes later cannot be known sooner.

use std::io;

use super::context::{LARGE_PIECE, Next, PIECE, Shared};
use super::wire::{Read, Wire};
use crate::payload::frame::{HEADER, Kind, Request, Response, Status};
use crate::payload::pattern::{self, CONNECTIONS, Way};
use crate::settings::Verify;

/// Bytes that one connection sends before the others have their turn.
const SENT_A_TURN: usize = 2 << 20;

#[derive(Debug)]
pub(super) enum Source {
    /// For the client's request.
    Asked { begun: Vec<u8>, connection: u32 },
    /// Whose stream, how closely it is looked at, and how far it is.
    Sending { connection: u32, verify: Verify, offset: u64 },
}

impl Source {
    /// `number` of the connection, which stands in for the client's own if it has none.
    pub(super) fn new(number: u64) -> Source {
        let connection = (number % u64::from(CONNECTIONS)) as u32;
        Source::Asked { begun: Vec::new(), connection }
    }

    pub(super) fn go(&mut self, wire: &mut Wire, shared: &mut Shared) -> io::Result<Next> {
        if let Source::Asked { .. } = self {
            match self.request(wire)? {
                Some((connection, verify)) => self.begin(connection, verify, wire)?,
                None => return Ok(Next::Wait),
            }
        }
        let Source::Sending { connection, verify, offset } = self else { return Ok(Next::Wait) };
        // The header.
        if !wire.flush()? {
            return Ok(Next::Wait);
        }
        let length = if *verify == Verify::Full { PIECE } else { LARGE_PIECE };
        let mut left = SENT_A_TURN;
        while left > 0 {
            let piece = &mut shared.output[..length];
            pattern::fill_for(*verify, piece, *connection, Way::Down, *offset);
            let taken = wire.offer(piece)?;
            *offset += taken as u64;
            left = left.saturating_sub(taken);
            if taken < length {
                return Ok(Next::Wait);
            }
        }
        Ok(Next::Again)
    }

    /// Whose stream it is to be and how closely it is looked at, as soon as that is known.
    fn request(&mut self, wire: &mut Wire) -> io::Result<Option<(u32, Verify)>> {
        let Source::Asked { begun, connection } = self else { return Ok(None) };
        let mut bytes = [0; HEADER];
        let read = wire.read(&mut bytes[begun.len()..])?;
        if let Read::Bytes(length) = read {
            let start = begun.len();
            begun.extend_from_slice(&bytes[start..start + length]);
        }
        if let Some(header) = begun.first_chunk() {
            let asked = Request::decode(header).filter(|request| request.kind == Kind::StreamDown);
            return Ok(Some(
                asked.map_or((*connection, Verify::Full), |asked| (asked.connection, asked.verify)),
            ));
        }
        Ok((read == Read::End).then_some((*connection, Verify::Full)))
    }

    fn begin(&mut self, connection: u32, verify: Verify, wire: &mut Wire) -> io::Result<()> {
        // The stream has no length: it ends when the reader is gone.
        let header = Response { connection, length: u32::MAX, status: Status::Fine };
        wire.write(&header.encode())?;
        *self = Source::Sending { connection, verify, offset: HEADER as u64 };
        Ok(())
    }
}
