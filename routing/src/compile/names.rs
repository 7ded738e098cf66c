//! Names and references: DNS labels, with or without their namespace, and what they stand for.

use std::collections::HashMap;
use std::sync::Arc;

use super::Report;
use crate::config::spelling::nearest;
use crate::config::{Config, Item, Text, place_of};
use crate::problem::{Place, Problem};

/// The namespace of a text that names none.
pub(super) const DEFAULT: &str = "default";

/// What a name means: every thing has a namespace.
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

    /// "db" or "foo/db" as written in a text of `namespace`.
    fn read(text: &str, namespace: &Arc<str>) -> Self {
        match text.split_once('/') {
            Some((namespace, name)) => Self { namespace: Arc::from(namespace), name: Arc::from(name) },
            None => Self { namespace: namespace.clone(), name: Arc::from(text) },
        }
    }
}

/// RFC 1123: at most 63 lower-case letters, digits and hyphens, no hyphen at either end.
pub(super) fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

/// Tells a name that is not a DNS label.
pub(super) fn check_label(report: &mut Report, place: Place, what: &str, text: &str) {
    if !is_dns_label(text) {
        let problem = Problem::error("bad-name", place, format!("{what} is invalid: {text}")).found(text);
        report.push(
            problem.wanted("at most 63 lower-case letters, digits and `-`, not beginning or ending with `-`"),
        );
    }
}

/// The namespace of each text.
pub(super) fn namespaces(report: &mut Report, config: &Config) -> Vec<Arc<str>> {
    let mut namespaces = Vec::new();
    for (file, written) in config.namespaces.iter().enumerate() {
        if let Some(written) = written {
            check_label(report, place_of(file as u32, written), "namespace", written.get_ref());
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
    /// Takes what is declared; a thing declared twice is told.
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
            check_label(report, item.place, &format!("{kind} name"), &name.name);
            if item.key.contains('/') {
                check_label(report, item.place, "namespace", &name.namespace);
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

    /// What a reference stands for; an unknown one is told, with what may have been meant.
    pub(super) fn resolve(&self, report: &mut Report, file: u32, reference: &Text) -> Option<usize> {
        let text = reference.get_ref().as_str();
        let namespace = report.namespaces[file as usize].clone();
        let name = Name::read(text, &namespace);
        let found = self.find(&name);
        if found.is_none() {
            let problem = self.unknown(&name, text, place_of(file, reference));
            report.push_unless(report.incomplete, problem);
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
            None => problem.help(format!("declare it, with a header of its own, or take the reference out: a {kind} must exist when the file is read")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        let long = "a".repeat(64);
        let cases = [
            ("db", true),
            ("v1", true),
            ("1", true),
            ("a-b", true),
            (&long[..63], true),
            (&long, false),
            ("v_1", false),
            ("-a", false),
            ("a-", false),
            ("", false),
            ("A", false),
            ("a.b", false),
            ("ä", false),
        ];
        for (name, wanted) in cases {
            assert_eq!(is_dns_label(name), wanted, "{name}");
        }
    }
}
