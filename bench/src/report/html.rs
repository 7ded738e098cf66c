//! One page that stands by itself: a run, or a comparison.

use maud::{DOCTYPE, Markup, html};

use super::verdict;
use crate::compare::result::Comparison;
use crate::gates::Gate;
use crate::ledger::Outcome;

/// The page of a run. `conditions` are names and values, in the order to show them.
pub fn run_page(outcome: &Outcome, gates: &[Gate], conditions: &[(String, String)]) -> String {
    page("weir-bench run", &html! { p { (verdict(outcome.interrupted, gates)) } (table(conditions)) })
}

/// The page of a comparison.
pub fn comparison_page(comparison: &Comparison) -> String {
    page("weir-bench compare", &table(&comparison.conditions))
}

fn table(conditions: &[(String, String)]) -> Markup {
    html! { dl { @for (name, value) in conditions { dt { (name) } dd { (value) } } } }
}

fn page(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" { head { meta charset="utf-8"; title { (title) } } body { (body) } }
    }
    .into_string()
}
