//! The page of a run.

use maud::{Markup, html};

use super::page::{banner, conditions, figure, page};
use crate::gates::{self, Gate};
use crate::human;
use crate::ledger::{Outcome, PartOutcome, Second, Times};
use crate::report::axis::{Axis, number_text, share_text, time_text};
use crate::report::svg::{Bar, Lines, Series, WIDE, bars};
use crate::report::text::{histograms, identity, withheld_because};
use crate::report::{PERCENTILES, verdict};
use crate::settings::Pace;

/// Points of a percentile curve for each nine.
const POINTS_A_NINE: f64 = 60.0;

/// Room above the highest point of a chart that starts at zero: a line along its edge looks cut off.
const HEADROOM: f64 = 1.05;

/// Ticks an axis has room for.
const TICKS: usize = 8;

/// The page of a run. `host` are its conditions: names and values, in the order to show them.
pub fn run_page(outcome: &Outcome, gates: &[Gate], host: &[(String, String)]) -> String {
    let failed = |gate: &&Gate| !gate.passed;
    let reasons: Vec<String> =
        gates.iter().filter(failed).map(|gate| format!("{}: {}", gate.name, gate.message)).collect();
    let names: Vec<&str> = outcome.parts.iter().map(|part| part.part.name.as_str()).collect();
    let title = format!("weir-bench run: {} against {}", names.join(" + "), outcome.settings.target);
    let body = html! {
        h1 { (title) }
        p.soft {
            (format!("{:.1} s measured after {:.1} s of warming up", outcome.elapsed.as_secs_f64(), outcome.settings.warmup.as_secs_f64()))
        }
        (banner(reasons.is_empty(), &verdict(outcome.interrupted, gates), &reasons))
        @for part in &outcome.parts { (self::part(outcome, part)) }
        (by_second(outcome))
        (generator(outcome))
        (gate_table(gates))
        h2 { "Conditions" }
        (conditions(&[host, &settings(outcome)].concat()))
    };
    page(&title, &body)
}

fn part(outcome: &Outcome, outcome_of: &PartOutcome) -> Markup {
    let PartOutcome { part, ledger } = outcome_of;
    let elapsed = outcome.elapsed.as_secs_f64();
    let a_second = |number: u64| if elapsed > 0.0 { number as f64 / elapsed } else { 0.0 };
    let (kind, times) = gates::judged(outcome_of);
    let known = |quantile| gates::percentile(times, quantile).map_or("-".to_owned(), time);
    let tiles = [
        ("rate".to_owned(), human::rate(a_second(ledger.ok))),
        (format!("{kind} p50"), known(0.50)),
        (format!("{kind} p99"), known(0.99)),
        ("up".to_owned(), format!("{}/s", human::bytes(a_second(ledger.bytes_up)))),
        ("down".to_owned(), format!("{}/s", human::bytes(a_second(ledger.bytes_down)))),
        ("connections".to_owned(), human::count(ledger.opened)),
    ];
    html! {
        h2 { (part.name) }
        p { (human::part(part)) }
        dl.tiles { @for (name, value) in tiles { div { dt { (name) } dd { (value) } } } }
        p { (identity(ledger)) }
        @if !ledger.errors.is_empty() {
            p.bad-text { "Errors: " (ledger.errors.iter().map(|(name, count)| format!("{name} {}", human::count(*count))).collect::<Vec<_>>().join(", ")) }
        }
        @if ledger.fault_count > 0 {
            p.bad-text { (human::count(ledger.fault_count)) " faults: " (human::faults(&ledger.faults, ledger.fault_count, ledger.faults.len())) }
        }
        (percentile_table(outcome_of))
        (percentile_plot(outcome_of))
    }
}

/// A time with the sign for micro, which terminals may lack and pages do not.
fn time(nanoseconds: u64) -> String {
    human::time(nanoseconds).replace("us", "µs")
}

fn percentile_table(PartOutcome { part, ledger }: &PartOutcome) -> Markup {
    let histograms = histograms(part.pace, ledger);
    if histograms.is_empty() {
        return html! { p.soft { "No times: nothing that has an end was done." } };
    }
    let is_withheld = |times: &Times| PERCENTILES.iter().any(|(_, q)| gates::percentile(times, *q).is_none());
    html! {
        div.scroll { table {
            tr { th { "time" } @for (name, _) in PERCENTILES { th { (name) } } th { "max" } th { "mean" } th { "samples" } }
            @for (name, times) in &histograms {
                tr {
                    td { (name) }
                    @for (_, quantile) in PERCENTILES { td { (gates::percentile(times, quantile).map_or("-".to_owned(), time)) } }
                    td { (time(times.max())) }
                    td { (time(times.mean() as u64)) }
                    td { (human::count(times.len())) }
                }
            }
        } }
        @if histograms.iter().any(|(_, times)| is_withheld(times)) { p.soft { (withheld_because()) } }
    }
}

/// Where a curve ends, on the axis of nines: beyond, fewer samples lie than a percentile needs.
fn end(times: &Times) -> Option<f64> {
    let nines = (times.len() as f64 / gates::TAIL as f64).log10();
    (nines > 0.0).then_some(nines)
}

fn percentile_plot(PartOutcome { part, ledger }: &PartOutcome) -> Markup {
    let drawn = histograms(part.pace, ledger).into_iter().filter(|(name, _)| *name != "connect");
    let curve = |(name, times): (&str, &Times)| {
        let end = end(times)?;
        let steps = (end * POINTS_A_NINE).floor() as u32;
        let places = (0..=steps).map(|step| f64::from(step) / POINTS_A_NINE).chain([end]);
        let value = |nines: f64| times.value_at_quantile(1.0 - 10_f64.powf(-nines)) as f64;
        let class = match name {
            "response" => "s0",
            "service" => "s1",
            _ => "s2",
        };
        let points = places.map(|nines| (nines, value(nines))).collect();
        Some(Series { name: format!("{name} time").replace("lag time", "lag"), class, points })
    };
    let series: Vec<Series> = drawn.filter_map(curve).collect();
    let Some((low, high)) = span(&series) else { return html! {} };
    let ends = series.iter().flat_map(|series| &series.points).map(|(nines, _)| *nines);
    let chart = Lines {
        about: format!("{}: percentiles of times", part.name),
        x: Axis::nines("percentile", ends.fold(2.0, f64::max)),
        y: Axis::log("time", low, high, TICKS, time_text),
        series,
        shaded: None,
    };
    let of = match part.pace {
        Pace::Open { .. } => {
            "Response counts from the intended time, service from the hand-over to the socket; lag is the generator's own lateness."
        }
        Pace::Closed => "Service times of a closed loop: they hide the cost of waiting.",
    };
    let note = format!("{of} A curve ends where fewer than {} samples lie above.", gates::TAIL);
    figure("Percentiles", &note, &chart.draw())
}

/// The lowest and the highest value that can stand on a logarithmic axis.
fn span(series: &[Series]) -> Option<(f64, f64)> {
    let values = series.iter().flat_map(|series| &series.points).map(|(_, y)| *y).filter(|y| *y > 0.0);
    values.fold(None, |span, y| {
        let (low, high) = span.unwrap_or((y, y));
        Some((y.min(low), y.max(high)))
    })
}

/// Rate and times, second by second.
fn by_second(outcome: &Outcome) -> Markup {
    let (Some(first), Some(last)) = (outcome.seconds.first(), outcome.seconds.last()) else {
        return html! {};
    };
    // A second's figures are of all of it: they stand at its middle.
    let points = |take: fn(&Second) -> f64| -> Vec<(f64, f64)> {
        let middle = |second: &Second| second.at as f64 + second.length / 2.0;
        outcome.seconds.iter().map(|second| (middle(second), take(second))).collect()
    };
    let x = || {
        Axis::between("seconds since measuring began", first.at as f64, (last.at + 1) as f64, 10, second_text)
    };
    let shaded = (first.at < 0).then(|| (first.at as f64, 0.0, "warming up, not counted".to_owned()));
    let top = |points: &[(f64, f64)]| HEADROOM * points.iter().map(|(_, y)| *y).fold(0.0, f64::max);
    let (done, bytes) = (points(|second| second.rate(second.ok)), points(|second| second.rate(second.bytes)));
    let has_operations = top(&done) > 0.0;
    let series = |name: &str, class, points| Series { name: name.to_owned(), class, points };
    let bad = outcome.seconds.iter().any(|second| second.bad > 0);
    let bad =
        bad.then(|| series("failed, timed out or dropped", "bad", points(|second| second.rate(second.bad))));
    let rate = Lines {
        about: "operations by second".to_owned(),
        x: x(),
        y: Axis::from_zero(
            "operations a second",
            top(&done).max(bad.as_ref().map_or(0.0, |bad| top(&bad.points))),
            6,
            number_text,
        ),
        series: [series("done", "s0", done)].into_iter().chain(bad).collect(),
        shaded: shaded.clone(),
    };
    let flow = Lines {
        about: "bytes by second".to_owned(),
        x: x(),
        y: Axis::from_zero("bytes a second", top(&bytes), 6, human::bytes),
        series: vec![series("bytes both ways", "s2", bytes)],
        shaded: shaded.clone(),
    };
    let is_closed = |part: &PartOutcome| matches!(part.part.pace, Pace::Closed);
    let kind = match outcome.parts.iter().filter(|part| is_closed(part)).count() {
        0 => "response time",
        closed if closed == outcome.parts.len() => "service time",
        _ => "time (response of open loops, service of closed ones)",
    };
    let times = vec![
        series(&format!("{kind}, p99"), "s1", points(|second| second.p99 as f64)),
        series(&format!("{kind}, p50"), "s0", points(|second| second.p50 as f64)),
    ];
    let span = span(&times);
    html! {
        h2 { "Second by second" }
        @if outcome.parts.len() > 1 { p.soft { "All parts together." } }
        @if has_operations { (figure("Rate", "", &rate.draw())) } @else { (figure("Throughput", "", &flow.draw())) }
        @if let Some((low, high)) = span {
            (figure("Times", "", &Lines {
                about: "median and 99th percentile by second".to_owned(),
                x: x(),
                y: Axis::log("time", low, high, TICKS, time_text),
                series: times,
                shaded,
            }.draw()))
        }
    }
}

fn second_text(second: f64) -> String {
    if second < 0.0 { format!("-{}", number_text(-second)) } else { number_text(second) }
}

fn generator(outcome: &Outcome) -> Markup {
    let bar = |busy: &crate::ledger::Busy| Bar {
        label: format!("core {}", busy.core),
        value: busy.share(),
        text: human::percent(busy.share()),
        class: if busy.share() > gates::OWN_CORE { "bad" } else { "ours" },
        dots: Vec::new(),
    };
    let rows: Vec<Bar> = outcome.busy.iter().map(bar).collect();
    if rows.is_empty() {
        return html! {};
    }
    let axis = Axis::between("CPU time of the time that passed", 0.0, 1.0, 5, share_text);
    let note = "Beyond the line at 80 % the generator queues its own work, and its figures are of itself.";
    html! {
        h2 { "The generator" }
        (figure("CPU", note, &bars(WIDE, "CPU of the generator by core", &axis, &rows, Some(gates::OWN_CORE))))
    }
}

fn gate_table(gates: &[Gate]) -> Markup {
    html! {
        h2 { "Gates" }
        table.words {
            tr { th { "gate" } th { "holds" } th { "found" } }
            @for gate in gates {
                tr {
                    td { (gate.name) }
                    td.short { @if gate.passed { "yes" } @else { span.bad-text { "NO" } } }
                    td { @if gate.passed { (gate.message) } @else { span.bad-text { (gate.message) } } }
                }
            }
        }
    }
}

fn settings(outcome: &Outcome) -> Vec<(String, String)> {
    let settings = &outcome.settings;
    let seconds = |time: std::time::Duration| format!("{} s", time.as_secs_f64());
    let cores: Vec<String> = settings.cores.iter().map(usize::to_string).collect();
    let settings = [
        ("target", settings.target.to_string()),
        ("planned for", seconds(settings.duration)),
        ("warming up", seconds(settings.warmup)),
        ("last answers waited for", seconds(settings.drain)),
        ("an operation is given up after", seconds(settings.timeout)),
        ("bytes looked at", format!("{:?}", settings.verify).to_lowercase()),
        ("cores of the generator", cores.join(", ")),
        ("operations that may wait", human::count(settings.waiting as u64)),
        ("seed", settings.seed.to_string()),
    ];
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
