//! Bytes that carry their place: each 8-byte word of a connection's stream is made from connection, direction and place, and
//! can be read back, so that a wrong byte can be named: missing, doubled, flipped, out of order, or another connection's.

pub mod check;
pub mod fault;
pub mod frame;
pub mod pattern;
