//! Notices that the files of a configuration have changed: inotify on each file, on its directory and on each directory on the way
//! of a symbolic link, so that an edit in place, a rename over the file, Kubernetes' symlink swap and a write through another
//! name of the same file (a hard link, a bind mount) all show. Where inotify shows nothing (a write by another host to a network
//! file system), device, inode, size and time of each file are compared now and then. The watch reports only that something may
//! have changed; reading, and finding out whether the text differs, is the loader's.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use async_channel::Sender;
use inotify::{Inotify, WatchDescriptor, WatchMask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::warn;

use super::event::Event;
use crate::front::load::is_configuration_file;
use crate::panics;

/// A change is reported when this long no other has followed: an editor's save is several events.
const QUIET: Duration = Duration::from_millis(100);

/// And at the latest this long after the first: a file that is written to for ever must not hold a reload up.
const LATEST: Duration = Duration::from_millis(400);

/// How often the files are compared with what they were.
const LOOK: Duration = Duration::from_secs(5);

/// As many symbolic links as the kernel follows (MAXSYMLINKS).
const MAX_LINKS: usize = 40;

/// Starts the thread that watches what `paths` name, for the life of the process.
pub(super) fn start(paths: Vec<PathBuf>, events: Sender<Event>) -> io::Result<()> {
    let mut watcher =
        Watcher { paths, inotify: Inotify::init()?, watched: Vec::new(), looks: BTreeMap::new() };
    watcher.arm();
    let mut run = move || {
        if let Err(error) = watcher.run(&events) {
            warn!("changed files are no longer noticed ({error}); send HUP to reload");
        }
    };
    thread::Builder::new().name("watch".into()).spawn(move || panics::kept(&mut run))?;
    Ok(())
}

struct Watcher {
    paths: Vec<PathBuf>,
    inotify: Inotify,
    watched: Vec<(WatchDescriptor, Interest)>,
    /// How each file looked when the watches were last armed.
    looks: BTreeMap<PathBuf, Look>,
}

/// The marks of a file that change with its text: device, inode, size, time. None: there is no file.
type Look = Option<(u64, u64, u64, i64, i64)>;

impl Watcher {
    fn run(&mut self, events: &Sender<Event>) -> io::Result<()> {
        let mut debounce = Debounce::default();
        let mut look = Instant::now() + LOOK;
        loop {
            let now = Instant::now();
            if debounce.due().is_some_and(|due| due <= now) {
                debounce = Debounce::default();
                // Armed again before the texts are read: a change after this is a new event.
                self.arm();
                if events.send_blocking(Event::Changed).is_err() {
                    return Ok(());
                }
            } else if look <= now {
                look = now + LOOK;
                if looks(interests(&self.paths).into_keys()) != self.looks {
                    debounce.note(now);
                }
            } else {
                let until = debounce.due().map_or(look, |due| due.min(look));
                if self.wait(until)? && self.saw_a_change()? {
                    debounce.note(Instant::now());
                }
            }
        }
    }

    /// Waits for an event, until then; whether there is one.
    fn wait(&self, until: Instant) -> io::Result<bool> {
        let timeout = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], timeout.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the events that have arrived; whether any concerns the configuration.
    fn saw_a_change(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let mut changed = false;
        for event in self.inotify.read_events(&mut buffer)? {
            let interest = self.watched.iter().find(|(watch, _)| *watch == event.wd);
            changed |=
                interest.is_some_and(|(_, interest)| event.name.is_none_or(|name| interest.holds(name)));
            changed |= event.mask.contains(inotify::EventMask::Q_OVERFLOW);
        }
        Ok(changed)
    }

    /// Watches the directories and files that matter as links now lead, and no others.
    fn arm(&mut self) {
        let mut armed = Vec::new();
        let interests = interests(&self.paths);
        self.looks = looks(interests.keys().cloned());
        for (path, interest) in interests {
            let mask = WatchMask::CREATE
                | WatchMask::MODIFY
                | WatchMask::CLOSE_WRITE
                | WatchMask::ATTRIB
                | WatchMask::MOVE
                | WatchMask::DELETE
                | WatchMask::DELETE_SELF
                | WatchMask::MOVE_SELF;
            match self.inotify.watches().add(&path, mask) {
                Ok(watch) => armed.push((watch, interest)),
                // The directory above reports one that went away this moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => warn!("cannot watch {}: {error}; send HUP to reload", path.display()),
            }
        }
        for (old, _) in std::mem::take(&mut self.watched) {
            if !armed.iter().any(|(watch, _)| *watch == old) {
                // It fails if the directory is gone, and the watch with it.
                let _ = self.inotify.watches().remove(old);
            }
        }
        self.watched = armed;
    }
}

/// When to report a change: [`QUIET`] after the last, at most [`LATEST`] after the first.
#[derive(Clone, Copy, Debug, Default)]
struct Debounce {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Debounce {
    fn note(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    fn due(&self) -> Option<Instant> {
        Some((self.last? + QUIET).min(self.first? + LATEST))
    }
}

/// How these files look now.
fn looks(paths: impl Iterator<Item = PathBuf>) -> BTreeMap<PathBuf, Look> {
    let look = |path: &Path| {
        let it = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((it.dev(), it.ino(), it.size(), it.mtime(), it.mtime_nsec()))
    };
    paths.map(|path| (path.clone(), look(&path))).collect()
}

/// The names in a directory that concern the configuration; a file is an interest without a name, and each of its events counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Interest {
    /// These names: files, links, and what is missing.
    names: BTreeSet<OsString>,
    /// And each name that a configuration file may have.
    files: bool,
}

impl Interest {
    fn holds(&self, name: &OsStr) -> bool {
        self.names.contains(name) || (self.files && is_configuration_file(name))
    }
}

type Interests = BTreeMap<PathBuf, Interest>;

/// All directories that matter for these paths, with the names in them, and all files.
fn interests(paths: &[PathBuf]) -> Interests {
    let mut interests = Interests::new();
    for path in paths {
        let Ok(path) = std::path::absolute(path) else { continue };
        let end = walk(&path, &mut interests);
        let Ok(entries) = end.read_dir() else {
            note_file(end, &mut interests);
            continue;
        };
        interests.entry(end.clone()).or_default().files = true;
        let names =
            entries.flatten().map(|entry| entry.file_name()).filter(|name| is_configuration_file(name));
        for name in names {
            let file = walk(&end.join(name), &mut interests);
            note_file(file, &mut interests);
        }
    }
    interests
}

fn note_file(end: PathBuf, interests: &mut Interests) {
    if end.is_file() {
        interests.entry(end).or_default();
    }
}

/// Follows a path through its links, notes where a change could make it lead elsewhere, and returns where it ends: each directory
/// that holds a link, that of the end, and, if a part of the path is missing, that in which it would appear.
fn walk(path: &Path, interests: &mut Interests) -> PathBuf {
    let mut note = |directory: &Path, name: &OsStr| {
        interests.entry(directory.to_owned()).or_default().names.insert(name.to_owned());
    };
    let mut at = PathBuf::from("/");
    let mut todo = path.to_owned();
    let mut links = 0;
    loop {
        let mut components = todo.components();
        let Some(component) = components.next() else { return at };
        let rest = components.as_path().to_owned();
        match component {
            Component::RootDir | Component::Prefix(_) => at = PathBuf::from("/"),
            Component::CurDir => {}
            Component::ParentDir => {
                at.pop();
            }
            Component::Normal(name) => {
                let next = at.join(name);
                match next.read_link() {
                    Ok(target) if links < MAX_LINKS => {
                        links += 1;
                        note(&at, name);
                        todo = target.join(rest);
                        continue;
                    }
                    _ => {
                        if rest.as_os_str().is_empty() || !next.exists() {
                            note(&at, name);
                        }
                        if !next.exists() {
                            return next;
                        }
                        at = next;
                    }
                }
            }
        }
        todo = rest;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_change_is_reported_after_quiet_and_never_later_than_the_latest() {
        #[track_caller]
        fn check(changes_ms: &[u64], due_ms: Option<u64>) {
            let start = Instant::now();
            let mut debounce = Debounce::default();
            changes_ms.iter().for_each(|&ms| debounce.note(start + Duration::from_millis(ms)));
            assert_eq!(debounce.due(), due_ms.map(|ms| start + Duration::from_millis(ms)));
        }
        check(&[], None);
        check(&[0], Some(100));
        check(&[0, 50], Some(150));
        check(&[0, 90, 180, 270], Some(370));
        check(&[0, 90, 180, 270, 360], Some(400));
    }

    /// The interests of a path below a home, as "directory: names" or "file:", without those above the home.
    #[track_caller]
    fn check(home: &Path, path: &str, expected: &[&str]) {
        let home = home.canonicalize().unwrap();
        let found = interests(&[home.join(path)]);
        let lines = found.iter().filter_map(|(directory, interest)| {
            let directory = directory.strip_prefix(&home).ok()?.display().to_string();
            let names = interest.names.iter().map(|name| name.display().to_string());
            let files = interest.files.then(|| "*.toml".to_owned());
            let names = names.chain(files).collect::<Vec<_>>().join(" ");
            Some(format!("{directory}: {names}").trim_end().to_owned())
        });
        assert_eq!(lines.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn each_directory_on_the_way_of_a_link_is_watched_and_the_file_itself() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        fs::write(path("plain.toml"), "x").unwrap();
        check(home.path(), "plain.toml", &[": plain.toml", "plain.toml:"]);
        check(home.path(), "missing.toml", &[": missing.toml"]);
        check(home.path(), "missing/dir/a.toml", &[": missing"]);

        // As Kubernetes mounts a ConfigMap.
        fs::create_dir_all(path("k8s/..2026")).unwrap();
        fs::write(path("k8s/..2026/weir.toml"), "x").unwrap();
        symlink("..2026", path("k8s/..data")).unwrap();
        symlink("..data/weir.toml", path("k8s/weir.toml")).unwrap();
        let (inside, file) = ("k8s/..2026: weir.toml", "k8s/..2026/weir.toml:");
        check(home.path(), "k8s/weir.toml", &["k8s: ..data weir.toml", inside, file]);
        check(home.path(), "k8s", &[": k8s", "k8s: ..data weir.toml *.toml", inside, file]);

        symlink("loop", path("loop")).unwrap();
        check(home.path(), "loop", &[": loop"]);
    }

    #[test]
    fn a_directory_concerns_only_configuration_files() {
        let interest = Interest { names: ["..data".into()].into(), files: true };
        for (name, expected) in [("a.toml", true), (".a.toml", false), ("a.txt", false), ("..data", true)] {
            assert_eq!(interest.holds(name.as_ref()), expected, "{name}");
        }
    }
}
