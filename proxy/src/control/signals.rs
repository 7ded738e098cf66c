//! Signals as events of the control loop. The loop decides on their effects.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use async_channel::Sender;
use signal_hook::consts::{
    SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::Signals;

use super::event::{Event, Signal};
use crate::os::sys::ignore_signal;

/// Signals to end that come this close are one: `timeout` sends TERM to the process and, 1 ms later, to its group.
const ONE_ORDER: Duration = Duration::from_millis(50);

/// HUP ends a process that does not handle it. While the configuration is read for the first time it asks for no more than that.
pub(super) fn ignore_reload() {
    ignore_signal(SIGHUP);
}

/// USR1 has nothing to reopen: the process log is stderr. The others come with terminals and broken pipes.
const IGNORED: [i32; 5] = [SIGPIPE, SIGWINCH, SIGTTIN, SIGTTOU, SIGUSR1];

/// From now on signals are events.
pub(super) fn start(events: Sender<Event>) -> io::Result<()> {
    IGNORED.into_iter().for_each(ignore_signal);
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR2])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        let mut ends = Ends::default();
        for signal in signals.forever() {
            if meaning(signal) == Signal::Terminate && ends.is_repeated(Instant::now()) {
                continue;
            }
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

/// The orders to end so far.
#[derive(Debug, Default)]
struct Ends {
    last: Option<Instant>,
}

impl Ends {
    /// Notes an order; whether it is one with the last.
    fn is_repeated(&mut self, now: Instant) -> bool {
        let is_repeated = self.last.is_some_and(|last| now.saturating_duration_since(last) < ONE_ORDER);
        if !is_repeated {
            self.last = Some(now);
        }
        is_repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_to_end_within_50_ms_of_the_first_are_one() {
        #[track_caller]
        fn check(at: &[u64], taken: &[u64]) {
            let (start, mut ends) = (Instant::now(), Ends::default());
            let is_taken = |at: &&u64| !ends.is_repeated(start + Duration::from_millis(**at));
            assert!(at.iter().filter(is_taken).eq(taken), "{at:?}");
        }
        check(&[0], &[0]);
        check(&[0, 1], &[0]);
        check(&[0, 49], &[0]);
        check(&[0, 50], &[0, 50]);
        check(&[0, 30, 60, 90, 109, 110], &[0, 60, 110]);
        check(&[0, 1000, 1001], &[0, 1000]);
    }
}
