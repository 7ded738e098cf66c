//! Histograms as other programs read them: the percentile output of HdrHistogram (as its C and Java versions and wrk2 write it), and
//! its V2 encoding, compressed, in base64, as it stands in interval logs.

use std::io::{self, Write};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};

use crate::ledger::Times;

/// Nanoseconds in a millisecond, the unit of the percentile output.
const MILLISECOND: f64 = 1e6;

/// Steps for each halving of the distance to 100 %, as HdrHistogram's own tools take.
const STEPS: u32 = 5;

/// Writes the percentile output: values in milliseconds, to the nanosecond (the original has three decimals, which is too coarse
/// for a loopback).
///
/// # Errors
///
/// When `out` refuses.
pub fn write(times: &Times, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    writeln!(out)?;
    let mut total = 0;
    if !times.is_empty() {
        for row in times.iter_quantiles(STEPS) {
            total += row.count_since_last_iteration();
            let value = row.value_iterated_to() as f64 / MILLISECOND;
            let quantile = row.quantile_iterated_to();
            write!(out, "{value:>12.6} {quantile:>14.12} {total:>10}")?;
            // The last row has no distance to 100 % left.
            if quantile < 1.0 {
                write!(out, " {:>14.2}", 1.0 / (1.0 - quantile))?;
            }
            writeln!(out)?;
        }
    }
    let in_milliseconds = |value: f64| format!("{:>12.6}", value / MILLISECOND);
    let (mean, deviation) = if times.is_empty() { (0.0, 0.0) } else { (times.mean(), times.stdev()) };
    writeln!(out, "#[Mean    = {}, StdDeviation   = {}]", in_milliseconds(mean), in_milliseconds(deviation))?;
    let max = times.max() as f64;
    writeln!(out, "#[Max     = {}, Total count    = {:>12}]", in_milliseconds(max), times.len())?;
    writeln!(out, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", times.buckets(), sub_buckets(times))
}

/// Sub-buckets of a bucket: the power of two that holds twice the promised precision.
fn sub_buckets(times: &Times) -> u64 {
    (2 * 10_u64.pow(u32::from(times.sigfig()))).next_power_of_two()
}

/// The whole histogram, in nanoseconds, as any HdrHistogram decodes it.
pub fn encoded(times: &Times) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(times, &mut bytes)
        .expect("a histogram of an hour in nanoseconds fits, and a vector takes everything");
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::times;

    fn written(values: &[u64]) -> String {
        let mut histogram = times();
        for value in values {
            histogram.record(*value).expect("in bounds");
        }
        let mut out = Vec::new();
        write(&histogram, &mut out).expect("a vector takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn an_empty_histogram_has_a_head_and_a_foot_and_no_rows() {
        let text = written(&[]);
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 2, "{text}");
        assert!(text.contains("Total count    =            0]"), "{text}");
        assert!(!text.contains("NaN"), "{text}");
    }

    #[test]
    fn rows_rise_to_the_maximum_and_count_everything() {
        let values: Vec<u64> = (1..=1000).map(|value| value * 1_000_000).collect();
        let text = written(&values);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|field| field.parse().expect("a number")).collect())
            .collect();
        assert!(rows.len() > 20, "{text}");
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]), "{text}");
        let last = rows.last().expect("rows");
        assert!((last[0] - 1000.0).abs() < 1.0 && last[1] == 1.0 && last[2] == 1000.0, "{text}");
        assert_eq!(last.len(), 3, "{text}");
    }
}
