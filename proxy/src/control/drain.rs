//! The end of a process, decided step by step: not ready, then not accepting, then waiting for sessions, then resetting those that
//! are left. The control loop carries the steps out; time and counts are arguments.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::event::Signal;

/// How often the number of sessions is compared. It bounds how late the process ends.
const LOOK: Duration = Duration::from_millis(10);

/// How long after the last reset was due a session may take to end, before the process ends all the same.
const GRACE: Duration = Duration::from_secs(1);

/// Remaining sessions are reset evenly over this last part of `drain_timeout`, so that clients do not all reconnect at once.
const RESETTING_PART: u32 = 5;

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    timeout: Option<Duration>,
    /// A TERM has come. QUIT alone sets no deadline.
    is_terminated: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// `drain_delay`: not ready, but new connections are still served.
    Accepting { until: Instant },
    /// Listeners are closing or closed. `since`: from when on `drain_timeout` counts.
    Waiting { since: Option<Instant>, is_resetting: bool },
    /// A second TERM: all sessions are reset; the process ends at `until` at the latest.
    ResettingNow { until: Option<Instant> },
}

/// The fleet's state, which a drain decides by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remaining {
    /// Some listener is still open: it closes a little after it is ordered to, and adds sessions until then.
    pub(super) is_accepting: bool,
    /// Open and dialling connections.
    pub(super) sessions: u64,
}

impl Remaining {
    fn is_nothing(self) -> bool {
        !self.is_accepting && self.sessions == 0
    }
}

/// One step of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Close every listener.
    pub(super) stop_accepting: bool,
    /// Reset every session, evenly over this time.
    pub(super) reset_within: Option<Duration>,
    /// When the next step is due; an event makes it due at once.
    pub(super) until: Instant,
}

impl Step {
    fn wait(until: Instant) -> Self {
        Self { stop_accepting: false, reset_within: None, until }
    }
}

impl Drain {
    /// A drain that begins now with `signal`, one of those that end the process.
    pub(super) fn new(signal: Signal, delay: Duration, timeout: Option<Duration>, now: Instant) -> Self {
        let stage = Stage::Accepting { until: now + delay };
        Self { timeout, is_terminated: signal == Signal::Terminate, stage }
    }

    /// `drain_timeout`, where it holds.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.timeout.filter(|_| self.is_terminated)
    }

    /// Whether listeners stay open for now.
    pub(super) fn is_accepting(&self) -> bool {
        matches!(self.stage, Stage::Accepting { .. })
    }

    /// Takes a further signal. A second TERM ends the waiting.
    pub(super) fn on_signal(&mut self, signal: Signal, remaining: Remaining) {
        match signal {
            Signal::Terminate if self.is_terminated => {
                if !matches!(self.stage, Stage::ResettingNow { .. }) {
                    info!(sessions = remaining.sessions, "a second signal: remaining sessions are reset now");
                    self.stage = Stage::ResettingNow { until: None };
                }
            }
            Signal::Terminate => {
                info!("from now on the drain has a deadline");
                self.is_terminated = true;
            }
            Signal::Quit => info!("QUIT: draining already"),
            Signal::Reload => warn!("HUP is refused: draining"),
            Signal::HandOver => warn!("USR2 is refused: draining"),
        }
    }

    /// The next step; none: the drain is over.
    pub(super) fn step(&mut self, remaining: Remaining, now: Instant) -> Option<Step> {
        let deadline = self.deadline();
        match &mut self.stage {
            Stage::Accepting { until } if now < *until => Some(Step::wait(*until)),
            Stage::Accepting { .. } => {
                self.stage = Stage::Waiting { since: None, is_resetting: false };
                Some(Step { stop_accepting: true, ..Step::wait(now) })
            }
            Stage::Waiting { .. } if remaining.is_nothing() => {
                info!("drained");
                None
            }
            Stage::Waiting { since, is_resetting } => {
                let mut step = Step::wait(now + LOOK);
                let Some(timeout) = deadline else { return Some(step) };
                let since = *since.get_or_insert(now);
                let (elapsed, spread) = (now.saturating_duration_since(since), timeout / RESETTING_PART);
                if elapsed >= timeout + GRACE {
                    warn!(sessions = remaining.sessions, "sessions outlived the deadline");
                    return None;
                }
                if !*is_resetting && elapsed >= timeout - spread {
                    info!(
                        sessions = remaining.sessions,
                        "the deadline is near; remaining sessions are reset"
                    );
                    *is_resetting = true;
                    step.reset_within = Some(spread);
                }
                if elapsed >= timeout {
                    // Sessions that a closing listener or a mailbox has added since.
                    step.reset_within = Some(Duration::ZERO);
                }
                Some(step)
            }
            Stage::ResettingNow { until: Some(_) } if remaining.is_nothing() => None,
            Stage::ResettingNow { until } => {
                let is_first = until.is_none();
                let until = *until.get_or_insert(now + GRACE);
                // Again each time, for a closing listener still adds sessions.
                let step = Step { stop_accepting: is_first, ..Step::wait(now + LOOK) };
                (now < until).then_some(Step { reset_within: Some(Duration::ZERO), ..step })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: u64 = 100;
    const TIMEOUT: u64 = 1000;

    /// Steps at these milliseconds, with a signal before some of them, and sessions that are still there; "-" is a step that only
    /// waits, "stop" closes the listeners, a number resets within so many milliseconds, "end" is the end.
    #[track_caller]
    fn check(first: Signal, steps: &[(u64, Option<Signal>, u64, &str)]) {
        let start = Instant::now();
        let mut drain =
            Drain::new(first, Duration::from_millis(DELAY), Some(Duration::from_millis(TIMEOUT)), start);
        for &(at, signal, sessions, expected) in steps {
            let remaining = Remaining { is_accepting: false, sessions };
            if let Some(signal) = signal {
                drain.on_signal(signal, remaining);
            }
            let step = drain.step(remaining, start + Duration::from_millis(at));
            let words = match step {
                None => "end".to_owned(),
                Some(Step { stop_accepting, reset_within, .. }) => {
                    let stop = stop_accepting.then(|| "stop".to_owned());
                    let reset = reset_within.map(|within| within.as_millis().to_string());
                    let words: Vec<String> = stop.into_iter().chain(reset).collect();
                    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
                }
            };
            assert_eq!(words, expected, "at {at} ms with {sessions} sessions, after {first:?}");
        }
    }

    #[test]
    fn listeners_close_after_the_delay_and_the_end_is_when_no_session_is_left() {
        check(Signal::Terminate, &[(0, None, 1, "-"), (99, None, 1, "-"), (100, None, 1, "stop")]);
        check(Signal::Terminate, &[(100, None, 0, "stop"), (100, None, 0, "end")]);
        check(Signal::Terminate, &[(100, None, 1, "stop"), (110, None, 1, "-"), (120, None, 0, "end")]);
    }

    #[test]
    fn remaining_sessions_are_reset_over_the_last_fifth_of_the_timeout() {
        let closed = [(100, None, 3, "stop"), (100, None, 3, "-"), (899, None, 3, "-")];
        let late = [(900, None, 3, "200"), (1000, None, 2, "-"), (1100, None, 1, "0")];
        let end = [(2099, None, 1, "0"), (2100, None, 1, "end")];
        check(Signal::Terminate, &[&closed[..], &late, &end].concat());
    }

    #[test]
    fn quit_has_no_deadline_until_a_term_gives_it_one() {
        let quit = [(100, None, 1, "stop"), (9000, None, 1, "-")];
        let term = [(9000, Some(Signal::Terminate), 1, "-"), (9799, None, 1, "-"), (9800, None, 1, "200")];
        check(Signal::Quit, &[&quit[..], &term].concat());
    }

    #[test]
    fn a_second_term_resets_at_once_and_the_process_ends_within_the_grace() {
        let second = Some(Signal::Terminate);
        check(Signal::Terminate, &[(5, second, 2, "stop 0"), (15, None, 2, "0"), (25, None, 0, "end")]);
        check(Signal::Terminate, &[(5, second, 2, "stop 0"), (1004, second, 2, "0"), (1005, None, 2, "end")]);
        check(
            Signal::Terminate,
            &[(100, None, 2, "stop"), (110, second, 2, "stop 0"), (120, None, 0, "end")],
        );
        check(Signal::Terminate, &[(50, Some(Signal::Reload), 2, "-"), (60, Some(Signal::Quit), 2, "-")]);
    }
}
