//! Every message, at its line and column, with its code. A case without lines has no problem.

mod addresses;
mod config_tests;
mod files;
mod foreign;
mod gateways;
mod later;
mod names;
mod other_services;
mod routes;
mod rules;
mod services;
mod settings;
mod shape;
mod shapes;
mod syntax;

use crate::{line, position, problems_of, sources};

/// The smallest useful configuration, which follows each case.
const BASE: &str = r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
to = [{ service = "db" }]
[service.db]
endpoints = ["10.0.0.11:5432"]
"#;

/// Checks the problems of a text that [`BASE`] follows.
#[track_caller]
pub(crate) fn check(text: &str, wanted: &[&str]) {
    check_files(&[&format!("{text}{BASE}")], wanted);
}

/// Checks the problems in full of a text that [`BASE`] follows: of each its line, and below it what was found, what was
/// wanted, the help and further places, as far as it has them.
#[track_caller]
fn check_whole(text: &str, wanted: &[&str]) {
    check_whole_alone(&format!("{text}{BASE}"), wanted);
}

/// The same of a text that nothing follows.
#[track_caller]
fn check_whole_alone(text: &str, wanted: &[&str]) {
    let sources = sources(&[text]);
    let mut found = Vec::new();
    for problem in problems_of(&sources) {
        found.push(line(&sources, &problem));
        let facts = [("found", &problem.found), ("wanted", &problem.wanted), ("help", &problem.help)];
        let facts =
            facts.into_iter().filter_map(|(word, fact)| Some(format!("  {word}: {}", fact.as_ref()?)));
        found.extend(facts);
        let related = problem.related.iter();
        found
            .extend(related.map(|other| format!("  {}: {}", position(&sources, other.place), other.message)));
    }
    assert_eq!(found, wanted, "{text}");
}

/// Checks the problems of texts: "file:line:column code message", in order of places.
#[track_caller]
pub(crate) fn check_files(texts: &[&str], wanted: &[&str]) {
    let sources = sources(texts);
    let found: Vec<String> = problems_of(&sources).iter().map(|problem| line(&sources, problem)).collect();
    assert_eq!(found, wanted, "{}", texts.join("\n---\n"));
}
