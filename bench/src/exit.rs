//! The exit codes of `weir-bench`.

/// All that was asked was done, and its figures may be believed.
pub const FINE: u8 = 0;
/// It could not be done: nothing listens there, a file cannot be written, nothing succeeded.
pub const FAILED: u8 = 1;
/// The arguments make no sense.
pub const USAGE: u8 = 2;
/// It was done, but a validity gate failed: the report names the figures not to believe.
pub const INVALID: u8 = 3;
/// Bytes were lost, doubled, changed or crossed, or the counts do not add up.
pub const INTEGRITY: u8 = 4;
/// A signal ended it early; the report is that of the part that was run.
pub const INTERRUPTED: u8 = 130;

/// The help text about them.
pub const EXIT_CODES: &str = "Exit codes: 0 fine; 1 failed; 2 usage; 3 done, but a validity gate failed (the report names it); \
    4 bytes were lost, doubled, changed or crossed, or counts do not add up; 130 ended early by a signal, with a partial report.";
