//! `"${NAME}"` and `"${NAME:-default}"` in the strings of a configuration: put in before anything reads them.

use std::env::VarError;

use toml::Spanned;
use toml::de::DeValue;

use crate::problem::{Place, Problem};

/// The environment: the value of a variable, or why there is none, as [`std::env::var`] answers.
pub type Environment<'e> = &'e dyn Fn(&str) -> Result<String, VarError>;

/// Puts the environment into every string of `value`.
pub(super) fn fill(
    value: &mut Spanned<DeValue<'_>>,
    file: u32,
    env: Environment<'_>,
    problems: &mut Vec<Problem>,
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => match expand(text, env) {
            Ok(filled) => *text = filled.into(),
            Err(wrong) => {
                let place = Place { file, start: span.start as u32, end: span.end as u32 };
                problems.push(wrong.problem(place, text));
            }
        },
        DeValue::Array(list) => list.iter_mut().for_each(|value| fill(value, file, env, problems)),
        DeValue::Table(table) => table.iter_mut().for_each(|(_, value)| fill(value, file, env, problems)),
        _ => {}
    }
}

#[derive(Debug, PartialEq)]
enum Wrong {
    Unset(String),
    NotUtf8(String),
    /// Its value has a line end or another control character in it.
    Control(String, String),
    Unclosed,
    BadName(String),
}

impl Wrong {
    fn problem(self, place: Place, text: &str) -> Problem {
        match self {
            Self::Unset(name) => Problem::error(
                "variable-not-set",
                place,
                format!("the environment variable `{name}` is not set"),
            )
            .found(format!("${{{name}}}"))
            .help(format!("set {name}, or write `${{{name}:-default}}`")),
            Self::NotUtf8(name) => Problem::error(
                "bad-variable",
                place,
                format!("the environment variable `{name}` is set, and not to UTF-8"),
            )
            .found(format!("${{{name}}}"))
            .help("a configuration is text in UTF-8; set it so"),
            Self::Control(name, value) => Problem::error(
                "bad-variable",
                place,
                format!(
                    "the environment variable `{name}` has a line end or another control character in it"
                ),
            )
            .found(format!("{value:?}"))
            .help(format!(
                "set {name} without it; where it is read from a file, the file may end with a line end"
            )),
            Self::Unclosed => Problem::error("bad-variable", place, "`${` without its `}`")
                .found(text)
                .wanted("`${NAME}` or `${NAME:-default}`"),
            Self::BadName(name) => {
                Problem::error("bad-variable", place, format!("`{name}` is not the name of a variable"))
                    .found(format!("${{{name}}}"))
                    .wanted("letters, digits and `_`, not beginning with a digit")
            }
        }
    }
}

fn expand(text: &str, env: Environment<'_>) -> Result<String, Wrong> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        filled.push_str(&rest[..start]);
        let inside = &rest[start + 2..];
        let end = inside.find('}').ok_or(Wrong::Unclosed)?;
        let (name, default) = match inside[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inside[..end], None),
        };
        let well_formed = name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
            && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if !well_formed {
            return Err(Wrong::BadName(name.to_owned()));
        }
        // As in a shell, `:-` also stands in for a variable that is set to nothing.
        let value = match env(name) {
            Ok(value) => Some(value).filter(|value| default.is_none() || !value.is_empty()),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) => return Err(Wrong::NotUtf8(name.to_owned())),
        };
        if let Some(value) = value.as_ref().filter(|value| value.contains(char::is_control)) {
            return Err(Wrong::Control(name.to_owned(), value.clone()));
        }
        match value.as_deref().or(default) {
            Some(value) => filled.push_str(value),
            None => return Err(Wrong::Unset(name.to_owned())),
        }
        rest = &inside[end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_from_the_environment_or_their_default() {
        let env = |name: &str| match name {
            "HOST" => Ok("10.0.0.1".to_owned()),
            "EMPTY" => Ok(String::new()),
            "TWO" => Ok("a\nb".to_owned()),
            "LATIN1" => Err(VarError::NotUnicode(std::ffi::OsString::new())),
            _ => Err(VarError::NotPresent),
        };
        let cases = [
            ("${HOST}:80", Ok("10.0.0.1:80")),
            ("${HOST}:${PORT:-81}", Ok("10.0.0.1:81")),
            ("${EMPTY:-x}${EMPTY}", Ok("x")),
            ("$HOST costs $5", Ok("$HOST costs $5")),
            ("${TWO}", Err(Wrong::Control("TWO".into(), "a\nb".into()))),
            ("${LATIN1:-x}", Err(Wrong::NotUtf8("LATIN1".into()))),
            ("${PORT}", Err(Wrong::Unset("PORT".into()))),
            ("${HOST", Err(Wrong::Unclosed)),
            ("${1A}", Err(Wrong::BadName("1A".into()))),
            ("${}", Err(Wrong::BadName(String::new()))),
        ];
        for (text, wanted) in cases {
            assert_eq!(expand(text, &env), wanted.map(str::to_owned), "{text}");
        }
    }
}
