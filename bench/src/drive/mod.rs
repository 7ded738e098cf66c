//! The driver: threads, each with an epoll and its own connections, that carry out the plan.

use std::sync::atomic::AtomicBool;

use crate::ledger::{Outcome, Second};
use crate::settings::Settings;

/// What whoever watches a run is told, on the thread that called [`run`].
#[derive(Debug)]
pub enum Moment<'a> {
    /// Measuring begins now: the warm-up is over, and all connections of a hold are open.
    Begins,
    /// A second has passed.
    Second(&'a Second),
    /// Measuring ends now.
    Ends,
}

/// Carries out a run. Setting `stop` ends it early, with all that was measured so far.
///
/// # Errors
///
/// When threads, pinning, epoll or addresses are refused by the host, or not one connection could be made.
pub fn run(
    _settings: &Settings,
    _stop: &AtomicBool,
    _watch: &mut dyn FnMut(&Moment<'_>),
) -> anyhow::Result<Outcome> {
    anyhow::bail!("not yet")
}
