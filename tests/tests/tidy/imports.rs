//! Which file imports which: no circle in a crate, and the arrows inside `proxy` point down.
//!
//! A file is a module, and the module of a directory is its `mod.rs` (or the file of its name beside it). A file imports another
//! where its code, outside unit tests and comments, has a path into it: `crate::`, `super::` or `self::` in a `use` or elsewhere,
//! or a path that begins with a module which the file declares. The path is followed as far as modules go, so that
//! `super::Control` is an import of the parent's own file and `super::host::allowed` one of `host.rs`. A declaration (`mod host;`) is
//! no import, and neither is what a re-export leads to.

use std::collections::{BTreeMap, BTreeSet};

use super::{File, none, sources, without_unit_tests};

/// The modules of `proxy`, highest first: a file imports from its own row and from those below.
const ROWS: [&[&str]; 9] = [
    &["lib", "main"],
    &["cli", "demo"],
    &["control"],
    &["fleet", "handover", "preflight"],
    &["shard", "checks"],
    &["boards", "listener", "outcome", "access_log"],
    &["inspect", "dial", "relay", "sim"],
    &["panics", "log", "wheel", "mailbox"],
    &["os", "clock", "reason", "front", "cores", "descriptors", "version"],
];

/// Machines that decide and do nothing, and all of `proxy` that they may import. Their simulations, in folders named `sim`, are tests
/// and may import the simulated kernel (`proxy/src/sim/`).
const PURE: [&str; 3] = ["inspect", "dial", "relay"];
const FOR_PURE: [&str; 5] = ["inspect", "dial", "relay", "clock", "reason"];

/// A module by its path from the root of its crate.
type Path = Vec<String>;

/// The files of one crate by their modules.
struct Crate {
    files: BTreeMap<Path, File>,
}

impl Crate {
    fn read(name: &str) -> Self {
        let root = format!("{name}/src/");
        let inside = |file: File| Some((module(file.path.strip_prefix(&root)?), file));
        let files: BTreeMap<Path, File> = sources().into_iter().filter_map(inside).collect();
        assert!(files.len() > 1, "{root} has {} modules: the walk is broken", files.len());
        Self { files }
    }

    /// All imports between files.
    fn imports(&self) -> BTreeMap<&Path, BTreeSet<Path>> {
        let of = |(own, file): (&Path, &File)| {
            let used = paths(&code(&file.text));
            let used = used.iter().filter_map(|path| self.target(own, path));
            used.filter(|target| target != own).collect()
        };
        self.files.iter().map(|entry| (entry.0, of(entry))).collect()
    }

    /// The file that a path in the code of module `own` leads into.
    fn target(&self, own: &Path, path: &[String]) -> Option<Path> {
        let mut at = match path[0].as_str() {
            "crate" => Path::new(),
            "self" => own.clone(),
            "super" => own[..own.len().checked_sub(1)?].to_vec(),
            child => {
                let child = [own.as_slice(), &[child.to_owned()]].concat();
                return self.files.contains_key(&child).then(|| self.deepest(child, &path[1..]));
            }
        };
        let mut rest = &path[1..];
        while rest.first().is_some_and(|segment| segment == "super") {
            at.pop();
            rest = &rest[1..];
        }
        Some(self.deepest(at, rest))
    }

    fn deepest(&self, mut at: Path, rest: &[String]) -> Path {
        for segment in rest {
            at.push(segment.clone());
            if !self.files.contains_key(&at) {
                at.pop();
                break;
            }
        }
        at
    }

    fn name(&self, module: &Path) -> &str {
        self.files.get(module).map_or("?", |file| &file.path)
    }
}

/// The module of a file below `src/`. A program's own file imports its library by name, and is a module of its own here.
fn module(path: &str) -> Path {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { Path::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// The code of a file, without comments and unit tests.
fn code(text: &str) -> String {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    without_unit_tests(text).lines().map(code).collect::<Vec<_>>().join("\n")
}

/// All paths of two segments and more, those in braces one by one.
fn paths(code: &str) -> Vec<Path> {
    let mut found = Vec::new();
    let bytes = code.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let begins = is_letter(bytes[at]) && (at == 0 || !is_letter(bytes[at - 1]) && bytes[at - 1] != b':');
        if begins {
            at = tree(code, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found.retain(|path| path.len() > 1);
    found
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Reads a path, or the tree of one, and returns where it ends.
fn tree(code: &str, mut at: usize, before: &[String], found: &mut Vec<Path>) -> usize {
    let bytes = code.as_bytes();
    let mut path = before.to_vec();
    loop {
        let end = at + bytes[at..].iter().take_while(|byte| is_letter(**byte)).count();
        if end == at {
            break;
        }
        path.push(code[at..end].to_owned());
        at = end;
        if !code[at..].starts_with("::") {
            break;
        }
        at += 2;
        if bytes.get(at) == Some(&b'{') {
            at += 1;
            while at < bytes.len() && bytes[at] != b'}' {
                if is_letter(bytes[at]) {
                    at = tree(code, at, &path, found);
                    // Also over a new name (`as`).
                    at += code[at..].find([',', '}']).unwrap_or(0);
                } else {
                    at += 1;
                }
            }
            return at + 1;
        }
    }
    found.push(path);
    at
}

/// All files of each circle, by the files that reach each other.
fn circles(imports: &BTreeMap<&Path, BTreeSet<Path>>) -> Vec<BTreeSet<Path>> {
    let reached = |from: &Path| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(at) = todo.pop() {
            for next in imports.get(&at).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    todo.push(next.clone());
                }
            }
        }
        seen
    };
    let reaches: BTreeMap<&Path, BTreeSet<Path>> =
        imports.keys().map(|from| (*from, reached(from))).collect();
    let circle = |from: &&Path| {
        let others =
            reaches[*from].iter().filter(|other| reaches.get(other).is_some_and(|back| back.contains(*from)));
        others.cloned().collect::<BTreeSet<Path>>()
    };
    let all: BTreeSet<BTreeSet<Path>> =
        reaches.keys().map(circle).filter(|circle| circle.len() > 1).collect();
    all.into_iter().collect()
}

#[test]
fn no_two_files_import_each_other() {
    let mut broken = Vec::new();
    for name in ["routing", "proxy", "tools", "bench"] {
        let of = Crate::read(name);
        let imports = of.imports();
        for circle in circles(&imports) {
            let arrows =
                circle.iter().flat_map(|from| imports[from].intersection(&circle).map(move |to| (from, to)));
            let arrows = arrows.map(|(from, to)| format!("{} -> {}", of.name(from), of.name(to)));
            broken.push(arrows.collect::<Vec<_>>().join("\n    "));
        }
    }
    none("files import each other in a circle", &broken);
}

#[test]
fn arrows_inside_proxy_point_down() {
    let of = Crate::read("proxy");
    let top = |module: &Path| module.first().map_or("lib", String::as_str).to_owned();
    let row = |module: &Path| ROWS.iter().position(|row| row.contains(&top(module).as_str()));
    let mut broken = Vec::new();
    for (from, targets) in of.imports() {
        let Some(own) = row(from) else {
            broken.push(format!("{} has no row", of.name(from)));
            continue;
        };
        for to in targets.iter().filter(|to| row(to).is_none_or(|row| row < own)) {
            broken.push(format!("{} -> {}", of.name(from), of.name(to)));
        }
        let is_test = from.iter().any(|folder| folder == "sim");
        if PURE.contains(&top(from).as_str()) && !is_test {
            for to in targets.iter().filter(|to| !FOR_PURE.contains(&top(to).as_str())) {
                broken.push(format!("{} -> {}: no longer pure", of.name(from), of.name(to)));
            }
        }
    }
    none("each module of proxy imports from its own row and those below", &broken);
}

#[test]
fn paths_are_found_and_followed() {
    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found: Vec<String> = paths(&code(text)).iter().map(|path| path.join("::")).collect();
        assert_eq!(found, expected, "{text}");
    }
    check("use crate::a::B;", &["crate::a::B"]);
    check("use super::{A, b::{C, d}, e as f};", &["super::A", "super::b::C", "super::b::d", "super::e"]);
    check("use crate::{\n    a,\n    b::*,\n};\nx", &["crate::a", "crate::b"]);
    check("fn f() -> crate::a::B { a::c(1) + self.d }", &["crate::a::B", "a::c"]);
    check("// crate::a::B\nlet x = y; // super::z", &[]);
    check("x\n#[cfg(test)]\nmod tests {\n    use crate::a::B;\n}", &[]);
    let file = |path: &str| (module(path), File { path: path.to_owned(), text: String::new() });
    let of = Crate { files: ["lib.rs", "a/mod.rs", "a/b.rs", "c.rs"].map(file).into() };
    #[track_caller]
    fn leads(of: &Crate, own: &str, path: &str, expected: Option<&str>) {
        let path: Path = path.split("::").map(str::to_owned).collect();
        let target = of.target(&module(own), &path);
        assert_eq!(target.as_ref().map(|target| of.name(target)), expected, "{path:?} in {own}");
    }
    leads(&of, "a/b.rs", "super::C", Some("a/mod.rs"));
    leads(&of, "a/b.rs", "super::super::c::D", Some("c.rs"));
    leads(&of, "a/mod.rs", "b::D", Some("a/b.rs"));
    leads(&of, "a/mod.rs", "self::b::D", Some("a/b.rs"));
    leads(&of, "c.rs", "crate::a::b::D", Some("a/b.rs"));
    leads(&of, "c.rs", "crate::D", Some("lib.rs"));
    leads(&of, "c.rs", "std::fs", None);
}
