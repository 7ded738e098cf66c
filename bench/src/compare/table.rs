//! A comparison as text: a line for each sample, tables for a terminal and for a README, rows for a spreadsheet.

use std::fmt::Write as _;

use super::job::Unit;
use super::result::{Comparison, Ratio, Sample};

/// From here on a core counts as having been full.
const SATURATED: f64 = 0.9;

/// One sample in a line.
pub fn progress(sample: &Sample) -> String {
    let Sample { work, pace, arm, cost, rate, p50, p99, bad, faults, .. } = sample;
    let unit = Unit::of(work);
    let mut line = format!("{work} {pace} {arm}: {} {}", digits(*cost), unit.cost_name());
    match (unit, sample.resident_per_connection) {
        (Unit::Operation, _) => {
            let _ = write!(line, ", {rate:.0}/s, p50 {} us, p99 {} us", digits(*p50), digits(*p99));
        }
        (Unit::Gigabyte, _) => line.push_str(&format!(", {} GB/s", digits(*rate))),
        (Unit::Connection, Some(bytes)) => line.push_str(&format!(", {bytes:.0} bytes a connection")),
        (Unit::Connection, None) => {}
    }
    if *bad > 0 {
        let _ = write!(line, ", {bad} not done");
    }
    if *faults > 0 {
        let _ = write!(line, ", {faults} FAULTS");
    }
    line
}

/// Three digits that count.
fn digits(number: f64) -> String {
    match number.abs() {
        large if large >= 100.0 => format!("{number:.0}"),
        middle if middle >= 10.0 => format!("{number:.1}"),
        small if small >= 1.0 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

/// All samples of one arm for one work and pace.
struct Row<'a> {
    arm: &'a str,
    samples: Vec<&'a Sample>,
}

/// One table: a work, a pace, and its rows.
struct Section<'a> {
    work: &'a str,
    pace: &'a str,
    rows: Vec<Row<'a>>,
}

impl Row<'_> {
    /// The middle one: a neighbour's burst moves it least.
    fn median(&self, take: impl Fn(&Sample) -> f64) -> f64 {
        let mut values: Vec<f64> = self.samples.iter().map(|sample| take(sample)).collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
    }

    fn saturated(&self) -> &'static str {
        let full = |take: fn(&Sample) -> f64| self.median(take) >= SATURATED;
        match (full(|sample| sample.arm_busy), full(|sample| sample.load_busy)) {
            (true, true) => "both",
            (true, false) => "proxy",
            (false, true) => "load",
            (false, false) => "-",
        }
    }
}

fn sections(comparison: &Comparison) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for sample in &comparison.samples {
        let (work, pace) = (sample.work.as_str(), sample.pace.as_str());
        let at = sections.iter().position(|have| (have.work, have.pace) == (work, pace));
        let at = at.unwrap_or_else(|| {
            sections.push(Section { work, pace, rows: Vec::new() });
            sections.len() - 1
        });
        let rows = &mut sections[at].rows;
        match rows.iter_mut().find(|row| row.arm == sample.arm) {
            Some(row) => row.samples.push(sample),
            None => rows.push(Row { arm: &sample.arm, samples: vec![sample] }),
        }
    }
    let order = |arm: &str| super::arms::Arm::ALL.iter().position(|known| known.name() == arm);
    sections.iter_mut().for_each(|section| section.rows.sort_by_key(|row| order(row.arm)));
    sections
}

fn ratio<'a>(
    comparison: &'a Comparison,
    section: &Section<'_>,
    arm: &str,
    figure: &str,
) -> Option<&'a Ratio> {
    let key = (section.work, section.pace, arm, figure);
    comparison.ratios.iter().find(|have| (&*have.work, &*have.pace, &*have.theirs, &*have.figure) == key)
}

fn with_interval(ratio: Option<&Ratio>) -> String {
    ratio.map_or_else(String::new, |Ratio { middle, low, high, .. }| {
        format!("{middle:.2} [{low:.2}, {high:.2}]")
    })
}

/// Of a hold it is memory that is compared, of all else CPU.
fn headline(work: &str) -> &'static str {
    if Unit::of(work) == Unit::Connection { "resident" } else { "cost" }
}

/// For a terminal.
pub fn text(comparison: &Comparison) -> String {
    let mut text = String::new();
    for section in &sections(comparison) {
        let unit = Unit::of(section.work);
        let _ = writeln!(text, "\n{} {}: {}", section.work, section.pace, unit.cost_name());
        let memory = if unit == Unit::Connection { "B/conn" } else { "MiB" };
        let _ = writeln!(
            text,
            "  {:<15}{:>9}  {:<19}{:>9}{:>9}{:>9}{:>9}{:>8}{:>8}  full",
            "arm", "cost", "weir / it", "rate/s", "p50 us", "p99 us", memory, "calls", "switch"
        );
        for row in &section.rows {
            let memory =
                row.median(|s| s.resident_per_connection.unwrap_or(s.resident as f64 / f64::from(1 << 20)));
            let _ = writeln!(
                text,
                "  {:<15}{:>9}  {:<19}{:>9}{:>9}{:>9}{:>9}{:>8}{:>8}  {}",
                row.arm,
                digits(row.median(|sample| sample.cost)),
                with_interval(ratio(comparison, section, row.arm, headline(section.work))),
                digits(row.median(|sample| sample.rate)),
                digits(row.median(|sample| sample.p50)),
                digits(row.median(|sample| sample.p99)),
                digits(memory),
                row.samples[0].calls.map_or_else(|| "-".to_owned(), digits),
                digits(row.median(|sample| sample.switches)),
                row.saturated()
            );
        }
    }
    text.push_str(&findings(comparison));
    text
}

/// What must be known beside the figures: faults first, then what was not done, gates, and who was not there.
fn findings(comparison: &Comparison) -> String {
    let mut text = String::from("\n");
    let sum = |take: fn(&Sample) -> u64| comparison.samples.iter().map(take).sum::<u64>();
    let (faults, bad) = (sum(|sample| sample.faults), sum(|sample| sample.bad));
    let _ = match faults {
        0 => writeln!(text, "All bytes came as sent, all counts add up; {bad} operations were not done."),
        _ => writeln!(
            text,
            "FAULTS: {faults} streams or counts are not what they must be. Believe nothing here before these are explained."
        ),
    };
    let mut gates: Vec<&str> =
        comparison.samples.iter().flat_map(|s| s.gates.iter().map(String::as_str)).collect();
    gates.sort_unstable();
    for gate in gates.chunk_by(|one, next| one == next) {
        let _ = writeln!(
            text,
            "Gate {:?} failed in {} of {} samples.",
            gate[0],
            gate.len(),
            comparison.samples.len()
        );
    }
    comparison.left_out.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    text
}

/// For a README: the headline figure of each arm, and Weir's ratio to it.
pub fn markdown(comparison: &Comparison) -> String {
    let sections = sections(comparison);
    let has = |arm: &&str| sections.iter().any(|section| section.rows.iter().any(|row| row.arm == *arm));
    let arms = super::arms::Arm::ALL.map(super::arms::Arm::name);
    let arms: Vec<&str> = arms.into_iter().filter(|arm| *arm != "direct").filter(has).collect();
    let mut text = format!("| work | {} |\n| --- |{}\n", arms.join(" | "), " --- |".repeat(arms.len()));
    for section in &sections {
        let unit = Unit::of(section.work);
        let named = if unit == Unit::Connection { "bytes a connection" } else { unit.cost_name() };
        let _ = write!(text, "| {}, {}, {named} |", section.work, section.pace);
        for arm in &arms {
            let row = section.rows.iter().find(|row| row.arm == *arm);
            let value = |row: &Row<'_>| match unit {
                Unit::Connection => row.median(|sample| sample.resident_per_connection.unwrap_or_default()),
                Unit::Operation | Unit::Gigabyte => row.median(|sample| sample.cost),
            };
            let value = row.map_or_else(|| "-".to_owned(), |row| digits(value(row)));
            let ratio = with_interval(ratio(comparison, section, arm, headline(section.work)));
            let _ = if ratio.is_empty() {
                write!(text, " {value} |")
            } else {
                write!(text, " {value}; {ratio} |")
            };
        }
        text.push('\n');
    }
    text
}

/// Every sample, a row each.
pub fn csv(comparison: &Comparison) -> String {
    let mut text = "round,work,pace,arm,operations,cpu_s,cost,rate,p50_us,p99_us,p999_us,resident_bytes,\
        resident_bytes_per_connection,switches,calls,arm_busy,load_busy,bad,faults,failed_gates\n"
        .to_owned();
    for s in &comparison.samples {
        let optional = |number: Option<f64>| number.map_or_else(String::new, |number| format!("{number:.3}"));
        let _ = writeln!(
            text,
            "{},{},{},{},{:.6},{:.6},{:.6},{:.3},{:.3},{:.3},{:.3},{},{},{:.4},{},{:.4},{:.4},{},{},{}",
            s.round,
            s.work,
            s.pace,
            s.arm,
            s.operations,
            s.cpu,
            s.cost,
            s.rate,
            s.p50,
            s.p99,
            s.p999,
            s.resident,
            optional(s.resident_per_connection),
            s.switches,
            optional(s.calls),
            s.arm_busy,
            s.load_busy,
            s.bad,
            s.faults,
            s.gates.join(";")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        fn check(number: f64, expected: &str) {
            assert_eq!(digits(number), expected);
        }
        check(123_456.7, "123457");
        check(99.95, "100.0");
        check(12.34, "12.3");
        check(1.234, "1.23");
        check(0.1234, "0.123");
    }
}
