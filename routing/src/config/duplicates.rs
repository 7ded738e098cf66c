//! "duplicate key" of the TOML reader, reported with both places. The reader gives the place of the second one; the first is
//! found again by the path of the header and key that the second one has.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::problem::{Place, Problem};

/// The problem for a key at `start..end` that stands there for the second time. `None` where it only follows from the
/// header above it, which is a duplicate itself.
pub(super) fn problem(text: &str, place: Place, others: &[(usize, usize)]) -> Option<Problem> {
    let (start, end) = (place.start as usize, place.end as usize);
    let key = text.get(start..end).unwrap_or("").trim_matches(['"', '\'']);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let in_header = text[line_start..].trim_start().starts_with('[');
    let header = (!in_header).then(|| header_above(text, line_start)).flatten();
    if let Some((at, header)) = header
        && others.iter().any(|other| (at..at + header.len()).contains(&other.0))
    {
        return None;
    }
    let path = if in_header {
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        path_in(&text[line_start..line_end])
    } else {
        let keys = format!("{} = 0", &text[line_start..end]);
        let mut path = header.map_or_else(Vec::new, |(_, header)| path_in(header));
        path.extend(path_in(&keys));
        path
    };
    let subset = path.len() == 4 && path[0] == "service" && path[2] == "subset";
    let message =
        if subset { format!("duplicate subset names: {key}") } else { format!("`{key}` is declared twice") };
    let problem = Problem::error("declared-twice", place, message).found(key).help("keep one of them");
    Some(match first(&text[..line_start], &path) {
        Some((first, length)) => {
            let first = Place { file: place.file, start: first as u32, end: (first + length) as u32 };
            problem.related(first, "first declared here")
        }
        None => problem,
    })
}

/// The nearest line above that is a header of its own, with where it begins.
fn header_above(text: &str, before: usize) -> Option<(usize, &str)> {
    let mut end = before;
    while end > 0 {
        let start = text[..end - 1].rfind('\n').map_or(0, |at| at + 1);
        let line = text[start..end].trim_end();
        if line.trim_start().starts_with('[') && DeTable::parse(line).is_ok() {
            return Some((start, line));
        }
        end = start;
    }
    None
}

/// The keys that a header or `a.b = 0` leads through.
fn path_in(line: &str) -> Vec<String> {
    let (table, _) = DeTable::parse_recoverable(line);
    let mut path = Vec::new();
    let mut table = table.get_ref();
    while let Some((key, value)) = table.iter().next() {
        path.push(key.get_ref().to_string());
        match last_table(value) {
            Some(inner) => table = inner,
            None => break,
        }
    }
    path
}

fn last_table<'t, 'i>(value: &'t Spanned<DeValue<'i>>) -> Option<&'t DeTable<'i>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(table),
        DeValue::Array(list) => list.iter().next_back().and_then(|last| last.get_ref().as_table()),
        _ => None,
    }
}

/// Where `path` stands in the text before: start and length of its last key.
fn first(before: &str, path: &[String]) -> Option<(usize, usize)> {
    let (last, parents) = path.split_last()?;
    let (table, _) = DeTable::parse_recoverable(before);
    let mut table = table.get_ref();
    for key in parents {
        table = last_table(find(table, key)?.1)?;
    }
    let span = find(table, last)?.0.span();
    Some((span.start, span.len()))
}

fn find<'t, 'i>(
    table: &'t DeTable<'i>,
    wanted: &str,
) -> Option<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    table.iter().find(|(key, _)| key.get_ref() == wanted)
}
