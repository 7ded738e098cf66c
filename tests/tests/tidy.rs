//! The house rules that a machine can check: where unsafe code may stand, which crates `routing` may depend on, which files may
//! wait, how files open, and which words stand in none of them.

mod imports;

use std::path::{Path, PathBuf};

use weir_tests::program::workspace;

/// The only files with unsafe code.
const UNSAFE: [&str; 3] = ["proxy/src/os/sys.rs", "proxy/src/os/ring.rs", "bench/src/sys.rs"];

/// All that `routing` may depend on: it is pure, and small.
const ROUTING: [&str; 4] = ["fastrand", "ipnet", "serde", "toml"];

/// The only file of the tests that sleeps.
const SLEEPS: &str = "tests/src/wait.rs";

/// Files of the program that may sleep, or wait for other threads or for the reader of stderr: threads of their own, and the code
/// that runs before and after Weir serves.
const MAY_WAIT: [(&str, &[&str]); 14] = [
    ("proxy/src/cli.rs", &["report::print", "stderr("]),
    ("proxy/src/front/report.rs", &["stderr("]),
    ("proxy/src/demo.rs", &["thread::sleep(", "thread::park("]),
    ("proxy/src/checks/mod.rs", &["thread::sleep(", "thread::park("]),
    ("proxy/src/panics.rs", &["thread::sleep("]),
    ("proxy/src/front/load.rs", &["thread::sleep("]),
    ("proxy/src/log.rs", &["thread::sleep(", "stderr("]),
    ("proxy/src/listener/free.rs", &["thread::sleep("]),
    ("proxy/src/control/accepting.rs", &["thread::sleep(", "_blocking("]),
    ("proxy/src/control/loader.rs", &["_blocking("]),
    ("proxy/src/control/reader.rs", &["_blocking(", "recv_timeout("]),
    ("proxy/src/control/resolve.rs", &["_blocking("]),
    ("proxy/src/control/signals.rs", &["_blocking("]),
    ("proxy/src/control/watch.rs", &["_blocking("]),
];

/// Lines of a file, its unit tests not counted.
const LONGEST: usize = 600;

/// Crates of the workspace.
const CRATES: [&str; 5] = ["routing", "proxy", "tools", "bench", "tests"];

/// A file of ours: its path from the root of the workspace, and its text.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

fn walk(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            walk(&path, extension, found);
        } else if path.extension().is_some_and(|have| have == extension) {
            found.push(path);
        }
    }
}

/// All files of the workspace's crates with this extension.
fn files(extension: &str) -> Vec<File> {
    let mut paths = Vec::new();
    for krate in CRATES {
        walk(&workspace().join(krate), extension, &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("our files are text");
        File { path: path.strip_prefix(workspace()).expect("inside").display().to_string(), text }
    };
    paths.into_iter().map(read).collect()
}

pub(crate) fn sources() -> Vec<File> {
    let files = files("rs");
    assert!(files.len() > 20, "only {} sources: the walk is broken", files.len());
    files
}

/// A file's text before its unit tests. Single items that only tests have (`#[cfg(test)] mod sim;`) belong to it.
fn without_unit_tests(text: &str) -> &str {
    &text[..text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len())]
}

/// Lines that are not comments, with their numbers.
fn code(file: &File) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(file.text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[track_caller]
fn none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// Whether a word stands in a line by itself.
fn has_word(line: &str, word: &str) -> bool {
    let boundary = |character: Option<char>| {
        !character.is_some_and(|character| character.is_alphanumeric() || character == '_')
    };
    line.match_indices(word).any(|(at, _)| {
        boundary(line[..at].chars().next_back()) && boundary(line[at + word.len()..].chars().next())
    })
}

#[test]
fn unsafe_stands_in_few_files_and_states_why_it_is_sound() {
    let mut broken = Vec::new();
    for file in sources().iter().filter(|file| file.path != "tests/tests/tidy.rs") {
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, _) in code(file).filter(|(_, line)| has_word(line, "unsafe")) {
            let before = &lines[number.saturating_sub(9)..number];
            if !UNSAFE.contains(&file.path.as_str()) {
                broken.push(format!("{}:{number}: unsafe outside its files", file.path));
            } else if !before.iter().any(|line| line.to_lowercase().contains("safety")) {
                broken.push(format!("{}:{number}: no comment on why it is sound", file.path));
            }
        }
    }
    none("unsafe code is confined to few files", &broken);
}

#[test]
fn routing_depends_on_few_crates_and_on_none_of_ours() {
    let manifest = std::fs::read_to_string(workspace().join("routing/Cargo.toml")).expect("a manifest");
    let (_, after) = manifest.split_once("[dependencies]\n").expect("dependencies");
    let block = after.split("\n[").next().unwrap_or_default();
    let names =
        block.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|name| !name.is_empty());
    let broken: Vec<String> = names.filter(|name| !ROUTING.contains(name)).map(str::to_owned).collect();
    none("routing is pure", &broken);
}

#[test]
fn routing_does_no_io() {
    let words = [
        "std::fs",
        "std::thread",
        "Instant",
        "SystemTime",
        "std::process",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
    ];
    let mut broken = Vec::new();
    for file in sources().iter().filter(|file| file.path.starts_with("routing/src/")) {
        for (number, line) in code(file) {
            let found = words.iter().find(|word| has_word(line, word));
            broken.extend(found.map(|word| format!("{}:{number}: {word}", file.path)));
        }
    }
    none("routing has no sockets, files, clocks, threads", &broken);
}

/// The lines of a manifest's section that name an entry, without the entries' arrays.
fn section<'m>(manifest: &'m str, head: &str) -> Vec<&'m str> {
    let lines = manifest.lines().skip_while(|line| *line != head).skip(1);
    lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.trim().is_empty()).collect()
}

#[test]
fn tools_build_without_the_executor_and_io_uring() {
    let read = |path: &str| std::fs::read_to_string(workspace().join(path)).expect("a manifest");
    let (root, proxy, tools) = (read("Cargo.toml"), read("proxy/Cargo.toml"), read("tools/Cargo.toml"));
    let dependencies = section(&proxy, "[dependencies]");
    for name in ["glommio", "io-uring"] {
        let line = format!("{name} = {{ workspace = true, optional = true }}");
        assert!(dependencies.contains(&line.as_str()), "{name} is not optional in proxy/Cargo.toml");
        assert!(!tools.contains(name), "tools/Cargo.toml names {name}");
    }
    let weir = "weir = { path = \"proxy\", default-features = false }";
    assert!(section(&root, "[workspace.dependencies]").contains(&weir));
    assert!(section(&tools, "[dependencies]").contains(&"weir.workspace = true"));
    let files = sources();
    let front = files.iter().filter(|file| file.path.starts_with("proxy/src/front/"));
    let of_the_rest = |line: &str| line.contains("crate::") && !line.contains("crate::front");
    let tools = files.iter().filter(|file| file.path.starts_with("tools/"));
    let of_another_part = |line: &str| line.contains("weir::") && !line.contains("weir::front");
    let mut broken = lines_that(front, of_the_rest);
    broken.extend(lines_that(tools, of_another_part));
    none("tools use `weir::front` alone, which uses nothing of the rest", &broken);
}

/// Lines of code in these files for which this holds.
fn lines_that<'f>(files: impl Iterator<Item = &'f File>, is_wrong: impl Fn(&str) -> bool) -> Vec<String> {
    let wrong = |file: &'f File| code(file).filter(|(_, line)| is_wrong(line)).collect::<Vec<_>>();
    let named = |file: &'f File| {
        wrong(file).into_iter().map(|(number, line)| format!("{}:{number}: {}", file.path, line.trim()))
    };
    files.flat_map(named).collect()
}

#[test]
fn imports_between_crates_go_one_way() {
    let forbidden = [
        ("routing", &["weir", "weir-tools", "weir-bench", "weir-tests"][..]),
        ("proxy", &["weir-tools", "weir-bench", "weir-tests"]),
        ("tools", &["weir-bench", "weir-tests"]),
        ("bench", &["weir", "weir-routing", "weir-tools", "weir-tests"]),
    ];
    let mut broken = Vec::new();
    for (krate, names) in forbidden {
        let manifest =
            std::fs::read_to_string(workspace().join(krate).join("Cargo.toml")).expect("a manifest");
        for name in names {
            if manifest.lines().any(|line| line.split(['.', ' ', '=']).next() == Some(name)) {
                broken.push(format!("{krate} -> {name}"));
            }
        }
    }
    none("routing <- proxy <- tools", &broken);
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| file.path.clone())
        .collect();
    none("every file opens with `//!`", &broken);
}

#[test]
fn nothing_unfinished_is_left() {
    let marks = ["todo!", "unimplemented!", "dbg!", "FIXME", "XXX", "TODO", "Skeleton."];
    let mut broken = Vec::new();
    for file in sources().iter().filter(|file| file.path != "tests/tests/tidy.rs") {
        for (number, line) in (1..).zip(file.text.lines()) {
            let found = marks.iter().find(|mark| line.contains(*mark));
            broken.extend(found.map(|mark| format!("{}:{number}: {mark}", file.path)));
        }
    }
    none("what is begun is ended", &broken);
}

#[test]
fn only_the_waiting_of_the_tests_sleeps() {
    let mut broken = Vec::new();
    for file in sources().iter().filter(|file| file.path != SLEEPS && file.path != "tests/tests/tidy.rs") {
        let in_tests = file.path.starts_with("tests/") || file.path.contains("/tests");
        let from = if in_tests { 0 } else { without_unit_tests(&file.text).lines().count() };
        let sleeping = code(file).filter(|(number, line)| *number > from && line.contains("sleep("));
        broken.extend(sleeping.map(|(number, _)| format!("{}:{number}", file.path)));
    }
    none("tests wait for a condition with a deadline, in one place", &broken);
}

#[test]
fn a_running_weir_waits_for_nothing_and_prints_through_its_log() {
    let words = [
        "thread::sleep(",
        "thread::park(",
        "_blocking(",
        "recv_timeout(",
        "stderr(",
        "eprint",
        "report::print",
    ];
    let mut broken = Vec::new();
    for file in
        sources().iter().filter(|file| file.path.starts_with("proxy/src/") && !file.path.contains("/sim/"))
    {
        let allowed =
            MAY_WAIT.iter().find(|(path, _)| *path == file.path).map_or(&[][..], |(_, words)| words);
        let last = without_unit_tests(&file.text).lines().count();
        for (number, line) in code(file).take_while(|(number, _)| *number <= last) {
            let found = words.iter().find(|word| line.contains(*word) && !allowed.contains(word));
            broken.extend(found.map(|word| format!("{}:{number}: {word}", file.path)));
        }
    }
    none(
        "only threads of their own wait, and only the log writes to stderr; the control loop does neither",
        &broken,
    );
}

#[test]
fn files_are_short() {
    let mut broken = Vec::new();
    for file in sources().iter().filter(|file| !file.path.contains("/tests/")) {
        let lines = without_unit_tests(&file.text).lines().count();
        if lines > LONGEST {
            broken.push(format!("{}: {lines} lines", file.path));
        }
    }
    none(&format!("files have at most {LONGEST} lines"), &broken);
}

#[test]
fn the_repository_has_its_pages() {
    let broken: Vec<String> = [
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        ".ci/check",
        ".ci/run",
        "rustfmt.toml",
        "clippy.toml",
    ]
    .into_iter()
    .filter(|name| !workspace().join(name).exists())
    .map(str::to_owned)
    .collect();
    none("pages that every repository has", &broken);
    let license = std::fs::read_to_string(workspace().join("LICENSE")).expect("a license");
    for words in ["Apache License", "MIT License", "END OF TERMS AND CONDITIONS", "The Weir authors"] {
        assert!(license.contains(words), "LICENSE lacks {words:?}");
    }
}
