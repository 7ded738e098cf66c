//! Numbers as people read them: three digits that count, and a unit.

use std::fmt::Display;

use crate::settings::{Arrivals, Close, Direction, Exchange, Pace, Part, Sizes, Work};

/// Three digits that count, of a number from 0 to 1,000.
fn three_digits(number: f64) -> String {
    // A number that rounds up to the next width is as wide as that: 9.996 is "10.0".
    let decimals = if number < 9.995 {
        2
    } else if number < 99.95 {
        1
    } else {
        0
    };
    format!("{number:.decimals$}")
}

/// A number with the largest of its units of which there is one, after rounding.
fn scaled(number: f64, units: &[(f64, &str)]) -> String {
    let fits = |&&(size, _): &&(f64, &str)| number / size < 999.5;
    let (size, unit) = units.iter().find(fits).or(units.last()).copied().unwrap_or((1.0, ""));
    let value = number / size;
    if value >= 999.5 {
        format!("{} {unit}", count(value.round() as u64))
    } else {
        format!("{} {unit}", three_digits(value))
    }
}

/// A time given in nanoseconds: "98.3 us", "1.25 ms", "2.00 s".
pub fn time(nanoseconds: u64) -> String {
    scaled(nanoseconds as f64, &[(1e3, "us"), (1e6, "ms"), (1e9, "s")])
}

/// Bytes, in powers of a thousand: "64.0 kB".
pub fn bytes(bytes: f64) -> String {
    if bytes < 999.5 {
        return format!("{bytes:.0} B");
    }
    scaled(bytes, &[(1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB")])
}

/// A count, with its thousands set apart: "10,000".
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of these: "1 connection", "10,000 connections".
pub fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// So many a second: "12,345/s", "3.50/s".
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() {
        "-".to_owned()
    } else if per_second < 999.5 {
        format!("{}/s", three_digits(per_second.max(0.0)))
    } else {
        format!("{}/s", count(per_second.round() as u64))
    }
}

/// A share from 0 to 1: "99.7 %".
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Sizes as they are given on the command line, with a unit.
fn sizes(sizes: &Sizes) -> String {
    match sizes {
        Sizes::Fixed(size) => format!("{size} B"),
        Sizes::Uniform(from, to) => format!("{from} to {to} B"),
        Sizes::Weighted(choices) => {
            let one = |(size, weight): &(u32, u32)| format!("{size} B x{weight}");
            choices.iter().map(one).collect::<Vec<_>>().join(" or ")
        }
    }
}

fn exchange(exchange: &Exchange) -> String {
    match exchange {
        Exchange::Framed { request, response } => {
            format!("request {}, response {}", sizes(request), sizes(response))
        }
        Exchange::Raw { request, response } => {
            format!("raw request {} B, response {response} B", request.len())
        }
    }
}

fn close(close: Close) -> &'static str {
    match close {
        Close::Fin => "closed by FIN",
        Close::Rst => "closed by RST",
    }
}

/// A part in a line: "64 connections, request 64 B, response 64 B, depth 1, open loop 1,000/s, Poisson".
pub fn part(part: &Part) -> String {
    let plural = |number: usize| counted(number as u64, "connection");
    let work = match &part.work {
        Work::Rr { connections, exchange: what, depth } => {
            format!("{}, {}, depth {depth}", plural(*connections), exchange(what))
        }
        Work::Crr { connections, exchange: what, exchanges, close: how } => {
            let times = counted((*exchanges).into(), "exchange");
            format!("{} at a time, {times} each, {}, {}", plural(*connections), exchange(what), close(*how))
        }
        Work::Connect { connections, close: how } => {
            format!("{} at a time, until the first bytes come, {}", plural(*connections), close(*how))
        }
        Work::Stream { connections, direction } => {
            let way = match direction {
                Direction::Up => "up",
                Direction::Down => "down",
                Direction::Both => "both ways",
            };
            format!("{}, {way}", plural(*connections))
        }
        Work::Hold { connections, ramp, heartbeat } => {
            let heartbeat = match heartbeat {
                Some(every) => format!("a heartbeat every {}", time(every.as_nanos() as u64)),
                None => "silent".to_owned(),
            };
            format!("{} opened at {}, {heartbeat}", plural(*connections), rate(*ramp))
        }
        Work::Churn { connections, bytes } => {
            format!("{} at a time, {} each unless ended sooner", plural(*connections), sizes(bytes))
        }
    };
    format!("{work}, {}", pace(part.pace))
}

/// When operations start: "closed loop", "open loop 1,000/s, Poisson".
pub fn pace(pace: Pace) -> String {
    match pace {
        Pace::Closed => "closed loop".to_owned(),
        Pace::Open { rate: per_second, arrivals } => {
            let arrivals = match arrivals {
                Arrivals::Constant => "evenly",
                Arrivals::Poisson => "Poisson",
            };
            format!("open loop {}, {arrivals}", rate(per_second))
        }
    }
}

/// The first faults, and how many there were.
pub fn faults(faults: &[impl Display], total: u64, shown: usize) -> String {
    let mut text: Vec<String> = faults.iter().take(shown).map(ToString::to_string).collect();
    let more = total.saturating_sub(text.len() as u64);
    if more > 0 {
        text.push(format!("{} more", count(more)));
    }
    text.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: String, expect: &str) {
        assert_eq!(text, expect);
    }

    #[test]
    fn times_have_three_digits_and_the_unit_that_fits() {
        check(time(0), "0.00 us");
        check(time(850), "0.85 us");
        check(time(9_996), "10.0 us");
        check(time(98_300), "98.3 us");
        check(time(999_400), "999 us");
        check(time(999_600), "1.00 ms");
        check(time(1_250_000), "1.25 ms");
        check(time(999_700_000), "1.00 s");
        check(time(3_600_000_000_000), "3,600 s");
    }

    #[test]
    fn thousands_are_set_apart() {
        check(count(0), "0");
        check(count(999), "999");
        check(count(1_000), "1,000");
        check(count(12_345_678), "12,345,678");
    }

    #[test]
    fn rates_and_bytes_have_units() {
        check(rate(3.5), "3.50/s");
        check(rate(12_345.4), "12,345/s");
        check(rate(f64::NAN), "-");
        check(bytes(999.0), "999 B");
        check(bytes(64_000.0), "64.0 kB");
        check(bytes(1.5e15), "1,500 TB");
        check(percent(0.9966), "99.7 %");
    }
}
