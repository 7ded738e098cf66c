//! When to log that dials to a service fail: at the first failure, then at most every ten seconds with the sums since,
//! and once more when every endpoint connects again. Pure: readings of the board and the time are arguments.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_routing::endpoint_name;

use crate::boards::health::{FAILURES, Failed, Reading};

/// The least time between two warnings about one service.
const QUIET: Duration = Duration::from_secs(10);

/// How often the board is read while an endpoint fails: it bounds how late a line is.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Endpoints that a line names; the others are counted.
const NAMED: usize = 5;

/// A line of the process log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Dials fail.
    Failing {
        /// Where to.
        service: Arc<str>,
        /// Dials that failed since the last such line, or since the first failure.
        failed: u64,
        /// Dials that connected in the same time.
        connected: u64,
        /// "connect_refused 3, connect_timeout 1".
        reasons: String,
        /// Those whose last dial failed: "10.0.0.1:80, 10.0.0.2:80 and 3 more".
        endpoints: String,
    },
    /// The last dial to every endpoint has connected.
    Over {
        /// Where to.
        service: Arc<str>,
        /// Dials that failed since the first failure.
        failed: u64,
        /// Since then.
        lasted: Duration,
    },
}

/// A service, as the log knows it.
#[derive(Debug, Default)]
struct Service {
    /// The totals at the last line.
    logged: Totals,
    warned: Option<Instant>,
    outage: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    /// The lines about it so far.
    failed: u64,
}

/// Sums over the endpoints of a service.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    connected: u64,
    failed: Failed,
}

impl Totals {
    fn of(readings: &[Reading]) -> Self {
        let mut sum = Self::default();
        for reading in readings {
            sum.connected += reading.connected;
            sum.failed.iter_mut().zip(reading.failed).for_each(|(sum, failed)| *sum += failed);
        }
        sum
    }

    /// The increase since.
    fn since(&self, before: &Self) -> Self {
        let mut added = Self { connected: self.connected - before.connected, ..*self };
        added.failed.iter_mut().zip(before.failed).for_each(|(sum, before)| *sum -= before);
        added
    }

    /// An endpoint that left has taken its counts along.
    fn lower_to(&mut self, now: &Self) {
        self.connected = self.connected.min(now.connected);
        self.failed.iter_mut().zip(now.failed).for_each(|(sum, now)| *sum = (*sum).min(now));
    }

    fn all_failed(&self) -> u64 {
        self.failed.iter().sum()
    }
}

/// The services that failed, and when they were written about.
#[derive(Debug, Default)]
pub(super) struct Outages {
    services: HashMap<Arc<str>, Service>,
}

impl Outages {
    /// The lines that are due now. The readings of a service stand next to each other.
    pub(super) fn look(&mut self, now: Instant, readings: &[Reading]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut seen = Vec::new();
        for readings in readings.chunk_by(|one, other| one.service == other.service) {
            let name = &readings[0].service;
            seen.push(name);
            let totals = Totals::of(readings);
            match self.services.get_mut(name) {
                Some(service) => lines.extend(service.look(name, now, totals, readings)),
                None => {
                    // Nothing is remembered of a service that has never failed.
                    let mut service = Service::default();
                    if totals.all_failed() > 0 {
                        lines.extend(service.look(name, now, totals, readings));
                        self.services.insert(Arc::clone(name), service);
                    }
                }
            }
        }
        self.services.retain(|name, _| seen.contains(&name));
        lines
    }

    /// Whether a service has failed and that is not over.
    pub(super) fn are_open(&self) -> bool {
        self.services.values().any(|service| service.outage.is_some())
    }

    /// How long until it is worth looking again; `None`: until a dial fails.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.are_open().then_some(LOOK_AGAIN)
    }
}

impl Service {
    fn look(&mut self, name: &Arc<str>, now: Instant, totals: Totals, readings: &[Reading]) -> Option<Line> {
        self.logged.lower_to(&totals);
        let new = totals.since(&self.logged);
        let failing: Vec<&Reading> = readings.iter().filter(|reading| reading.is_failing).collect();
        if new.all_failed() > 0 {
            self.outage.get_or_insert(Outage { since: now, failed: 0 });
        }
        let outage = self.outage.as_mut()?;
        let service = Arc::clone(name);
        let may_warn = self.warned.is_none_or(|warned| now.duration_since(warned) >= QUIET);
        if new.all_failed() > 0 && may_warn {
            self.logged = totals;
            self.warned = Some(now);
            outage.failed += new.all_failed();
            let (reasons, endpoints) = (reasons(&new.failed), endpoints(&failing));
            return Some(Line::Failing {
                service,
                failed: new.all_failed(),
                connected: new.connected,
                reasons,
                endpoints,
            });
        }
        if outage.failed == 0 && failing.is_empty() && new.all_failed() == 0 {
            // It has no line yet, and the endpoint that failed has left the table: none is due any more.
            self.outage = None;
            return None;
        }
        // A failure without a line waits for its warning: an endpoint that fails now and then must not fill the log.
        if !failing.is_empty() || outage.failed == 0 {
            return None;
        }
        let failed = outage.failed + new.all_failed();
        let lasted = now.duration_since(outage.since);
        self.logged = totals;
        self.outage = None;
        Some(Line::Over { service, failed, lasted })
    }
}

fn reasons(failed: &Failed) -> String {
    let counted = FAILURES.iter().zip(failed).filter(|&(_, &count)| count > 0);
    let words: Vec<String> = counted.map(|(reason, count)| format!("{} {count}", reason.as_str())).collect();
    words.join(", ")
}

fn endpoints(failing: &[&Reading]) -> String {
    let named: Vec<String> =
        failing.iter().take(NAMED).map(|reading| endpoint_name(reading.address)).collect();
    let mut text = if named.is_empty() { "none now".to_owned() } else { named.join(", ") };
    if failing.len() > NAMED {
        text += &format!(" and {} more", failing.len() - NAMED);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reading of one endpoint: refused and connected dials so far, and whether the last one failed.
    fn reading(port: u16, refused: u64, connected: u64, is_failing: bool) -> Reading {
        let mut failed = Failed::default();
        failed[0] = refused;
        let address = ([10, 0, 0, 1], port).into();
        Reading { service: "db".into(), address, active: 0, connected, failed, is_failing }
    }

    fn failing(failed: u64, connected: u64, endpoints: &str) -> Option<Line> {
        let reasons = format!("connect_refused {failed}");
        let (service, endpoints) = ("db".into(), endpoints.to_owned());
        Some(Line::Failing { service, failed, connected, reasons, endpoints })
    }

    fn over(failed: u64, seconds: u64) -> Option<Line> {
        Some(Line::Over { service: "db".into(), failed, lasted: Duration::from_secs(seconds) })
    }

    /// Readings at some seconds, each with the line that must come of it.
    #[track_caller]
    fn check(steps: &[(u64, &[Reading], Option<Line>)]) {
        let mut outages = Outages::default();
        let start = Instant::now();
        for (second, readings, wanted) in steps {
            let lines = outages.look(start + Duration::from_secs(*second), readings);
            assert_eq!(lines, Vec::from_iter(wanted.clone()), "at {second} s");
        }
    }

    #[test]
    fn the_first_failure_is_logged_at_once_and_the_others_every_ten_seconds() {
        check(&[
            (0, &[reading(1, 0, 5, false)], None),
            (1, &[reading(1, 1, 5, true)], failing(1, 5, "10.0.0.1:1")),
            (2, &[reading(1, 40, 6, true)], None),
            (10, &[reading(1, 90, 7, true)], None),
            (11, &[reading(1, 100, 9, true)], failing(99, 4, "10.0.0.1:1")),
            (30, &[reading(1, 100, 9, true)], None),
            (31, &[reading(1, 103, 10, false)], failing(3, 1, "none now")),
            (32, &[reading(1, 103, 12, false)], over(103, 31)),
            (60, &[reading(1, 103, 20, false)], None),
            (61, &[reading(1, 104, 20, true)], failing(1, 8, "10.0.0.1:1")),
        ]);
    }

    #[test]
    fn it_is_over_when_every_endpoint_connects_and_not_when_one_of_them_does() {
        check(&[
            (0, &[reading(1, 1, 0, true), reading(2, 1, 0, true)], failing(2, 0, "10.0.0.1:1, 10.0.0.1:2")),
            (1, &[reading(1, 1, 9, false), reading(2, 1, 0, true)], None),
            (2, &[reading(1, 1, 9, false), reading(2, 1, 1, false)], over(2, 2)),
        ]);
    }

    #[test]
    fn one_that_fails_now_and_then_does_not_fill_the_log() {
        check(&[
            (0, &[reading(1, 1, 0, true)], failing(1, 0, "10.0.0.1:1")),
            (1, &[reading(1, 1, 1, false)], over(1, 1)),
            (2, &[reading(1, 2, 1, true)], None),
            (3, &[reading(1, 2, 2, false)], None),
            (9, &[reading(1, 3, 3, false)], None),
            (10, &[reading(1, 3, 3, false)], failing(2, 2, "none now")),
            (11, &[reading(1, 3, 4, false)], over(2, 9)),
        ]);
    }

    #[test]
    fn an_endpoint_that_leaves_takes_its_counts_along() {
        check(&[
            (0, &[reading(1, 100, 7, true), reading(2, 0, 7, false)], failing(100, 14, "10.0.0.1:1")),
            (1, &[reading(2, 0, 8, false)], over(100, 1)),
            (20, &[reading(2, 1, 9, true)], failing(1, 1, "10.0.0.1:2")),
            (21, &[], None),
            (40, &[reading(2, 1, 0, true)], failing(1, 0, "10.0.0.1:2")),
        ]);
    }

    #[test]
    fn many_endpoints_are_counted_and_not_named() {
        let all: Vec<Reading> = (1..=8).map(|port| reading(port, 1, 0, true)).collect();
        let named = "10.0.0.1:1, 10.0.0.1:2, 10.0.0.1:3, 10.0.0.1:4, 10.0.0.1:5 and 3 more";
        check(&[(0, &all, failing(8, 0, named))]);
    }
}
