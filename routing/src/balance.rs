//! Picking an endpoint of the destination that was drawn: health, then balance.

use crate::table::{DestinationId, EndpointId};

/// What balancing looks at and does not own: the process's counts.
pub trait Loads {
    /// Whether an endpoint may be used (health, ejection, overrides).
    fn usable(&self, endpoint: EndpointId) -> bool;
    /// Open and dialling connections of the process to it.
    fn connections(&self, endpoint: EndpointId) -> u64;
    /// Takes the next position of a destination's round robin, of the process.
    fn next_position(&self, destination: DestinationId) -> u64;
}
