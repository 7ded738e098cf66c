//! The end of a process: no longer ready, then no longer accepting, then waiting for sessions, then resetting what is left.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::loader::Finished;
use super::signals::Signal;
use super::{Control, Event};

/// How often the number of sessions is looked at. It bounds how late the process leaves.
const LOOK: Duration = Duration::from_millis(10);

/// How long after the last reset was due a session may take to be gone, before the process leaves all the same.
const GRACE: Duration = Duration::from_secs(1);

/// What is left is reset in this last part of the deadline, spread over it: all clients coming back at once hurt others.
const RESETTING_PART: u32 = 5;

/// How a drain goes on after a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// As before.
    On,
    /// All that is left is reset at once.
    Now,
}

/// A drain under way.
#[derive(Debug)]
struct Drain {
    /// Since when `drain_timeout` counts; none: QUIT, without a deadline.
    since: Option<Instant>,
    terminated: bool,
    /// Listeners have been told to close.
    closing: bool,
    resetting: bool,
}

impl Control {
    /// Drains, and returns when nothing is left.
    pub(super) async fn drain(&mut self, signal: Signal) {
        let (delay, timeout) = (self.settings().drain_delay, self.settings().drain_timeout);
        self.status.set_draining();
        let terminated = signal == Signal::Terminate;
        let mut drain = Drain { since: None, terminated, closing: false, resetting: false };
        let deadline = match timeout.filter(|_| drain.terminated) {
            Some(timeout) => format!("what is left {timeout:?} after the listeners have closed is reset"),
            None => "without a deadline".to_owned(),
        };
        info!(sessions = self.status.active(), "draining, {deadline}");
        let accept_until = Instant::now() + delay;
        while Instant::now() < accept_until {
            if self.step(&mut drain, accept_until).await == Next::Now {
                return self.reset_now().await;
            }
        }
        self.status.stop_accepting();
        drain.closing = true;
        // A listener closes a little after it is told to: what it still takes is a session only then.
        while self.status.is_accepting() || self.status.active() > 0 {
            if drain.terminated
                && let Some(timeout) = timeout
            {
                let since = *drain.since.get_or_insert_with(Instant::now);
                let reset_within = timeout / RESETTING_PART;
                if !drain.resetting && since.elapsed() >= timeout - reset_within {
                    info!(sessions = self.status.active(), "the deadline is near; what is left is reset");
                    self.status.reset_all(reset_within);
                    drain.resetting = true;
                }
                if since.elapsed() >= timeout {
                    // What a closing listener or a mailbox let in after that is a session, too.
                    self.status.reset_all(Duration::ZERO);
                }
                if since.elapsed() >= timeout + GRACE {
                    warn!(sessions = self.status.active(), "sessions outlived the deadline");
                    return;
                }
            }
            if self.step(&mut drain, Instant::now() + LOOK).await == Next::Now {
                return self.reset_now().await;
            }
        }
        info!("drained");
    }

    /// Waits for an event, until then, and takes it as a draining process does.
    async fn step(&mut self, drain: &mut Drain, until: Instant) -> Next {
        match self.next(Some(until)).await {
            Some(Event::Signal(Signal::Terminate)) if drain.terminated => return Next::Now,
            Some(Event::Signal(Signal::Terminate)) => {
                info!("from now on the drain has a deadline");
                drain.terminated = true;
            }
            Some(Event::Signal(Signal::Quit)) => info!("QUIT: draining already"),
            Some(Event::Signal(Signal::Reload)) => warn!("HUP is refused: draining"),
            Some(Event::Signal(Signal::HandOver)) => warn!("USR2 is refused: draining"),
            Some(Event::Loaded(finished)) => self.take_late(*finished, drain.closing),
            Some(Event::Changed | Event::Resolved) | None => {}
        }
        Next::On
    }

    /// A table that was ready only when the drain had begun. The kernel may have completed handshakes for its new listeners, so
    /// they are opened, and closed as the others are.
    fn take_late(&mut self, finished: Finished, closing: bool) {
        if let Ok(prepared) = finished.result {
            self.put_into_force(prepared);
            if closing {
                self.status.stop_accepting();
            }
        }
    }

    async fn reset_now(&self) {
        info!(sessions = self.status.active(), "a second signal: what is left is reset now");
        self.status.stop_accepting();
        let start = Instant::now();
        while start.elapsed() < GRACE && (self.status.is_accepting() || self.status.active() > 0) {
            // Again each time: what a closing listener still takes is a session, too.
            self.status.reset_all(Duration::ZERO);
            self.next(Some(Instant::now() + LOOK)).await;
        }
    }
}
