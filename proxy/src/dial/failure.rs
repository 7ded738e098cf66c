//! How an attempt to connect fails, and what that says of the next one.

use crate::reason::Reason;

/// A failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The reason the session ends with if no later attempt succeeds.
    pub(crate) reason: Reason,
    /// Whether a later attempt may succeed.
    pub(crate) outlook: Outlook,
}

/// Whether further attempts at the endpoints that failed may succeed, and on what that depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outlook {
    /// This host has no address from which any of them could be dialled.
    Hopeless,
    /// This host did not let the connect out: it has no source port left, or no route. That may be over soon.
    HostMayRecover,
    /// It depends on the endpoint.
    EndpointMayAnswer,
}

impl Failure {
    /// The endpoint turned out to be the socket itself, or a listener of this process.
    pub(crate) const LOOP: Self = Self { reason: Reason::Loop, outlook: Outlook::HostMayRecover };

    /// The failure that an error of a connect stands for. `None`: descriptors ran out, which is not about the endpoint.
    pub(crate) fn of(errno: i32, has_source_address: impl FnOnce() -> bool) -> Option<Self> {
        let (reason, outlook) = match errno {
            libc::EMFILE | libc::ENFILE => return None,
            libc::ECONNREFUSED => (Reason::ConnectRefused, Outlook::EndpointMayAnswer),
            libc::ETIMEDOUT => (Reason::ConnectTimeout, Outlook::EndpointMayAnswer),
            // The kernel has one error for "no source port" and for "no address of that family".
            libc::EADDRNOTAVAIL if has_source_address() => (Reason::NoSourcePort, Outlook::HostMayRecover),
            libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT => (Reason::ConnectError, Outlook::Hopeless),
            _ => (Reason::ConnectError, Outlook::HostMayRecover),
        };
        Some(Self { reason, outlook })
    }
}
