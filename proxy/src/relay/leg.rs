//! One socket of a session, as far as the relay knows it: which calls are worth trying, and whether it is dead.

use std::io;

use super::kernel::{Kernel, Side};
use crate::reason::Reason;

/// Why a leg is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A completion had POLLERR; SO_ERROR has not been read.
    Unread,
    /// The peer's reset.
    Reset,
    /// The peer stopped acknowledging, or cannot be reached any more.
    TimedOut,
    /// The peer has left bytes unacknowledged for too long. The kernel has not closed the leg.
    Silent,
    /// An error that a relayed socket never has: a defect of ours, or a host out of memory. The kernel has not closed the leg.
    Odd,
}

impl Fault {
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED | libc::ENOTCONN) => Self::Reset,
            Some(
                libc::ETIMEDOUT
                | libc::EHOSTUNREACH
                | libc::EHOSTDOWN
                | libc::ENETUNREACH
                | libc::ENETDOWN
                | libc::ECONNREFUSED,
            ) => Self::TimedOut,
            _ => Self::Odd,
        }
    }
}

/// One leg. The flags show which calls are worth trying: a completion sets both, and only `WouldBlock` of that very call clears one.
#[derive(Debug)]
pub(super) struct Leg {
    /// A read may give something.
    pub(super) readable: bool,
    /// A write may take something.
    pub(super) writable: bool,
    /// Its FIN may be there, behind the bytes that can be read. The kernel wakes a poll for a FIN without a mask, so the completion's
    /// mask is the state, with POLLRDHUP: until one has it, an event announces whatever comes after a read that emptied the socket.
    pub(super) hung_up: bool,
    /// The first error of the leg. It is kept because the kernel reports it once, to whichever call comes first, and because `recv`
    /// shows no reset that follows a FIN.
    pub(super) fault: Option<Fault>,
}

impl Leg {
    pub(super) fn new() -> Self {
        Self { readable: true, writable: true, hung_up: false, fault: None }
    }

    /// Everything is worth trying again.
    pub(super) fn wake(&mut self) {
        self.readable = true;
        self.writable = true;
    }

    /// A completion had POLLERR.
    pub(super) fn note_error(&mut self) {
        self.fault.get_or_insert(Fault::Unread);
    }

    /// A call failed. Bytes that were received before the error are still there to be read.
    pub(super) fn fail(&mut self, error: &io::Error) {
        if matches!(self.fault, None | Some(Fault::Unread)) {
            self.fault = Some(Fault::of(error));
        }
        self.readable = true;
    }

    /// The peer has fallen silent.
    pub(super) fn give_up(&mut self) {
        self.fault.get_or_insert(Fault::Silent);
        self.readable = true;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.fault.is_some()
    }

    /// The reason that the death of this leg is recorded with. Reads SO_ERROR if no call has reported the error; EPIPE and an error
    /// that is gone count as resets.
    pub(super) fn reason(&mut self, side: Side, kernel: &mut impl Kernel) -> Reason {
        if self.fault == Some(Fault::Unread) {
            self.fault = Some(kernel.take_error(side).as_ref().map_or(Fault::Reset, Fault::of));
        }
        match (self.fault, side) {
            (Some(Fault::TimedOut | Fault::Silent), Side::Client) => Reason::ClientTimeout,
            (Some(Fault::TimedOut | Fault::Silent), Side::Upstream) => Reason::UpstreamTimeout,
            (Some(Fault::Odd) | None, _) => Reason::Internal,
            (_, Side::Client) => Reason::ClientReset,
            (_, Side::Upstream) => Reason::UpstreamReset,
        }
    }
}
