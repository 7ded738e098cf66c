//! The meaning of single strings and numbers of a configuration: durations, ports, labels, weights. Each function
//! returns the value, or reports why there is none.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::report::Report;
use crate::config::spelling::nearest;
use crate::config::{Labels, Number, Scalar, Text, for_word, place_of};
use crate::problem::{Place, Problem};

/// The most a weight may be.
pub(super) const MAX_WEIGHT: u32 = 1_000_000;

/// A year: a longer one is a slip of the hand, and sums of it with a clock must not overflow.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

/// How fine a duration may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    /// The precision of timers.
    Milliseconds,
    /// `busy_poll` only.
    Microseconds,
    /// The precision of the kernel's keepalive.
    Seconds,
}

const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1000),
    ("us", 1),
];

/// "1500ms", "1h30m"; zero is `Duration::ZERO`.
pub(super) fn duration(
    report: &mut Report,
    file: u32,
    written: &Spanned<Scalar>,
    precision: Precision,
) -> Option<Duration> {
    let place = place_of(file, written);
    let text = match written.get_ref() {
        Scalar::Text(text) => text,
        Scalar::Number(0) => return Some(Duration::ZERO),
        Scalar::Number(number) => {
            report.push(bare_number(place, &number.to_string(), precision));
            return None;
        }
    };
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        report.push(bare_number(place, text, precision));
        return None;
    }
    let bad = |message: String| {
        Problem::error("bad-duration", place, message).found(format!("\"{text}\"")).wanted(
            "a whole number and a unit (d, h, m, s, ms), or several of them, largest first: \"1h30m\"",
        )
    };
    let Some((micros, fine)) = micros(text) else {
        let problem = bad(format!("`{text}` is not a duration"));
        report.push(
            meant(text).into_iter().fold(problem, |problem, text| problem.help(format!("write \"{text}\""))),
        );
        return None;
    };
    let value = Duration::from_micros(micros);
    let wrong = match precision {
        _ if value > MAX_DURATION => Some("a duration must be at most 366 days"),
        Precision::Microseconds => None,
        _ if fine && micros > 0 && micros < 1000 => Some("duration must be greater than 1ms"),
        _ if fine && micros > 0 => Some("only durations to ms precision are supported"),
        Precision::Seconds if !micros.is_multiple_of(1_000_000) => {
            Some("the kernel takes whole seconds here")
        }
        _ => None,
    };
    match wrong {
        Some(wrong) => report.push(bad(wrong.to_owned())),
        None => return Some(value),
    }
    None
}

/// Microseconds, and whether `us` was written.
fn micros(text: &str) -> Option<(u64, bool)> {
    let (mut rest, mut sum, mut units, mut fine) = (text, 0_u64, &UNITS[..], false);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let at = units.iter().position(|(unit, _)| *unit == &rest[..letters])?;
        fine |= units[at].0 == "us";
        sum = sum.checked_add(number.checked_mul(units[at].1)?)?;
        units = &units[at + 1..];
        rest = &rest[letters..];
    }
    (!text.is_empty()).then_some((sum, fine))
}

/// The duration that was probably meant: other names of the units, blanks, parts of a unit, units in another order.
fn meant(text: &str) -> Option<String> {
    let mut rest = text.trim();
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters =
            rest.find(|letter: char| letter.is_ascii_digit() || letter.is_whitespace()).unwrap_or(rest.len());
        let micros = match rest[..letters].to_lowercase().trim_end_matches(',') {
            "w" | "week" | "weeks" => 7.0 * 86_400e6,
            "d" | "day" | "days" => 86_400e6,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600e6,
            "m" | "min" | "mins" | "minute" | "minutes" => 60e6,
            "s" | "sec" | "secs" | "second" | "seconds" => 1e6,
            "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => 1e3,
            "us" | "\u{b5}s" | "\u{3bc}s" | "usec" | "microsecond" | "microseconds" => 1.0,
            _ => return None,
        };
        sum += number * micros;
        rest = rest[letters..].trim_start();
    }
    let value = Duration::from_micros(sum as u64);
    (!value.is_zero() && value <= MAX_DURATION).then(|| print_duration(value))
}

fn bare_number(place: Place, number: &str, precision: Precision) -> Problem {
    let problem =
        Problem::error("no-unit", place, format!("{number} of what? A duration has a unit")).found(number);
    if precision == Precision::Seconds {
        let wanted = format!("\"{number}s\"");
        let help = format!("write {wanted}: the kernel takes whole seconds here");
        return problem.wanted(wanted).help(help);
    }
    problem
        .wanted(format!("\"{number}ms\" or \"{number}s\""))
        .help(format!(
            "HAProxy reads a bare {number} as milliseconds (\"{number}ms\"), nginx as seconds (\"{number}s\"): write which you mean"
        ))
}

/// A duration as a user would write it: "1h30m", "0s".
pub(super) fn print_duration(value: Duration) -> String {
    let mut rest = value.as_micros() as u64;
    let mut text = String::new();
    for (unit, micros) in UNITS {
        if rest >= micros {
            text.push_str(&format!("{}{unit}", rest / micros));
            rest %= micros;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A port in Istio's words.
pub(super) fn port(report: &mut Report, place: Place, number: i64) -> Option<u16> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Some(port),
        _ => {
            report.push(bad_port(place, &number.to_string()));
            None
        }
    }
}

pub(super) fn bad_port(place: Place, found: &str) -> Problem {
    Problem::error("bad-port", place, format!("port number {found} must be in the range 1..65535"))
        .found(found)
        .wanted("a port from 1 to 65535")
}

/// Reads "6000" or "6000-6099". `Err`: the problem in one sentence.
pub(super) fn ports_of_text(text: &str) -> Result<RangeInclusive<u16>, String> {
    let number = |text: &str| -> Result<u16, String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits {
            return Err(format!("`{text}` is not a port"));
        }
        text.parse().map_err(|_| format!("port number {text} must be in the range 1..65535"))
    };
    let Some((first, last)) = text.split_once('-') else {
        return number(text).map(|port| port..=port);
    };
    let (first, last) = (number(first)?, number(last)?);
    if first == 0 {
        return Err("port number 0 must be in the range 1..65535".to_owned());
    }
    if first > last {
        return Err(format!("the range {text} is empty: its first port is above its last"));
    }
    Ok(first..=last)
}

/// A port or a range of a match condition.
pub(super) fn port_range(
    report: &mut Report,
    file: u32,
    written: &Spanned<Scalar>,
) -> Option<RangeInclusive<u16>> {
    let place = place_of(file, written);
    let text = match written.get_ref() {
        Scalar::Number(number) => return port(report, place, *number).map(|port| port..=port),
        Scalar::Text(text) => text,
    };
    let wrong = match ports_of_text(text) {
        Ok(range) if *range.start() > 0 => return Some(range),
        Ok(_) => "port number 0 must be in the range 1..65535".to_owned(),
        Err(wrong) => wrong,
    };
    let problem = Problem::error("bad-port", place, wrong).found(format!("\"{text}\""));
    report.push(problem.wanted("a port (31400) or a range (\"32000-32099\"), from 1 to 65535"));
    None
}

/// Labels, in Istio's words where one is not valid.
pub(super) fn labels(
    report: &mut Report,
    file: u32,
    written: Option<&Labels>,
) -> BTreeMap<Arc<str>, Arc<str>> {
    let mut labels = BTreeMap::new();
    for (key, value) in written.into_iter().flat_map(|labels| labels.get_ref()) {
        if !is_label_key(key.get_ref()) {
            let message = format!("invalid tag key: {:?}", key.get_ref());
            report.push(
                Problem::error("bad-label", place_of(file, key), message)
                    .found(key.get_ref())
                    .wanted("at most 63 letters, digits, `-`, `_` and `.`, perhaps after a DNS name and `/`"),
            );
        }
        if !is_label_value(value.get_ref()) {
            let message = format!("invalid tag value: {:?}", value.get_ref());
            report.push(
                Problem::error("bad-label", place_of(file, value), message).found(value.get_ref()).wanted(
                    "at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
                ),
            );
        }
        labels.insert(Arc::from(key.get_ref().as_str()), Arc::from(value.get_ref().as_str()));
    }
    labels
}

fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    !name.is_empty()
        && is_label_value(name)
        && prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_dns_label))
}

/// RFC 1123: at most 63 lower-case letters, digits and hyphens, no hyphen at either end.
fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

fn is_label_value(value: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// A weight from 0 to 1,000,000.
pub(super) fn weight(report: &mut Report, file: u32, written: &Number) -> Option<u32> {
    let (number, place) = (*written.get_ref(), place_of(file, written));
    let problem = match u32::try_from(number) {
        Ok(weight) if weight <= MAX_WEIGHT => return Some(weight),
        Err(_) if number < 0 => Problem::error("bad-weight", place, format!("weight {number} < 0")),
        _ => Problem::error("bad-weight", place, format!("weight {number} > {MAX_WEIGHT}")),
    };
    report.push(problem.found(number.to_string()).wanted(format!("a whole number from 0 to {MAX_WEIGHT}")));
    None
}

/// A whole number within bounds.
pub(super) fn count(
    report: &mut Report,
    file: u32,
    key: &str,
    written: &Number,
    bounds: RangeInclusive<u64>,
) -> Option<u64> {
    let number = *written.get_ref();
    if let Some(count) = u64::try_from(number).ok().filter(|count| bounds.contains(count)) {
        return Some(count);
    }
    let wanted = format!("a whole number from {} to {}", bounds.start(), bounds.end());
    let message = format!("`{key}` must be {wanted}");
    report.push(
        Problem::error("out-of-range", place_of(file, written), message)
            .found(number.to_string())
            .wanted(wanted),
    );
    None
}

/// "region[/zone[/subzone]]"; empty where nothing is written.
pub(super) fn locality(report: &mut Report, file: u32, written: Option<&Text>) -> Arc<str> {
    let Some(written) = written else { return Arc::from("") };
    let text = written.get_ref();
    let parts = text.split('/').count();
    // It is printed as it is, so that nothing may hide in it.
    let odd = |letter: char| letter == '*' || !(letter.is_alphanumeric() || letter.is_ascii_punctuation());
    if !text.is_empty() && (parts > 3 || text.split('/').any(str::is_empty) || text.contains(odd)) {
        let message = format!("`{text}` is not a locality");
        let problem = Problem::error("bad-locality", place_of(file, written), message).found(text);
        report.push(problem.wanted("region, region/zone or region/zone/subzone"));
    }
    Arc::from(text.as_str())
}

/// One of a few words. A word of `later` is not in this version.
pub(super) fn word<T: Copy>(
    report: &mut Report,
    file: u32,
    key: &str,
    written: &Text,
    words: &[(&str, T)],
    later: &[&str],
) -> Option<T> {
    let (text, place) = (written.get_ref().as_str(), place_of(file, written));
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*value);
    }
    let wanted: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    if later.contains(&text) {
        let problem = crate::config::not_in_this_version(&format!("{key} = \"{text}\""), place);
        report.push(problem.wanted(wanted.join(" or ")));
        return None;
    }
    let mut problem = Problem::error("unknown-value", place, format!("`{key}` cannot be \"{text}\""))
        .found(format!("\"{text}\""))
        .wanted(wanted.join(" or "));
    if let Some(meant) = for_word(key, text).or_else(|| nearest(text, words.iter().map(|(word, _)| *word))) {
        problem = problem.help(format!("did you mean \"{meant}\"?"));
    }
    report.push(problem);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_largest_unit_first_and_printed_alike() {
        let cases = [
            ("1500ms", Some(1_500_000), "1s500ms"),
            ("1h30m", Some(5_400_000_000), "1h30m"),
            ("0s", Some(0), "0s"),
            ("90s", Some(90_000_000), "1m30s"),
            ("1d", Some(86_400_000_000), "1d"),
            ("50us", Some(50), "50us"),
            ("30m1h", None, ""),
            ("1s1s", None, ""),
            ("1.5s", None, ""),
            ("-1s", None, ""),
            ("s", None, ""),
            ("", None, ""),
            ("1 s", None, ""),
            ("99999999999999999999s", None, ""),
            ("9999999999999d", None, ""),
            ("1ß", None, ""),
        ];
        for (text, wanted, printed) in cases {
            let read = micros(text).map(|(micros, _)| micros);
            assert_eq!(read, wanted, "{text}");
            if let Some(micros) = read {
                assert_eq!(print_duration(Duration::from_micros(micros)), printed, "{text}");
            }
        }
    }

    #[test]
    fn a_text_that_is_no_duration_gets_the_one_that_was_meant() {
        let cases = [
            ("5min", Some("5m")),
            ("5 minutes", Some("5m")),
            ("1 h 30 min", Some("1h30m")),
            ("1.5s", Some("1s500ms")),
            ("30m1h", Some("1h30m")),
            ("2w", Some("14d")),
            ("10S", Some("10s")),
            ("0.5us", None),
            ("1y", None),
            ("soon", None),
            ("5", None),
            ("", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(meant(text).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn labels_are_valid_as_in_kubernetes() {
        for (value, wanted) in
            [("", true), ("a", true), ("a-b.c_d", true), ("-x", false), ("x-", false), ("a b", false)]
        {
            assert_eq!(is_label_value(value), wanted, "{value}");
        }
        for (key, wanted) in [
            ("app", true),
            ("k8s.io/app", true),
            ("", false),
            ("/app", false),
            ("a/b/c", false),
            ("K8s.io/app", false),
        ] {
            assert_eq!(is_label_key(key), wanted, "{key}");
        }
    }
}
