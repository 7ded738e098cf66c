//! Several proxies do the same work in turn: how much does an operation cost each of them?
//!
//! | step | file |
//! | --- | --- |
//! | names become work, arguments a plan | `job`, `plan` |
//! | back ends and proxies are started, and ended whichever way this ends | `arms`, `layout`, `stage`, `children` |
//! | rounds: each arm once, in an order drawn anew | here |
//! | one sample: the load by [`crate::drive`], the proxy's clocks read where measuring begins and ends | `sample`, `account` |
//! | work that hangs is ended | `watchdog` |
//! | ratios within rounds | `statistics` |
//! | under which conditions | `conditions` |
//! | text, CSV, Markdown | `table`, `markdown` |

pub mod account;
pub mod arms;
pub mod children;
mod conditions;
pub mod job;
pub mod layout;
pub mod markdown;
mod plan;
pub mod result;
mod sample;
mod stage;
pub mod statistics;
pub mod table;
mod watchdog;

pub use self::conditions::command;
pub use self::plan::Plan;

use std::sync::atomic::{AtomicBool, Ordering};

use self::arms::Arm;
use self::job::{Job, Unit};
use self::result::{Comparison, Ratio, Sample};
use self::sample::Order;
use self::stage::Stage;
use self::watchdog::Overdue;
use crate::settings::{Arrivals, Pace};

/// Version of the shape of [`Comparison`].
const SCHEMA: u32 = 1;
/// An open loop's rate, as a share of the slowest arm's in the closed one.
const OPEN_SHARE: f64 = 0.7;

/// Carries it out. Setting `stop` ends it early with the samples so far; `print` gets a line for each sample and each trouble.
///
/// # Errors
///
/// When back ends or Weir cannot be started, or the host refuses cores or namespaces. A peer that cannot is left out, and
/// reported.
pub fn run(plan: &Plan, stop: &AtomicBool, print: &mut dyn FnMut(&str)) -> anyhow::Result<Comparison> {
    let mut stage = Stage::set(plan)?;
    stage.left_out.iter().for_each(|line| print(line));
    let conditions = conditions::of(plan, &stage);
    conditions::warnings().iter().for_each(|line| print(line));
    let mut rounds =
        Rounds { plan, stop, stage: &mut stage, print, samples: Vec::new(), trouble: Vec::new() };
    let mut rates: Vec<Option<f64>> = vec![None; plan.jobs.len()];
    let mut random = fastrand::Rng::with_seed(plan.seed);
    for round in 0..plan.rounds {
        for (job, rate) in plan.jobs.iter().zip(&mut rates) {
            rounds.each_arm(round, job, Pace::Closed, &mut random);
            if job.can_be_open() {
                *rate = rate.or_else(|| rounds.open_rate(&job.name));
                if let Some(rate) = *rate {
                    rounds.each_arm(
                        round,
                        job,
                        Pace::Open { rate, arrivals: Arrivals::Poisson },
                        &mut random,
                    );
                }
            }
        }
    }
    rounds.count_calls();
    let Rounds { samples, trouble, .. } = rounds;
    let mut left_out = std::mem::take(&mut stage.left_out);
    left_out.extend(trouble);
    Ok(Comparison {
        schema: SCHEMA,
        conditions,
        ratios: ratios(&samples),
        samples,
        left_out,
        interrupted: stop.load(Ordering::Relaxed),
    })
}

/// Weir over each, and Weir that spins over each: both over peers and no proxy, and the second over the first.
fn ratios(samples: &[Sample]) -> Vec<Ratio> {
    let [weir, again, before, spins] =
        [Arm::Weir, Arm::WeirAgain, Arm::WeirBefore, Arm::WeirBusyPoll].map(Arm::name);
    let mut ratios = statistics::ratios(samples, weir, |arm| arm != spins);
    ratios.extend(statistics::ratios(samples, spins, |arm| arm != again && arm != before));
    statistics::judge(&mut ratios, |ratio| ratio.theirs == again);
    ratios
}

/// The rounds under way.
struct Rounds<'a> {
    plan: &'a Plan,
    stop: &'a AtomicBool,
    stage: &'a mut Stage,
    print: &'a mut dyn FnMut(&str),
    samples: Vec<Sample>,
    /// Samples that could not be made, each with its reason.
    trouble: Vec<String>,
}

impl Rounds<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One sample of each arm, in an order of its own. The plan of an open loop is the same for all arms of a round.
    fn each_arm(&mut self, round: u32, job: &Job, pace: Pace, random: &mut fastrand::Rng) {
        let mut arms = self.stage.arms();
        arms.retain(|arm| self.plan.has(*arm, job));
        random.shuffle(&mut arms);
        let seed = random.u64(..);
        for arm in arms {
            if self.stopped() {
                return;
            }
            let order = Order { round, arm, job, pace, seed };
            let sample = sample::take(self.plan, self.stage, order, self.stop);
            let head = format!("round {}/{}", round + 1, self.plan.rounds);
            match sample {
                Err(error) if error.is::<Overdue>() => {
                    return self.trouble(format!("{head} {} {}: {error}", job.name, arm.name()));
                }
                // A run that was cut short is no sample.
                _ if self.stopped() => return,
                Ok(sample) => {
                    (self.print)(&format!("{head} {}", table::progress(&sample)));
                    self.samples.push(sample);
                }
                Err(error) => self.trouble(format!("{head} {} {}: {error:#}", job.name, arm.name())),
            }
        }
    }

    fn trouble(&mut self, line: String) {
        (self.print)(&line);
        self.trouble.push(line);
    }

    /// The rate that all arms can hold, from the samples of a closed loop so far.
    fn open_rate(&self, work: &str) -> Option<f64> {
        let proxies =
            self.samples.iter().filter(|sample| sample.work == work && sample.arm != Arm::Direct.name());
        let slowest = proxies.map(|sample| sample.rate).reduce(f64::min)?;
        let rate = (slowest * OPEN_SHARE).floor();
        (rate >= 1.0).then_some(rate)
    }

    /// System calls are counted in a round of its own, for counting them costs CPU.
    fn count_calls(&mut self) {
        for job in self.plan.jobs.iter().filter(|job| Unit::of(&job.name) != Unit::Connection) {
            for arm in self.stage.arms() {
                if arm == Arm::Direct || !self.plan.has(arm, job) {
                    continue;
                }
                if self.stopped() {
                    return self
                        .trouble("system calls were not counted, or not all: it was interrupted".to_owned());
                }
                let order = Order { round: 0, arm, job, pace: Pace::Closed, seed: self.plan.seed };
                match sample::count_calls(self.plan, self.stage, order, self.stop) {
                    Ok(calls) => {
                        let its = |sample: &&mut Sample| {
                            sample.work == job.name && sample.arm == arm.name() && sample.pace == "closed"
                        };
                        self.samples.iter_mut().filter(its).for_each(|sample| sample.calls = Some(calls));
                    }
                    Err(error) if self.stopped() && !error.is::<Overdue>() => continue,
                    // If one of them is refused, all are.
                    Err(error) => return self.trouble(format!("system calls were not counted: {error:#}")),
                }
            }
        }
    }
}
