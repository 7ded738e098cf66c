//! Every key that there is: it works, or it is refused by name as one of a later version. None counts as unknown.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::{said, sources};
use toml::de::{DeTable, DeValue};

const EVERYTHING: &str = include_str!("../fixtures/everything.toml");

/// The paths of [`EVERYTHING`] that this version refuses. A feature that arrives leaves this list. Keys of later versions whose
/// value there is what this version does anyway are accepted.
const LATER: &[&str] = &[
    "gateway.tcp-echo-gateway.inspect_bytes",
    "gateway.tcp-echo-gateway.inspect_timeout",
    "gateway.tcp-echo-gateway.on_inspect_timeout",
    "lane",
    "lane_group",
    "log.access",
    "log.format",
    "log.sample",
    "log.to",
    "policy.databases.on_unhealthy",
    "policy.passthrough",
    "proxy.admin_token_file",
    "proxy.control",
    "proxy.handover_timeout",
    "route.#.match.#.alpn",
    "route.#.match.#.http",
    "route.#.match.#.sni",
    "service.tcp-echo.policy.health_check",
    "service.tcp-echo.policy.locality",
    "service.tcp-echo.policy.outlier",
    "service.tcp-echo.policy.warmup",
    "service.tcp-echo.subset.v2.policy.outlier",
    "test.#.expect.lane",
    "test.#.headers",
    "test.#.host",
    "test.#.path",
    "test.#.sni",
];

/// Calls `visit` with the path and the key's place of everything in a value.
fn walk(value: &DeValue<'_>, path: &str, visit: &mut impl FnMut(String, Range<usize>)) {
    match value {
        DeValue::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
                visit(path.clone(), key.span());
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

#[test]
fn every_key_works_or_is_not_in_this_version() {
    let texts = sources(&[EVERYTHING]);
    let problems = said(&texts);
    let table = DeValue::Table(DeTable::parse(EVERYTHING).expect("TOML").into_inner());
    let mut refused = BTreeSet::new();
    for problem in &problems {
        assert_eq!(problem.code, "not-in-this-version", "{}", crate::line(&texts, problem));
        assert!(problem.message.ends_with("is not in this version of Weir"), "{}", problem.message);
        let place = problem.place.expect("a place");
        walk(&table, "", &mut |path, span| {
            if span == (place.start as usize..place.end as usize) {
                refused.insert(path);
            }
        });
    }
    let wanted: BTreeSet<String> = LATER.iter().map(|path| path.to_string()).collect();
    assert_eq!(refused, wanted);
}

#[test]
fn what_is_left_without_later_keys_compiles() {
    let mut table: toml::Table = toml::from_str(EVERYTHING).expect("TOML");
    for path in LATER {
        let keys: Vec<&str> = path.split('.').collect();
        cut(&mut table, &keys);
    }
    // The two blocks of first bytes have become empty, which would match everything.
    let route = table["route"][0].as_table_mut().expect("a route");
    let blocks = route["match"].as_array_mut().expect("its match");
    blocks.retain(|block| block.as_table().is_some_and(|block| !block.is_empty()));
    let text = toml::to_string(&table).expect("TOML");
    let texts = sources(&[&text]);
    let compiled = crate::load(&texts).unwrap_or_else(|problems| {
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

#[test]
fn a_key_of_a_later_version_is_refused_only_where_it_belongs() {
    let texts = sources(&["[gateway.edge]\nlisten = [\"0.0.0.0:1\"]\noutlier = {}\n"]);
    let codes: Vec<&str> = said(&texts).iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["unknown-key"]);
}
