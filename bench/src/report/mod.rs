//! The forms of a report. Everything here reads an [`Outcome`](crate::ledger::Outcome) or a
//! [`Comparison`](crate::compare::result::Comparison) that has ended, except [`live`], which prints a second at a time.
//!
//! | for | file |
//! | --- | --- |
//! | a person at a terminal | [`live`], then [`text`] |
//! | a program | [`json`], [`csv`] |
//! | tools that know HdrHistogram | [`hgrm`] |
//! | a reader somewhere else, later | [`html`], drawn by `svg` |
//!
//! A percentile with too few samples above it ([`crate::gates::needed`]) is a number nowhere: "-" for people, null for programs.

mod axis;
pub mod csv;
pub mod hgrm;
pub mod html;
pub mod json;
pub mod live;
mod svg;
pub mod text;

/// The percentiles that are reported, besides the maximum: name, and quantile from 0 to 1.
pub const PERCENTILES: [(&str, f64); 4] = [("p50", 0.50), ("p90", 0.90), ("p99", 0.99), ("p99.9", 0.999)];

/// One sentence on whether a run's figures may be believed: "valid", or "INVALID" and the gates that failed.
pub fn verdict(interrupted: bool, gates: &[crate::gates::Gate]) -> String {
    let failed: Vec<&str> = gates.iter().filter(|gate| !gate.passed).map(|gate| gate.name).collect();
    let verdict =
        if failed.is_empty() { "valid".to_owned() } else { format!("INVALID: {}", failed.join(", ")) };
    let cut = if interrupted { " (interrupted: of the part that was run)" } else { "" };
    verdict + cut
}

#[cfg(test)]
pub(crate) mod fixture;
