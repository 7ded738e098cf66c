//! A run on one screen, for the person who waited for it.

use std::fmt::Write as _;
use std::time::Duration;

use super::{PERCENTILES, verdict};
use crate::gates::{self, Gate};
use crate::human;
use crate::ledger::{Ledger, Outcome, PartOutcome, Times};
use crate::settings::{Pace, Verify, Work};

/// Columns of the names at the left.
const NAMES: usize = 11;

/// Columns that are used: those of a common terminal, and of text that is pasted.
const WIDTH: usize = 100;

/// Faults shown one by one.
const FAULTS: usize = 3;

/// The text, with a line feed at its end. Failures are red where `colour` is wanted.
pub fn render(outcome: &Outcome, gates: &[Gate], colour: bool) -> String {
    let mut text = head(outcome);
    for part in &outcome.parts {
        text += "\n";
        text += &self::part(outcome, part);
    }
    text += "\n";
    let cores: Vec<String> = outcome
        .busy
        .iter()
        .map(|busy| format!("core {} {}", busy.core, human::percent(busy.share())))
        .collect();
    if !cores.is_empty() {
        line(&mut text, "generator", &cores.join(", "));
    }
    let passed: Vec<&str> = gates.iter().filter(|gate| gate.passed).map(|gate| gate.name).collect();
    if !passed.is_empty() {
        line(&mut text, "holds", &passed.join(", "));
    }
    let painted = |text: String| if colour { format!("\x1b[1;31m{text}\x1b[0m") } else { text };
    for gate in gates.iter().filter(|gate| !gate.passed) {
        let mut failure = String::new();
        line(&mut failure, "FAILS", &format!("{}: {}", gate.name, gate.message));
        text += &painted(failure.trim_end().to_owned());
        text += "\n";
    }
    let verdict = verdict(outcome.interrupted, gates);
    text += &if gates::valid(gates) { verdict } else { painted(verdict) };
    text + "\n"
}

/// A named line; one that is too long goes on below, under its beginning.
fn line(text: &mut String, name: &str, what: &str) {
    let mut width = 0;
    let _ = write!(text, "{name:<NAMES$}");
    for word in what.split_inclusive(' ') {
        if width + word.trim_end().chars().count() > WIDTH - NAMES && width > 0 {
            text.truncate(text.trim_end().len());
            let _ = write!(text, "\n{:<NAMES$}", "");
            width = 0;
        }
        *text += word;
        width += word.chars().count();
    }
    *text += "\n";
}

fn head(outcome: &Outcome) -> String {
    let settings = &outcome.settings;
    let verify = match settings.verify {
        Verify::Off => "off",
        Verify::Stamp => "stamp",
        Verify::Full => "full",
    };
    let cores: Vec<String> = settings.cores.iter().map(usize::to_string).collect();
    let time = |time: Duration| human::time(time.as_nanos() as u64);
    let warmup = match settings.warmup {
        Duration::ZERO => String::new(),
        warmup => format!(" after {} of warming up", time(warmup)),
    };
    format!(
        "{}: {} measured{warmup}, verify {verify}, core {}, seed {}\n",
        settings.target,
        time(outcome.elapsed),
        cores.join(" "),
        settings.seed
    )
}

fn part(outcome: &Outcome, PartOutcome { part, ledger }: &PartOutcome) -> String {
    let elapsed = outcome.elapsed.as_secs_f64();
    let a_second = |number: u64| if elapsed > 0.0 { number as f64 / elapsed } else { 0.0 };
    let mut text = format!("{}: {}\n", part.name, human::part(part));
    line(&mut text, "counts", &identity(ledger));
    // The number of streams that end in a second means nothing: they all end with the run.
    let operations = match part.work {
        Work::Stream { .. } => String::new(),
        _ => format!("{}   ", human::rate(a_second(ledger.ok))),
    };
    let flow = format!(
        "{operations}up {}/s   down {}/s   {} opened",
        human::bytes(a_second(ledger.bytes_up)),
        human::bytes(a_second(ledger.bytes_down)),
        human::counted(ledger.opened, "connection")
    );
    line(&mut text, "rate", &flow);
    text += &percentiles(part.pace, ledger);
    if let Some(pause) = pause(outcome, ledger) {
        line(&mut text, "pause", &pause);
    }
    if !ledger.errors.is_empty() {
        let errors: Vec<String> =
            ledger.errors.iter().map(|(name, count)| format!("{name} {}", human::count(*count))).collect();
        line(&mut text, "errors", &errors.join(", "));
    }
    if ledger.fault_count > 0 {
        let faults = human::faults(&ledger.faults, ledger.fault_count, FAULTS);
        line(&mut text, "faults", &format!("{}: {faults}", human::count(ledger.fault_count)));
    }
    text
}

/// The longest time in which no operation was done: so a reload, a failover or a stalled host looks from outside.
pub(super) fn pause(outcome: &Outcome, ledger: &Ledger) -> Option<String> {
    let pause = ledger.activity.longest_pause(outcome.elapsed)?;
    Some(match pause.length.as_millis() {
        0 => "the longest pause was shorter than 2 ms".to_owned(),
        length => format!(
            "the longest pause was {}, {:.3} s after measuring began",
            human::time(length as u64 * 1_000_000),
            pause.at.as_secs_f64()
        ),
    })
}

/// "10,000 planned = 9,990 ok + 3 failed + ...": the conservation of operations, with its numbers.
pub(super) fn identity(ledger: &Ledger) -> String {
    let Ledger { planned, ok, failed, timeout, unfinished, dropped, .. } = ledger;
    let [planned, ok, failed, timeout, unfinished, dropped] =
        [planned, ok, failed, timeout, unfinished, dropped].map(|number| human::count(*number));
    format!(
        "{planned} planned = {ok} ok + {failed} failed + {timeout} timeout + {unfinished} unfinished + {dropped} dropped"
    )
}

/// The histograms a part has, in the order to show them; none that is empty.
pub(super) fn histograms(pace: Pace, ledger: &Ledger) -> Vec<(&'static str, &Times)> {
    let all = [
        ("response", &ledger.response),
        ("service", &ledger.service),
        ("lag", &ledger.lag),
        ("connect", &ledger.connect),
    ];
    let is_open = matches!(pace, Pace::Open { .. });
    let exists = |name: &str| is_open || !matches!(name, "response" | "lag");
    all.into_iter().filter(|(name, times)| exists(name) && !times.is_empty()).collect()
}

fn percentiles(pace: Pace, ledger: &Ledger) -> String {
    let histograms = histograms(pace, ledger);
    if histograms.is_empty() {
        return String::new();
    }
    let mut text = format!("{:<NAMES$}", "");
    for (name, _) in PERCENTILES {
        let _ = write!(text, "{name:>10}");
    }
    let _ = writeln!(text, "{:>10}{:>14}", "max", "samples");
    let mut withheld = false;
    for (name, times) in histograms {
        let _ = write!(text, "{name:<NAMES$}");
        for (_, quantile) in PERCENTILES {
            let value = gates::percentile(times, quantile);
            withheld |= value.is_none();
            let _ = write!(text, "{:>10}", value.map_or("-".to_owned(), human::time));
        }
        let _ = writeln!(text, "{:>10}{:>14}", human::time(times.max()), human::count(times.len()));
    }
    if withheld {
        text += &format!("{:<NAMES$}{}\n", "", withheld_because());
    }
    text
}

/// Why some percentiles are not given.
pub(super) fn withheld_because() -> String {
    let needs: Vec<String> = PERCENTILES
        .iter()
        .map(|(name, quantile)| format!("{name} {}", human::count(gates::needed(*quantile))))
        .collect();
    format!("- too few samples; needed: {}", needs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn rendered(outcome: &Outcome, colour: bool) -> String {
        render(outcome, &gates::judge(outcome), colour)
    }

    #[test]
    fn it_fits_a_screen() {
        for (name, outcome) in fixture::all() {
            let text = rendered(&outcome, false);
            let lines = 24 + 10 * (outcome.parts.len() - 1);
            assert!(text.lines().count() <= lines, "{name} has {} lines:\n{text}", text.lines().count());
            let widest =
                text.lines().filter(|line| !line.contains(" loop")).map(|line| line.chars().count()).max();
            assert!(widest <= Some(WIDTH), "{name} is {widest:?} wide:\n{text}");
            assert!(!text.contains("NaN") && !text.contains("inf"), "{name}:\n{text}");
        }
    }

    #[test]
    fn the_last_line_has_the_verdict() {
        let last = |outcome: &Outcome| rendered(outcome, false).lines().last().expect("lines").to_owned();
        assert_eq!(last(&fixture::open()), "valid");
        assert!(last(&fixture::overloaded()).starts_with("INVALID: achieved"));
        assert_eq!(last(&fixture::interrupted()), "valid (interrupted: of the part that was run)");
    }

    #[test]
    fn only_failures_are_red_and_only_when_asked() {
        assert!(rendered(&fixture::overloaded(), true).contains("\x1b[1;31mINVALID"));
        assert!(!rendered(&fixture::overloaded(), false).contains('\x1b'));
        assert!(!rendered(&fixture::open(), true).contains('\x1b'));
    }

    #[test]
    fn a_closed_loop_has_no_response_times() {
        let text = rendered(&fixture::short(), false);
        assert!(!text.contains("response  "), "{text}");
        assert!(text.contains("service"), "{text}");
    }

    #[test]
    fn counts_errors_and_faults_are_named() {
        let text = rendered(&fixture::mix(), false);
        let wanted = [
            "planned = ",
            "refused 2",
            "bytes missing",
            "more",
            "- too few samples; needed: p50 20, p90 100, p99 1,000, p99.9 10,000",
        ];
        for part in wanted {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }
}
