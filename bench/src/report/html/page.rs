//! The parts that pages share. Every text is escaped by `maud`.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The only style there is.
const STYLE: &str = include_str!("style.css");

/// A whole page.
pub(super) fn page(title: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    }
    .into_string()
}

/// A chart with its caption and how to read it.
pub(super) fn figure(caption: &str, note: &str, drawing: &Markup) -> Markup {
    html! {
        figure {
            figcaption { (caption) @if !note.is_empty() { small { (note) } } }
            (drawing)
        }
    }
}

/// Names and values.
pub(super) fn conditions(list: &[(String, String)]) -> Markup {
    html! {
        dl.conditions { @for (name, value) in list { dt { (name) } dd { (value) } } }
    }
}

/// The answer first: green or red, and why.
pub(super) fn banner(is_good: bool, verdict: &str, reasons: &[String]) -> Markup {
    html! {
        div class=(if is_good { "verdict good" } else { "verdict bad" }) {
            strong { (verdict) }
            @if !reasons.is_empty() { ul { @for reason in reasons { li { (reason) } } } }
        }
    }
}
