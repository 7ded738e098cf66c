//! The page of a comparison: the ratios first, then the figures that they are made of, then the conditions.

use maud::{Markup, html};

use super::page::{banner, conditions, figure, page};
use crate::compare::arms::Arm;
use crate::compare::result::{Comparison, Ratio, Sample};
use crate::human;
use crate::report::axis::{Axis, number_text};
use crate::report::svg::{Bar, Estimate, Group, HALF, bars, forest};

/// Which rows a figure is drawn of.
#[derive(Clone, Copy, PartialEq)]
enum Rows {
    All,
    Open,
    Closed,
}

/// A figure that is compared: its name in ratios, its rows, its heading, whether more is better.
type Figure = (&'static str, Rows, &'static str, bool);

/// In the order in which they are asked for. The rate of an open loop is its plan's, so it is not compared.
const FIGURES: [(&str, &[Figure]); 4] = [
    ("CPU", &[("cost", Rows::All, "CPU of the proxy for an operation", false)]),
    (
        "Times",
        &[
            ("p50", Rows::Open, "Median response time, open loop", false),
            ("p99", Rows::Open, "99th percentile of response times, open loop", false),
            ("p999", Rows::Open, "99.9th percentile of response times, open loop", false),
            ("p50", Rows::Closed, "Median service time, closed loop", false),
            ("p99", Rows::Closed, "99th percentile of service times, closed loop", false),
            ("p999", Rows::Closed, "99.9th percentile of service times, closed loop", false),
        ],
    ),
    ("Rate", &[("rate", Rows::Closed, "Rate, closed loop", true)]),
    ("Memory", &[("resident", Rows::Closed, "Resident memory for a connection that is held", false)]),
];

/// Arms that are no peers: no proxy at all, and the least that a relay can cost.
const REFERENCES: [Arm; 2] = [Arm::Direct, Arm::Floor];

/// Failures listed at the top; the tables have them all.
const REASONS: usize = 12;

/// The common parts of all samples of a work and a pace.
#[derive(Clone, Copy, PartialEq)]
struct Row<'a> {
    work: &'a str,
    pace: &'a str,
}

impl Row<'_> {
    fn name(&self) -> String {
        format!("{}, {}", self.work, self.pace)
    }

    /// Streams are counted in gigabytes.
    fn is_stream(&self) -> bool {
        self.work.starts_with("stream")
    }

    fn cost_unit(&self) -> &'static str {
        if self.is_stream() { "CPU s/GB" } else { "CPU µs/op" }
    }
}

/// The page of a comparison.
pub fn comparison_page(comparison: &Comparison) -> String {
    let rows = rows(comparison);
    let mut arms = distinct(comparison.samples.iter().map(|sample| sample.arm.as_str()));
    arms.sort_by_key(|arm| Arm::place(arm));
    let ours = comparison.ratios.first().map_or("weir", |ratio| ratio.ours.as_str());
    let title = format!("weir-bench compare: {ours} and its peers");
    let rounds = comparison.samples.iter().map(|sample| sample.round + 1).max().unwrap_or(0);
    let body = html! {
        h1 { (title) }
        p.soft { (format!("{rounds} rounds, {} arms, {} rows of work", arms.len(), rows.len())) }
        (verdict(comparison))
        (left_out(comparison))
        (ratios(comparison, ours))
        (costs(comparison, &rows, &arms, ours))
        h2 { "The numbers" }
        p.soft { "Each is the median over rounds. Times are service times in a closed loop, response times in an open one. \
            \"-\" stands where nothing was measured, or too few samples. CPU, context switches and system calls are those of the proxy, for an \
            operation or a GB; system calls were counted by perf for a second of a round of its own in the closed loop, where the \
            column is there. The raw rows are in the samples beside this page." }
        @for row in &rows { (table(comparison, *row, &arms, ours)) }
        h2 { "Conditions" }
        (conditions(&comparison.conditions))
    };
    page(&title, &body)
}

fn distinct<'a, T: PartialEq + Copy + 'a>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.fold(Vec::new(), |mut known, one| {
        if !known.contains(&one) {
            known.push(one);
        }
        known
    })
}

fn rows(comparison: &Comparison) -> Vec<Row<'_>> {
    distinct(comparison.samples.iter().map(|sample| Row { work: &sample.work, pace: &sample.pace }))
}

/// Reasons not to believe the figures, by work, pace, arm and gate.
fn verdict(comparison: &Comparison) -> Markup {
    let samples = &comparison.samples;
    let of = |sample: &Sample| format!("{}, {}, {}", sample.work, sample.pace, sample.arm);
    let faults = samples.iter().filter(|sample| sample.faults > 0);
    let mut reasons: Vec<String> = faults
        .map(|sample| {
            format!(
                "{}, round {}: {} faults of integrity or counting",
                of(sample),
                sample.round,
                sample.faults
            )
        })
        .collect();
    let all_failed =
        samples.iter().flat_map(|sample| sample.gates.iter().map(move |gate| (of(sample), gate)));
    let all_failed: Vec<(String, &String)> = all_failed.collect();
    let mut known: Vec<&(String, &String)> = Vec::new();
    for failed in &all_failed {
        if !known.contains(&failed) {
            known.push(failed);
        }
    }
    for (place, gate) in known {
        let times = all_failed.iter().filter(|(other, name)| other == place && name == gate).count();
        let rounds = samples.iter().filter(|sample| of(sample) == *place).count();
        reasons.push(format!("{place}: {gate} failed in {times} of {rounds} rounds"));
    }
    let more = reasons.len().saturating_sub(REASONS);
    reasons.truncate(REASONS);
    if more > 0 {
        reasons.push(format!("{more} more, in the tables below"));
    }
    let mut verdict = if reasons.is_empty() {
        "All gates hold in every round".to_owned()
    } else {
        "Not every gate holds: some figures are not to be believed".to_owned()
    };
    if comparison.interrupted {
        verdict += " (interrupted: of the part that was run)";
    }
    banner(
        reasons.is_empty() && !samples.is_empty(),
        if samples.is_empty() { "Nothing was measured" } else { &verdict },
        &reasons,
    )
}

fn left_out(comparison: &Comparison) -> Markup {
    html! {
        @if !comparison.left_out.is_empty() {
            h3 { "Left out" }
            ul { @for line in &comparison.left_out { li { (line) } } }
        }
    }
}

/// An arm against a second one like it, which can only show noise.
fn is_self(ratio: &Ratio) -> bool {
    ratio
        .theirs
        .strip_prefix(ratio.ours.as_str())
        .is_some_and(|rest| rest.starts_with(['-', ' ']) && rest.contains("again"))
}

/// A ratio to an arm that is no peer.
fn is_reference(ratio: &Ratio) -> bool {
    is_self(ratio) || REFERENCES.iter().any(|arm| arm.name() == ratio.theirs)
}

fn ratios(comparison: &Comparison, ours: &str) -> Markup {
    let drawn = |figure: &'static Figure| {
        let groups = groups(comparison, *figure);
        (!groups.is_empty()).then_some((figure, groups))
    };
    let parts = FIGURES.iter().map(|(title, figures)| (title, figures.iter().filter_map(drawn).collect()));
    let parts: Vec<(_, Vec<_>)> = parts.filter(|(_, figures): &(_, Vec<_>)| !figures.is_empty()).collect();
    html! {
        h2 { (format!("{ours} against each")) }
        @if parts.is_empty() {
            p.soft { "No ratios: they need at least two rounds in which both arms were measured." }
        } @else {
            p { (format!("Each point is {ours}'s figure divided by the other's, over the rounds that both ran, with its 95 % interval. \
                A difference is shown where it is significant at 5 % after Holm's correction for all ratios of the run, and outside of the noise of its row. An arrow goes on beyond the axis; its numbers are beside it.")) }
            ul.legend {
                li { span class="swatch dot better" {} "better" }
                li { span class="swatch dot worse" {} "worse" }
                li { span class="swatch dot open" {} "no difference shown" }
                li { span class="swatch dot reference" {} "no peer: the floor, no proxy at all, or the same again" }
                li { span class="swatch noise" {} (format!("noise: {ours} against itself, 95 %")) }
            }
        }
        @for (title, figures) in parts {
            h2 { (title) }
            @for ((_, _, heading, more), groups) in figures {
                @let label = if *more { "ratio, more is better" } else { "ratio, less is better" };
                (figure(heading, "", &forest(heading, label, &groups)))
            }
        }
    }
}

/// The figure's ratios, a group for each row and each arm that is divided.
fn groups(comparison: &Comparison, (figure, which, _, more_is_better): Figure) -> Vec<Group> {
    let is_drawn = |ratio: &&Ratio| {
        let is_of_rows = match which {
            Rows::All => true,
            Rows::Closed => ratio.pace == "closed",
            Rows::Open => ratio.pace != "closed",
        };
        ratio.figure == figure && is_of_rows && ratio.is_comparison()
    };
    let of_figure: Vec<&Ratio> = comparison.ratios.iter().filter(is_drawn).collect();
    let first = comparison.ratios.first().map(|ratio| ratio.ours.as_str());
    let keys = distinct(
        of_figure.iter().map(|ratio| (Row { work: &ratio.work, pace: &ratio.pace }, ratio.ours.as_str())),
    );
    let group = |(row, ours): (Row<'_>, &str)| {
        let is_its =
            |ratio: &&&Ratio| (&*ratio.work, &*ratio.pace, &*ratio.ours) == (row.work, row.pace, ours);
        let of_row = of_figure.iter().filter(is_its);
        let noise = of_row.clone().find(|ratio| is_self(ratio)).map(|ratio| (ratio.low, ratio.high));
        // Peers first, then the references they are read against, and the arm itself last.
        let mut ratios: Vec<&Ratio> = of_row.copied().collect();
        ratios.sort_by_key(|ratio| (is_self(ratio), is_reference(ratio), Arm::place(&ratio.theirs)));
        let rows = ratios.into_iter().map(|ratio| estimate(ratio, more_is_better)).collect();
        let name = if Some(ours) == first { row.name() } else { format!("{}: {ours}", row.name()) };
        Group { name, noise, rows }
    };
    // An arm that is there for a work or two stands beside that work.
    let mut keys = keys;
    let place =
        |row: Row<'_>| comparison.samples.iter().position(|s| s.work == row.work && s.pace == row.pace);
    keys.sort_by_key(|(row, ours)| (place(*row), Some(*ours) != first));
    keys.into_iter().map(group).collect()
}

fn estimate(ratio: &Ratio, more_is_better: bool) -> Estimate {
    let class = if is_reference(ratio) {
        "reference"
    } else if !ratio.differs {
        "open"
    } else if (ratio.middle > 1.0) == more_is_better {
        "better"
    } else {
        "worse"
    };
    let label = format!("/ {}", ratio.theirs);
    Estimate { label, low: ratio.low, middle: ratio.middle, high: ratio.high, class }
}

/// The median of the known values.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[half]),
        _ => Some(f64::midpoint(values[half - 1], values[half])),
    }
}

fn of<'a>(
    comparison: &'a Comparison,
    row: Row<'a>,
    arm: &'a str,
) -> impl Iterator<Item = &'a Sample> + Clone {
    let is_it =
        move |sample: &&Sample| sample.work == row.work && sample.pace == row.pace && sample.arm == arm;
    comparison.samples.iter().filter(is_it)
}

/// CPU for an operation, by work and arm.
fn costs(comparison: &Comparison, rows: &[Row<'_>], arms: &[&str], ours: &str) -> Markup {
    let chart = |row: &Row<'_>| {
        let bar = |arm: &&str| {
            let dots: Vec<f64> = of(comparison, *row, arm).map(|sample| sample.cost).collect();
            let value = median(dots.iter().copied()).filter(|cost| *cost > 0.0)?;
            let class = if arm.starts_with(ours) { "ours" } else { "theirs" };
            Some(Bar { label: (*arm).to_owned(), value, text: number(value), class, dots })
        };
        let rows: Vec<Bar> = arms.iter().filter_map(bar).collect();
        let highest = rows.iter().flat_map(|bar| &bar.dots).copied().fold(0.0, f64::max);
        let axis = Axis::from_zero(row.cost_unit(), highest, 5, number_text);
        (!rows.is_empty()).then(|| figure(&row.name(), "", &bars(HALF, &row.name(), &axis, &rows, None)))
    };
    let charts: Vec<Markup> = rows.iter().filter_map(chart).collect();
    html! {
        @if !charts.is_empty() {
            h2 { "CPU in figures" }
            p.soft { "Process clock of all the proxy's threads while measuring. Bars are medians over rounds, dots the rounds." }
            div.pair { @for chart in charts { (chart) } }
        }
    }
}

/// Three digits that count.
fn number(number: f64) -> String {
    if number >= 1000.0 {
        human::count(number.round() as u64)
    } else if number >= 100.0 {
        format!("{number:.0}")
    } else if number >= 10.0 {
        format!("{number:.1}")
    } else if number >= 1.0 || number == 0.0 {
        format!("{number:.2}")
    } else {
        format!("{number:.3}")
    }
}

/// A column of the table: its head and its cells.
type Column = (&'static str, fn(&Sample) -> Option<f64>, fn(f64) -> String);

fn microseconds(time: f64) -> String {
    human::time((time * 1000.0) as u64).replace("us", "µs")
}

const COLUMNS: [Column; 12] = [
    ("CPU", |sample| (sample.cost > 0.0).then_some(sample.cost), number),
    ("rate /s", |sample| known(sample.rate), number),
    ("p50", |sample| known(sample.p50), microseconds),
    ("p99", |sample| known(sample.p99), microseconds),
    ("p99.9", |sample| known(sample.p999), microseconds),
    ("resident", |sample| known(sample.resident as f64), human::bytes),
    ("each connection", |sample| sample.resident_per_connection, human::bytes),
    ("switches", |sample| known(sample.switches), number),
    ("calls", |sample| sample.calls, number),
    ("arm busy", |sample| known(sample.arm_busy), percent),
    ("load busy", |sample| known(sample.load_busy), percent),
    ("bad", |sample| Some(sample.bad as f64), number_of),
];

/// Zero stands for "not measured" where nothing costs nothing.
fn known(figure: f64) -> Option<f64> {
    (figure > 0.0).then_some(figure)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn number_of(count: f64) -> String {
    human::count(count as u64)
}

fn table(comparison: &Comparison, row: Row<'_>, arms: &[&str], ours: &str) -> Markup {
    let of_arm = |arm| of(comparison, row, arm);
    let present: Vec<&str> = arms.iter().copied().filter(|arm| of_arm(arm).next().is_some()).collect();
    let cell =
        |arm, (_, take, format): &Column| median(of_arm(arm).filter_map(take)).map_or("-".to_owned(), format);
    // A column in which no arm has anything is not shown.
    let is_used =
        |column: &&Column| present.iter().any(|arm| of_arm(arm).any(|sample| column.1(sample).is_some()));
    let columns: Vec<&Column> = COLUMNS.iter().filter(is_used).collect();
    let head = |name: &'static str| match name {
        "CPU" => row.cost_unit(),
        "rate /s" if row.is_stream() => "GB/s",
        other => other,
    };
    html! {
        h3 { (row.name()) }
        div.scroll.dense { table {
            tr { th { "arm" } @for column in &columns { th { (head(column.0)) } } th { "rounds" } th { "gates failed" } }
            @for arm in &present {
                tr class=(if arm.starts_with(ours) { "ours" } else { "" }) {
                    td { (arm) }
                    @for column in &columns { td { (cell(arm, column)) } }
                    td { (of_arm(arm).count()) }
                    td { (failed(of_arm(arm))) }
                }
            }
        } }
    }
}

/// Names of the gates that failed in some round.
fn failed<'a>(samples: impl Iterator<Item = &'a Sample>) -> Markup {
    let names = distinct(samples.flat_map(|sample| sample.gates.iter().map(String::as_str)));
    html! { @if names.is_empty() { "-" } @else { span.bad-text { (names.join(", ")) } } }
}
