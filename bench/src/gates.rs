//! May the figures of a run be believed? One gate for each way they could lie.
//!
//! A gate that does not apply to a run is not asked: a closed loop has no plan to fall behind. The command line turns the answers
//! into an exit code, and `report` shows them.

use serde::Serialize;

use crate::human;
use crate::ledger::{Ledger, Outcome, PartOutcome, Times};
use crate::payload::fault::{Fault, FaultKind};
use crate::payload::frame::HEADER;
use crate::settings::{Direction, Exchange, Pace, Verify, Work};

/// Share of the planned operations that must be done, and done in time. Below it a queue grows for as long as the run lasts, and
/// every percentile shows how long the run was.
pub const ACHIEVED: f64 = 0.99;

/// Share of the response's 99th percentile that the generator's own lateness may reach at its own 99th percentile. Response counts
/// from the plan, so lag is inside it: at a quarter the figure is at most a third higher than the system's own.
pub const LAG_SHARE: f64 = 0.25;

/// Lag that is always allowed, in nanoseconds: the kernel's timer slack is 50 us, and an idle virtual core takes some 100 us to wake.
pub const LAG_FLOOR: u64 = 250_000;

/// How busy a thread of the generator may be. By queueing theory work waits four times its own length at 80 %, and soon for ever.
pub const OWN_CORE: f64 = 0.80;

/// How far the rates of a run's halves may be apart.
pub const STEADY: f64 = 0.10;

/// Whole seconds below which a run has no halves to compare.
pub const STEADY_SECONDS: usize = 4;

/// Standard deviations of mere counting (the root of the count) that halves may differ by all the same: 10 % of a few hundred is chance.
pub const STEADY_SIGMAS: f64 = 3.0;

/// Samples that must lie above a percentile: with fewer, it is the luck of one or two operations.
pub const TAIL: u64 = 10;

/// The percentile that a run has to have samples for. Higher ones are withheld where samples are too few, which is no lie.
pub const WANTED: f64 = 0.99;

/// One question and its answer.
#[derive(Clone, Debug, Serialize)]
pub struct Gate {
    /// "achieved", "lag", "drops", "own core", "steady", "samples", "conservation", "peer", "integrity".
    pub name: &'static str,
    /// Whether it holds.
    pub passed: bool,
    /// The finding, the wanted value and the remedy, in a sentence.
    pub message: String,
}

/// Asks all that apply to the run.
pub fn judge(outcome: &Outcome) -> Vec<Gate> {
    let questions = [achieved, lag, drops, own_core, steady, samples, conservation, peer, integrity];
    questions.iter().filter_map(|question| question(outcome)).collect()
}

/// Whether all gates hold.
pub fn valid(gates: &[Gate]) -> bool {
    gates.iter().all(|gate| gate.passed)
}

/// Samples without which a quantile (0 to 1) means nothing.
pub fn needed(quantile: f64) -> u64 {
    (TAIL as f64 / (1.0 - quantile)).round() as u64
}

/// The value at a quantile (0 to 1) in nanoseconds, or none where samples are too few.
pub fn percentile(times: &Times, quantile: f64) -> Option<u64> {
    (times.len() >= needed(quantile)).then(|| times.value_at_quantile(quantile))
}

/// The times a part is judged by, and their name: response in an open loop; a closed one only has service times.
pub fn judged(part: &PartOutcome) -> (&'static str, &Times) {
    match part.part.pace {
        Pace::Open { .. } => ("response", &part.ledger.response),
        Pace::Closed => ("service", &part.ledger.service),
    }
}

fn gate(name: &'static str, passed: bool, message: String) -> Option<Gate> {
    Some(Gate { name, passed, message })
}

fn is_open(part: &&PartOutcome) -> bool {
    matches!(part.part.pace, Pace::Open { .. })
}

/// Parts with a plan.
fn open(outcome: &Outcome) -> impl Iterator<Item = &PartOutcome> {
    outcome.parts.iter().filter(is_open)
}

/// Operations done of an open loop's plan, and those that would be under way at any moment if none queued (Little's law).
struct InTime {
    done: u64,
    planned: u64,
    under_way: u64,
}

/// Operations done by the time the plan ended: those that the drain made good afterwards are late, though they are done. None where
/// the seconds hold operations of a closed loop as well.
fn in_time(outcome: &Outcome) -> Option<InTime> {
    let length = outcome.elapsed.min(outcome.settings.duration).as_secs_f64();
    if outcome.seconds.is_empty() || length <= 0.0 || !outcome.parts.iter().all(|part| is_open(&part)) {
        return None;
    }
    let within = |at: i64| at >= 0 && (at as f64) < length;
    let done = outcome.seconds.iter().filter(|second| within(second.at)).map(|second| second.ok).sum();
    let planned = outcome.parts.iter().map(|part| part.ledger.planned).sum();
    let busy = |part: &PartOutcome| part.ledger.service.mean() / 1e9 * part.ledger.planned as f64 / length;
    let under_way = outcome.parts.iter().map(busy).sum::<f64>().ceil() as u64;
    Some(InTime { done, planned, under_way })
}

fn achieved(outcome: &Outcome) -> Option<Gate> {
    let share = |done: u64, planned: u64| if planned == 0 { 1.0 } else { done as f64 / planned as f64 };
    let share_done = |what: &str, done: u64, planned: u64| {
        let percent = human::percent(share(done, planned));
        format!(
            "{what}: {} of {} planned ({percent}), at least 99 % wanted",
            human::count(done),
            human::count(planned)
        )
    };
    let refuse = |found: String, advice: &str| gate("achieved", false, format!("{found}: {advice}"));
    let slower = "these are the figures of an overloaded or failing system; lower --rate until it keeps up";
    // A closed loop has no plan to fall behind, but a failed operation has no service time: those that remain are of the survivors.
    for part in outcome.parts.iter().filter(|part| !is_open(part)) {
        let Ledger { ok, planned, unfinished, .. } = part.ledger;
        let begun = planned.saturating_sub(unfinished);
        if share(ok, begun) < ACHIEVED {
            return refuse(
                share_done(&format!("{} done", part.part.name), ok, begun),
                "these are the figures of those that did not fail; see the errors",
            );
        }
    }
    open(outcome).next()?;
    for part in open(outcome) {
        let Ledger { ok, planned, .. } = part.ledger;
        if share(ok, planned) < ACHIEVED {
            return refuse(share_done(&format!("{} done", part.part.name), ok, planned), slower);
        }
    }
    if let Some(InTime { done, planned, under_way }) = in_time(outcome)
        && share(done + under_way, planned) < ACHIEVED
    {
        return refuse(share_done("done before the plan ended", done, planned), slower);
    }
    let (ok, planned) =
        open(outcome).fold((0, 0), |sum, part| (sum.0 + part.ledger.ok, sum.1 + part.ledger.planned));
    gate("achieved", true, share_done("done", ok, planned))
}

fn lag(outcome: &Outcome) -> Option<Gate> {
    let bound = |part: &PartOutcome| {
        let tail = part.ledger.response.value_at_quantile(0.99) as f64;
        LAG_FLOOR.max((tail * LAG_SHARE) as u64)
    };
    let late = |part: &PartOutcome| part.ledger.lag.value_at_quantile(0.99);
    let excess = |part: &PartOutcome| late(part) as f64 / bound(part) as f64;
    let worst = open(outcome).max_by(|one, other| excess(one).total_cmp(&excess(other)))?;
    let (found, bound) = (late(worst), bound(worst));
    let mut message = format!(
        "the generator noticed arrivals of {} late by {} at p99, at most {} wanted (a quarter of the response's p99, or 250 us)",
        worst.part.name,
        human::time(found),
        human::time(bound)
    );
    if found > bound {
        message +=
            ": response times are in part its own; lower --rate, or give it a core that nothing else uses";
    }
    gate("lag", found <= bound, message)
}

fn drops(outcome: &Outcome) -> Option<Gate> {
    open(outcome).next()?;
    let dropped: u64 = open(outcome).map(|part| part.ledger.dropped).sum();
    let message = if dropped == 0 {
        "no operation was dropped".to_owned()
    } else {
        format!(
            "{} never begun, as {} were waiting already: lower --rate, or use more connections",
            human::counted(dropped, "operation"),
            human::count(outcome.settings.waiting as u64)
        )
    };
    gate("drops", dropped == 0, message)
}

fn own_core(outcome: &Outcome) -> Option<Gate> {
    let busiest = outcome.busy.iter().max_by(|one, other| one.share().total_cmp(&other.share()))?;
    let share = busiest.share();
    let mut message =
        format!("the generator used {} of core {}, at most 80 % wanted", human::percent(share), busiest.core);
    let passed = share <= OWN_CORE;
    if !passed {
        if outcome.parts.iter().any(|part| is_open(&part)) {
            message += "; it queues its own work, so response times cannot be believed";
        }
        if outcome.parts.iter().any(|part| !is_open(&part)) {
            message += "; the rate of the closed loop is the generator's limit, not the system's";
        }
        message += ": give it more --cores, or less to do";
    }
    gate("own core", passed, message)
}

fn steady(outcome: &Outcome) -> Option<Gate> {
    let only_streams = outcome.parts.iter().all(|part| matches!(part.part.work, Work::Stream { .. }));
    let length = outcome.elapsed.min(outcome.settings.duration).as_secs_f64();
    let whole = |at: i64| at >= 0 && (at + 1) as f64 <= length;
    let figures: Vec<u64> = outcome
        .seconds
        .iter()
        .filter(|second| whole(second.at))
        .map(|second| if only_streams { second.bytes } else { second.ok })
        .collect();
    let half = figures.len() / 2;
    let first: u64 = figures[..half].iter().sum();
    let second: u64 = figures[figures.len() - half..].iter().sum();
    if figures.len() < STEADY_SECONDS || first + second == 0 {
        return None;
    }
    let apart = first.abs_diff(second) as f64 / first.max(second) as f64;
    // Bytes come by the thousand: counting noise is no measure for them.
    let chance = if only_streams { 0.0 } else { STEADY_SIGMAS * ((first + second) as f64).sqrt() };
    let passed = apart <= STEADY || first.abs_diff(second) as f64 <= chance;
    let figure = |sum: u64| {
        let rate = sum as f64 / half as f64;
        if only_streams { format!("{}/s", human::bytes(rate)) } else { human::rate(rate) }
    };
    let mut message = format!(
        "first half {}, second half {}: {} apart, at most 10 % wanted",
        figure(first),
        figure(second),
        human::percent(apart)
    );
    if !passed {
        message += "; one figure cannot stand for both: use a longer --warmup, and look for the change";
    }
    gate("steady", passed, message)
}

/// Whether a part is run for the times of its operations.
fn is_timed(part: &&PartOutcome) -> bool {
    !matches!(part.part.work, Work::Stream { .. } | Work::Hold { heartbeat: None, .. } | Work::Churn { .. })
}

fn samples(outcome: &Outcome) -> Option<Gate> {
    let fewest = outcome.parts.iter().filter(is_timed).min_by_key(|part| judged(part).1.len())?;
    let (kind, times) = judged(fewest);
    let found = times.len();
    let (name, wanted) = (&fewest.part.name, needed(WANTED));
    let mut message = format!(
        "{name} has {}, p99 needs {}",
        human::counted(found, &format!("{kind} time")),
        human::count(wanted)
    );
    if found < wanted {
        message += ": run longer, or at a higher rate";
    } else if found < needed(0.999) {
        message += &format!(" (p99.9 needs {} and is withheld)", human::count(needed(0.999)));
    }
    gate("samples", found >= wanted, message)
}

fn conservation(outcome: &Outcome) -> Option<Gate> {
    for PartOutcome { part, ledger } in &outcome.parts {
        if !ledger.adds_up() {
            let message = format!(
                "{}: {} planned, but {} ended somehow: this is a defect of weir-bench, believe none of it",
                part.name,
                human::count(ledger.planned),
                human::count(ledger.ended())
            );
            return gate("conservation", false, message);
        }
        let timed = ledger.response.len();
        if matches!(part.pace, Pace::Open { .. }) && timed != ledger.planned {
            let message = format!(
                "{}: {} planned, but {} response times: this is a defect of weir-bench, believe none of it",
                part.name,
                human::count(ledger.planned),
                human::count(timed)
            );
            return gate("conservation", false, message);
        }
    }
    gate("conservation", true, "planned = ok + failed + timeout + unfinished + dropped".to_owned())
}

/// Whether a part's bytes carry their place.
fn is_verified(part: &PartOutcome) -> bool {
    let raw = |exchange: &Exchange| matches!(exchange, Exchange::Raw { .. });
    match &part.part.work {
        Work::Rr { exchange, .. } | Work::Crr { exchange, .. } => !raw(exchange),
        Work::Connect { .. } => false,
        Work::Stream { .. } | Work::Churn { .. } => true,
        Work::Hold { heartbeat, .. } => heartbeat.is_some(),
    }
}

/// The back end of ours that a part needs at the other end; none for those that get along with any server.
fn needed_peer(work: &Work) -> Option<&'static str> {
    match work {
        Work::Rr { exchange: Exchange::Framed { .. }, .. }
        | Work::Crr { exchange: Exchange::Framed { .. }, .. } => Some("rr"),
        Work::Hold { heartbeat: Some(_), .. } => Some("rr"),
        Work::Stream { direction: Direction::Up, .. } => Some("sink"),
        Work::Stream { direction: Direction::Down, .. } => Some("source"),
        Work::Stream { direction: Direction::Both, .. } | Work::Churn { .. } => Some("echo"),
        Work::Rr { .. } | Work::Crr { .. } | Work::Hold { .. } | Work::Connect { .. } => None,
    }
}

/// The peer that a part needed, where something else answered: not one answer was of it, and all that came was too little for one
/// or nothing that it ever sends. A path that spoils bytes leaves traces of them; a server of another protocol does not.
fn missing_peer(PartOutcome { part, ledger }: &PartOutcome) -> Option<&'static str> {
    let needed = needed_peer(&part.work)?;
    // The others may end in order before a byte has come.
    let exchanges = !matches!(part.work, Work::Stream { .. } | Work::Churn { .. });
    let done = exchanges && ledger.ok > 0;
    // From the beginning on; a first byte or two may be right by chance.
    let strange = |fault: &Fault| fault.offset < HEADER as u64 && fault.kind == FaultKind::Garbage;
    let answered = if ledger.fault_count > 0 {
        ledger.faults.iter().all(strange)
    } else {
        (1..ledger.opened * HEADER as u64).contains(&ledger.bytes_down)
    };
    (!done && answered).then_some(needed)
}

/// Asked only where the answer is no.
fn peer(outcome: &Outcome) -> Option<Gate> {
    let (part, needed) =
        outcome.parts.iter().find_map(|part| Some((&part.part.name, missing_peer(part)?)))?;
    let mut message = format!(
        "the server that answers {part} at {} is not a weir-bench peer: run `weir-bench serve {needed}` there",
        outcome.settings.target
    );
    if needed == "rr" {
        message += ", or give the bytes of another protocol with --send and --expect";
    }
    gate("peer", false, message)
}

fn integrity(outcome: &Outcome) -> Option<Gate> {
    if peer(outcome).is_some() {
        return None;
    }
    let faults: u64 = outcome.parts.iter().map(|part| part.ledger.fault_count).sum();
    let looked = outcome.settings.verify != Verify::Off && outcome.parts.iter().any(is_verified);
    if faults > 0 {
        let first = outcome.parts.iter().flat_map(|part| &part.ledger.faults).next();
        let first = first.map(|fault| format!(", the first: {fault}")).unwrap_or_default();
        let message = format!(
            "{} in the bytes that came back{first}: the path does not keep its bytes",
            human::counted(faults, "fault")
        );
        return gate("integrity", false, message);
    }
    let how = if outcome.settings.verify == Verify::Full { "every byte" } else { "headers and stamps" };
    looked.then(|| Gate { name: "integrity", passed: true, message: format!("{how} as sent") })
}

#[cfg(test)]
mod tests;
