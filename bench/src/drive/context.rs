//! A session's side of the shard: the things it may use, and the answers it may give.
//!
//! A session never closes its connection, dials, or looks at other connections: it returns the next step, and the shard takes it.

use std::os::fd::BorrowedFd;

use fastrand::Rng;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::dial;
use super::lane::Lane;
use crate::settings::Verify;

/// Things that all sessions of a thread share.
#[derive(Debug)]
pub(super) struct Kit {
    /// Where bytes come in.
    pub(super) input: Box<[u8]>,
    /// Where bytes that go out are made.
    pub(super) output: Output,
    pub(super) chance: Rng,
    pub(super) verify: Verify,
}

/// Things that one session may use while it is called.
pub(super) struct Context<'a> {
    pub(super) socket: BorrowedFd<'a>,
    pub(super) lane: &'a mut Lane,
    pub(super) kit: &'a mut Kit,
    /// The first receive waits for bytes: this is the only connection, and there is nothing else to do.
    pub(super) patient: bool,
}

impl Context<'_> {
    /// Sends as much as the kernel takes, which is nothing when it has no room. Counts the bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match send(self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.lane.account.sent(sent);
                Ok(sent)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Receives and has the kernel throw the bytes away; returns the same as [`Context::receive`].
    pub(super) fn discard(&mut self) -> Result<Option<usize>, Errno> {
        match recv(self.socket, &mut self.kit.input[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((_, received)) => Ok(Some(received)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Receives into the kit's input; `None` when there is nothing now, and 0 bytes when nothing will ever come.
    pub(super) fn receive(&mut self) -> Result<Option<usize>, Errno> {
        let flags = if std::mem::take(&mut self.patient) { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        match recv(self.socket, &mut self.kit.input[..], flags) {
            Ok((_, received)) => Ok(Some(received)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Flags of epoll for a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readiness {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The other end has ended its direction, or all of it: there is an end or an error to be received.
    pub(super) ended: bool,
}

/// The next step for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for epoll or the next tick.
    Stay,
    /// The same, and another operation may be begun on it.
    Free,
    /// There is more to do at once, when other connections have had their turn.
    More,
    /// It has served its purpose: it is closed.
    Over,
    /// It is of no more use, and its operations have failed.
    Broken(&'static str),
    /// An operation takes too long: it is given up, and with it the connection, on which its answer could still come.
    Late,
}

impl From<Errno> for Next {
    fn from(error: Errno) -> Next {
        Next::Broken(dial::name(error))
    }
}

/// Bytes on their way out, in a buffer that is kept: only its beginning is in use.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    used: usize,
}

impl Output {
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    /// Room for so many more bytes, with old content.
    pub(super) fn room(&mut self, bytes: usize) -> &mut [u8] {
        let start = self.used;
        self.used += bytes;
        if self.bytes.len() < self.used {
            self.bytes.resize(self.used, 0);
        }
        &mut self.bytes[start..self.used]
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}
