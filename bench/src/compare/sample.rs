//! One sample: the same work through one arm, and its cost to the arm.

use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};

use super::account::{Family, Reading};
use super::arms::Arm;
use super::job::{Job, Unit};
use super::plan::Plan;
use super::result::Sample;
use super::stage::Stage;
use super::watchdog::within;
use crate::drive::{self, Moment};
use crate::gates;
use crate::ledger::Outcome;
use crate::settings::{Pace, Part, Settings};

/// An operation that takes longer is given up.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last answers are waited for.
const DRAIN: Duration = Duration::from_secs(1);
/// Time that a run may take beyond its own: for starting, for the slowest of ramps, for a host that is busy with something else.
const SLACK: Duration = Duration::from_secs(60);
/// Planned operations that may wait for a connection.
const WAITING: usize = 100_000;
/// How long system calls are counted, and the work that it is done in: perf takes some time to begin.
const COUNTED: Duration = Duration::from_secs(1);
const COUNTED_IN: Duration = Duration::from_millis(1700);

/// The work of one sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    /// Which round, from 0.
    pub(super) round: u32,
    /// Through which arm.
    pub(super) arm: Arm,
    /// The work.
    pub(super) job: &'a Job,
    /// When.
    pub(super) pace: Pace,
    /// Where chance starts.
    pub(super) seed: u64,
}

impl Order<'_> {
    fn settings(&self, plan: &Plan, stage: &Stage) -> Settings {
        Settings {
            target: stage.target(self.arm, self.job),
            parts: vec![Part { name: self.job.name.clone(), work: self.job.work.clone(), pace: self.pace }],
            cores: vec![plan.load_core],
            warmup: plan.warmup,
            duration: plan.duration,
            drain: DRAIN,
            operations: None,
            timeout: TIMEOUT,
            verify: plan.verify,
            sources: stage.layout.sources(),
            waiting: WAITING,
            seed: self.seed,
        }
    }
}

/// Figures read when measuring began, or when it ended.
struct Readings {
    proxy: Reading,
    /// Client and back ends, which share a core.
    load: Reading,
    /// Counted for a hold only.
    upstream_connections: usize,
}

/// Takes one.
///
/// # Errors
///
/// When the arm has ended, or the driver could not run at all.
pub(super) fn take(
    plan: &Plan,
    stage: &mut Stage,
    order: Order<'_>,
    stop: &AtomicBool,
) -> anyhow::Result<Sample> {
    let unit = Unit::of(&order.job.name);
    if unit == Unit::Connection {
        stage.restart(order.arm)?;
    }
    stage.wait_until_quiet()?;
    let settings = order.settings(plan, stage);
    let proxy = stage.family(order.arm)?;
    let load = Family::together([Family::alone(std::process::id()), stage.ends()]);
    let before = proxy.read()?;
    let read = || {
        let (proxy, load) = (proxy.read()?, load.read()?);
        let upstream_connections = if unit == Unit::Connection { stage.upstream_connections() } else { 0 };
        anyhow::Ok(Readings { proxy, load, upstream_connections })
    };
    let mut readings = Vec::new();
    let mut watch = |moment: &Moment<'_>| {
        if matches!(moment, Moment::Begins | Moment::Ends) {
            readings.push(read());
        }
    };
    let outcome = within(limit(&settings), stop, || drive::run(&settings, stop, &mut watch))?;
    // If the arm has ended by itself, its own output is the better message.
    stage.family(order.arm)?;
    let Ok([begins, ends]) = <[_; 2]>::try_from(readings) else { bail!("it was never measured") };
    Ok(sample(order, before.resident, &begins?, &ends?, &outcome))
}

/// Time after which a run has gone wrong.
fn limit(settings: &Settings) -> Duration {
    settings.warmup + settings.duration + settings.drain + settings.timeout + SLACK
}

fn sample(
    order: Order<'_>,
    resident_before: u64,
    begins: &Readings,
    ends: &Readings,
    outcome: &Outcome,
) -> Sample {
    let (job, ledger) = (order.job, &outcome.parts[0].ledger);
    let unit = Unit::of(&job.name);
    // Both, for with a busy host the first of them may be closed again when we come to read.
    let held = begins.upstream_connections.max(ends.upstream_connections).min(job.connections());
    let operations = match unit {
        Unit::Operation => ledger.ok as f64,
        Unit::Gigabyte => (ledger.bytes_up + ledger.bytes_down) as f64 / 1e9,
        Unit::Connection => held as f64,
    };
    let not_done = ledger.failed + ledger.timeout + ledger.dropped;
    let bad = match (unit, order.pace) {
        (Unit::Connection, _) => not_done.max((job.connections() - held) as u64),
        (_, Pace::Open { .. }) => not_done + ledger.unfinished,
        // A closed loop that is stopped always has some under way.
        (_, Pace::Closed) => not_done,
    };
    let (times, pace) = match order.pace {
        Pace::Closed => (&ledger.service, "closed".to_owned()),
        Pace::Open { rate, .. } => (&ledger.response, format!("open {rate:.0}/s")),
    };
    // A stream is one operation as long as the run, and a hold has none: neither has times worth comparing.
    let quantile = |quantile| match unit {
        Unit::Operation => gates::percentile(times, quantile).map_or(0.0, |time| time as f64 / 1e3),
        Unit::Gigabyte | Unit::Connection => 0.0,
    };
    let wall = (ends.proxy.at - begins.proxy.at).as_secs_f64();
    let cpu = spent(&begins.proxy, &ends.proxy);
    let switches = ends.proxy.switches.saturating_sub(begins.proxy.switches) as f64;
    let resident = begins.proxy.resident.max(ends.proxy.resident);
    let grown = resident.saturating_sub(resident_before) as f64;
    let gates = gates::judge(outcome).into_iter().filter(|gate| !gate.passed);
    let rate = match unit {
        Unit::Operation | Unit::Gigabyte => operations / outcome.settings.duration.as_secs_f64(),
        Unit::Connection => 0.0,
    };
    Sample {
        round: order.round,
        arm: order.arm.name().to_owned(),
        work: job.name.clone(),
        pace,
        operations,
        cpu,
        cost: unit.cost(cpu, operations),
        rate,
        p50: quantile(0.5),
        p99: quantile(0.99),
        p999: quantile(0.999),
        resident,
        resident_per_connection: (unit == Unit::Connection && order.arm != Arm::Direct && held > 0)
            .then(|| grown / held as f64),
        switches: if operations > 0.0 { switches / operations } else { 0.0 },
        calls: None,
        arm_busy: cpu / wall,
        load_busy: spent(&begins.load, &ends.load) / wall,
        bad,
        faults: ledger.fault_count + u64::from(!ledger.adds_up()),
        gates: gates.map(|gate| gate.name.to_owned()).collect(),
    }
}

fn spent(begins: &Reading, ends: &Reading) -> f64 {
    ends.cpu.saturating_sub(begins.cpu).as_secs_f64()
}

/// System calls an operation of a closed loop, counted by perf for a second in the middle of a run that is not scored.
///
/// # Errors
///
/// When perf is not there or may not count.
pub(super) fn count_calls(
    plan: &Plan,
    stage: &mut Stage,
    order: Order<'_>,
    stop: &AtomicBool,
) -> anyhow::Result<f64> {
    stage.wait_until_quiet()?;
    let settings = Settings { duration: COUNTED_IN, ..order.settings(plan, stage) };
    let pids: Vec<String> = stage.family(order.arm)?.pids().iter().map(u32::to_string).collect();
    let seconds = COUNTED.as_secs().to_string();
    let mut perf = Command::new("perf");
    perf.args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", &pids.join(",")])
        .args(["--", "sleep", &seconds])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut counting = None;
    let mut watch = |moment: &Moment<'_>| {
        if matches!(moment, Moment::Begins) {
            counting = Some(perf.spawn());
        }
    };
    let outcome = within(limit(&settings), stop, || drive::run(&settings, stop, &mut watch))?;
    let counting = counting.context("it was never measured")?.context("perf cannot be started")?;
    let printed = String::from_utf8_lossy(&counting.wait_with_output()?.stderr).trim().to_owned();
    let Some(calls) = printed.lines().find_map(calls_counted) else { bail!("perf prints {printed:?}") };
    let ledger = &outcome.parts[0].ledger;
    let operations = match Unit::of(&order.job.name) {
        Unit::Gigabyte => (ledger.bytes_up + ledger.bytes_down) as f64 / 1e9,
        Unit::Operation | Unit::Connection => ledger.ok as f64,
    };
    anyhow::ensure!(operations > 0.0, "nothing was done while they were counted");
    Ok(calls / COUNTED.as_secs_f64() / (operations / COUNTED_IN.as_secs_f64()))
}

/// `123,,raw_syscalls:sys_enter,...` is 123.
fn calls_counted(line: &str) -> Option<f64> {
    let (count, rest) = line.split_once(',')?;
    if rest.contains("raw_syscalls") { count.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_perf_is_read_from_its_line_alone() {
        fn check(line: &str, expected: Option<f64>) {
            assert_eq!(calls_counted(line), expected, "{line}");
        }
        check("5210,,raw_syscalls:sys_enter,1000201,100.00,,", Some(5210.0));
        check("<not counted>,,raw_syscalls:sys_enter,0,100.00,,", None);
        check("Error: no permission, 5", None);
    }
}
