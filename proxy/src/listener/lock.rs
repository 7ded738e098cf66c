//! The lock of an address: SO_REUSEPORT would give a second Weir a share of the connections without a word, so each address is
//! locked before it is bound, for as long as it is listened on.
//!
//! Where `/run/weir` can be written the lock is a file there, held by flock(2), and its text is the pid of the holder. Elsewhere
//! it is an abstract Unix socket. Anybody may bind such a name, so only a holder with our own user id counts: the kernel shares
//! SO_REUSEPORT within one user id only, and with any other the bind itself fails. Nothing here waits for another process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tracing::warn;

/// Where lock files are.
const DIRECTORY: &str = "/run/weir";

/// How often a lock file is opened again that its last holder removed at the same moment.
const TRIES: usize = 16;

/// A pid in decimal, and to spare.
const MAX_TEXT: u64 = 32;

/// The lock of one address, held until it is dropped. Neither: the name belongs to another user, or the port is not known yet,
/// and the bind finds out.
#[derive(Debug, Default)]
pub(crate) struct Lock {
    _file: Option<LockFile>,
    _name: Option<UnixListener>,
}

/// Why an address could not be locked.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The kernel's error.
    pub error: io::Error,
    /// The pid of the Weir that holds it, where that is known.
    pub holder: Option<i32>,
}

/// Locks an address for this process. Port 0 stands for no address, so there is nothing to lock.
///
/// Errors: another process of this user holds it, or there is no descriptor left.
pub(crate) fn lock(address: SocketAddr) -> Result<Lock, Taken> {
    if address.port() == 0 {
        return Ok(Lock::default());
    }
    match lock_file(Path::new(DIRECTORY), address)? {
        Some(file) => Ok(Lock { _file: Some(file), _name: None }),
        None => Ok(Lock { _file: None, _name: lock_name(address)? }),
    }
}

/// A file that this process holds by flock; removed when it is dropped.
#[derive(Debug)]
struct LockFile {
    path: PathBuf,
    _file: File,
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // While the lock is still held: a process that waits to open this path sees that its file is gone, and makes another.
        let _ = fs::remove_file(&self.path);
    }
}

/// Locks a file of `directory`. None: this process cannot have such a file, so the abstract name has to do.
fn lock_file(directory: &Path, address: SocketAddr) -> Result<Option<LockFile>, Taken> {
    // Made by root, or by the service manager; where neither did, the file cannot be opened either.
    let _ = fs::create_dir(directory);
    let path = directory.join(file_name(address));
    for _ in 0..TRIES {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Closed to other users: a lock on a file can be taken by everybody who can open it.
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                return Err(Taken { error, holder: None });
            }
            Err(_) => return Ok(None),
        };
        let Ok(metadata) = file.metadata() else { return Ok(None) };
        if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Ok(None);
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Taken { error: io::ErrorKind::AddrInUse.into(), holder: pid_in(&file) });
            }
            // A file system without locks.
            Err(_) => return Ok(None),
        }
        let is_in_place =
            fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (metadata.dev(), metadata.ino()));
        if is_in_place {
            // The text is for people and for the message of a second Weir; the lock holds without it.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            return Ok(Some(LockFile { path, _file: file }));
        }
    }
    Ok(None)
}

/// The same address is another one in another network namespace, and those may well share `/run`.
fn file_name(address: SocketAddr) -> String {
    let namespace = fs::metadata("/proc/self/ns/net").map_or(0, |metadata| metadata.ino());
    format!("{namespace}-{address}.lock")
}

fn pid_in(file: &File) -> Option<i32> {
    let mut text = String::new();
    file.take(MAX_TEXT).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Binds the abstract name of an address. None: another user has it.
fn lock_name(address: SocketAddr) -> Result<Option<UnixListener>, Taken> {
    let name = UnixAddr::from_abstract_name(format!("weir/listen/{address}"));
    let name = name.expect("shorter than 108 bytes");
    let error = match UnixListener::bind_addr(&name) {
        Ok(listener) => return Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
        Err(error) => return Err(Taken { error, holder: None }),
    };
    match holder_of(&name) {
        Ok((uid, pid)) if uid == rustix::process::geteuid().as_raw() => {
            Err(Taken { error, holder: Some(pid) })
        }
        Ok((uid, pid)) => {
            warn!(
                "the lock of {address}, an abstract socket, is held by pid {pid} of user {uid}: going on without it; a \
                 directory {DIRECTORY} that belongs to this user keeps others out"
            );
            Ok(None)
        }
        Err(unknown) => {
            warn!(
                "the lock of {address}, an abstract socket, is held by a process that does not answer ({unknown}): going on \
                 without it; a directory {DIRECTORY} that belongs to this user keeps others out"
            );
            Ok(None)
        }
    }
}

/// User id and pid of the process that listens at an abstract name. Its backlog may be full: connecting does not wait.
fn holder_of(name: &UnixAddr) -> io::Result<(u32, i32)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let name = name.as_abstract_name().expect("made as one");
    rustix::net::connect(&socket, &rustix::net::SocketAddrUnix::new_abstract_name(name)?)?;
    let credentials = rustix::net::sockopt::socket_peercred(&socket)?;
    Ok((credentials.uid.as_raw(), credentials.pid.as_raw_nonzero().get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_file_is_locked_once_names_its_holder_and_is_gone_afterwards() {
        let home = tempfile::tempdir().unwrap();
        let lock = |text: &str| lock_file(home.path(), address(text));
        let held = lock("127.0.0.1:80").expect("free").expect("a directory of ours");
        let taken = lock("127.0.0.1:80").expect_err("it is held");
        assert_eq!(taken.holder, Some(std::process::id() as i32));
        let other = lock("127.0.0.1:81").expect("another address").expect("a file");
        drop((held, other));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
        assert!(lock("127.0.0.1:80").expect("free again").is_some());
    }

    #[test]
    fn the_file_of_a_killed_holder_is_no_lock() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(file_name(address("[::1]:80"))), "4000000000000").unwrap();
        assert!(lock_file(home.path(), address("[::1]:80")).expect("it has no holder").is_some());
    }

    #[test]
    fn where_no_file_can_be_made_the_name_is_left() {
        #[track_caller]
        fn check(prepare: impl Fn(&Path)) {
            let home = tempfile::tempdir().unwrap();
            prepare(&home.path().join(file_name(address("127.0.0.1:80"))));
            assert!(lock_file(home.path(), address("127.0.0.1:80")).expect("no error").is_none());
        }
        check(|path| fs::create_dir(path).unwrap());
        check(|path| std::os::unix::fs::symlink("/etc/passwd", path).unwrap());
        check(|path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap()
        });
        assert!(
            lock_file(Path::new("/nowhere/at/all"), address("127.0.0.1:80")).expect("no error").is_none()
        );
    }

    #[test]
    fn a_name_is_locked_once_and_a_holder_that_does_not_answer_is_not_waited_for() {
        let free = address("127.0.0.1:1");
        let held = lock_name(free).expect("free").expect("ours");
        let taken = lock_name(free).expect_err("it is held");
        assert_eq!(taken.holder, Some(std::process::id() as i32));
        drop(held);

        let full = address("127.0.0.1:2");
        let name = UnixAddr::from_abstract_name(format!("weir/listen/{full}")).unwrap();
        let listener = UnixListener::bind_addr(&name).unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = non_blocking_connect(&name) {
            waiting.push(stream);
        }
        assert!(matches!(lock_name(full), Ok(None)));
        drop((listener, waiting));
    }

    fn non_blocking_connect(name: &UnixAddr) -> io::Result<std::os::fd::OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let name = name.as_abstract_name().expect("made as one");
        rustix::net::connect(&socket, &rustix::net::SocketAddrUnix::new_abstract_name(name)?)?;
        Ok(socket)
    }
}
