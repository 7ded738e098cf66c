//! Calls that need `unsafe` and concern no ring: safe functions over borrowed or owned descriptors.
#![allow(unsafe_code)]

use std::net::TcpListener;
use std::os::fd::{FromRawFd, IntoRawFd};

/// Gives a listening socket to the glommio executor of this thread. glommio's own `bind` would set SO_REUSEPORT, and a second
/// process would share the port in silence.
pub fn adopt_listener(listener: TcpListener) -> glommio::net::TcpListener {
    // SAFETY: the descriptor is open and listening, and `into_raw_fd` has just given up its only owner.
    unsafe { glommio::net::TcpListener::from_raw_fd(listener.into_raw_fd()) }
}

/// Ignores a signal, as opposed to handling it and doing nothing: a write to a terminal of a background process would be
/// restarted for ever by a handled SIGTTOU.
pub fn ignore_signal(signal: libc::c_int) {
    // SAFETY: SIG_IGN runs no code of ours, and `signal` touches no memory.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}
