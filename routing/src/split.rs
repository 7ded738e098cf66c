//! Drawing a destination by weight: one draw a connection, or, with `sticky`, a weighted rendezvous hash of the source.

use std::net::IpAddr;
use std::sync::Arc;

use crate::problem::Place;
use crate::table::DestinationId;

/// One destination of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Where it leads.
    pub destination: DestinationId,
    /// Its weight; 0 gets nothing. Without weights in the file all are 1.
    pub weight: u32,
    /// Where it is written.
    pub place: Place,
}

/// Weighted destinations.
#[derive(Clone, Debug)]
pub struct Split {
    /// In order of writing; the sum of the weights is above 0.
    pub shares: Vec<Share>,
    /// With `sticky = "source"`: what the hash is salted with (the route's name).
    pub sticky: Option<Arc<str>>,
}

impl Split {
    /// Skeleton.
    pub fn new(shares: Vec<Share>, sticky: Option<Arc<str>>) -> Split {
        Self { shares, sticky }
    }

    /// The destination for one connection.
    pub fn draw(&self, source: IpAddr, rng: &mut fastrand::Rng) -> DestinationId {
        let _ = (source, rng);
        unimplemented!()
    }
}
