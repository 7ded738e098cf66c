//! A comparison for a README: costs, times, rates, memory, and the conditions.

use std::fmt::Write as _;

use super::arms::Arm;
use super::job::Unit;
use super::result::{Comparison, Ratio, Sample};
use super::table::{Section, digits, ratio, sections, with_interval};

/// One figure: its name in ratios, its unit, and where it is in a sample.
type Figure = (&'static str, &'static str, fn(&Sample) -> f64);

const CPU: Figure = ("cost", "us CPU an operation", |sample| sample.cost);
const CPU_OF_BULK: Figure = ("cost", "s CPU a GB", |sample| sample.cost);
const P50: Figure = ("p50", "p50 us", |sample| sample.p50);
const P99: Figure = ("p99", "p99 us", |sample| sample.p99);
const P999: Figure = ("p999", "p99.9 us", |sample| sample.p999);
const RATE: Figure = ("rate", "operations/s", |sample| sample.rate);
const RATE_OF_BULK: Figure = ("rate", "GB/s", |sample| sample.rate);
const MEMORY: Figure =
    ("resident", "bytes a connection", |sample| sample.resident_per_connection.unwrap_or_default());

const NOTE: &str = "Each cell is the median of rounds, then Weir's figure over it: mean ratio within rounds, 95 % interval. \
    **Bold** ratios show a difference: they are significant at 5 % after Holm's correction for all ratios of the run, and lie outside of \
    the noise of their row. That is the interval of `weir-again`, a second process of the same Weir. `weir-before` is another build of it. \
    `floor` is one thread that receives and sends and does nothing else: a relay that copies can hardly cost less.\n";

/// All of it.
pub fn render(comparison: &Comparison) -> String {
    let sections = sections(comparison);
    let table = |title: &str, of: &dyn Fn(&Section<'_>) -> Vec<Figure>| {
        table(comparison, &sections, title, Arm::Weir, of)
    };
    let mut text = NOTE.to_owned();
    text += &table("CPU of the proxy", &|section| match Unit::of(section.work) {
        Unit::Operation => vec![CPU],
        Unit::Gigabyte => vec![CPU_OF_BULK],
        Unit::Connection => vec![],
    });
    let times = |section: &Section<'_>| {
        if Unit::of(section.work) == Unit::Operation { vec![P50, P99, P999] } else { vec![] }
    };
    let open = |section: &Section<'_>| if is_closed(section) { vec![] } else { times(section) };
    let closed = |section: &Section<'_>| if is_closed(section) { times(section) } else { vec![] };
    text += &table("Response times in the open loop", &open);
    text += &table("Service times in the closed loop", &closed);
    text += &self::table(
        comparison,
        &sections,
        "Times of weir-busy-poll, and its ratios to the others",
        Arm::WeirBusyPoll,
        &times,
    );
    // An open loop has the same rate through all.
    text += &table("Rate of the closed loop (more is better)", &|section| match Unit::of(section.work) {
        Unit::Operation if is_closed(section) => vec![RATE],
        Unit::Gigabyte => vec![RATE_OF_BULK],
        Unit::Operation | Unit::Connection => vec![],
    });
    text += &table("Resident memory", &|section| match Unit::of(section.work) {
        Unit::Connection => vec![MEMORY],
        Unit::Operation | Unit::Gigabyte => vec![],
    });
    text += "\n### Conditions\n\n";
    for (name, value) in &comparison.conditions {
        let _ = writeln!(text, "- {name}: {value}");
    }
    comparison.left_out.iter().for_each(|line| text.push_str(&format!("- {line}\n")));
    text
}

fn is_closed(section: &Section<'_>) -> bool {
    section.pace == "closed"
}

/// A row for each of the figures that a section has here, with ratios of `ours`; nothing where `ours` has no such row.
fn table(
    comparison: &Comparison,
    sections: &[Section<'_>],
    title: &str,
    ours: Arm,
    of: &dyn Fn(&Section<'_>) -> Vec<Figure>,
) -> String {
    let has = |section: &Section<'_>, arm: &str| section.rows.iter().any(|row| row.arm == arm);
    let rows: Vec<(&Section<'_>, Figure)> = sections
        .iter()
        .filter(|section| has(section, ours.name()))
        .flat_map(|section| of(section).into_iter().map(move |figure| (section, figure)))
        // Too few samples for a percentile are too few for all arms.
        .filter(|(section, (_, _, take))| section.rows.iter().any(|row| row.median(take).is_some()))
        .collect();
    let is_shown = |arm: &&str| rows.iter().any(|(section, _)| has(section, arm));
    let mut arms: Vec<&str> = Arm::ALL.map(Arm::name).into_iter().filter(is_shown).collect();
    // Whose ratios these are stands first; without a proxy there is nothing that costs anything.
    arms.retain(|arm| *arm != Arm::Direct.name() && *arm != ours.name());
    if rows.is_empty() {
        return String::new();
    }
    let heads = arms.join(" | ");
    let lines = " --- |".repeat(arms.len());
    let mut text = format!("\n### {title}\n\n| work | {} | {heads} |\n| --- | --- |{lines}\n", ours.name());
    for (section, figure) in rows {
        let (name, unit, take) = figure;
        let _ = write!(
            text,
            "| {}, {}, {unit} | {} |",
            section.work,
            section.pace,
            value(section, ours.name(), take)
        );
        for arm in &arms {
            let ratio = ratio(comparison, section, [ours.name(), arm], name).map(emphasised);
            let _ = write!(text, " {}{} |", value(section, arm, take), ratio.unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

fn value(section: &Section<'_>, arm: &str, take: fn(&Sample) -> f64) -> String {
    let row = section.rows.iter().find(|row| row.arm == arm);
    row.and_then(|row| row.median(take)).map_or_else(|| "-".to_owned(), digits)
}

fn emphasised(ratio: &Ratio) -> String {
    let text = with_interval(ratio);
    if ratio.differs { format!("; **{text}**") } else { format!("; {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn exactly_the_ratios_that_differ_are_bold() {
        let mut comparison = fixture::comparison();
        let bold = |comparison: &Comparison| {
            let text = render(comparison);
            let (_, tables) = text.split_once("\n### ").unwrap();
            tables.split("**").skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
        };
        comparison.ratios.iter_mut().for_each(|ratio| ratio.differs = false);
        assert_eq!(bold(&comparison), [""; 0]);
        let cost =
            comparison.ratios.iter_mut().find(|ratio| ratio.theirs == "nginx" && ratio.figure == "cost");
        let cost = cost.unwrap();
        cost.differs = true;
        let expected = with_interval(cost);
        assert_eq!(bold(&comparison), [expected]);
    }
}
