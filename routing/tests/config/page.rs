//! `docs/configuration.md`: its tables of keys are those of the list, and its examples are good.
//!
//! The tables stand between `<!-- keys: HEADER -->` and `<!-- end of keys -->`; what stands between the two is written, the rest
//! of the page is prose. `WEIR_WRITE_DOCS=1 cargo test -p weir-routing configuration_page` writes them anew.

use weir_routing::{KEY_TABLES, Key, KeyTable, Kind, LeftOut, Severity, Status};

use crate::{line, problems_of, sources};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
const WRITE: &str = "WEIR_WRITE_DOCS";
const END: &str = "<!-- end of keys -->";

fn begin(header: &str) -> String {
    format!("<!-- keys: {header} -->")
}

fn in_words(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "string",
        Kind::Number => "whole number",
        Kind::Flag => "true or false",
        Kind::Duration => "duration",
        Kind::Texts => "list of strings",
        Kind::Ports => "list of whole numbers and strings",
        Kind::Labels => "table of strings",
        Kind::Numbers => "table of whole numbers",
        Kind::Table => "table",
        Kind::Tables => "list of tables",
        Kind::TablesOrAny => "list of tables, or string",
        Kind::TablesAndTexts => "list of tables and strings",
    }
}

/// A table of keys as Markdown: a line for each that this version reads, and one for those of later versions that ask for the
/// same to be done.
fn rendered(table: &KeyTable) -> String {
    let mut read = Vec::new();
    let mut later: Vec<(&str, Vec<String>)> = Vec::new();
    for Key { name, status } in table.keys {
        match status {
            Status::Read { kind, unit, default, since, about } => {
                let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
                let default = match default {
                    LeftOut::Value(value) => format!("`{value}`"),
                    LeftOut::Otherwise(words) => (*words).to_owned(),
                    LeftOut::Required => "required".to_owned(),
                };
                read.push(format!(
                    "| `{name}` | {}{unit} | {default} | {since} | {about} |",
                    in_words(*kind)
                ));
            }
            Status::Later { same, instead } => {
                let same = same.written().map_or(String::new(), |value| format!(" (`{value}`)"));
                let key = format!("`{name}`{same}");
                match later.iter_mut().find(|(other, _)| other == instead) {
                    Some((_, keys)) => keys.push(key),
                    None => later.push((instead, vec![key])),
                }
            }
        }
    }
    let is_header = table.header.starts_with('[');
    let title = if is_header { format!("`{}`", table.header) } else { table.header.to_owned() };
    let mut lists = Vec::new();
    if !read.is_empty() {
        let head = format!("| {title} | type | default | since | meaning |\n| --- | --- | --- | --- | --- |");
        lists.push(format!("{head}\n{}\n", read.join("\n")));
    }
    if !later.is_empty() {
        let rows = later.iter().map(|(instead, keys)| format!("| {} | {instead} |", keys.join(", ")));
        let head = "| not in this version (accepted value) | instead |\n| --- | --- |";
        lists.push(format!("{head}\n{}\n", rows.collect::<Vec<_>>().join("\n")));
    }
    lists.join("\n")
}

/// The page with the tables of keys as they should be.
fn filled(page: &str) -> String {
    let mut page = page.to_owned();
    for table in KEY_TABLES {
        let begin = begin(table.header);
        assert_eq!(page.matches(&begin).count(), 1, "the page has one place for {begin}");
        let start = page.find(&begin).expect("counted") + begin.len();
        let end = start + page[start..].find(END).expect("each place has its end");
        page.replace_range(start..end, &format!("\n\n{}\n", rendered(table)));
    }
    assert_eq!(page.matches("<!-- keys: ").count(), KEY_TABLES.len(), "no place is for something else");
    page
}

#[test]
fn configuration_page_has_the_keys_of_the_list() {
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let wanted = filled(&page);
    if std::env::var_os(WRITE).is_some() {
        return std::fs::write(PAGE, wanted).expect("the page can be written");
    }
    let differs = page.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    assert!(
        page == wanted,
        "docs/configuration.md differs from the list of keys at {differs:?}: \
         `{WRITE}=1 cargo test -p weir-routing configuration_page` writes it"
    );
}

#[test]
fn examples_of_the_page_are_good() {
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().expect("a part")).collect();
    assert!(examples.len() >= 8, "only {} examples: the search is broken", examples.len());
    for example in examples {
        let mut text = example.to_owned();
        if !text.contains("[gateway.") {
            text.push_str("\n[gateway.other]\nlisten = [\"127.0.0.1:1\"]\nto = [{ service = \"other\" }]\n");
            text.push_str("[service.other]\nendpoints = [\"10.9.9.9:1\"]\n");
        }
        let texts = sources(&[&text]);
        let problems: Vec<String> = problems_of(&texts)
            .iter()
            // Nothing resolves names here.
            .filter(|problem| problem.severity == Severity::Error || problem.code != "not-resolved")
            .map(|problem| line(&texts, problem))
            .collect();
        assert!(problems.is_empty(), "{}\n{text}", problems.join("\n"));
    }
}
