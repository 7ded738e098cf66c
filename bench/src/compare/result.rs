//! The findings of a comparison: every sample as it was measured, and the ratios made of them.

use serde::Serialize;

use super::job::Unit;

/// One workload through one arm in one round.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Which round, from 0.
    pub round: u32,
    /// "weir", "haproxy-splice", "direct", ...
    pub arm: String,
    /// "rr-64B-64", "stream-down-4", ...
    pub work: String,
    /// "closed", or "open 12000/s".
    pub pace: String,
    /// Operations done while measuring; gigabytes (1e9) for streams; connections held for hold.
    pub operations: f64,
    /// CPU seconds of the arm's processes while measuring, all threads; 0 for direct.
    pub cpu: f64,
    /// CPU for an operation: microseconds; seconds a gigabyte for streams; 0 for hold, where CPU is no question.
    pub cost: f64,
    /// Operations (gigabytes) a second; 0 for hold.
    pub rate: f64,
    /// Median in microseconds: response time in an open loop, else service time. As all times, 0 where there are none or too few.
    pub p50: f64,
    /// 99th percentile in microseconds.
    pub p99: f64,
    /// 99.9th percentile in microseconds.
    pub p999: f64,
    /// Resident bytes of the arm's processes, the more of begin and end of measuring.
    pub resident: u64,
    /// Resident bytes added a connection, for hold.
    pub resident_per_connection: Option<f64>,
    /// Context switches of the arm's processes an operation.
    pub switches: f64,
    /// System calls an operation, where they were counted (in rounds of their own).
    pub calls: Option<f64>,
    /// How busy the arm was, of one core: 0 to 1.
    pub arm_busy: f64,
    /// How busy the generator's core was: 0 to 1.
    pub load_busy: f64,
    /// Operations that did not succeed.
    pub bad: u64,
    /// Faults of integrity, and counts that do not add up.
    pub faults: u64,
    /// Names of the validity gates that failed.
    pub gates: Vec<String>,
}

/// A ratio over rounds: exp of the mean of paired log ratios, with its 95 % interval by Student's t.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// The workload.
    pub work: String,
    /// Its pace.
    pub pace: String,
    /// Whose figure is divided: "weir", "weir-busy-poll".
    pub ours: String,
    /// Whose it is divided by.
    pub theirs: String,
    /// "cost", "rate", "p50", "p99", "p999", "resident".
    pub figure: String,
    /// The ratio.
    pub middle: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Rounds it was made of.
    pub rounds: usize,
    /// Probability of a mean logarithm at least this far from 0 if both arms were equal: Student's t, two-sided.
    pub p: f64,
    /// The same, corrected by Holm for all comparisons of the run; none for a ratio that is not one of them.
    pub holm: Option<f64>,
    /// Whether it shows a difference: significant after that correction, and outside of the noise that a second process of
    /// the same Weir had in the same row.
    pub differs: bool,
}

impl Ratio {
    /// Whether it is a comparison at all. The rate of an open loop is its plan's, and the memory of a process as a whole hardly
    /// depends on the work.
    pub fn is_comparison(&self) -> bool {
        match self.figure.as_str() {
            "rate" => self.pace == "closed",
            "resident" => Unit::of(&self.work) == Unit::Connection,
            _ => true,
        }
    }
}

/// A whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Version of this shape.
    pub schema: u32,
    /// Command, machine, kernel, versions, layout, congestion control, ...: name and value, in the order to show them.
    pub conditions: Vec<(String, String)>,
    /// Every sample.
    pub samples: Vec<Sample>,
    /// Every ratio.
    pub ratios: Vec<Ratio>,
    /// Arms that were left out, each with its reason.
    pub left_out: Vec<String>,
    /// A signal ended it before its time.
    pub interrupted: bool,
}
