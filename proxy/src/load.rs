//! Reads configuration files and directories, and takes their text through parse, compile and the `[[test]]`s.
//! For `weir run`, `weir check` and `weirctl` alike. What is wrong comes back as values; `report` prints them.
//!
//! A file that cannot be read is a problem like any other, so that one run shows everything that has to be mended.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_routing::claim::Claim;
use weir_routing::{Compiled, Place, Problem, Resolved, Severity, Source, Sources};

/// Where the configuration is without `-c`.
pub const DEFAULT_PATH: &str = "/etc/weir";

/// The largest file that is read. A [`Place`] has 32 bits, and `-c /dev/zero` must end.
const MAX_FILE_BYTES: u64 = 256 << 20;
const _: () = assert!(MAX_FILE_BYTES < u32::MAX as u64);

/// How often a configuration that is being written to is read again until two readings are equal.
const MAX_READINGS: usize = 20;

/// Where the text of a configuration comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Files and directories, in this order.
    Paths(Vec<PathBuf>),
    /// A text that was never a file (the demo's).
    Text(Source),
}

/// So many failing tests show the walk of their arrival: one wrong rule may fail hundreds, and the walks of the first few
/// find it.
const WALKS_SHOWN: usize = 5;

/// What to do with the `[[test]]`s of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tests {
    /// A failing one refuses the configuration.
    Refuse,
    /// A failing one is a warning.
    Warn,
    /// They are not run.
    Skip,
}

/// A configuration that was taken.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The texts it came from.
    pub sources: Arc<Sources>,
    /// What became of them; its warnings include those of failing tests that were let pass.
    pub compiled: Compiled,
}

/// A configuration that was not taken, and everything that is wrong with it, sorted by place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The texts that the places of the problems point into.
    pub sources: Arc<Sources>,
    /// Errors, and the warnings beside them.
    pub problems: Vec<Problem>,
}

impl Origin {
    /// What `-c` named; without any, [`DEFAULT_PATH`].
    pub fn from_arguments(paths: Vec<PathBuf>) -> Self {
        Self::Paths(if paths.is_empty() { vec![DEFAULT_PATH.into()] } else { paths })
    }

    /// Reads all texts, once.
    /// Errors: each path that cannot be read, and each text that holds nothing.
    pub fn read(&self) -> Result<Arc<Sources>, Refused> {
        let paths = match self {
            Self::Paths(paths) => paths,
            Self::Text(source) => return Ok(Arc::new(Sources(vec![source.clone()]))),
        };
        let mut sources = Sources::default();
        let mut problems = Vec::new();
        for path in paths {
            match files(path) {
                Ok(files) => files.iter().for_each(|file| read_file(file, &mut sources, &mut problems)),
                Err(problem) => problems.push(*problem),
            }
        }
        let sources = Arc::new(sources);
        if problems.is_empty() { Ok(sources) } else { Err(Refused { sources, problems }) }
    }

    /// Reads until two readings in a row are equal, so that a file in the middle of being written is not taken.
    pub fn read_settled(&self) -> Result<Arc<Sources>, Refused> {
        let mut last = self.read();
        for _ in 0..MAX_READINGS {
            let next = self.read();
            if next == last {
                return next;
            }
            last = next;
        }
        last
    }
}

/// Parses, compiles and tests what was read. `resolved` holds the addresses of host names; `check` has none and asks nobody.
pub fn load(sources: Arc<Sources>, resolved: &Resolved, tests: Tests) -> Result<Loaded, Refused> {
    compile(sources, resolved)?.tested(tests)
}

/// [`load`] where no name server is asked, for `weir check` and `weirctl explain`. That a host name has no address yet is true
/// of every host name there, and no problem of the configuration.
pub fn load_without_names(sources: Arc<Sources>, tests: Tests) -> Result<Loaded, Refused> {
    const NOT_RESOLVED: &str = "not-resolved";
    let of_the_file = |problem: &Problem| problem.code != NOT_RESOLVED;
    match load(sources, &Resolved::new(), tests) {
        Ok(mut loaded) => {
            loaded.compiled.warnings.retain(of_the_file);
            Ok(loaded)
        }
        Err(mut refused) => {
            refused.problems.retain(of_the_file);
            Err(refused)
        }
    }
}

/// Parses and compiles what was read.
pub fn compile(sources: Arc<Sources>, resolved: &Resolved) -> Result<Loaded, Refused> {
    let environment = |name: &str| std::env::var(name).ok();
    let compiled = weir_routing::parse(&sources, &environment)
        .and_then(|config| weir_routing::compile(&config, resolved));
    match compiled {
        Ok(mut compiled) => {
            sort(&mut compiled.warnings);
            Ok(Loaded { sources, compiled })
        }
        Err(problems) => Err(Refused::new(sources, problems)),
    }
}

impl Loaded {
    /// Runs the `[[test]]`s.
    pub fn tested(mut self, tests: Tests) -> Result<Self, Refused> {
        if tests == Tests::Skip {
            return Ok(self);
        }
        let Compiled { table, claims, warnings, .. } = &mut self.compiled;
        let failed = claims.iter().filter_map(|claim| Some((claim, claim.check(table).err()?)));
        let help = |(count, (claim, problem)): (usize, (&Claim, Problem))| {
            problem.help(if count < WALKS_SHOWN {
                claim.walk(table)
            } else {
                format!("`{}` shows why, with the same -c", claim.command(table))
            })
        };
        let mut failed: Vec<Problem> = failed.enumerate().map(help).collect();
        if tests == Tests::Refuse && !failed.is_empty() {
            failed.append(warnings);
            return Err(Refused::new(self.sources, failed));
        }
        failed.iter_mut().for_each(|problem| problem.severity = Severity::Warning);
        warnings.append(&mut failed);
        sort(warnings);
        Ok(self)
    }
}

impl Refused {
    fn new(sources: Arc<Sources>, mut problems: Vec<Problem>) -> Self {
        sort(&mut problems);
        Self { sources, problems }
    }
}

/// By place; what has none comes first.
fn sort(problems: &mut [Problem]) {
    let key = |place: Option<Place>| place.map(|place| (place.file, place.start));
    problems.sort_by_key(|problem| key(problem.place));
}

/// The file itself, or the `*.toml` of a directory in name order: none that begins with a dot, no sub-directories.
fn files(path: &Path) -> Result<Vec<PathBuf>, Box<Problem>> {
    let unreadable = |error: io::Error| unreadable(path, &error);
    if !path.metadata().map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut names = Vec::new();
    for entry in path.read_dir().map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        // What a symbolic link leads to counts: Kubernetes mounts each file of a ConfigMap as one. One that leads nowhere is
        // kept, so that reading it says so.
        if is_configuration_file(&name) && !path.join(&name).is_dir() {
            names.push(name);
        }
    }
    if names.is_empty() {
        let problem = Problem::error("no-files", None, format!("no *.toml file in {}", path.display()))
            .wanted("at least one file whose name ends in .toml and does not begin with a dot")
            .help("put the configuration there, or name another place with -c");
        return Err(problem.into());
    }
    names.sort();
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// Whether a file of this name in a configuration directory is read.
pub(crate) fn is_configuration_file(name: &std::ffi::OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.ends_with(b".toml") && !name.starts_with(b".")
}

fn read_file(path: &Path, sources: &mut Sources, problems: &mut Vec<Problem>) {
    match text_of(path) {
        Ok(text) if text.trim().is_empty() => problems.push(
            Problem::error("empty-file", None, format!("{} is empty", path.display()))
                .wanted("a configuration")
                .help("remove the file if nothing is to be configured in it"),
        ),
        Ok(text) => {
            sources.0.push(Source::new(path.to_string_lossy(), text));
        }
        Err(problem) => problems.push(*problem),
    }
}

fn text_of(path: &Path) -> Result<String, Box<Problem>> {
    let unreadable = |error: io::Error| unreadable(path, &error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let problem = Problem::error("too-large", None, format!("{} is too large", path.display()));
        return Err(problem.wanted(format!("at most {} MiB", MAX_FILE_BYTES >> 20)).into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count();
        Problem::error("not-utf8", None, format!("{}:{line} is not UTF-8", path.display()))
            .found(format!("the byte 0x{:02x}", error.as_bytes()[valid]))
            .help("TOML is written in UTF-8; save the file so")
            .into()
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Box<Problem> {
    let problem = Problem::error("unreadable", None, format!("cannot read {}: {error}", path.display()));
    let help = match error.kind() {
        io::ErrorKind::NotFound if path == Path::new(DEFAULT_PATH) => {
            "name a file or a directory with -c; `weir demo` shows a first one".to_owned()
        }
        io::ErrorKind::NotFound => "check the path that -c names".to_owned(),
        io::ErrorKind::PermissionDenied => {
            format!("run as a user who may read it, or `chmod a+r {}`", path.display())
        }
        _ => "name a file or a directory that can be read with -c".to_owned(),
    };
    problem.help(help).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sources: &Sources, under: &Path) -> Vec<String> {
        let relative = |source: &Source| {
            let path = Path::new(&*source.name);
            path.strip_prefix(under).unwrap_or(path).display().to_string()
        };
        sources.0.iter().map(relative).collect()
    }

    #[test]
    fn a_directory_is_its_toml_files_in_name_order() {
        let home = tempfile::tempdir().unwrap();
        for name in ["b.toml", "a.toml", "10.toml", ".hidden.toml", "notes.txt", "c.toml~"] {
            std::fs::write(home.path().join(name), "x = 1").unwrap();
        }
        std::fs::create_dir(home.path().join("sub.toml")).unwrap();
        let sources = Origin::Paths(vec![home.path().into()]).read().unwrap();
        assert_eq!(names(&sources, home.path()), ["10.toml", "a.toml", "b.toml"]);
    }

    #[test]
    fn paths_are_read_in_the_order_of_the_arguments() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        std::fs::create_dir(path("dir")).unwrap();
        for name in ["z.toml", "dir/b.toml", "dir/a.toml"] {
            std::fs::write(path(name), "x = 1").unwrap();
        }
        let sources = Origin::Paths(vec![path("z.toml"), path("dir")]).read().unwrap();
        assert_eq!(names(&sources, home.path()), ["z.toml", "dir/a.toml", "dir/b.toml"]);
    }

    #[test]
    fn all_that_cannot_be_read_is_told_at_once() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        std::fs::create_dir(path("bare")).unwrap();
        std::fs::write(path("empty.toml"), " \n").unwrap();
        std::fs::write(path("latin1.toml"), b"a = 1\nb = \"\xe9\"").unwrap();
        std::os::unix::fs::symlink("nowhere", path("dangling.toml")).unwrap();
        let given = ["missing", "bare", "empty.toml", "latin1.toml", "dangling.toml"];
        let refused = Origin::Paths(given.iter().map(|name| path(name)).collect()).read().unwrap_err();
        let codes: Vec<_> = refused.problems.iter().map(|problem| problem.code).collect();
        assert_eq!(codes, ["unreadable", "no-files", "empty-file", "not-utf8", "unreadable"]);
        for (problem, name) in refused.problems.iter().zip(given) {
            assert!(problem.message.contains(name), "{problem:?} does not name {name}");
        }
        assert!(refused.problems[3].message.contains("latin1.toml:2 "), "{:?}", refused.problems[3]);
    }

    #[test]
    fn without_arguments_it_is_the_default_path() {
        let Origin::Paths(paths) = Origin::from_arguments(Vec::new()) else { panic!("a text") };
        assert_eq!(paths, [PathBuf::from(DEFAULT_PATH)]);
    }
}
