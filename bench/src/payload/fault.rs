//! What was wrong with bytes that were not what they had to be.

use std::fmt;

use serde::Serialize;

use crate::human::counted;

/// One place where a stream was not what it had to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Whose stream.
    pub connection: u32,
    /// "up" for what the client sent, "down" for what the server sent.
    pub direction: &'static str,
    /// Bytes before it.
    pub offset: u64,
    /// What it is.
    pub kind: FaultKind,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum FaultKind {
    /// This many bytes are not there.
    Missing(u64),
    /// This many bytes came twice.
    Duplicated(u64),
    /// This many bits differ, and the stream goes on as it should.
    Flipped(u32),
    /// Pieces came in the wrong order.
    Swapped,
    /// Bytes of this other connection.
    Foreign(u32),
    /// Nothing that any connection sends.
    Garbage,
    /// The stream ended this many bytes too early.
    Cut(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}, {}, byte {}: ", self.connection, self.direction, self.offset)?;
        match self.kind {
            FaultKind::Missing(bytes) => write!(f, "{} missing", counted(bytes, "byte")),
            FaultKind::Duplicated(bytes) => write!(f, "{} duplicated", counted(bytes, "byte")),
            FaultKind::Flipped(bits) => write!(f, "{} flipped", counted(bits.into(), "bit")),
            FaultKind::Swapped => write!(f, "pieces in the wrong order"),
            FaultKind::Foreign(other) => write!(f, "bytes of connection {other}"),
            FaultKind::Garbage => write!(f, "bytes that nobody sent"),
            FaultKind::Cut(bytes) => write!(f, "ended {} early", counted(bytes, "byte")),
        }
    }
}
