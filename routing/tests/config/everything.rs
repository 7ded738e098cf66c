//! Every key that there is: it works, or it is refused by name as one of a later version. None counts as unknown.
//!
//! The fixture has each key of the list, and nothing else; the list says which keys are read, of which type, and with which
//! value a later version's key is accepted.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::de::{DeTable, DeValue};
use weir_routing::{KEY_TABLES, Key, Kind, LeftOut, Status};

use crate::{load, problems_of, sources};

const EVERYTHING: &str = include_str!("../fixtures/everything.toml");

/// The header of the table in which a key stands, and the key; `path` has `#` for an element of a list.
fn known(path: &[&str]) -> Option<(&'static str, &'static Key)> {
    let (last, parents) = path.split_last()?;
    let leads = |pattern: &str| {
        let wanted: Vec<&str> = pattern.split('.').filter(|key| !key.is_empty()).collect();
        wanted.len() == parents.len()
            && wanted.iter().zip(parents).all(|(want, key)| *want == "*" || want == key)
    };
    let mut tables = KEY_TABLES.iter().filter(|table| table.paths.iter().any(|pattern| leads(pattern)));
    tables.find_map(|table| Some((table.header, table.keys.iter().find(|key| key.name == *last)?)))
}

/// Everything in a value: its path, and the place of its key.
fn walk<'v>(value: &'v DeValue<'v>, path: &str, visit: &mut impl FnMut(&str, Range<usize>, &'v DeValue<'v>)) {
    match value {
        DeValue::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
                visit(&path, key.span(), value.get_ref());
                walk(value.get_ref(), &path, visit);
            }
        }
        DeValue::Array(list) => {
            for value in list {
                walk(value.get_ref(), &format!("{path}.#"), visit);
            }
        }
        _ => {}
    }
}

/// The paths of the fixture that this version refuses.
fn refused() -> BTreeSet<String> {
    let table = DeValue::Table(DeTable::parse(EVERYTHING).expect("TOML").into_inner());
    let mut refused = BTreeSet::new();
    walk(&table, "", &mut |path, _, value| {
        let keys: Vec<&str> = path.split('.').collect();
        if let Some((_, Key { status: Status::Later { same, .. }, .. })) = known(&keys) {
            let accepted = same.written().map(|same| format!("same = {same}"));
            let accepted =
                accepted.map(|text| toml::from_str::<toml::Table>(&text).expect("TOML")["same"].clone());
            // Zero of a duration has a unit.
            let found = match plain(value) {
                toml::Value::String(text) if text == "0s" => toml::Value::Integer(0),
                found => found,
            };
            if accepted != Some(found) {
                refused.insert(path.to_owned());
            }
        }
    });
    refused
}

/// A value without its places.
fn plain(value: &DeValue<'_>) -> toml::Value {
    match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(number) => toml::Value::Integer(number.as_str().parse().expect("a number")),
        DeValue::Float(number) => toml::Value::Float(number.as_str().parse().expect("a number")),
        DeValue::Boolean(flag) => toml::Value::Boolean(*flag),
        DeValue::Datetime(date) => toml::Value::Datetime(*date),
        DeValue::Array(list) => list.iter().map(|value| plain(value.get_ref())).collect::<Vec<_>>().into(),
        DeValue::Table(table) => {
            let inner = table.iter().map(|(key, value)| (key.to_string(), plain(value.get_ref())));
            toml::Value::Table(inner.collect())
        }
    }
}

#[test]
fn every_key_works_or_is_not_in_this_version() {
    let texts = sources(&[EVERYTHING]);
    let table = DeValue::Table(DeTable::parse(EVERYTHING).expect("TOML").into_inner());
    let mut found = BTreeSet::new();
    for problem in &problems_of(&texts) {
        assert_eq!(problem.code, "not-in-this-version", "{}", crate::line(&texts, problem));
        assert!(problem.message.ends_with("is not in this version of Weir"), "{}", problem.message);
        let place = problem.place.expect("a place");
        walk(&table, "", &mut |path, span, _| {
            if span == (place.start as usize..place.end as usize) {
                found.insert(path.to_owned());
            }
        });
    }
    assert_eq!(found, refused());
}

#[test]
fn the_fixture_has_every_key_of_the_list_with_a_value_of_its_type() {
    let table = DeValue::Table(DeTable::parse(EVERYTHING).expect("TOML").into_inner());
    let mut seen = BTreeSet::new();
    walk(&table, "", &mut |path, _, value| {
        if let Some((header, key)) = known(&path.split('.').collect::<Vec<_>>()) {
            seen.insert((header, key.name));
            if let Status::Read { kind, .. } = key.status {
                assert!(is_of(kind, &plain(value)), "{path} is no {kind:?}");
            }
        }
    });
    let all = KEY_TABLES.iter().flat_map(|table| table.keys.iter().map(|key| (table.header, key.name)));
    let missing: Vec<_> = all.filter(|key| !seen.contains(key)).collect();
    assert!(missing.is_empty(), "the fixture lacks {missing:?}");
}

fn is_of(kind: Kind, value: &toml::Value) -> bool {
    let all =
        |holds: &dyn Fn(&toml::Value) -> bool| value.as_array().is_some_and(|list| list.iter().all(holds));
    let values = |holds: &dyn Fn(&toml::Value) -> bool| {
        value.as_table().is_some_and(|table| table.values().all(holds))
    };
    match kind {
        Kind::Text => value.is_str(),
        Kind::Number => value.is_integer(),
        Kind::Flag => value.is_bool(),
        Kind::Duration => value.as_str().is_some_and(|text| text.ends_with(['s', 'm', 'h'])),
        Kind::Texts => all(&toml::Value::is_str),
        Kind::Ports => all(&|value| value.is_str() || value.is_integer()),
        Kind::Labels => values(&toml::Value::is_str),
        Kind::Numbers => values(&toml::Value::is_integer),
        Kind::Table => value.is_table(),
        Kind::Tables => all(&toml::Value::is_table),
        Kind::TablesOrAny => value.as_str() == Some("any") || all(&toml::Value::is_table),
        Kind::TablesAndTexts => all(&|value| value.is_str() || value.is_table()),
    }
}

#[test]
fn the_fixture_without_later_keys_compiles() {
    let mut table: toml::Table = toml::from_str(EVERYTHING).expect("TOML");
    for path in refused() {
        let keys: Vec<&str> = path.split('.').collect();
        cut(&mut table, &keys);
    }
    // Two blocks and an endpoint have become empty.
    let is_empty = |value: &toml::Value| value.as_table().is_some_and(toml::Table::is_empty);
    let list = table["route"][0]["match"].as_array_mut().expect("a match");
    list.retain(|block| !is_empty(block));
    let list = table["service"]["tcp-echo"]["endpoints"].as_array_mut().expect("endpoints");
    list.retain(|endpoint| !is_empty(endpoint));
    let text = toml::to_string(&table).expect("TOML");
    let texts = sources(&[&text]);
    let compiled = load(&texts).unwrap_or_else(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| crate::line(&texts, problem)).collect();
        panic!("{}\n{text}", lines.join("\n"))
    });
    assert_eq!(compiled.config_tests.len(), 1);
    for test in &compiled.config_tests {
        assert_eq!(test.check(&compiled.table), Ok(()));
    }
}

fn cut(table: &mut toml::Table, path: &[&str]) {
    match path {
        [key] => drop(table.remove(*key)),
        [list, "#", rest @ ..] => {
            let items = table.get_mut(*list).and_then(toml::Value::as_array_mut).into_iter().flatten();
            items.filter_map(toml::Value::as_table_mut).for_each(|table| cut(table, rest));
        }
        [key, rest @ ..] => {
            if let Some(inner) = table.get_mut(*key).and_then(toml::Value::as_table_mut) {
                cut(inner, rest);
            }
        }
        [] => {}
    }
}

/// The reader compares its own fields with the list where it refuses a key.
#[test]
fn an_unknown_key_is_refused_in_every_table() {
    const UNKNOWN: &str = "no-such-key";
    let everything: toml::Value = toml::from_str(EVERYTHING).expect("TOML");
    for table in KEY_TABLES.iter().filter(|table| table.header != "[policy]") {
        let mut text = everything.clone();
        let mut paths =
            table.paths.iter().map(|path| path.split('.').filter(|key| !key.is_empty()).collect());
        let inserted = paths.any(|path: Vec<&str>| insert(&mut text, &path, UNKNOWN));
        assert!(inserted, "the fixture lacks {}", table.header);
        let text = toml::to_string(&text).expect("TOML");
        let problems = problems_of(&sources(&[&text]));
        let problem = problems.iter().find(|problem| problem.code == "unknown-key");
        let problem = problem.unwrap_or_else(|| panic!("{} takes any key", table.header));
        let read = table.keys.iter().filter(|key| matches!(key.status, Status::Read { .. }));
        let names: Vec<&str> = read.map(|key| key.name).collect();
        assert_eq!(problem.wanted, Some(names.join(", ")), "{}", table.header);
    }
}

/// Puts a key into the first table that a path leads to. False: it leads to none.
fn insert(value: &mut toml::Value, path: &[&str], key: &str) -> bool {
    match (path, value) {
        ([], toml::Value::Table(table)) => {
            table.insert(key.to_owned(), toml::Value::Integer(1));
            true
        }
        (["*", rest @ ..], toml::Value::Table(table)) => {
            table.iter_mut().any(|(_, value)| insert(value, rest, key))
        }
        (["*", rest @ ..], toml::Value::Array(list)) => list.iter_mut().any(|value| insert(value, rest, key)),
        ([name, rest @ ..], toml::Value::Table(table)) => {
            table.get_mut(*name).is_some_and(|value| insert(value, rest, key))
        }
        _ => false,
    }
}

/// The default of a key as it would be written.
fn default(header: &str, name: &str) -> Option<&'static str> {
    let table = KEY_TABLES.iter().find(|table| table.header == header).expect("a table of the list");
    match table.keys.iter().find(|key| key.name == name)?.status {
        Status::Read { default: LeftOut::Value(value), .. } => Some(value),
        _ => None,
    }
}

#[test]
fn defaults_of_the_list_are_what_is_in_force_without_the_key() {
    const SMALLEST: &str = "[gateway.edge]\nlisten = [\"127.0.0.1:1\"]\nto = [{ service = \"db\" }]\n[service.db]\nendpoints = [\"10.0.0.1:1\"]\n";
    let smallest = load(&sources(&[SMALLEST])).expect("a good configuration");
    for origin in &*smallest.table.parts().destinations[0].origins {
        let (header, name) = match origin.key.split_once('.') {
            Some((_, name)) => ("`keepalive` of a policy", name),
            None => ("a policy", origin.key),
        };
        let listed = default(header, name).map(|value| value.trim_matches('"').to_owned());
        let seconds = |text: &str| if text == "1m" { "60s".to_owned() } else { text.to_owned() };
        assert_eq!(listed, Some(seconds(&origin.value)), "{}", origin.key);
    }
    let mut written = SMALLEST.to_owned();
    for header in ["[proxy]", "[log]"] {
        written.push_str(&format!("{header}\n"));
        let table = KEY_TABLES.iter().find(|table| table.header == header).expect("a table of the list");
        for key in table.keys {
            if let Some(value) = default(header, key.name) {
                written.push_str(&format!("{} = {value}\n", key.name));
            }
        }
    }
    let written = load(&sources(&[&written])).expect("a good configuration").settings;
    let placed = smallest.settings;
    let placed = weir_routing::Settings {
        cores_place: written.cores_place,
        admin_place: written.admin_place,
        ..placed
    };
    assert_eq!(written, placed);
}
