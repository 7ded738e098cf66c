//! Reads texts into the configuration as written, and keeps every problem on the way.
//!
//! serde stops at its first error, so each table of a text is read in a loop: the key or element at the error's place is
//! reported and cut out of the table, and the rest is read again. A table that lost something is marked as damaged.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, ValueDeserializer};

use super::keys::{self, later};
use super::spelling::nearest;
use super::variables::Environment;
use super::written::{Config, Item, as_key};
use super::{advice, scalars, syntax, variables};
use crate::problem::{Place, Problem, Sources};

/// After so many problems the rest of a configuration is not read: they take long enough to correct.
const MAX_PROBLEMS: usize = 100;

/// Reads all texts into one configuration as written. `env` answers the value of an environment variable.
/// Problems of shape, at most 100, go with it to [`compile`](crate::compile()).
/// Errors: every text that is not TOML, and every namespace that cannot be read, without which no name means anything;
/// sorted by place.
pub fn parse(sources: &Sources, env: Environment<'_>) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader { sources, file: 0, env, problems: Vec::new(), refused: false, disabled: false };
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
        let table = table.into_inner();
        if !errors.is_empty() {
            reader.problems.extend(syntax::problems(file as u32, &source.text, &table, &errors));
            reader.refused = true;
        }
        tables.push((file as u32, table));
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
    sources: &'e Sources,
    file: u32,
    env: Environment<'e>,
    problems: Vec<Problem>,
    /// The meaning of the texts cannot be checked.
    refused: bool,
    /// The route being read has `enabled = false`: keys of later versions are accepted in it.
    disabled: bool,
}

impl Reader<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        Place { file: self.file, start: span.start as u32, end: span.end as u32 }
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
                // No reference can mean a table that only later versions have.
                _ => match later(&path) {
                    Some(later) => self.problems.push(later.problem(&name, place)),
                    None => {
                        config.incomplete = true;
                        self.unknown_key(&path, Some(value.get_ref()), place);
                    }
                },
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
            let message = format!("each {kind} has a header of its own, with its name");
            let problem = Problem::error("wrong-type", place, message).found(self.sources.text(place));
            self.problems.push(problem.wanted(format!("[{kind}.NAME]")));
            return false;
        };
        if advice::is_unnamed(kind, &table) {
            let problem =
                Problem::error("no-name", self.place(&span), format!("a {kind} needs a name in its header"));
            self.problems.push(problem.found(format!("[{kind}]")).wanted(format!("[{kind}.NAME]")));
            return false;
        }
        for (key, value) in table {
            let place = self.place(&key.span());
            let key = key.into_inner().into_owned();
            let path = vec![kind.clone(), key.clone()];
            let header = format!("{kind}.{}", as_key(&key));
            let problem = match (later(&path), value.get_ref()) {
                (Some(later), _) => Some(later.problem(&header, place)),
                (None, DeValue::Array(list)) if list.iter().all(|entry| entry.get_ref().is_table()) => {
                    let message =
                        format!("`[[{header}]]` begins a list; a {kind} is declared once, by its name");
                    let problem = Problem::error("wrong-type", place, message).found(format!("[[{header}]]"));
                    Some(problem.wanted(format!("[{header}]")))
                }
                _ => None,
            };
            match problem {
                Some(problem) => {
                    self.problems.push(problem);
                    into.push(Item { file: self.file, key, place, damaged: true, value: T::default() });
                }
                None => into.push(self.item(key, place, path, value)),
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
            let message =
                format!("`{kind}` is a list: each has the header [[{kind}]], and `name` if it has a name");
            let problem = Problem::error("wrong-type", place, message).found(format!("[{kind}...]"));
            self.problems.push(problem.wanted(format!("[[{kind}]]")));
            return false;
        };
        for value in list {
            let place = self.place(&value.span());
            let enabled = value.get_ref().as_table().and_then(|route| route.get("enabled"));
            self.disabled = enabled.is_some_and(|flag| matches!(flag.get_ref(), DeValue::Boolean(false)));
            into.push(self.item(String::new(), place, vec![kind.clone(), "#".to_owned()], value));
            self.disabled = false;
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
        let before = self.problems.len();
        let value = self.read(path, value);
        let damaged = value.is_none() || self.problems.len() > before;
        Item { file: self.file, key, place, damaged, value: value.unwrap_or_default() }
    }

    /// Reads one value, and reports each problem and cuts it out. The result is whole only if no problem was reported.
    fn read<T: DeserializeOwned>(&mut self, path: Vec<String>, mut value: Spanned<DeValue<'_>>) -> Option<T> {
        let before = self.problems.len();
        variables::fill(&mut value, self.file, self.env, &mut self.problems);
        scalars::check(&value, self.file, &mut self.problems);
        for problem in &self.problems[before..] {
            let place = problem.place?;
            cut(&mut value, &(place.start as usize..place.end as usize), &mut Vec::new())?;
        }
        while self.problems.len() < MAX_PROBLEMS {
            let error = match T::deserialize(ValueDeserializer::from(value.clone())) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let span = error.span().unwrap_or(value.span());
            let mut path = path.clone();
            let cut = cut(&mut value, &span, &mut path);
            let cut = cut.as_ref().map(Spanned::get_ref);
            self.shape(error.message(), &span, &path, cut);
            cut?;
        }
        None
    }

    /// Turns serde's words into ours. `cut` is the value that was cut out.
    fn shape(&mut self, message: &str, span: &Range<usize>, path: &[String], cut: Option<&DeValue<'_>>) {
        let place = self.place(span);
        let name = path.iter().rev().find(|key| *key != "#").map_or("", String::as_str);
        if let Some(rest) = message.strip_prefix("unknown field `") {
            match later(path) {
                Some(_) if self.disabled => {}
                Some(later) if cut.is_some_and(|value| later.is_so_anyway(value)) => {}
                Some(later) => self.problems.push(later.problem(name, place)),
                None => {
                    let read: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
                    let parents = &path[..path.len().saturating_sub(1)];
                    debug_assert_eq!(
                        read,
                        keys::names(parents),
                        "the list of keys and what {path:?} is read as"
                    );
                    self.unknown_key(path, cut, place);
                }
            }
            return;
        }
        let parts = message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: "));
        let problem = match parts.and_then(|parts| parts.rsplit_once(", expected ")) {
            Some((_, wanted)) => {
                let wanted = plain(wanted);
                let problem = Problem::error("wrong-type", place, format!("`{name}` is not {wanted}"));
                let written = self.sources.text(place);
                let problem = match cut {
                    Some(DeValue::Table(_)) => problem.found("a table"),
                    Some(DeValue::Array(_)) if written.contains('\n') => problem.found("a list"),
                    _ => problem.found(written),
                };
                let element = path.last().is_some_and(|key| key == "#");
                let help = advice::for_label(path, cut)
                    .or_else(|| advice::for_type((name, element), &wanted, cut?, written));
                help.into_iter().fold(problem.wanted(wanted), Problem::help)
            }
            None => Problem::error("bad-value", place, format!("`{name}`: {message}")),
        };
        self.problems.push(problem);
    }

    fn unknown_key(&mut self, path: &[String], value: Option<&DeValue<'_>>, place: Place) {
        let key = path.last().map_or("", String::as_str);
        let wanted = keys::names(&path[..path.len().saturating_sub(1)]);
        let mut problem = Problem::error("unknown-key", place, format!("unknown key `{key}`")).found(key);
        if !wanted.is_empty() {
            problem = problem.wanted(wanted.join(", "));
        }
        let near = || nearest(key, wanted.iter().copied()).map(|meant| format!("did you mean `{meant}`?"));
        let help = advice::for_key(path).or_else(near).unwrap_or_else(|| advice::otherwise(path, value));
        self.problems.push(problem.help(help));
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

/// Takes the key of a table or the element of a list at `span` out of `value`, and returns its value. `path` grows by the keys
/// that lead there. `None` if `value` itself has that span, or no part of it has.
fn cut<'i>(
    value: &mut Spanned<DeValue<'i>>,
    span: &Range<usize>,
    path: &mut Vec<String>,
) -> Option<Spanned<DeValue<'i>>> {
    match value.get_mut() {
        DeValue::Table(table) => {
            let here = table.iter().find(|(key, value)| key.span() == *span || value.span() == *span);
            if let Some(key) = here.map(|(key, _)| key.clone()) {
                path.push(key.get_ref().to_string());
                return table.remove(&key);
            }
            table.iter_mut().find_map(|(key, value)| within(key.get_ref().to_string(), value, span, path))
        }
        DeValue::Array(list) => {
            if let Some(at) = list.iter().position(|value| value.span() == *span) {
                path.push("#".to_owned());
                let mut whole: Vec<_> = std::mem::replace(list, DeArray::new()).into_iter().collect();
                let cut = whole.remove(at);
                *list = whole.into_iter().collect();
                return Some(cut);
            }
            list.iter_mut().find_map(|value| within("#".to_owned(), value, span, path))
        }
        _ => None,
    }
}

fn within<'i>(
    key: String,
    value: &mut Spanned<DeValue<'i>>,
    span: &Range<usize>,
    path: &mut Vec<String>,
) -> Option<Spanned<DeValue<'i>>> {
    path.push(key);
    let done = cut(value, span, path);
    if done.is_none() {
        path.pop();
    }
    done
}
