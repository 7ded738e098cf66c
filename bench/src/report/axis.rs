//! Where a value stands on an axis, and which round numbers are written along it. Pure.

use crate::human;

/// How values are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
}

/// An axis with its ticks. Neither end is ever not finite, and they never coincide.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) ticks: Vec<(f64, String)>,
    scale: Scale,
    from: f64,
    to: f64,
}

/// How a tick's number is written.
pub(super) type Format = fn(f64) -> String;

impl Axis {
    /// From zero to a round number that holds `high`.
    pub(super) fn from_zero(label: &str, high: f64, most: usize, format: Format) -> Axis {
        let high = if high > 0.0 { high } else { 1.0 };
        let step = round_step(high / most as f64);
        Axis::with(
            label,
            Scale::Linear,
            (0.0, (high / step).ceil() * step),
            steps(0.0, high + step, step),
            format,
        )
    }

    /// Exactly from one number to another.
    pub(super) fn between(label: &str, from: f64, to: f64, most: usize, format: Format) -> Axis {
        let step = round_step((to - from) / most as f64);
        Axis::with(label, Scale::Linear, (from, to), steps((from / step).ceil() * step, to, step), format)
    }

    /// Logarithmic, out to round numbers that hold both; they must be above zero.
    pub(super) fn log(label: &str, low: f64, high: f64, most: usize, format: Format) -> Axis {
        let (low, high) = if high / low < 1.1 { (low / 1.2, high * 1.2) } else { (low, high) };
        let ticks = if high / low < 8.0 { narrow(low, high, most) } else { wide(low, high, most) };
        let (from, to) = (ticks[0].min(low), ticks[ticks.len() - 1].max(high));
        Axis::with(label, Scale::Log, (from, to), ticks, format)
    }

    /// The axis of percentiles: places are log10 of 1/(1-q), from 0 % to where it must end.
    pub(super) fn nines(label: &str, end: f64) -> Axis {
        let tick = |nines: i32| (f64::from(nines), nine(nines));
        let mut ticks = vec![(0.0, "0 %".to_owned()), (2_f64.log10(), "50 %".to_owned())];
        ticks.extend((1..=end.floor() as i32).map(tick));
        Axis { label: label.to_owned(), ticks, scale: Scale::Linear, from: 0.0, to: end }
    }

    fn with(label: &str, scale: Scale, (from, to): (f64, f64), ticks: Vec<f64>, format: Format) -> Axis {
        let is_within = |value: &f64| *value >= from - 1e-9 * from.abs() && *value <= to + 1e-9 * to.abs();
        let ticks = ticks.into_iter().filter(is_within).map(|value| (value, format(value))).collect();
        Axis { label: label.to_owned(), ticks, scale, from, to }
    }

    /// Where a value stands: 0 at the beginning, 1 at the end, outside of that beyond them. None for a value without a place: a
    /// logarithm of nothing.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let place = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => (value / self.from).ln() / (self.to / self.from).ln(),
        };
        place.is_finite().then_some(place)
    }
}

/// "90 %", "99 %", "99.9 %", ...
fn nine(nines: i32) -> String {
    match nines {
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more as usize - 2)),
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is at least this.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|times| times * power)
        .into_iter()
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(least)
}

/// Multiples of a step; counted, for sums of steps drift.
fn steps(from: f64, to: f64, step: f64) -> Vec<f64> {
    let first = (from / step).round() as i64;
    let last = (to / step + 1e-9).floor() as i64;
    // A division by the inverse keeps a tenth a tenth: 3 * 0.1 is not 0.3.
    let inverse = 1.0 / step;
    let value = |times: i64| if step < 1.0 { times as f64 / inverse.round() } else { times as f64 * step };
    (first..=last).map(value).collect()
}

/// Ticks where a decade is too far: even steps, which lie unevenly.
fn narrow(low: f64, high: f64, most: usize) -> Vec<f64> {
    let step = round_step((high - low) / most as f64);
    let ticks = steps((low / step).floor() * step, (high / step).ceil() * step, step);
    ticks.into_iter().filter(|value| *value > 0.0).collect()
}

/// Ticks over decades: 1, 2, 5 of each where there is room, else each, else every so many.
fn wide(low: f64, high: f64, most: usize) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let decades = |mantissas: &[f64], every: usize| -> Vec<f64> {
        let all: Vec<f64> = (first..=last)
            .step_by(every)
            .flat_map(|decade| mantissas.iter().map(move |mantissa| mantissa * 10_f64.powi(decade)))
            .collect();
        let begin = all.iter().rposition(|value| *value <= low).unwrap_or(0);
        let end = all.iter().position(|value| *value >= high).unwrap_or(all.len() - 1);
        all[begin..=end].to_vec()
    };
    let fine = decades(&[1.0, 2.0, 5.0], 1);
    if fine.len() <= most {
        return fine;
    }
    let coarse = |every: usize| decades(&[1.0], every);
    (1..10).map(coarse).find(|ticks| ticks.len() <= most).unwrap_or_else(|| coarse(10))
}

/// A time in nanoseconds, without needless zeros.
pub(super) fn time_text(nanoseconds: f64) -> String {
    if nanoseconds < 1000.0 {
        return format!("{nanoseconds:.0} ns");
    }
    trimmed(&human::time(nanoseconds as u64)).replace("us", "µs")
}

/// A plain number, without needless zeros.
pub(super) fn number_text(number: f64) -> String {
    if number.fract() == 0.0 && number >= 0.0 {
        return human::count(number as u64);
    }
    trimmed(&format!("{number:.4} ")).trim_end().to_owned()
}

/// A share from 0 to 1, in percent.
pub(super) fn share_text(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// "2.00 ms" as "2 ms".
fn trimmed(text: &str) -> String {
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(axis: &Axis, expect: &str) {
        let ticks: Vec<&str> = axis.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(ticks.join(" | "), expect);
        for (value, text) in &axis.ticks {
            let place = axis.place(*value).expect("a tick has a place");
            assert!((-1e-6..=1.0 + 1e-6).contains(&place), "{text} stands at {place}");
        }
    }

    #[test]
    fn ticks_are_round_numbers() {
        check(&Axis::from_zero("", 1043.0, 6, number_text), "0 | 200 | 400 | 600 | 800 | 1,000 | 1,200");
        check(&Axis::from_zero("", 0.141, 5, number_text), "0 | 0.05 | 0.1 | 0.15");
        check(&Axis::from_zero("", 0.0, 5, number_text), "0 | 0.2 | 0.4 | 0.6 | 0.8 | 1");
        check(&Axis::between("", -1.0, 10.0, 6, |number| format!("{number}")), "0 | 2 | 4 | 6 | 8 | 10");
        check(&Axis::between("", 0.0, 1.0, 6, number_text), "0 | 0.2 | 0.4 | 0.6 | 0.8 | 1");
        check(
            &Axis::log("", 62_000.0, 2_500_000.0, 8, time_text),
            "50 µs | 100 µs | 200 µs | 500 µs | 1 ms | 2 ms | 5 ms",
        );
        check(&Axis::log("", 900.0, 3.6e12, 8, time_text), "100 ns | 10 µs | 1 ms | 100 ms | 10 s | 1,000 s");
        check(&Axis::log("", 0.62, 1.17, 8, number_text), "0.6 | 0.7 | 0.8 | 0.9 | 1 | 1.1 | 1.2");
        check(
            &Axis::log("", 0.99, 1.02, 8, number_text),
            "0.8 | 0.85 | 0.9 | 0.95 | 1 | 1.05 | 1.1 | 1.15 | 1.2 | 1.25",
        );
        check(&Axis::nines("", 3.4), "0 % | 50 % | 90 % | 99 % | 99.9 %");
    }

    #[test]
    fn a_value_without_a_place_is_recognised() {
        let log = Axis::log("", 1.0, 100.0, 8, number_text);
        assert_eq!(log.place(10.0), Some(0.5));
        assert_eq!((log.place(0.0), log.place(f64::NAN)), (None, None));
    }
}
