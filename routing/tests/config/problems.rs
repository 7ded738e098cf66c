//! Every message, at its line and column, with its code. A case without lines is one that nothing is said about.

mod claims;
mod files;
mod gateways;
mod names;
mod routes;
mod rules;
mod services;
mod settings;
mod shape;

use crate::{line, said, sources};

/// What follows each case: the smallest useful configuration.
const BASE: &str = r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
to = [{ service = "db" }]
[service.db]
endpoints = ["10.0.0.11:5432"]
"#;

/// Checks what is said about a text that [`BASE`] follows.
#[track_caller]
pub(crate) fn check(text: &str, wanted: &[&str]) {
    check_files(&[&format!("{text}{BASE}")], wanted);
}

/// Checks what is said about texts: "file:line:column code message", in order of places.
#[track_caller]
pub(crate) fn check_files(texts: &[&str], wanted: &[&str]) {
    let sources = sources(texts);
    let found: Vec<String> = said(&sources).iter().map(|problem| line(&sources, problem)).collect();
    assert_eq!(found, wanted, "{}", texts.join("\n---\n"));
}
