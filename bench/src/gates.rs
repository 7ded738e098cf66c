//! May the figures of a run be believed? One gate for each way they could lie.

use serde::Serialize;

use crate::ledger::Outcome;

/// One question and its answer.
#[derive(Clone, Debug, Serialize)]
pub struct Gate {
    /// "achieved", "lag", "drops", "own core", "steady", "samples", "conservation", "integrity".
    pub name: &'static str,
    /// Whether it holds.
    pub passed: bool,
    /// What was found, wanted, and what to do about it, in a sentence.
    pub message: String,
}

/// Asks all that apply to the run.
pub fn judge(_outcome: &Outcome) -> Vec<Gate> {
    Vec::new()
}
