//! Signals as events of the control loop. What they lead to is decided there.

use std::io;
use std::thread;

use async_channel::Sender;
use signal_hook::consts::{
    SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::Signals;

use super::Event;
use crate::sys::ignore_signal;

/// A signal that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// HUP.
    Reload,
    /// TERM or INT.
    Terminate,
    /// QUIT.
    Quit,
    /// USR2.
    HandOver,
}

/// USR1 has nothing to reopen: the process log is stderr. The others come with terminals and broken pipes.
const IGNORED: [i32; 5] = [SIGPIPE, SIGWINCH, SIGTTIN, SIGTTOU, SIGUSR1];

/// From now on signals are events.
pub(super) fn start(events: Sender<Event>) -> io::Result<()> {
    IGNORED.into_iter().for_each(ignore_signal);
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR2])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if events.send_blocking(Event::Signal(meaning(signal))).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn meaning(signal: i32) -> Signal {
    match signal {
        SIGHUP => Signal::Reload,
        SIGQUIT => Signal::Quit,
        SIGUSR2 => Signal::HandOver,
        _ => Signal::Terminate,
    }
}
