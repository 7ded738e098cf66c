//! `"${NAME}"` and `"${NAME:-default}"` in the strings of a configuration: put in before anything reads them.

use toml::Spanned;
use toml::de::DeValue;

use crate::problem::{Place, Problem};

/// Puts the environment into every string of `value`.
pub(super) fn fill(
    value: &mut Spanned<DeValue<'_>>,
    file: u32,
    env: &dyn Fn(&str) -> Option<String>,
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

fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Wrong> {
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
        let value = env(name).filter(|value| default.is_none() || !value.is_empty());
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
            "HOST" => Some("10.0.0.1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let cases = [
            ("${HOST}:80", Ok("10.0.0.1:80")),
            ("${HOST}:${PORT:-81}", Ok("10.0.0.1:81")),
            ("${EMPTY:-x}${EMPTY}", Ok("x")),
            ("$HOST costs $5", Ok("$HOST costs $5")),
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
