//! A `[[test]]` of a configuration: one arrival by hand, and what should be decided for it. It never draws.

use std::sync::Arc;

use crate::problem::{Place, Problem};
use crate::table::{Arrival, Table};

/// One `[[test]]`, its names checked.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its name.
    pub name: Arc<str>,
    /// What arrives.
    pub arrival: Arrival,
    /// Where it is written.
    pub place: Place,
}

impl Claim {
    /// Runs it. The problem's help is the whole `explain` of the arrival.
    pub fn check(&self, table: &Table) -> Result<(), Problem> {
        let _ = table;
        unimplemented!()
    }
}
