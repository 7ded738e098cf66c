//! README and the pages: every configuration that they show passes `weir check`, every command that they show prints what they show,
//! and every path and link leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use weir_tests::{Weir, busy, program};

/// The pages of the repository, beside those in `docs/`.
const PAGES: [&str; 5] = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "bench/README.md"];

/// Makes a block without a gateway a whole configuration.
const OTHER_GATEWAY: &str = "
[gateway.other]
listen = [\"127.0.0.1:1\"]
to = [{ service = \"other\" }]
[service.other]
endpoints = [\"10.9.9.9:1\"]
";

/// A page: its path from the root of the workspace, and its text.
struct Page {
    path: String,
    text: String,
}

/// A fenced block: the words after the fence's opening, and the lines in it.
struct Block<'a> {
    kind: &'a str,
    lines: Vec<&'a str>,
}

fn pages() -> Vec<Page> {
    let root = program::workspace();
    let docs =
        std::fs::read_dir(root.join("docs")).expect("docs/").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    paths.extend(PAGES.map(|page| root.join(page)));
    paths.sort();
    assert!(paths.len() > PAGES.len() + 3, "only {} pages: the walk is broken", paths.len());
    let read = |path: PathBuf| {
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Page { path: path.strip_prefix(root).expect("inside").display().to_string(), text }
    };
    paths.into_iter().map(read).collect()
}

impl Page {
    /// Its fenced blocks, and the lines outside them with their numbers.
    fn split(&self) -> (Vec<Block<'_>>, Vec<(usize, &str)>) {
        let (mut blocks, mut prose, mut open): (Vec<Block<'_>>, _, bool) = (Vec::new(), Vec::new(), false);
        for (number, line) in (1..).zip(self.text.lines()) {
            match line.strip_prefix("```") {
                Some(_) if open => open = false,
                Some(kind) => {
                    open = true;
                    blocks.push(Block { kind, lines: Vec::new() });
                }
                None if open => blocks.last_mut().expect("an open block").lines.push(line),
                None => prose.push((number, line)),
            }
        }
        assert!(!open, "{}: a block that does not end", self.path);
        (blocks, prose)
    }

    fn directory(&self) -> &Path {
        Path::new(&self.path).parent().unwrap_or(Path::new(""))
    }

    /// The headings, as GitHub makes anchors of them.
    fn anchors(&self) -> BTreeSet<String> {
        let (_, prose) = self.split();
        let headings = prose.into_iter().map(|(_, line)| line).filter(|line| line.starts_with('#'));
        headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
    }
}

/// Lower case, words joined by "-", without punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The texts between single backquotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn alternatives(text: &str) -> Vec<String> {
    let Some((before, rest)) = text.split_once('{') else { return vec![text.to_owned()] };
    let Some((middle, after)) = rest.split_once('}') else { return vec![text.to_owned()] };
    middle.split(',').flat_map(|one| alternatives(&format!("{before}{}{after}", one.trim()))).collect()
}

/// The entries at the top of the repository that a path can begin with.
fn tops() -> BTreeSet<String> {
    let mut tops: BTreeSet<String> =
        ["routing", "proxy", "tools", "bench", "tests", "docs", "examples", "dist", ".ci"]
            .map(str::to_owned)
            .into();
    tops.retain(|top| program::workspace().join(top).is_dir());
    tops
}

/// Whether a quoted text is meant as a path of this repository.
fn is_path(text: &str, tops: &BTreeSet<String>) -> bool {
    let is_plain = text.chars().all(|character| character.is_alphanumeric() || "/._-{},".contains(character));
    let first = text.split_once('/').map(|(first, _)| first);
    is_plain && (first.is_some_and(|first| tops.contains(first)) || text.ends_with(".rs"))
}

/// Whether a path exists, from the root or from the page that names it.
fn exists(page: &Page, path: &str) -> bool {
    let root = program::workspace();
    root.join(path).exists() || root.join(page.directory()).join(path).exists()
}

#[track_caller]
fn none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn every_configuration_that_a_page_shows_passes() {
    let _turn = busy();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("weir.toml");
    let (mut shown, mut broken) = (0, Vec::new());
    for page in pages() {
        for block in page.split().0.iter().filter(|block| block.kind == "toml") {
            let mut text = block.lines.join("\n");
            if !text.contains("[gateway.") {
                text.push_str(OTHER_GATEWAY);
            }
            std::fs::write(&file, text).unwrap();
            let output = program::run("weir", &["check", "-c", file.to_str().unwrap()]);
            shown += 1;
            if output.code != 0 {
                broken.push(format!("{}:\n{}\n{}", page.path, block.lines.join("\n"), output.stderr));
            }
        }
    }
    assert!(shown >= 2, "README shows configurations, and {shown} were found");
    none("a block of TOML is a configuration, but for a gateway", &broken);
}

#[test]
fn every_command_that_a_page_shows_with_its_output_prints_that() {
    let _turn = busy();
    let mut shown = 0;
    for page in pages() {
        for block in page.split().0.iter().filter(|block| block.kind == "console") {
            let (command, output) = block.lines.split_first().expect("a command");
            let words: Vec<&str> = command.strip_prefix("$ ").expect("a prompt").split_whitespace().collect();
            let mut command = std::process::Command::new(program::path(words[0]));
            let found = program::run_command(command.args(&words[1..]).current_dir(program::workspace()));
            assert_eq!(
                found.stdout.trim_end(),
                output.join("\n"),
                "{}: {words:?}\n{}",
                page.path,
                found.stderr
            );
            shown += 1;
        }
    }
    assert!(shown >= 1, "docs/routing.md shows one");
}

#[test]
fn the_page_of_metrics_has_the_families_that_a_running_weir_shows() {
    let _turn = busy();
    let weir = Weir::start(&crate::support::edge(&["127.0.0.1:1".parse().unwrap()], ""));
    let shown = weir.get("/metrics").body;
    let heads = shown.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let heads: BTreeMap<&str, &str> = heads.collect();
    let page = std::fs::read_to_string(program::workspace().join("docs/metrics.md")).expect("the page");
    let (tables, _) = page.split_once("## Close reasons").expect("reasons at its end");
    let rows = tables.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let listed: BTreeMap<&str, &str> = rows
        .map(|(name, cells)| (name, cells.trim_end_matches(" |").rsplit_once("| ").expect("cells").1))
        .collect();
    assert_eq!(listed, heads, "name and help of each");
}

#[test]
fn every_path_that_a_page_names_is_there() {
    let tops = tops();
    let (mut named, mut broken) = (0, Vec::new());
    for page in pages() {
        for (number, line) in page.split().1 {
            for path in quoted(line).filter(|text| is_path(text, &tops)).flat_map(alternatives) {
                named += 1;
                if !exists(&page, &path) {
                    broken.push(format!("{}:{number}: {path}", page.path));
                }
            }
        }
    }
    assert!(named > 20, "only {named} paths: the reading is broken");
    none("a path in backquotes is one of the repository", &broken);
}

#[test]
fn functions_that_a_page_names_beside_a_file_are_in_it() {
    let root = program::workspace();
    let (mut named, mut broken) = (0, Vec::new());
    for page in pages() {
        for (number, line) in page.split().1 {
            // `path/of/a/file.rs` (`function`, `another`)
            for (before, after) in
                line.match_indices(".rs` (`").map(|(at, _)| (&line[..at + 3], &line[at + 6..]))
            {
                let path = before.rsplit('`').next().expect("a quote before it");
                let names = after.split_once(')').map_or("", |(names, _)| names);
                let text = std::fs::read_to_string(root.join(path)).unwrap_or_default();
                for name in quoted(names) {
                    named += 1;
                    if !text.contains(&format!("fn {name}")) {
                        broken.push(format!("{}:{number}: {path}: no {name}", page.path));
                    }
                }
            }
        }
    }
    assert!(named > 8, "only {named} functions: the reading is broken");
    none("a function that is named beside a file stands in it", &broken);
}

/// The steps that a file's opening names: "(step 6 of the walk)", "(steps 4 and 6 of the walk)".
fn steps_of(text: &str) -> Vec<usize> {
    let opening: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).collect();
    let opening = opening.join("");
    let Some((before, _)) = opening.split_once(" of the walk") else { return Vec::new() };
    let Some(at) = before.rfind("tep") else { return Vec::new() };
    before[at..].split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn the_step_that_a_file_names_is_that_of_the_walk() {
    let root = program::workspace();
    let page = std::fs::read_to_string(root.join("docs/architecture.md")).expect("the page");
    let (_, walk) = page.split_once("## The walk of a connection").expect("the walk");
    let rows = walk.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| "));
    let rows: Vec<(usize, Vec<String>)> = rows
        .filter_map(|row| {
            let mut cells = row.trim_matches('|').split(" | ");
            let step = cells.next()?.trim().parse().ok()?;
            Some((step, quoted(cells.nth(1)?).flat_map(alternatives).collect()))
        })
        .collect();
    assert_eq!(rows.iter().map(|(step, _)| *step).collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
    let is_of = |path: &str, step: usize| {
        let (_, places) = &rows[step - 1];
        places.iter().any(|place| match place.strip_suffix('/') {
            Some(folder) => path == format!("{folder}.rs") || path.starts_with(place),
            None => path == place,
        })
    };
    let (mut named, mut broken) = (0, Vec::new());
    for file in crate::tidy::sources() {
        for step in steps_of(&file.text) {
            named += 1;
            if !(1..=rows.len()).contains(&step) || !is_of(&file.path, step) {
                broken.push(format!("{}: step {step}", file.path));
            }
        }
    }
    assert!(named > 8, "only {named} files name their step: the reading is broken");
    none("files and docs/architecture.md count the steps alike", &broken);
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let root = program::workspace();
    let mut broken = Vec::new();
    for page in &pages {
        for (number, line) in page.split().1 {
            for link in links(line).filter(|link| !link.starts_with("http")) {
                let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = if path.is_empty() {
                    root.join(&page.path)
                } else {
                    root.join(page.directory()).join(path)
                };
                let Ok(target) = target.canonicalize() else {
                    broken.push(format!("{}:{number}: {link}", page.path));
                    continue;
                };
                let of_target =
                    |other: &&Page| root.join(&other.path).canonicalize().is_ok_and(|it| it == target);
                let has_anchor =
                    || pages.iter().find(of_target).is_some_and(|other| other.anchors().contains(anchor));
                if !anchor.is_empty() && !has_anchor() {
                    broken.push(format!("{}:{number}: {link}: no such heading", page.path));
                }
            }
        }
    }
    none("a link leads to a file, and to a heading in it", &broken);
}

#[test]
fn paths_and_anchors_are_read_as_they_are_meant() {
    #[track_caller]
    fn check(text: &str, path: bool) {
        assert_eq!(is_path(text, &BTreeSet::from(["proxy".to_owned()])), path, "{text}");
    }
    check("proxy/src/{a,b}.rs", true);
    check("gone.rs", true);
    check("proxy/", true);
    check("splice(2)", false);
    check("/etc/weir", false);
    check("weir.toml", false);
    check("accept/read", false);
    assert_eq!(alternatives("a/{b,c}/{d,e}.rs"), ["a/b/d.rs", "a/b/e.rs", "a/c/d.rs", "a/c/e.rs"]);
    assert_eq!(steps_of("//! Admission (steps 4 and\n//! 6 of the walk): reserves.\n\nuse x;"), [4, 6]);
    assert_eq!(anchor("Where is ...?"), "where-is-");
    assert_eq!(quoted("a `b` c `d`").collect::<Vec<_>>(), ["b", "d"]);
    assert_eq!(links("[a](b) and [`c`](d#e)").collect::<Vec<_>>(), ["b", "d#e"]);
}
