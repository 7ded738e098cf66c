//! Reads configuration files and directories, and takes their text through parse, compile and the `[[test]]`s.
//! For `weir run`, `weir check` and `weirctl` alike. Problems come back as values; `report` prints them.
//!
//! A file that cannot be read is a problem like any other, so that one run shows everything that has to be mended.

use std::collections::HashMap;
use std::fs::{self, FileType};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use weir_routing::ConfigTest;
use weir_routing::{Compiled, Place, Problem, Resolved, Severity, Source, Sources};

/// Where the configuration is without `-c`.
pub const DEFAULT_PATH: &str = "/etc/weir";

/// The largest file that is read. A [`Place`] has 32 bits, and `-c /dev/zero` must end.
const MAX_FILE_BYTES: u64 = 256 << 20;
const _: () = assert!(MAX_FILE_BYTES < u32::MAX as u64);

/// How often a configuration that is being written to is read again until two readings are equal.
const MAX_READINGS: usize = 20;

/// Two readings that are to be equal are this far apart: a writer that was interrupted between two writes goes on within it.
const SETTLES_IN: Duration = Duration::from_millis(20);

/// Where the text of a configuration comes from, in this order.
#[derive(Clone, Debug)]
pub struct Origin(Vec<Input>);

#[derive(Clone, Debug)]
enum Input {
    /// A file or a directory, read each time.
    Path(PathBuf),
    /// A text that can be read once only: that of a pipe, or one that was never a file (the demo's).
    Once { name: PathBuf, text: Result<Source, Box<Problem>> },
}

/// So many failing tests show the walk of their arrival: one wrong rule may fail hundreds, and the walks of the first few
/// find it.
const WALKS_SHOWN: usize = 5;

/// The effect of the `[[test]]`s of a configuration.
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
    /// The same, compiled; its warnings include those of failing tests that were let pass.
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
    /// The files and directories that `-c` named; without any, [`DEFAULT_PATH`]. A pipe among them (`-c <(...)`, `/dev/stdin`) is read here, once.
    pub fn from_arguments(mut paths: Vec<PathBuf>) -> Self {
        if paths.is_empty() {
            paths.push(DEFAULT_PATH.into());
        }
        let input = |path: PathBuf| match path.metadata() {
            Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => {
                let text = fs::File::open(&path).map_err(|error| unreadable(&path, &error));
                let text = text.and_then(|file| source(&path, file));
                Input::Once { name: path, text }
            }
            _ => Input::Path(path),
        };
        Self(paths.into_iter().map(input).collect())
    }

    /// A text that is no file.
    pub fn from_text(source: Source) -> Self {
        Self(vec![Input::Once { name: PathBuf::from(&*source.name), text: Ok(source) }])
    }

    /// The files and directories that may change.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter_map(|input| match input {
            Input::Path(path) => Some(path.as_path()),
            Input::Once { .. } => None,
        })
    }

    /// The texts that were read once and will not be read again, by name.
    pub fn read_once(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter_map(|input| match input {
            Input::Path(_) => None,
            Input::Once { name, .. } => Some(name.as_path()),
        })
    }

    /// Reads all texts.
    /// Errors: each path that cannot be read, and each text that holds nothing.
    pub fn read(&self) -> Result<Arc<Sources>, Refused> {
        self.read_each(&|_| ())
    }

    /// Reads until two readings in a row are equal, so that a file in the middle of being written is not taken. Calls `begin`
    /// with each path before it is looked at.
    /// Errors: as [`Self::read`] has them, and a text that keeps changing.
    pub fn read_settled(&self, begin: &dyn Fn(&Path)) -> Result<Arc<Sources>, Refused> {
        let mut last = self.read_each(begin);
        if self.paths().next().is_none() {
            return last;
        }
        for _ in 0..MAX_READINGS {
            thread::sleep(SETTLES_IN);
            let next = self.read_each(begin);
            if next == last {
                return next;
            }
            last = next;
        }
        let took = SETTLES_IN * MAX_READINGS as u32;
        let problem = Problem::error(
            "unsettled",
            None,
            format!("the configuration was still being written to after {} ms", took.as_millis()),
        );
        Err(problem.help("write a new file beside the old one and rename it over that").into())
    }

    fn read_each(&self, begin: &dyn Fn(&Path)) -> Result<Arc<Sources>, Refused> {
        let mut sources = Sources::default();
        let mut problems = Vec::new();
        let mut seen = HashMap::new();
        let mut take = |text: Result<Source, Box<Problem>>| match text {
            Ok(source) if source.text.trim().is_empty() => problems.push(
                Problem::error("empty-file", None, format!("{} is empty", source.name))
                    .wanted("a configuration")
                    .help("remove the file if nothing is to be configured in it"),
            ),
            Ok(source) => sources.0.push(source),
            Err(problem) => problems.push(*problem),
        };
        for input in &self.0 {
            match input {
                Input::Path(path) => {
                    begin(path);
                    match files(path) {
                        Ok(files) => files.iter().for_each(|file| {
                            begin(file);
                            let opened = once(file, &mut seen).and_then(|()| regular(file));
                            take(opened.and_then(|opened| source(file, opened)));
                        }),
                        Err(problem) => take(Err(problem)),
                    }
                }
                Input::Once { text, .. } => take(text.clone()),
            }
        }
        let sources = Arc::new(sources);
        if problems.is_empty() { Ok(sources) } else { Err(Refused { sources, problems }) }
    }
}

/// Parses, compiles and tests texts. `resolved` holds the addresses of host names.
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

/// Parses and compiles texts.
pub fn compile(sources: Arc<Sources>, resolved: &Resolved) -> Result<Loaded, Refused> {
    let environment = |name: &str| std::env::var(name);
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
        let Compiled { table, config_tests, warnings, .. } = &mut self.compiled;
        let failed = config_tests.iter().filter_map(|test| Some((test, test.check(table).err()?)));
        let help = |(count, (test, problem)): (usize, (&ConfigTest, Problem))| {
            problem.help(if count < WALKS_SHOWN {
                test.walk(table)
            } else {
                format!("`{}` shows why, with the same -c", test.command(table))
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

impl From<Problem> for Refused {
    /// A problem that is in no text.
    fn from(problem: Problem) -> Self {
        Self { sources: Arc::default(), problems: vec![problem] }
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
        // The target of a symbolic link counts: Kubernetes mounts each file of a ConfigMap as one. A link that leads nowhere is
        // kept, so that reading it is refused.
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

/// Refuses a file that was named before: all that it declares would be declared twice.
fn once(path: &Path, seen: &mut HashMap<PathBuf, PathBuf>) -> Result<(), Box<Problem>> {
    // A link that leads nowhere is no file that could be there twice; reading it is refused.
    let Ok(resolved) = path.canonicalize() else { return Ok(()) };
    let Some(first) = seen.insert(resolved, path.to_owned()) else { return Ok(()) };
    let message = if first == path {
        format!("{} is named twice", path.display())
    } else {
        format!("{} is the same file as {}", path.display(), first.display())
    };
    let problem = Problem::error("named-twice", None, message);
    Err(problem.help("name each file once, by -c or by its directory").into())
}

/// Opens a file. Anything else is refused before it is opened: opening a FIFO waits for a writer, opening a device may act.
fn regular(path: &Path) -> Result<fs::File, Box<Problem>> {
    let unreadable = |error: io::Error| unreadable(path, &error);
    refuse_others(path, path.metadata().map_err(unreadable)?.file_type())?;
    // A FIFO that took the file's place since would wait for a writer.
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match file {
        // A lease: its holder is asked to give it up, which takes a while.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => fs::File::open(path),
        opened => opened,
    };
    let file = file.map_err(unreadable)?;
    refuse_others(path, file.metadata().map_err(unreadable)?.file_type())?;
    Ok(file)
}

fn refuse_others(path: &Path, kind: FileType) -> Result<(), Box<Problem>> {
    let found = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_fifo() => "a named pipe (FIFO)",
        _ if kind.is_socket() => "a socket",
        _ if kind.is_dir() => "a directory",
        _ => "a device",
    };
    let problem = Problem::error("not-a-file", None, format!("{} is not a regular file", path.display()));
    Err(problem
        .found(found)
        .wanted("a regular file, or a link to one")
        .help("remove it, or rename it so that it does not end in .toml")
        .into())
}

/// Reads an open file to its end.
fn source(path: &Path, file: fs::File) -> Result<Source, Box<Problem>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let problem = Problem::error("too-large", None, format!("{} is too large", path.display()));
        return Err(problem.wanted(format!("at most {} MiB", MAX_FILE_BYTES >> 20)).into());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..valid].iter().filter(|&&byte| byte == b'\n').count();
        Problem::error("not-utf8", None, format!("{}:{line} is not UTF-8", path.display()))
            .found(format!("the byte 0x{:02x}", error.as_bytes()[valid]))
            .help("TOML is written in UTF-8; save the file so")
    })?;
    Ok(Source::new(path.to_string_lossy(), text))
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
            fs::write(home.path().join(name), "x = 1").unwrap();
        }
        fs::create_dir(home.path().join("sub.toml")).unwrap();
        let sources = Origin::from_arguments(vec![home.path().into()]).read().unwrap();
        assert_eq!(names(&sources, home.path()), ["10.toml", "a.toml", "b.toml"]);
    }

    #[test]
    fn paths_are_read_in_the_order_of_the_arguments() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        fs::create_dir(path("dir")).unwrap();
        for name in ["z.toml", "dir/b.toml", "dir/a.toml"] {
            fs::write(path(name), "x = 1").unwrap();
        }
        let sources = Origin::from_arguments(vec![path("z.toml"), path("dir")]).read().unwrap();
        assert_eq!(names(&sources, home.path()), ["z.toml", "dir/a.toml", "dir/b.toml"]);
    }

    #[test]
    fn all_that_cannot_be_read_is_reported_at_once() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        fs::create_dir(path("bare")).unwrap();
        fs::write(path("empty.toml"), " \n").unwrap();
        fs::write(path("latin1.toml"), b"a = 1\nb = \"\xe9\"").unwrap();
        std::os::unix::fs::symlink("nowhere", path("dangling.toml")).unwrap();
        let given = ["missing", "bare", "empty.toml", "latin1.toml", "dangling.toml"];
        let refused =
            Origin::from_arguments(given.iter().map(|name| path(name)).collect()).read().unwrap_err();
        let codes: Vec<_> = refused.problems.iter().map(|problem| problem.code).collect();
        assert_eq!(codes, ["unreadable", "no-files", "empty-file", "not-utf8", "unreadable"]);
        for (problem, name) in refused.problems.iter().zip(given) {
            assert!(problem.message.contains(name), "{problem:?} does not name {name}");
        }
        assert!(refused.problems[3].message.contains("latin1.toml:2 "), "{:?}", refused.problems[3]);
    }

    #[test]
    fn a_path_that_is_no_regular_file_is_refused_by_name_and_never_opened() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        let fifo = |name: &str| {
            rustix::fs::mkfifoat(rustix::fs::CWD, path(name), rustix::fs::Mode::RUSR).unwrap();
        };
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, path(name)).unwrap();
        fs::write(path("good.toml"), "x = 1").unwrap();
        fifo("fifo.toml");
        fifo("other");
        link("other", "link.toml");
        link("/dev/zero", "zero.toml");
        let _socket = std::os::unix::net::UnixListener::bind(path("socket.toml")).unwrap();
        let refused = Origin::from_arguments(vec![home.path().into()]).read().unwrap_err();
        let found = refused.problems.iter().map(|it| (it.code, it.found.as_deref().unwrap_or_default()));
        let wanted = ["a named pipe (FIFO)", "a named pipe (FIFO)", "a socket", "a device"];
        assert!(found.eq(wanted.map(|found| ("not-a-file", found))), "{:?}", refused.problems);
        for (problem, name) in refused.problems.iter().zip(["fifo", "link", "socket", "zero"]) {
            assert!(problem.message.contains(name), "{problem:?} does not name {name}.toml");
        }
    }

    #[test]
    fn a_file_that_is_being_written_is_read_until_it_stays_the_same_for_a_while() {
        use std::cell::Cell;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.toml");
        // A text for each reading, as a slow writer leaves it; the last one stays.
        let check = |texts: &[&str], expected: Option<&str>| {
            let origin = Origin::from_arguments(vec![path.clone()]);
            let (begun, readings) = (std::time::Instant::now(), Cell::new(0));
            // It is called for what the argument names, then for the file.
            let write = |_: &Path| {
                let reading = readings.replace(readings.get() + 1);
                fs::write(&path, texts[(reading / 2).min(texts.len() - 1)]).unwrap();
            };
            let read = origin.read_settled(&write).ok().map(|sources| sources.0[0].text.to_string());
            assert_eq!(read.as_deref(), expected, "{texts:?}");
            assert!(begun.elapsed() >= SETTLES_IN * texts.len().min(MAX_READINGS) as u32);
        };
        check(&["whole"], Some("whole"));
        check(&["ha", "half", "whole"], Some("whole"));
        let all: Vec<String> = (0..=MAX_READINGS).map(|number| number.to_string()).collect();
        check(&all.iter().map(String::as_str).collect::<Vec<_>>(), None);
    }

    #[test]
    fn a_file_that_is_named_twice_is_one_problem() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        fs::write(path("a.toml"), "x = 1").unwrap();
        std::os::unix::fs::symlink("a.toml", path("b.toml")).unwrap();
        let codes = |given: &[&str]| -> Vec<(&'static str, String)> {
            let refused =
                Origin::from_arguments(given.iter().map(|name| path(name)).collect()).read().unwrap_err();
            let here = format!("{}/", home.path().display());
            refused.problems.iter().map(|it| (it.code, it.message.replace(&here, ""))).collect()
        };
        let named = |message: &str| vec![("named-twice", message.to_owned())];
        assert_eq!(codes(&["a.toml", "a.toml"]), named("a.toml is named twice"));
        assert_eq!(codes(&["a.toml", "b.toml"]), named("b.toml is the same file as a.toml"));
        assert_eq!(codes(&["."])[0].0, "named-twice");
    }

    #[test]
    fn without_arguments_it_is_the_default_path() {
        assert!(Origin::from_arguments(Vec::new()).paths().eq([Path::new(DEFAULT_PATH)]));
    }
}
