//! Comma-separated values (RFC 4180, but lines end in a line feed alone): a row a second, or a row a part.
//!
//! Times are nanoseconds, as in the JSON; a percentile with too few samples is an empty field.

use std::io::{self, Write};

use super::PERCENTILES;
use crate::gates::{self, Gate};
use crate::ledger::{Outcome, PartOutcome, Times};

/// A field, quoted where it has to be.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn row(out: &mut impl Write, fields: &[String]) -> io::Result<()> {
    let fields: Vec<String> = fields.iter().map(|text| field(text)).collect();
    writeln!(out, "{}", fields.join(","))
}

/// Writes the run second by second, all parts together: `second,ok,bad,bytes,p50_ns,p99_ns,length_s`. Seconds of the warm-up are
/// negative; the last may be shorter than a second, and its counts are of that part.
///
/// # Errors
///
/// When `out` refuses.
pub fn write(outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "second,ok,bad,bytes,p50_ns,p99_ns,length_s")?;
    for second in &outcome.seconds {
        let fields =
            [second.ok, second.bad, second.bytes, second.p50, second.p99].map(|number| number.to_string());
        writeln!(out, "{},{},{}", second.at, fields.join(","), second.length)?;
    }
    Ok(())
}

/// Writes a row for each part of the run, under a head that names the columns: counts, bytes, and percentiles of response and
/// service times.
///
/// # Errors
///
/// When `out` refuses.
pub fn summary(outcome: &Outcome, gates: &[Gate], out: &mut impl Write) -> io::Result<()> {
    let counts = ["part", "valid", "seconds", "planned", "ok", "failed", "timeout", "unfinished", "dropped"];
    let mut head: Vec<String> = counts.iter().map(|&name| name.to_owned()).collect();
    head.extend(["bytes_up", "bytes_down", "faults"].map(str::to_owned));
    for kind in ["response", "service"] {
        let names = PERCENTILES.iter().map(|(name, _)| name.replace('.', "")).chain(["max".to_owned()]);
        head.extend(names.map(|name| format!("{kind}_{name}_ns")));
    }
    row(out, &head)?;
    for PartOutcome { part, ledger } in &outcome.parts {
        let mut fields = vec![part.name.clone(), gates::valid(gates).to_string()];
        fields.push(outcome.elapsed.as_secs_f64().to_string());
        let counts = [ledger.planned, ledger.ok, ledger.failed, ledger.timeout, ledger.unfinished];
        let more = [ledger.dropped, ledger.bytes_up, ledger.bytes_down, ledger.fault_count];
        fields.extend(counts.iter().chain(&more).map(u64::to_string));
        fields.extend(percentiles(&ledger.response));
        fields.extend(percentiles(&ledger.service));
        row(out, &fields)?;
    }
    Ok(())
}

/// The percentiles and the maximum, empty where samples are too few.
fn percentiles(times: &Times) -> Vec<String> {
    let max = (!times.is_empty()).then(|| times.max());
    let values = PERCENTILES.iter().map(|&(_, quantile)| gates::percentile(times, quantile)).chain([max]);
    values.map(|value| value.map(|value| value.to_string()).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).expect("a vector takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn fields_are_quoted_where_they_have_to_be() {
        for (given, expect) in [
            ("rr", "rr"),
            ("rr, 64 B", "\"rr, 64 B\""),
            ("the \"best\"", "\"the \"\"best\"\"\""),
            ("a\nb", "\"a\nb\""),
            ("", ""),
        ] {
            assert_eq!(field(given), expect);
        }
    }

    #[test]
    fn there_is_a_row_a_second_under_the_head() {
        let outcome = fixture::open();
        let text = text(|out| write(&outcome, out));
        assert_eq!(text.lines().count(), outcome.seconds.len() + 1);
        assert!(text.lines().all(|line| line.split(',').count() == 7), "{text}");
    }

    #[test]
    fn a_summary_has_as_many_fields_as_its_head_and_withholds_what_it_does_not_know() {
        let outcome = fixture::short();
        let text = text(|out| summary(&outcome, &gates::judge(&outcome), out));
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(rows.len(), 1 + outcome.parts.len());
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
        let at = |name: &str| rows[0].iter().position(|head| *head == name).expect("a column");
        assert_eq!(rows[1][at("service_p999_ns")], "");
        assert_ne!(rows[1][at("service_p50_ns")], "");
    }
}
