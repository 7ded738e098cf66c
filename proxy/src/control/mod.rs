//! The control thread: everything that is not data. Its loop puts tables into force, acts on signals and drains.
//!
//! The loop is one task of a glommio executor. It never sleeps, writes to stderr or waits for another thread: blocking work (reading
//! and compiling, inotify, signals, name servers) runs in threads that send it [`Event`]s, its output goes through the log's
//! queue, and a message for a shard whose mailbox is full waits in a queue of its own. `start` makes all of it; `status` and `admin`
//! only read.

mod accepting;
mod admin;
mod binding;
mod drain;
mod event;
pub(crate) mod host;
mod loader;
mod name_servers;
mod pages;
mod process;
mod reader;
mod resolve;
mod signals;
pub(crate) mod start;
mod status;
mod watch;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use async_channel::Receiver;
use tracing::{error, info, warn};
use weir_routing::{Resolved, Settings, Sources};

use self::binding::ReadyTable;
use self::drain::{Drain, Remaining, Step};
use self::event::{Event, Finished, Prepared, Signal};
use self::loader::Job;
use self::resolve::Resolver;
use self::status::Facts;
use crate::fleet::Fleet;
use crate::log::Log;
use crate::panics;

/// How long a message waits before it is offered again to a shard whose mailbox is full: one that takes in many sockets.
const MAILBOX_FULL: Duration = Duration::from_millis(1);

/// How long a shard may take to receive the order to end.
const STOP: Duration = Duration::from_secs(1);

/// The configuration that routes now.
#[derive(Debug)]
struct Current {
    generation: u64,
    sources: Arc<Sources>,
    settings: Settings,
    host_names: Vec<Arc<str>>,
    resolved: Resolved,
}

/// The control loop and all that it owns.
struct Control {
    /// The settings of the start: some hold until a restart.
    started: Settings,
    current: Option<Current>,
    fleet: Fleet,
    /// Written here, read by the admin server.
    facts: Rc<RefCell<Facts>>,
    resolver: Resolver,
    log: Log,
    jobs: mpsc::Sender<Job>,
    events: Receiver<Event>,
}

impl Control {
    /// Serves until a signal orders the end, then drains and stops the shards.
    async fn serve(mut self) {
        loop {
            match self.next(None).await {
                Some(Event::Signal(signal @ (Signal::Terminate | Signal::Quit))) => {
                    break self.drain(signal).await;
                }
                Some(event) => {
                    if let Err(defect) = panics::caught(|| self.serve_event(event)) {
                        self.refuse(&defect.to_string());
                    }
                }
                None => {}
            }
        }
        self.stop().await;
    }

    fn serve_event(&mut self, event: Event) {
        match event {
            Event::Changed => self.file_changed(),
            Event::Signal(Signal::Reload) => self.order(Job::Reload),
            Event::Signal(Signal::HandOver) => warn!("USR2: hand-over is not in this version of Weir"),
            // These end `serve`.
            Event::Signal(Signal::Terminate | Signal::Quit) => {}
            Event::Resolved => self.take_addresses(),
            Event::Loaded(finished) => self.take(*finished),
        }
    }

    /// The next event; none if there is none until then. Meanwhile messages for shards are delivered.
    async fn next(&self, until: Option<Instant>) -> Option<Event> {
        while !self.fleet.deliver() {
            let soon = Instant::now() + MAILBOX_FULL;
            let event = self.event(until.map_or(soon, |until| until.min(soon))).await;
            if event.is_some() || until.is_some_and(|until| until <= soon) {
                return event;
            }
        }
        match until {
            // The sender that each thread holds lives as long as its thread, so that a closed channel means that all are gone.
            None => self.events.recv().await.ok(),
            Some(until) => self.event(until).await,
        }
    }

    async fn event(&self, until: Instant) -> Option<Event> {
        let left = until.saturating_duration_since(Instant::now());
        let event = glommio::timer::timeout(left, async { Ok(self.events.recv().await.ok()) });
        event.await.unwrap_or(None)
    }

    /// Carries a drain out, and returns when it is over.
    async fn drain(&mut self, signal: Signal) {
        let Settings { drain_delay, drain_timeout, .. } = *self.settings();
        let mut drain = Drain::new(signal, drain_delay, drain_timeout, Instant::now());
        self.facts.borrow_mut().is_draining = true;
        let deadline = match drain.deadline() {
            Some(timeout) => format!("those left {timeout:?} after the listeners have closed are reset"),
            None => "without a deadline".to_owned(),
        };
        info!(sessions = self.fleet.active(), "draining, {deadline}");
        while let Some(step) = drain.step(self.remaining(), Instant::now()) {
            let Step { stop_accepting, reset_within, until } = step;
            if stop_accepting {
                self.fleet.stop_accepting();
            }
            if let Some(spread) = reset_within {
                self.fleet.reset_all(spread);
            }
            match self.next(Some(until)).await {
                Some(Event::Signal(signal)) => drain.on_signal(signal, self.remaining()),
                Some(Event::Loaded(finished)) => self.take_late(*finished, &drain),
                Some(Event::Changed | Event::Resolved) | None => {}
            }
        }
    }

    fn remaining(&self) -> Remaining {
        Remaining { is_accepting: self.fleet.is_accepting(), sessions: self.fleet.active() }
    }

    /// A table that was ready only when the drain had begun. The kernel may have completed handshakes for its new listeners, so
    /// they are opened, and closed as the others are.
    fn take_late(&mut self, finished: Finished, drain: &Drain) {
        if let Ok(prepared) = finished.result {
            self.put_into_force(prepared);
            if !drain.is_accepting() {
                self.fleet.stop_accepting();
            }
        }
    }

    /// Ends the shards. One that takes no message ends with the process.
    async fn stop(self) {
        self.fleet.stop();
        let until = Instant::now() + STOP;
        while !self.fleet.deliver() && Instant::now() < until {
            self.next(Some(Instant::now() + MAILBOX_FULL)).await;
        }
        self.fleet.join();
    }

    fn settings(&self) -> &Settings {
        self.current.as_ref().map_or(&self.started, |current| &current.settings)
    }

    fn file_changed(&self) {
        if self.settings().watch {
            self.order(Job::Changed);
        }
    }

    fn order(&self, job: Job) {
        if self.jobs.send(job).is_err() {
            error!("the thread that loads configurations has ended; restart Weir to take a new one");
        }
    }

    /// Orders a new table, if the addresses of host names differ from those in force.
    fn take_addresses(&self) {
        let Some(current) = &self.current else { return };
        if self.resolver.addresses(&current.host_names, Duration::ZERO) != current.resolved {
            self.order(Job::Resolved(current.sources.clone()));
        }
    }

    /// Puts the loader's table into force, or keeps the current one and logs the reason.
    fn take(&mut self, Finished { addresses_only, result }: Finished) {
        match result {
            Ok(prepared) => {
                self.put_into_force(prepared);
                if !addresses_only {
                    self.facts.borrow_mut().reload_succeeded();
                }
                // An address that changed while the table was made ready had its event under the names of the last one.
                self.take_addresses();
            }
            Err(why) => self.refuse(&why),
        }
    }

    fn refuse(&self, why: &str) {
        self.facts.borrow_mut().reload_failed();
        let generation = self.current.as_ref().map_or(0, |current| current.generation);
        error!(generation, "the new configuration is refused: {why}; what was in force stays");
    }

    /// Hands a table to every shard, and logs it. All that takes long has been done.
    fn put_into_force(&mut self, Prepared { ready, sources, settings, host_names, resolved }: Prepared) {
        let ReadyTable { generation, copies, listeners, opened, sockets } = ready;
        let in_force = copies.first().map(|copy| Arc::clone(&copy.in_force));
        self.fleet.hand_out(generation, copies, sockets);
        let mut lines = String::new();
        for bound in opened {
            let _ = writeln!(lines, "listening gateway={} address={}", bound.gateway, bound.address);
        }
        self.log.print(lines);
        self.resolver.keep(&host_names, settings.resolve_interval);
        self.log.set_level(settings.log_level);
        let unchangeable = unchangeable(&self.started, &settings);
        if !unchangeable.is_empty() {
            warn!("a restart is needed for a change of {} to take effect", unchangeable.join(", "));
        }
        let mut facts = self.facts.borrow_mut();
        facts.is_restart_needed = !unchangeable.is_empty();
        facts.listeners = listeners;
        if let Some(old) = std::mem::replace(&mut facts.in_force, in_force) {
            self.fleet.retire(old);
        }
        info!(generation, "configuration in force");
        self.current = Some(Current { generation, sources, settings, host_names, resolved });
    }
}

/// Which keys differ that only a restart can change.
fn unchangeable(started: &Settings, now: &Settings) -> Vec<&'static str> {
    let keys = [
        ("cores", started.cores == now.cores),
        ("shards", started.shards == now.shards),
        ("relay", started.relay == now.relay),
        ("admin", started.admin == now.admin),
    ];
    keys.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
}
