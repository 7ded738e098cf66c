//! Faults in received bytes.

use std::fmt;

use serde::Serialize;

use crate::human::counted;

/// One wrong place of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Whose stream.
    pub connection: u32,
    /// "up" for the bytes of the client, "down" for those of the server.
    pub direction: &'static str,
    /// Bytes before it.
    pub offset: u64,
    /// Its kind.
    pub kind: FaultKind,
}

/// Kinds of faults.
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
            FaultKind::Garbage => write!(f, "bytes that no connection sends"),
            FaultKind::Cut(bytes) => write!(f, "ended {} early", counted(bytes, "byte")),
        }
    }
}
