//! A comparison's plan: the arms, the work, where and how long.

use std::path::PathBuf;
use std::time::Duration;

use super::arms::Arm;
use super::job::Job;
use crate::settings::Verify;

/// Arms, work, and conditions of a comparison.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The command, for the report.
    pub command: String,
    /// Which arms.
    pub arms: Vec<Arm>,
    /// Each does all work, also one that is made for some of it alone.
    pub all_by_all: bool,
    /// Which work.
    pub jobs: Vec<Job>,
    /// How often.
    pub rounds: u32,
    /// How long a sample is measured.
    pub duration: Duration,
    /// Time that runs before that.
    pub warmup: Duration,
    /// The proxies' core.
    pub proxy_core: usize,
    /// The core of client and back ends.
    pub load_core: usize,
    /// Across two network namespaces instead of loopback.
    pub namespaces: bool,
    /// How closely both ends look at the bytes.
    pub verify: Verify,
    /// Weir's program.
    pub weir: PathBuf,
    /// Another build of it, for [`Arm::WeirBefore`].
    pub before: Option<PathBuf>,
    /// The directory of the arms' configurations.
    pub peers: PathBuf,
    /// Where chance starts: the order of arms and the plans of open loops.
    pub seed: u64,
}

impl Plan {
    /// Whether this arm does this work. Spinning is for those who wait for one answer at a time.
    pub(super) fn has(&self, arm: Arm, job: &Job) -> bool {
        self.all_by_all || arm != Arm::WeirBusyPoll || job.connections() == 1
    }
}
