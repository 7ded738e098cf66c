//! The driver: threads, each with an epoll and its own connections, that carry out the plan.
//!
//! | step | file |
//! | --- | --- |
//! | threads are started, watched and added up | here |
//! | messages between threads and caller | `stage` |
//! | one thread: events, connections, time | `shard` |
//! | one part on one thread: its operations and free connections | `lane` |
//! | outcomes of operations | `account` |
//! | sockets, source addresses, errors of the host | `dial` |
//! | the things that a session may use, and its answers | `context` |
//! | a connection's work: one state machine each | `session`, `rr`, `crr`, `greeting`, `stream`, `churn` |
//! | requests made, answers recognised | `exchange` |

mod account;
mod churn;
mod clock;
mod context;
mod crr;
mod dial;
mod exchange;
mod greeting;
mod lane;
mod rr;
mod session;
mod shard;
mod stage;
mod stream;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};
use core_affinity::CoreId;

use crate::ledger::{Ledger, Outcome, PartOutcome, Second};
use crate::plan::Share;
use crate::settings::{Settings, Work};
use account::{Tally, Window};
use dial::Dialer;
use shard::{Ended, Shard};
use stage::{Report, Stage, Times};

/// A moment of a run that is reported to its watcher, on the thread that called [`run`].
#[derive(Debug)]
pub enum Moment<'a> {
    /// Measuring begins now: the warm-up is over, and all connections of a hold are open.
    Begins,
    /// A second has passed.
    Second(&'a Second),
    /// Measuring ends now.
    Ends,
}

/// How often the caller looks whether it has to stop.
const LOOK: Duration = Duration::from_millis(10);
/// How long before a run begins the threads learn its time: longer than any of them waits.
const NOTICE: u64 = 40_000_000;
/// How long standing connections may take to be made, beyond their ramp and one timeout.
const RAMP_SLACK: Duration = Duration::from_secs(5);

/// Carries out a run. Setting `stop` ends it early, with all that was measured so far.
///
/// # Errors
///
/// When threads, pinning, epoll or addresses are refused by the host, or not one connection could be made.
pub fn run(
    settings: &Settings,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(&Moment<'_>),
) -> anyhow::Result<Outcome> {
    let cores = cores(settings)?;
    dial::allow_files(settings)?;
    let sources = dial::sources(settings);
    dial::probe(settings, &sources)?;
    let stage = Stage::new(settings.timeout.as_nanos() as u64);
    std::thread::scope(|scope| {
        let (sender, reports) = channel();
        let mut threads = Vec::new();
        for (index, core) in cores.into_iter().enumerate() {
            let share = Share { index, of: settings.cores.len() };
            let dialer = Dialer::new(settings.target, &sources);
            threads.push(start(scope, settings, &stage, sender.clone(), (share, core), dialer)?);
        }
        drop(sender);
        let mut caller =
            Caller { settings, stop, stage: &stage, reports, seconds: Seconds::new(threads.len()) };
        let watched = caller.watch(watch);
        if watched.is_err() {
            stage.stop(clock::now());
        }
        let ended: Vec<anyhow::Result<Ended>> = threads.into_iter().map(join).collect();
        let interrupted = watched?;
        caller.seconds.finish(watch);
        let ended: Vec<Ended> = ended.into_iter().collect::<anyhow::Result<_>>()?;
        Ok(outcome(settings, &stage, ended, caller.seconds.done, interrupted))
    })
}

/// The cores of a run, all of which this process may use.
fn cores(settings: &Settings) -> anyhow::Result<Vec<CoreId>> {
    let usable =
        core_affinity::get_core_ids().context("this host does not report which cores may be used")?;
    let find = |wanted: &usize| {
        let found = usable.iter().find(|core| core.id == *wanted).copied();
        found.with_context(|| {
            let ids: Vec<String> = usable.iter().map(|core| core.id.to_string()).collect();
            format!("core {wanted} cannot be used: this process may run on {}", ids.join(", "))
        })
    };
    settings.cores.iter().map(find).collect()
}

fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    settings: &'scope Settings,
    stage: &'scope Stage,
    reports: Sender<Report>,
    (share, core): (Share, CoreId),
    dialer: Dialer,
) -> anyhow::Result<ScopedJoinHandle<'scope, anyhow::Result<Ended>>> {
    let thread = std::thread::Builder::new().name(format!("load-{}", core.id));
    let body = move || {
        if !core_affinity::set_for_current(core) {
            bail!("core {} cannot be used: the host refuses to pin a thread to it", core.id);
        }
        // Timers as exact as the kernel has them: its default lets them be 50 us late.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).context("cannot set the timer slack")?;
        let shard = Shard::new(settings, stage, reports, share, dialer).context("cannot make an epoll")?;
        shard.run().context("cannot wait for events")
    };
    thread.spawn_scoped(scope, body).context("cannot start a thread")
}

fn join(thread: ScopedJoinHandle<'_, anyhow::Result<Ended>>) -> anyhow::Result<Ended> {
    match thread.join() {
        Ok(ended) => ended,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The thread that called, while the others work.
struct Caller<'a> {
    settings: &'a Settings,
    stop: &'a AtomicBool,
    stage: &'a Stage,
    reports: Receiver<Report>,
    seconds: Seconds,
}

impl Caller<'_> {
    /// Lets the run begin when all is ready, and watches it until all threads have ended. Whether it was interrupted.
    fn watch(&mut self, watch: &mut dyn FnMut(&Moment<'_>)) -> anyhow::Result<bool> {
        if !self.ramp()? {
            return Ok(true);
        }
        let times = times(self.settings, clock::now() + NOTICE);
        self.stage.set(times);
        let (mut begun, mut ended, mut interrupted) = (false, false, false);
        loop {
            let now = clock::now();
            if !begun && now >= times.window.begin {
                begun = true;
                watch(&Moment::Begins);
            }
            if begun && !ended && (now >= times.window.end || interrupted) {
                ended = true;
                watch(&Moment::Ends);
            }
            let next = if begun { times.window.end } else { times.window.begin };
            let wait = Duration::from_nanos(next.saturating_sub(now)).min(LOOK);
            match self.reports.recv_timeout(if wait.is_zero() { LOOK } else { wait }) {
                Ok(Report::Second(at, tally)) => self.seconds.add(at, &tally, watch),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    if begun && !ended {
                        watch(&Moment::Ends);
                    }
                    return Ok(interrupted);
                }
            }
            if !interrupted && self.stop.load(Ordering::Relaxed) {
                interrupted = true;
                self.stage.stop(clock::now());
            }
        }
    }

    /// Waits until all standing connections are made; `false` when asked to stop before.
    fn ramp(&mut self) -> anyhow::Result<bool> {
        let deadline = clock::now() + ramp_time(self.settings).as_nanos() as u64;
        let mut waiting = self.settings.cores.len();
        while waiting > 0 {
            match self.reports.recv_timeout(LOOK) {
                Ok(Report::Up) => waiting -= 1,
                Ok(Report::Refused(error)) => return Err(dial::explain(error, self.settings)),
                Ok(Report::Second(..)) | Err(RecvTimeoutError::Timeout) => {}
                // Their own errors give the reason.
                Err(RecvTimeoutError::Disconnected) => return Ok(true),
            }
            if self.stop.load(Ordering::Relaxed) {
                self.stage.stop(clock::now());
                return Ok(false);
            }
            if clock::now() >= deadline {
                bail!(
                    "only {} of {} connections to {} could be made within {:?}; the last that broke: {}",
                    self.stage.up.load(Ordering::Relaxed),
                    dial::connections(self.settings),
                    self.settings.target,
                    ramp_time(self.settings),
                    self.stage.last_trouble()
                );
            }
        }
        Ok(true)
    }
}

fn ramp_time(settings: &Settings) -> Duration {
    let longest = settings.parts.iter().map(|part| match part.work {
        Work::Hold { connections, ramp, .. } => Duration::from_secs_f64(connections as f64 / ramp * 1.5),
        _ => Duration::from_micros(500) * part.work.connections() as u32,
    });
    settings.timeout + RAMP_SLACK + longest.max().unwrap_or_default()
}

fn times(settings: &Settings, start: u64) -> Times {
    let begin = start + settings.warmup.as_nanos() as u64;
    let end = begin + settings.duration.as_nanos() as u64;
    Times { start, window: Window { begin, end }, last: end + settings.drain.as_nanos() as u64 }
}

/// The seconds of a run, as the threads report them.
struct Seconds {
    threads: usize,
    /// Seconds that not all threads have reported yet, and how many have.
    open: BTreeMap<i64, (usize, Tally)>,
    done: Vec<Second>,
}

impl Seconds {
    fn new(threads: usize) -> Seconds {
        Seconds { threads, open: BTreeMap::new(), done: Vec::new() }
    }

    fn add(&mut self, at: i64, tally: &Tally, watch: &mut dyn FnMut(&Moment<'_>)) {
        let (threads, sum) = self.open.entry(at).or_insert_with(|| (0, Tally::new()));
        *threads += 1;
        sum.add(tally);
        while let Some(first) = self.open.first_entry().filter(|first| first.get().0 == self.threads) {
            let (at, (_, sum)) = first.remove_entry();
            self.report(at, &sum, watch);
        }
    }

    /// The rest, when some threads ended in the middle of a second.
    fn finish(&mut self, watch: &mut dyn FnMut(&Moment<'_>)) {
        while let Some((at, (_, sum))) = self.open.pop_first() {
            self.report(at, &sum, watch);
        }
    }

    fn report(&mut self, at: i64, sum: &Tally, watch: &mut dyn FnMut(&Moment<'_>)) {
        let p50 = sum.times.value_at_quantile(0.5);
        let p99 = sum.times.value_at_quantile(0.99);
        let length = sum.length as f64 / clock::SECOND as f64;
        let second = Second { at, length, ok: sum.ok, bad: sum.bad, bytes: sum.bytes, p50, p99 };
        watch(&Moment::Second(&second));
        self.done.push(second);
    }
}

fn outcome(
    settings: &Settings,
    stage: &Stage,
    ended: Vec<Ended>,
    seconds: Vec<Second>,
    interrupted: bool,
) -> Outcome {
    let begin = stage.times().map_or(u64::MAX, |times| times.window.begin);
    let until = ended.iter().map(|thread| thread.until).max().unwrap_or_default();
    let elapsed = Duration::from_nanos(until.saturating_sub(begin));
    let mut ledgers: Vec<Ledger> = settings.parts.iter().map(|_| Ledger::new()).collect();
    for thread in &ended {
        for (sum, own) in ledgers.iter_mut().zip(&thread.ledgers) {
            sum.add(own);
        }
    }
    let parts = settings.parts.iter().zip(ledgers);
    let parts = parts.map(|(part, ledger)| PartOutcome { part: part.clone(), ledger }).collect();
    let busy = ended.iter().map(|thread| thread.busy).collect();
    Outcome { settings: settings.clone(), parts, elapsed, seconds, busy, interrupted }
}
