//! The keys of a configuration. The one list is `keys/table.rs`, of keys as `keys/key.rs` describes them. The reader refuses every key
//! that is not in it, finds the nearest word in it, and refuses by name the keys of later versions; the keys' tables of
//! `docs/configuration.md` are written from it.

mod key;
mod table;

use toml::de::DeValue;

pub use self::key::{Key, KeyTable, Kind, LeftOut, Same, Status};
pub use self::table::TABLES;

use crate::problem::{Place, Problem};

/// A key that only a later version reads.
pub(super) struct Later {
    same: Same,
    instead: &'static str,
}

/// The key at `path`, if only a later version reads it.
pub(super) fn later(path: &[String]) -> Option<Later> {
    let (last, parents) = path.split_last()?;
    let key = keys(parents).find(|key| key.name == last)?;
    match key.status {
        Status::Later { same, instead } => Some(Later { same, instead }),
        Status::Read { .. } => None,
    }
}

/// The names of the keys that this version reads where `path` leads, in order.
pub(super) fn names<S: AsRef<str>>(path: &[S]) -> Vec<&'static str> {
    let read = keys(path).filter(|key| matches!(key.status, Status::Read { .. }));
    read.map(|key| key.name).collect()
}

/// The keys that may stand where `path` leads, in any version.
pub(super) fn keys<S: AsRef<str>>(path: &[S]) -> impl Iterator<Item = &'static Key> {
    let leads_there = |pattern: &&str| leads(pattern, path);
    TABLES.iter().filter(move |table| table.paths.iter().any(leads_there)).flat_map(|table| table.keys)
}

/// Whether a path of a [`KeyTable`] leads to this place.
fn leads<S: AsRef<str>>(pattern: &str, path: &[S]) -> bool {
    let mut wanted = pattern.split('.').filter(|key| !key.is_empty());
    path.iter().all(|key| wanted.next().is_some_and(|want| want == "*" || want == key.as_ref()))
        && wanted.next().is_none()
}

impl Later {
    /// Whether the value changes nothing in this version.
    pub(super) fn is_so_anyway(&self, value: &DeValue<'_>) -> bool {
        match (self.same, value) {
            (Same::Word(word), DeValue::String(text)) => text == word,
            (Same::Zero, DeValue::Integer(number)) => number.as_str().bytes().all(|digit| digit == b'0'),
            (Same::Zero, DeValue::String(text)) => matches!(&**text, "0" | "0s" | "0ms" | "0m" | "0h"),
            (Same::False, DeValue::Boolean(flag)) => !flag,
            (Same::EmptyList, DeValue::Array(list)) => list.is_empty(),
            (Same::Disabled, DeValue::Table(table)) => {
                table.get("enabled").is_some_and(|flag| matches!(flag.get_ref(), DeValue::Boolean(false)))
            }
            _ => false,
        }
    }

    /// The problem for this key.
    pub(super) fn problem(&self, key: &str, place: Place) -> Problem {
        let problem = not_in_this_version(key, place).help(self.instead);
        let wanted = self.same.written().map(|value| format!("{key} = {value}"));
        wanted.into_iter().fold(problem, Problem::wanted)
    }
}

/// The problem for a key (`outlier`), or for a value with its key (`unmatched = "passthrough"`).
pub(crate) fn not_in_this_version(what: &str, place: Place) -> Problem {
    Problem::error("not-in-this-version", place, format!("`{what}` is not in this version of Weir"))
        .found(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_keys_are_known_by_their_path() {
        let cases = [
            ("lane", true),
            ("service.db.policy.outlier", true),
            ("service.db.subset.v1.policy.outlier", true),
            ("policy.slow.outlier", true),
            ("policy.passthrough", true),
            ("service.db.outlier", false),
            ("service.passthrough", false),
            ("test.#.sni", true),
            ("route.#.sni", false),
            ("proxy", false),
        ];
        for (path, wanted) in cases {
            let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
            assert_eq!(later(&keys).is_some(), wanted, "{path}");
        }
    }

    #[test]
    fn no_key_stands_twice_in_a_table() {
        for table in TABLES {
            for (at, key) in table.keys.iter().enumerate() {
                let again = table.keys[..at].iter().any(|other| other.name == key.name);
                assert!(!again, "{} has {} twice", table.header, key.name);
            }
        }
    }
}
