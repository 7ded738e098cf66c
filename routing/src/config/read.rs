//! Reads texts into the configuration as written, and keeps every problem on the way.
//!
//! serde stops at its first error, so each table of a text is read in a loop: the key or element at the error's place is
//! told, cut out of the table, and the rest is read again. What lost something is marked as damaged.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Error, ValueDeserializer};

use super::later::{is_later, not_in_this_version};
use super::spelling::nearest;
use super::{Config, Item, duplicates, variables};
use crate::problem::{Place, Problem, Sources};

/// After these the rest of a configuration is not looked at: nobody mends more at once.
const MAX_PROBLEMS: usize = 100;

/// What a text may have at its top.
const TOP: [&str; 9] =
    ["namespace", "proxy", "log", "gateway", "route", "service", "policy", "workload", "test"];

/// Reads all texts into one configuration as written. `env` answers what an environment variable is.
/// Problems of shape, at most 100, go with it to [`compile`](crate::compile()).
/// Errors: every text that is not TOML, and every namespace that cannot be read, without which no name means anything;
/// sorted by place.
pub fn parse(sources: &Sources, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader { file: 0, env, problems: Vec::new(), refused: false };
    let mut config = Config { sources: sources.clone(), ..Config::default() };
    let mut tables = Vec::new();
    for (file, source) in sources.0.iter().enumerate() {
        reader.file = file as u32;
        if source.text.len() > u32::MAX as usize {
            let problem =
                Problem::error("too-large", None, format!("`{}` is larger than 4 GiB", source.name));
            reader.problems.push(problem);
            reader.refused = true;
            continue;
        }
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        reader.syntax(&source.text, &errors);
        reader.refused |= !errors.is_empty();
        tables.push((file as u32, table.into_inner()));
    }
    if !reader.refused {
        for (file, table) in tables {
            reader.file = file;
            reader.text(table, &mut config);
        }
    }
    reader.problems.sort_by_key(|problem| problem.place);
    reader.problems.truncate(MAX_PROBLEMS);
    if reader.refused {
        return Err(reader.problems);
    }
    config.problems = reader.problems;
    Ok(config)
}

struct Reader<'e> {
    file: u32,
    env: &'e dyn Fn(&str) -> Option<String>,
    problems: Vec<Problem>,
    /// Nothing can be said about the meaning of what was read.
    refused: bool,
}

impl Reader<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        Place { file: self.file, start: span.start as u32, end: span.end as u32 }
    }

    fn syntax(&mut self, text: &str, errors: &[Error]) {
        let spans = |error: &Error| error.span().unwrap_or(text.len()..text.len());
        let twice: Vec<(usize, usize)> = errors
            .iter()
            .filter(|error| error.message() == "duplicate key")
            .map(|error| (spans(error).start, spans(error).end))
            .collect();
        for error in errors.iter().take(MAX_PROBLEMS) {
            let place = self.place(&spans(error));
            if error.message() == "duplicate key" {
                self.problems.extend(duplicates::problem(text, place, &twice));
            } else {
                let found = text.get(spans(error)).unwrap_or("");
                let mut problem = Problem::error("syntax", place, format!("not TOML: {}", error.message()));
                if !found.trim().is_empty() {
                    problem = problem.found(found);
                }
                self.problems.push(problem);
            }
        }
    }

    fn text(&mut self, table: DeTable<'_>, config: &mut Config) {
        let mut namespace = None;
        for (key, value) in table {
            let place = self.place(&key.span());
            let name = key.into_inner().into_owned();
            let path = vec![name.clone()];
            match name.as_str() {
                "namespace" => {
                    namespace = self.read(path, value);
                    self.refused |= namespace.is_none();
                }
                "proxy" => self.one(&name, place, value, &mut config.proxy),
                "log" => self.one(&name, place, value, &mut config.log),
                "gateway" => config.incomplete |= !self.named(path, value, &mut config.gateways),
                "service" => config.incomplete |= !self.named(path, value, &mut config.services),
                "policy" => config.incomplete |= !self.named(path, value, &mut config.policies),
                "workload" => config.incomplete |= !self.named(path, value, &mut config.workloads),
                "route" => config.incomplete |= !self.listed(path, value, &mut config.routes),
                "test" => config.incomplete |= !self.listed(path, value, &mut config.tests),
                // Nothing refers to what only later versions declare.
                _ if is_later(&path) => self.problems.push(not_in_this_version(&name, place)),
                _ => {
                    config.incomplete = true;
                    self.unknown_key(&name, place, &TOP);
                }
            }
        }
        config.namespaces.resize(self.file as usize, None);
        config.namespaces.push(namespace);
    }

    /// `[proxy]` or `[log]`, which stand in one text only.
    fn one<T: DeserializeOwned + Default>(
        &mut self,
        name: &str,
        place: Place,
        value: Spanned<DeValue<'_>>,
        into: &mut Vec<Item<T>>,
    ) {
        if let Some(first) = into.first() {
            let message = format!("`[{name}]` stands in more than one file");
            let problem =
                Problem::error("declared-twice", place, message).help("bring them together in one file");
            self.problems.push(problem.related(first.place, "first declared here"));
        }
        into.push(self.item(String::new(), place, vec![name.to_owned()], value));
    }

    /// `[kind.NAME]`: a table of named tables. False if it is none.
    fn named<T: DeserializeOwned + Default>(
        &mut self,
        path: Vec<String>,
        value: Spanned<DeValue<'_>>,
        into: &mut Vec<Item<T>>,
    ) -> bool {
        let kind = &path[0];
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            let place = self.place(&span);
            let problem = Problem::error("wrong-type", place, format!("`{kind}` is a table of named tables"));
            self.problems.push(problem.wanted(format!("[{kind}.NAME]")));
            return false;
        };
        for (key, value) in table {
            let place = self.place(&key.span());
            let key = key.into_inner().into_owned();
            let path = vec![kind.clone(), key.clone()];
            if is_later(&path) {
                self.problems.push(not_in_this_version(&path.join("."), place));
                into.push(Item { file: self.file, key, place, damaged: true, value: T::default() });
            } else {
                into.push(self.item(key, place, path, value));
            }
        }
        true
    }

    /// `[[kind]]`: a list of tables. False if it is none.
    fn listed<T: DeserializeOwned + Default>(
        &mut self,
        path: Vec<String>,
        value: Spanned<DeValue<'_>>,
        into: &mut Vec<Item<T>>,
    ) -> bool {
        let kind = &path[0];
        let span = value.span();
        let DeValue::Array(list) = value.into_inner() else {
            let place = self.place(&span);
            let problem = Problem::error("wrong-type", place, format!("`{kind}` is a list, in order"));
            self.problems.push(problem.wanted(format!("[[{kind}]]")));
            return false;
        };
        for value in list {
            let place = self.place(&value.span());
            into.push(self.item(String::new(), place, vec![kind.clone(), "#".to_owned()], value));
        }
        true
    }

    /// One table. Where nothing of it can be read it is there all the same, so that its name is known.
    fn item<T: DeserializeOwned + Default>(
        &mut self,
        key: String,
        place: Place,
        path: Vec<String>,
        value: Spanned<DeValue<'_>>,
    ) -> Item<T> {
        let told = self.problems.len();
        let value = self.read(path, value);
        let damaged = value.is_none() || self.problems.len() > told;
        Item { file: self.file, key, place, damaged, value: value.unwrap_or_default() }
    }

    /// Reads one value, telling each problem and cutting it out. What comes back is whole only if nothing was told.
    fn read<T: DeserializeOwned>(&mut self, path: Vec<String>, mut value: Spanned<DeValue<'_>>) -> Option<T> {
        let told = self.problems.len();
        variables::fill(&mut value, self.file, self.env, &mut self.problems);
        for problem in &self.problems[told..] {
            let place = problem.place?;
            if !cut(&mut value, &(place.start as usize..place.end as usize), &mut Vec::new()) {
                return None;
            }
        }
        while self.problems.len() < MAX_PROBLEMS {
            let error = match T::deserialize(ValueDeserializer::from(value.clone())) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let span = error.span().unwrap_or(value.span());
            let mut path = path.clone();
            let cut = cut(&mut value, &span, &mut path);
            self.shape(error.message(), &span, &path);
            if !cut {
                return None;
            }
        }
        None
    }

    /// Turns serde's words into ours.
    fn shape(&mut self, message: &str, span: &Range<usize>, path: &[String]) {
        let place = self.place(span);
        let name = path.iter().rev().find(|key| *key != "#").map_or("", String::as_str);
        if let Some(rest) = message.strip_prefix("unknown field `") {
            let mut quoted = rest.split('`').step_by(2);
            let key = quoted.next().unwrap_or(name).to_owned();
            if is_later(path) {
                self.problems.push(not_in_this_version(&key, place));
            } else {
                let wanted: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
                self.unknown_key(&key, place, &wanted);
            }
            return;
        }
        let parts = message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: "));
        let problem = match parts.and_then(|parts| parts.rsplit_once(", expected ")) {
            Some((found, wanted)) => {
                Problem::error("wrong-type", place, format!("`{name}` is not {}", plain(wanted)))
                    .found(plain(found).replace('`', ""))
                    .wanted(plain(wanted))
            }
            None => Problem::error("bad-value", place, format!("`{name}`: {message}")),
        };
        self.problems.push(problem);
    }

    fn unknown_key(&mut self, key: &str, place: Place, wanted: &[&str]) {
        let mut problem = Problem::error("unknown-key", place, format!("unknown key `{key}`")).found(key);
        if !wanted.is_empty() {
            problem = problem.wanted(wanted.join(", "));
        }
        self.problems.push(match nearest(key, wanted.iter().copied()) {
            Some(meant) => problem.help(format!("did you mean `{meant}`?")),
            None => problem.help("take it out"),
        });
    }
}

/// Rust's words for a TOML value, in the file's.
fn plain(word: &str) -> String {
    match word {
        "i64" => "a whole number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" | "sequence" => "a list".to_owned(),
        "a map" | "map" => "a table".to_owned(),
        _ if word.starts_with("struct ") => "a table".to_owned(),
        _ => word.to_owned(),
    }
}

/// Takes what stands at `span` out of `value`: a key of a table, with its value, or an element of a list. `path` grows by
/// the keys that lead there. False if `value` itself stands there, or nothing does.
fn cut(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    match value.get_mut() {
        DeValue::Table(table) => {
            let here = table.iter().find(|(key, value)| key.span() == *span || value.span() == *span);
            if let Some(key) = here.map(|(key, _)| key.clone()) {
                path.push(key.get_ref().to_string());
                return table.remove(&key).is_some();
            }
            table.iter_mut().any(|(key, value)| within(key.get_ref().to_string(), value, span, path))
        }
        DeValue::Array(list) => {
            if let Some(at) = list.iter().position(|value| value.span() == *span) {
                path.push("#".to_owned());
                let whole = std::mem::replace(list, DeArray::new()).into_iter().enumerate();
                *list = whole.filter(|(index, _)| *index != at).map(|(_, value)| value).collect();
                return true;
            }
            list.iter_mut().any(|value| within("#".to_owned(), value, span, path))
        }
        _ => false,
    }
}

fn within(
    key: String,
    value: &mut Spanned<DeValue<'_>>,
    span: &Range<usize>,
    path: &mut Vec<String>,
) -> bool {
    path.push(key);
    let done = cut(value, span, path);
    if !done {
        path.pop();
    }
    done
}
