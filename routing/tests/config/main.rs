//! Configurations from text to table: every message at its place, every key, and what good ones come to.

mod compiled;
mod everything;
mod explained;
mod large;
mod mutations;
mod page;
mod ports;
mod problems;
mod together;

use std::env::VarError;
use std::ffi::OsString;
use std::sync::Arc;

use weir_routing::{Compiled, Place, Problem, Resolved, Severity, Source, Sources, compile, parse};

/// Texts as they would be read from files a.toml, b.toml, ...
fn sources(texts: &[&str]) -> Sources {
    let names = ('a'..='z').map(|letter| Arc::from(format!("{letter}.toml")));
    Sources(names.zip(texts).map(|(name, text)| Source::new(name, *text)).collect())
}

/// The environment of the tests.
fn env(name: &str) -> Result<String, VarError> {
    match name {
        "HOST" => Ok("10.0.0.1".to_owned()),
        "LINES" => Ok("10.0.0.1\n".to_owned()),
        "LATIN1" => Err(VarError::NotUnicode(OsString::from("10.0.0.1"))),
        _ => Err(VarError::NotPresent),
    }
}

/// Both steps.
fn load(sources: &Sources) -> Result<Compiled, Vec<Problem>> {
    compile(&parse(sources, &env)?, &Resolved::new())
}

/// All problems of texts, warnings too.
fn problems_of(sources: &Sources) -> Vec<Problem> {
    match load(sources) {
        Ok(compiled) => compiled.warnings,
        Err(problems) => problems,
    }
}

/// A place as it is printed: "a.toml:3:10".
fn position(sources: &Sources, place: Place) -> String {
    let position = sources.position(place);
    format!("{}:{}:{}", sources.source(place).name, position.line, position.column)
}

/// A problem in a line: "a.toml:3:10 unknown-key unknown key `x`"; a warning has "warning" before its code.
fn line(sources: &Sources, problem: &Problem) -> String {
    let place = problem.place.map_or("-".to_owned(), |place| position(sources, place));
    let severity = if problem.severity == Severity::Warning { "warning " } else { "" };
    format!("{place} {severity}{} {}", problem.code, problem.message)
}
