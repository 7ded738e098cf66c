//! Values that TOML has and no key of a configuration takes: dates, and numbers too large to be one.

use toml::Spanned;
use toml::de::DeValue;

use crate::problem::{Place, Problem};

/// Reports every such value in `value`, at its place.
pub(super) fn check(value: &Spanned<DeValue<'_>>, file: u32, problems: &mut Vec<Problem>) {
    let span = value.span();
    let mut report = |message: &str, found: String| {
        let place = Place { file, start: span.start as u32, end: span.end as u32 };
        problems.push(Problem::error("wrong-type", place, message).found(found));
    };
    match value.get_ref() {
        DeValue::Datetime(date) => report("no key takes a date", date.to_string()),
        DeValue::Float(number) if overflows(number.as_str()) => {
            report("no key takes a number this large", number.as_str().to_owned());
        }
        DeValue::Integer(number) if i64::from_str_radix(number.as_str(), number.radix()).is_err() => {
            report("no key takes a number this large", number.to_string());
        }
        DeValue::Array(list) => list.iter().for_each(|value| check(value, file, problems)),
        DeValue::Table(table) => table.iter().for_each(|(_, value)| check(value, file, problems)),
        _ => {}
    }
}

/// Whether a number with digits comes out as an infinite one.
fn overflows(text: &str) -> bool {
    text.contains(|letter: char| letter.is_ascii_digit())
        && text.replace('_', "").parse().is_ok_and(f64::is_infinite)
}
