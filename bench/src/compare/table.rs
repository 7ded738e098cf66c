//! A comparison as text: a line for each sample, tables for a terminal, rows for a spreadsheet.

use std::fmt::Write as _;

use super::arms::Arm;
use super::job::Unit;
use super::result::{Comparison, Ratio, Sample};

/// From here on a core counts as having been full.
const SATURATED: f64 = 0.9;

/// One sample in a line.
pub fn progress(sample: &Sample) -> String {
    let Sample { work, pace, arm, cost, rate, p50, p99, bad, faults, .. } = sample;
    let unit = Unit::of(work);
    let headline =
        if unit == Unit::Connection { sample.resident_per_connection.unwrap_or_default() } else { *cost };
    let mut line = format!("{work} {pace} {arm}: {} {}", digits(headline), unit.cost_name());
    let _ = match unit {
        Unit::Operation => write!(line, ", {rate:.0}/s, p50 {} us, p99 {} us", digits(*p50), digits(*p99)),
        Unit::Gigabyte => write!(line, ", {} GB/s", digits(*rate)),
        Unit::Connection => Ok(()),
    };
    if *bad > 0 {
        let _ = write!(line, ", {bad} not done");
    }
    if *faults > 0 {
        let _ = write!(line, ", {faults} FAULTS");
    }
    line
}

/// Three digits that count.
pub(super) fn digits(number: f64) -> String {
    match number.abs() {
        large if large >= 100.0 => format!("{number:.0}"),
        middle if middle >= 10.0 => format!("{number:.1}"),
        small if small >= 1.0 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

/// All samples of one arm for one work and pace.
pub(super) struct Row<'a> {
    /// Which.
    pub(super) arm: &'a str,
    samples: Vec<&'a Sample>,
}

/// One table: a work, a pace, and its rows.
pub(super) struct Section<'a> {
    /// The work.
    pub(super) work: &'a str,
    /// When.
    pub(super) pace: &'a str,
    /// By whom.
    pub(super) rows: Vec<Row<'a>>,
}

impl Row<'_> {
    /// The middle one: a neighbour's burst moves it least. None where a sample has zero, which stands for nothing measured.
    pub(super) fn median(&self, take: impl Fn(&Sample) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.samples.iter().map(|sample| take(sample)).collect();
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        (values[0] > 0.0).then_some(median)
    }

    fn cell(&self, take: impl Fn(&Sample) -> f64) -> String {
        self.median(take).map_or_else(|| "-".to_owned(), digits)
    }

    fn full(&self) -> &'static str {
        let full = |take: fn(&Sample) -> f64| self.median(take).is_some_and(|busy| busy >= SATURATED);
        match (full(|sample| sample.arm_busy), full(|sample| sample.load_busy)) {
            (true, true) => "both",
            (true, false) => "proxy",
            (false, true) => "load",
            (false, false) => "-",
        }
    }
}

/// All works and paces in the order in which they were first measured, arms in that of tables.
pub(super) fn sections(comparison: &Comparison) -> Vec<Section<'_>> {
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
    sections.iter_mut().for_each(|section| section.rows.sort_by_key(|row| Arm::place(row.arm)));
    sections
}

/// The ratio of this figure of `ours` to that of `theirs`.
pub(super) fn ratio<'a>(
    comparison: &'a Comparison,
    section: &Section<'_>,
    [ours, theirs]: [&str; 2],
    figure: &str,
) -> Option<&'a Ratio> {
    let key = (section.work, section.pace, ours, theirs, figure);
    comparison
        .ratios
        .iter()
        .find(|have| (&*have.work, &*have.pace, &*have.ours, &*have.theirs, &*have.figure) == key)
}

/// `0.82 [0.80, 0.84]`.
pub(super) fn with_interval(Ratio { middle, low, high, .. }: &Ratio) -> String {
    let text = |ratio: &f64| if *ratio >= 1000.0 { format!("{ratio:.0e}") } else { format!("{ratio:.2}") };
    format!("{} [{}, {}]", text(middle), text(low), text(high))
}

/// A hold is for its figures of memory, all else for CPU.
fn headline(section: &Section<'_>) -> &'static str {
    if Unit::of(section.work) == Unit::Connection { "resident" } else { "cost" }
}

/// For a terminal.
pub fn text(comparison: &Comparison) -> String {
    let mut text = String::new();
    for section in &sections(comparison) {
        let unit = Unit::of(section.work);
        let _ = writeln!(text, "\n{} {}: {}", section.work, section.pace, unit.cost_name());
        let ratio = |row: &Row<'_>| {
            let found = ratio(comparison, section, [Arm::Weir.name(), row.arm], headline(section));
            let star = |ratio: &Ratio| if ratio.differs { " *" } else { "" };
            found.map_or_else(String::new, |ratio| with_interval(ratio) + star(ratio))
        };
        if unit == Unit::Connection {
            let _ = writeln!(text, "  {:<15}{:>9}  {:<21}{:>8}", "arm", "B/conn", "weir / it", "MiB");
            for row in &section.rows {
                let each = row.cell(|sample| sample.resident_per_connection.unwrap_or_default());
                let _ = writeln!(
                    text,
                    "  {:<15}{each:>9}  {:<21}{:>8}",
                    row.arm,
                    ratio(row),
                    row.cell(mebibytes)
                );
            }
            continue;
        }
        let rate = if unit == Unit::Gigabyte { "GB/s" } else { "rate/s" };
        let _ = writeln!(
            text,
            "  {:<15}{:>8}  {:<21}{rate:>8}{:>8}{:>8}{:>8}{:>8}{:>8}  full",
            "arm", "cost", "weir / it", "p50 us", "p99 us", "MiB", "calls", "switch"
        );
        for row in &section.rows {
            let _ = writeln!(
                text,
                "  {:<15}{:>8}  {:<21}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}  {}",
                row.arm,
                row.cell(|sample| sample.cost),
                ratio(row),
                row.cell(|sample| sample.rate),
                row.cell(|sample| sample.p50),
                row.cell(|sample| sample.p99),
                row.cell(mebibytes),
                row.cell(|sample| sample.calls.unwrap_or_default()),
                row.cell(|sample| sample.switches),
                row.full()
            );
        }
    }
    text.push_str(LEGEND);
    text.push_str(&findings(comparison));
    text
}

fn mebibytes(sample: &Sample) -> f64 {
    sample.resident as f64 / f64::from(1 << 20)
}

const LEGEND: &str = "
Figures are medians of rounds; \"-\" stands where nothing was measured, or too few samples. \"weir / it\" is the mean ratio within
rounds with its 95 % interval; * marks a difference: significant at 5 % after Holm's correction for all ratios of the run, and
outside of the noise of its row, which is the interval of weir-again, a second process of the same Weir. weir-before is another
build of it. floor is one thread that receives and sends and does nothing else: a relay that copies can hardly cost less. calls:
system calls of the proxy's threads an operation (a GB), counted by `perf stat` for a second of a round of its own in the closed
loop. switch: context switches. full: who filled 90 % of its core or more.

";

/// Findings that must be known beside the figures: faults first, then operations not done, gates, and absent arms.
fn findings(comparison: &Comparison) -> String {
    let mut text = String::new();
    match comparison.samples.iter().map(|sample| sample.faults).sum::<u64>() {
        0 => {
            let verified = comparison.conditions.iter().find(|(name, _)| name == "verified");
            let looked = verified.map_or("nothing", |(_, value)| value);
            let _ = writeln!(
                text,
                "All bytes that were looked at ({looked}) came as sent, and all counts add up."
            );
        }
        faults => {
            let _ = writeln!(
                text,
                "FAULTS: {faults} streams or counts are wrong. Believe nothing here before these are explained."
            );
        }
    }
    for section in &sections(comparison) {
        for row in &section.rows {
            let sum = |take: fn(&Sample) -> u64| row.samples.iter().map(|sample| take(sample)).sum::<u64>();
            let place = format!("{} {} {}", section.work, section.pace, row.arm);
            for (count, of) in
                [(sum(|sample| sample.faults), "faults"), (sum(|sample| sample.bad), "operations not done")]
            {
                if count > 0 {
                    let _ = writeln!(text, "{place}: {count} {of}");
                }
            }
            let mut gates: Vec<&str> =
                row.samples.iter().flat_map(|sample| sample.gates.iter().map(String::as_str)).collect();
            gates.sort_unstable();
            for gate in gates.chunk_by(|one, next| one == next) {
                let _ = writeln!(
                    text,
                    "{place}: gate {:?} failed in {} of {} rounds",
                    gate[0],
                    gate.len(),
                    row.samples.len()
                );
            }
        }
    }
    comparison.left_out.iter().for_each(|line| text.push_str(&format!("{line}\n")));
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
