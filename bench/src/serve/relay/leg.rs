//! One socket of a relayed connection: receives until it is drained, and holds the bytes that its kernel has not taken yet.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

use crate::serve::settings::Served;

/// Receives of one direction before the other connections have their turn.
const TURN: usize = 16;
/// Events of every leg. Room for sending is added when a leg first lacks it, so that a connection which never does is not woken by it.
const EVENTS: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);

/// One end of a session.
#[derive(Debug)]
pub(super) struct Leg {
    socket: OwnedFd,
    token: u64,
    /// A receive may give bytes, an end or an error.
    readable: bool,
    /// A FIN or a reset is there to be received, and epoll will not report it again: from now on a short read does not drain.
    hung_up: bool,
    /// Its FIN was received.
    ended: bool,
    /// It was reset, or failed.
    broken: bool,
    /// Epoll has reported an error, which a receive will show behind the bytes that are still there.
    failed: bool,
    /// Epoll reports room for sending.
    reports_room: bool,
    /// Bytes on their way to it, of which `sent` have gone. Nothing is received for it while there are any.
    held: Vec<u8>,
    sent: usize,
}

/// How far a direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on with the next event of either leg.
    Waits,
    /// It has had its turn, and there may be more.
    More,
}

impl Leg {
    /// Registers the socket. One that is still connecting reports room when it is connected, or when that failed.
    pub(super) fn new(
        epoll: &OwnedFd,
        socket: OwnedFd,
        token: u64,
        connecting: bool,
    ) -> rustix::io::Result<Leg> {
        let events = if connecting { EVENTS | EventFlags::OUT } else { EVENTS };
        epoll::add(epoll, &socket, EventData::new_u64(token), events)?;
        Ok(Leg {
            socket,
            token,
            readable: false,
            hung_up: false,
            ended: false,
            broken: false,
            failed: false,
            reports_room: connecting,
            held: Vec::new(),
            sent: 0,
        })
    }

    /// Takes note of an event.
    pub(super) fn note(&mut self, flags: EventFlags) {
        self.hung_up |= flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        self.readable |= !self.ended && (self.hung_up || flags.contains(EventFlags::IN));
        // After a FIN, a receive gives only that again: a reset behind it shows in the event alone.
        self.failed |= flags.contains(EventFlags::ERR);
        self.broken |= self.ended && self.failed;
    }

    /// Breaks it if it was reset, or failed, behind bytes that `to` does not take: no receive would show it before `to` does.
    pub(super) fn fail_behind(&mut self, to: &Leg) {
        self.broken |= self.failed && !to.held.is_empty();
    }

    /// Whether it was reset, or failed.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether its FIN was received and, as receiving stops while bytes are held, whether all before it has been sent on.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Makes the close that follows a reset.
    pub(super) fn make_reset(&self) {
        // It fails on no open socket.
        let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
    }

    /// Sends the held bytes; returns whether none are left.
    fn flush(&mut self, served: &mut Served) -> io::Result<bool> {
        if self.held.is_empty() {
            return Ok(true);
        }
        self.sent += offer(&self.socket, &self.held[self.sent..], served)?;
        let done = self.sent == self.held.len();
        if done {
            (self.held, self.sent) = (Vec::new(), 0);
        }
        Ok(done)
    }

    /// Sends bytes, holds those that the kernel does not take, and returns whether it took all.
    fn send(&mut self, epoll: &OwnedFd, bytes: &[u8], served: &mut Served) -> io::Result<bool> {
        let taken = offer(&self.socket, bytes, served)?;
        if taken == bytes.len() {
            return Ok(true);
        }
        self.held.extend_from_slice(&bytes[taken..]);
        if !self.reports_room {
            epoll::modify(epoll, &self.socket, EventData::new_u64(self.token), EVENTS | EventFlags::OUT)?;
            self.reports_room = true;
        }
        Ok(false)
    }
}

/// Passes on all that `from` has for `to`, its FIN included, as far as `to` takes it.
///
/// # Errors
///
/// When one of them has been reset or has failed; that one is broken from then on.
pub(super) fn pass(
    [from, to]: [&mut Leg; 2],
    epoll: &OwnedFd,
    buffer: &mut [u8],
    served: &mut Served,
) -> io::Result<Progress> {
    let broken = |to: &mut Leg, error| {
        to.broken = true;
        error
    };
    if !to.flush(served).map_err(|error| broken(to, error))? {
        return Ok(Progress::Waits);
    }
    for _ in 0..TURN {
        if !from.readable {
            return Ok(Progress::Waits);
        }
        match recv(&from.socket, &mut *buffer, RecvFlags::empty()) {
            Ok((_, 0)) => {
                (from.ended, from.readable) = (true, false);
                // It fails when that leg was reset, which its own event shows.
                let _ = shutdown(&to.socket, Shutdown::Write);
            }
            Ok((_, bytes)) => {
                // A short read is an empty queue, and epoll reports the bytes that come later.
                from.readable = from.hung_up || bytes == buffer.len();
                served.bytes_in += bytes as u64;
                if !to.send(epoll, &buffer[..bytes], served).map_err(|error| broken(to, error))? {
                    return Ok(Progress::Waits);
                }
            }
            Err(Errno::AGAIN) => from.readable = false,
            Err(Errno::INTR) => {}
            Err(error) => return Err(broken(from, error.into())),
        }
    }
    Ok(if from.readable { Progress::More } else { Progress::Waits })
}

/// Sends as much as the kernel takes now; returns how many bytes that were.
fn offer(socket: &OwnedFd, bytes: &[u8], served: &mut Served) -> io::Result<usize> {
    match send(socket, bytes, SendFlags::NOSIGNAL) {
        Ok(taken) => {
            served.bytes_out += taken as u64;
            Ok(taken)
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
