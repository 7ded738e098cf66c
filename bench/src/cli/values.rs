//! Values of arguments: sizes, times, bytes with escapes. An error has the found and the wanted value.

use std::time::Duration;

use crate::settings::{Sizes, Verify};

/// Largest request or response: both ends keep no more than a part of one in memory, but a mistaken unit should be noticed.
const LARGEST: u32 = 64 << 20;

/// A number of bytes: `64`, `16k`, `1m`; units are of 1024.
pub(super) fn bytes(text: &str) -> Result<u32, String> {
    let text = text.trim();
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        _ => (text, 1),
    };
    let number: u32 =
        digits.parse().map_err(|_| format!("`{text}` is no number of bytes: write `64`, `16k` or `1m`"))?;
    let bytes = number.checked_mul(unit).filter(|bytes| *bytes <= LARGEST);
    bytes.ok_or_else(|| format!("`{text}` is too much: at most {}m", LARGEST >> 20))
}

/// Sizes: `64`, `16k`, `100..4k`, or `64:90,16k:10` by weight.
pub(super) fn sizes(text: &str) -> Result<Sizes, String> {
    if let Some((low, high)) = text.split_once("..") {
        let (low, high) = (bytes(low)?, bytes(high)?);
        if low > high {
            return Err(format!("`{text}` runs backwards: the smaller size comes first"));
        }
        return Ok(Sizes::Uniform(low, high));
    }
    if !text.contains(':') {
        return Ok(Sizes::Fixed(bytes(text)?));
    }
    let choice = |choice: &str| {
        let (size, weight) = choice
            .split_once(':')
            .ok_or_else(|| format!("`{choice}` has no weight: write size:weight, as in `64:90,16k:10`"))?;
        let weight: u32 = weight
            .trim()
            .parse()
            .map_err(|_| format!("`{weight}` is no weight: whole numbers, as in `64:90,16k:10`"))?;
        Ok((bytes(size)?, weight))
    };
    let choices: Vec<(u32, u32)> = text.split(',').map(choice).collect::<Result<_, String>>()?;
    if choices.iter().all(|(_, weight)| *weight == 0) {
        return Err(format!("all weights of `{text}` are 0: nothing could be drawn"));
    }
    Ok(Sizes::Weighted(choices))
}

/// A time: `10s`, `1.5s`, `200ms`, `50us`, `2m`; a number alone is seconds.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{unit}` is no unit of time: us, ms, s, m or h")),
    };
    let number: f64 = number
        .trim()
        .parse()
        .map_err(|_| format!("`{text}` is no time: write `10s`, `1.5s`, `200ms` or `2m`"))?;
    Duration::try_from_secs_f64(number * scale)
        .ok()
        .filter(|time| *time <= Duration::from_secs(7 * 24 * 3600))
        .ok_or_else(|| format!("`{text}` is no time from 0 to a week"))
}

/// Text with the escapes `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH`.
pub(super) fn escaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let mut after = rest[at + 1..].chars();
        let escape = after.next();
        rest = after.as_str();
        bytes.push(match escape {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits = rest.get(..2).unwrap_or(rest);
                let byte = u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2);
                rest = rest.get(2..).unwrap_or("");
                byte.ok_or_else(|| format!("`\\x{digits}` is no byte: two hexadecimal digits follow `\\x`"))?
            }
            other => {
                let found = other.map_or(String::new(), String::from);
                return Err(format!("`\\{found}` is no escape: write \\r, \\n, \\t, \\0, \\\\ or \\xHH"));
            }
        });
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// A rate a second, above 0: `1000`, `20k`, `1.5`.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1e3),
        None => (text, 1.0),
    };
    let rate = number.trim().parse::<f64>().ok().map(|number| number * scale);
    // A plan of more than this could not even be drawn in time.
    rate.filter(|rate| *rate > 0.0 && *rate <= 1e7)
        .ok_or_else(|| format!("`{text}` is no rate: a number a second above 0 and up to 10,000,000"))
}

/// A share of a mix: `rr=80`.
pub(super) fn share(text: &str) -> Result<(String, u32), String> {
    let wanted = || format!("`{text}` is no share: write name=weight, as in `rr=80,crr=20`");
    let (name, weight) = text.split_once('=').ok_or_else(wanted)?;
    let weight: u32 = weight.trim().parse().ok().filter(|weight| *weight > 0).ok_or_else(wanted)?;
    Ok((name.trim().to_owned(), weight))
}

/// How closely bytes are looked at, as an argument.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Looks {
    /// Every byte
    Full,
    /// 16 bytes of each 4 KiB, and every header
    Stamp,
    /// Headers only
    Off,
}

impl From<Looks> for Verify {
    fn from(looks: Looks) -> Self {
        match looks {
            Looks::Full => Verify::Full,
            Looks::Stamp => Verify::Stamp,
            Looks::Off => Verify::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    #[track_caller]
    fn check<T: Debug + PartialEq>(found: Result<T, String>, wanted: Result<T, &str>) {
        match (found, wanted) {
            (Ok(found), Ok(wanted)) => assert_eq!(found, wanted),
            (Err(found), Err(wanted)) => assert!(found.contains(wanted), "{found}\nwanted: {wanted}"),
            (found, wanted) => panic!("found {found:?}, wanted {wanted:?}"),
        }
    }

    #[test]
    fn sizes_are_read_or_refused_with_what_was_found() {
        check(sizes("64"), Ok(Sizes::Fixed(64)));
        check(sizes("16k"), Ok(Sizes::Fixed(16 << 10)));
        check(sizes("64M"), Ok(Sizes::Fixed(64 << 20)));
        check(sizes("100..4k"), Ok(Sizes::Uniform(100, 4096)));
        check(sizes("64..64"), Ok(Sizes::Uniform(64, 64)));
        check(sizes("64:90,16k:10"), Ok(Sizes::Weighted(vec![(64, 90), (16 << 10, 10)])));
        check(sizes("64:1"), Ok(Sizes::Weighted(vec![(64, 1)])));
        check(sizes(""), Err("`` is no number of bytes"));
        check(sizes("64x"), Err("`64x` is no number of bytes"));
        check(sizes("-1"), Err("`-1` is no number of bytes"));
        check(sizes("65m"), Err("too much"));
        check(sizes("4294967295k"), Err("too much"));
        check(sizes("4k..100"), Err("runs backwards"));
        check(sizes("64:90,16k"), Err("`16k` has no weight"));
        check(sizes("64:some"), Err("`some` is no weight"));
        check(sizes("64:0,16k:0"), Err("all weights"));
    }

    #[test]
    fn times_are_read_or_refused() {
        check(time("10s"), Ok(Duration::from_secs(10)));
        check(time("1.5"), Ok(Duration::from_millis(1500)));
        check(time("200ms"), Ok(Duration::from_millis(200)));
        check(time("50us"), Ok(Duration::from_micros(50)));
        check(time("2m"), Ok(Duration::from_secs(120)));
        check(time("0"), Ok(Duration::ZERO));
        check(time("10 days"), Err("no unit of time"));
        check(time("s"), Err("is no time"));
        check(time("-1s"), Err("from 0 to a week"));
        check(time("200h"), Err("from 0 to a week"));
    }

    #[test]
    fn text_to_send_knows_escapes() {
        check(escaped("PING\\r\\n"), Ok(b"PING\r\n".to_vec()));
        check(escaped("\\x00\\xfF\\\\"), Ok(vec![0, 255, b'\\']));
        check(escaped("a\\0\\tb"), Ok(b"a\0\tb".to_vec()));
        check(escaped("\\q"), Err("`\\q` is no escape"));
        check(escaped("\\x1"), Err("`\\x1` is no byte"));
        check(escaped("\\xgg"), Err("`\\xgg` is no byte"));
        check(escaped("end\\"), Err("`\\` is no escape"));
    }

    #[test]
    fn rates_and_shares_are_read_or_refused() {
        check(rate("1000"), Ok(1000.0));
        check(rate("20k"), Ok(20_000.0));
        check(rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "NaN", "inf", "fast", "100000k"] {
            check(rate(wrong), Err("is no rate"));
        }
        check(share("rr=80"), Ok(("rr".to_owned(), 80)));
        for wrong in ["rr", "rr=0", "rr=-1", "rr=x"] {
            check(share(wrong), Err("is no share"));
        }
    }
}
