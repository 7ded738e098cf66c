//! Names and references, with or without their namespace: which are allowed, and the things that they refer to.

use std::collections::HashMap;
use std::sync::Arc;

use super::report::Report;
use crate::config::spelling::nearest;
use crate::config::{Config, Item, Text, as_key, place_of};
use crate::problem::{Place, Problem};

/// The namespace of a text that names none.
pub(super) const DEFAULT: &str = "default";

/// A full name: every thing has a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

impl Name {
    /// "db" in namespace default, "foo/db" elsewhere: how metrics, logs and `explain` write it.
    pub(super) fn printed(&self) -> Arc<str> {
        if &*self.namespace == DEFAULT { self.name.clone() } else { Arc::from(self.full()) }
    }

    /// Always "namespace/name".
    pub(super) fn full(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Reports a reference that no thing may be called, also where something is: it has to be changed in both places.
    /// `text` was read as this name.
    pub(super) fn check_reference(&self, report: &mut Report, place: Place, kind: &str, text: &str) -> bool {
        let with_namespace = text.contains('/');
        if is_name(&self.name) && (!with_namespace || is_name(&self.namespace)) {
            return true;
        }
        let name = nearest_name(&self.name);
        let nearest = match with_namespace {
            true => nearest_name(&self.namespace).zip(name).map(|(space, name)| format!("{space}/{name}")),
            false => name,
        };
        report.push(bad_name(place, &format!("{kind} name"), text, nearest));
        false
    }

    /// "db" or "foo/db" as written in a text of `namespace`.
    pub(super) fn read(text: &str, namespace: &Arc<str>) -> Self {
        match text.split_once('/') {
            Some((namespace, name)) => Self { namespace: Arc::from(namespace), name: Arc::from(name) },
            None => Self { namespace: namespace.clone(), name: Arc::from(text) },
        }
    }
}

/// The most characters of a name: as many as a DNS name has, since many things are called by theirs.
const MAX_NAME: usize = 253;

/// Letters, digits, `-`, `_` and `.`, beginning with a letter or digit. `/` and `:` are not among them: where names are printed
/// or referred to they separate namespace, service, subset and port.
fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(may_stand_in_name)
}

fn may_stand_in_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.')
}

/// The nearest allowed name: characters that are not allowed become one `-`, or are dropped at an end. `None` if nothing of
/// the text is left.
fn nearest_name(text: &str) -> Option<String> {
    let parts: Vec<&str> =
        text.split(|letter| !may_stand_in_name(letter)).filter(|part| !part.is_empty()).collect();
    let joined = parts.join("-");
    let mut name = joined.trim_start_matches(|first: char| !first.is_ascii_alphanumeric()).to_owned();
    name.truncate(MAX_NAME);
    (!name.is_empty()).then_some(name)
}

/// Reports a name that is not allowed, where it is declared or referred to. Whether it is allowed.
pub(super) fn check_name(report: &mut Report, place: Place, what: &str, text: &str) -> bool {
    if is_name(text) {
        return true;
    }
    report.push(bad_name(place, what, text, nearest_name(text)));
    false
}

fn bad_name(place: Place, what: &str, text: &str, nearest: Option<String>) -> Problem {
    let problem = Problem::error("bad-name", place, format!("{what} is invalid: {text}"))
        .found(text)
        .wanted("at most 253 letters, digits, `-`, `_` and `.`, beginning with a letter or digit");
    match nearest {
        Some(name) => problem.help(format!("write \"{name}\"")),
        None => problem,
    }
}

/// The namespace of each text.
pub(super) fn namespaces(report: &mut Report, config: &Config) -> Vec<Arc<str>> {
    let mut namespaces = Vec::new();
    for (file, written) in config.namespaces.iter().enumerate() {
        if let Some(written) = written {
            check_name(report, place_of(file as u32, written), "namespace", written.get_ref());
        }
        namespaces.push(Arc::from(written.as_ref().map_or(DEFAULT, |written| written.get_ref())));
    }
    namespaces
}

/// One thing that has a name.
#[derive(Clone, Debug)]
pub(super) struct Declared<'c, T> {
    pub(super) name: Name,
    pub(super) printed: Arc<str>,
    pub(super) file: u32,
    pub(super) place: Place,
    /// Something was cut out of it when it was read.
    pub(super) damaged: bool,
    pub(super) written: &'c T,
}

/// Where else a name is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Nowhere: services and workloads.
    Namespace,
    /// In "default": gateways and policies.
    ThenDefault,
}

/// All things of a kind, by printed name.
#[derive(Debug)]
pub(super) struct Registry<'c, T> {
    kind: &'static str,
    lookup: Lookup,
    pub(super) list: Vec<Declared<'c, T>>,
    index: HashMap<Name, usize>,
}

impl<'c, T> Registry<'c, T> {
    /// Takes all declared things; one declared twice is reported.
    pub(super) fn new(
        report: &mut Report,
        kind: &'static str,
        lookup: Lookup,
        items: &'c [Item<T>],
        namespaces: &[Arc<str>],
    ) -> Self {
        let mut list = Vec::new();
        for item in items {
            let name = Name::read(&item.key, &namespaces[item.file as usize]);
            check_name(report, item.place, &format!("{kind} name"), &name.name);
            if item.key.contains('/') {
                check_name(report, item.place, "namespace", &name.namespace);
            }
            let printed = name.printed();
            let (file, place, damaged) = (item.file, item.place, item.damaged);
            list.push(Declared { name, printed, file, place, damaged, written: &item.value });
        }
        // Of two with one name the first that was read is the first.
        list.sort_by(|left, right| (&left.printed, left.place).cmp(&(&right.printed, right.place)));
        let mut index: HashMap<Name, usize> = HashMap::new();
        for (at, declared) in list.iter().enumerate() {
            match index.get(&declared.name) {
                Some(&first) => {
                    let message = format!("{kind} `{}` is declared twice", declared.printed);
                    let problem =
                        Problem::error("declared-twice", declared.place, message).help("keep one of them");
                    report.push(problem.related(list[first].place, "first declared here"));
                }
                None => drop(index.insert(declared.name.clone(), at)),
            }
        }
        Self { kind, lookup, list, index }
    }

    fn find(&self, name: &Name) -> Option<usize> {
        let found = self.index.get(name).copied();
        if found.is_some() || self.lookup == Lookup::Namespace {
            return found;
        }
        self.index.get(&Name { namespace: Arc::from(DEFAULT), name: name.name.clone() }).copied()
    }

    /// The thing called `name` as a text of `namespace` would name it.
    pub(super) fn in_namespace(&self, namespace: &Arc<str>, name: &str) -> Option<usize> {
        self.find(&Name { namespace: namespace.clone(), name: Arc::from(name) })
    }

    /// Whether all that was declared is here, and whole.
    pub(super) fn is_whole(&self, report: &Report) -> bool {
        !report.incomplete && self.list.iter().all(|declared| !declared.damaged)
    }

    /// The thing that a reference names; an unknown one is reported, with the name that may have been meant.
    pub(super) fn resolve(&self, report: &mut Report, file: u32, reference: &Text) -> Option<usize> {
        let text = reference.get_ref().as_str();
        let namespace = report.namespaces[file as usize].clone();
        let name = Name::read(text, &namespace);
        let found = self.find(&name);
        let place = place_of(file, reference);
        if name.check_reference(report, place, self.kind, text) && found.is_none() {
            report.push_unless(report.incomplete, self.unknown(&name, text, place));
        }
        found
    }

    fn unknown(&self, name: &Name, text: &str, place: Place) -> Problem {
        let kind = self.kind;
        let problem =
            Problem::error("unknown-reference", place, format!("unknown {kind} `{}`", name.printed()))
                .found(text);
        let elsewhere = self.list.iter().find(|other| other.name.name == name.name);
        if let Some(other) = elsewhere {
            let help = format!("there is one in another namespace: write \"{}\"", other.name.full());
            return problem.help(help).related(other.place, "declared here");
        }
        let near = |declared: &&Declared<'c, T>| {
            declared.name.namespace == name.namespace || &*declared.name.namespace == DEFAULT
        };
        let candidates = self.list.iter().filter(near).map(|declared| &*declared.name.name);
        match nearest(&name.name, candidates) {
            Some(meant) => problem.help(format!("did you mean `{meant}`?")),
            None => problem.help(format!("declare it, [{kind}.{}], or take the reference out: a {kind} must exist when the file is read", as_key(text))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_allowed_have_a_nearest_one_that_is() {
        let long = "a".repeat(254);
        let cases = [
            ("db", Ok(())),
            ("1", Ok(())),
            ("BE_db.example.com", Ok(())),
            ("a-", Ok(())),
            ("a.", Ok(())),
            (&long[..253], Ok(())),
            (&long, Err(Some(&long[..253]))),
            ("_a", Err(Some("a"))),
            ("-.a", Err(Some("a"))),
            ("a b", Err(Some("a-b"))),
            ("www.example.com:443", Err(Some("www.example.com-443"))),
            ("a/b", Err(Some("a-b"))),
            ("  a  b ", Err(Some("a-b"))),
            ("köln", Err(Some("k-ln"))),
            ("$", Err(None)),
            ("", Err(None)),
            ("ä", Err(None)),
        ];
        for (name, wanted) in cases {
            let nearest = nearest_name(name);
            let found = if is_name(name) { Ok(()) } else { Err(nearest.as_deref()) };
            assert_eq!(found, wanted, "{name}");
            assert!(nearest.is_none_or(|name| is_name(&name)), "the nearest to {name}");
        }
    }
}
