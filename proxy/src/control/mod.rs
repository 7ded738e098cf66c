//! The control thread: everything that is not data. It puts tables into force, watches the configuration, hears signals,
//! keeps host names resolved and answers the admin server.
//!
//! The loop is one task of a glommio executor. It never sleeps, writes to stderr or waits for another thread: what blocks (reading
//! and compiling, inotify, signals, name servers) runs in threads that send it `Event`s, what it prints goes through the log's
//! queue, and a message for a shard whose mailbox is full waits in a queue of its own.

mod accepting;
mod admin;
mod binding;
mod drain;
mod loader;
mod name_servers;
mod pages;
mod process;
mod reader;
mod resolve;
mod signals;
mod status;
mod watch;

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use async_channel::{Receiver, Sender};
use glommio::LocalExecutorBuilder;
use tracing::{error, info, warn};
use weir_routing::{Compiled, Problem, Resolved, Settings, Sources, Table};

use self::binding::Binder;
use self::loader::{Finished, Job, Prepared};
use self::pages::Pages;
use self::reader::Reader;
use self::resolve::Resolver;
use self::signals::Signal;
use self::status::Status;
use crate::cores;
use crate::descriptors::Standing;
use crate::fleet::Fleet;
use crate::front::load::{self, Loaded, Origin, Refused, Tests};
use crate::front::report::{self, Shown};
use crate::listener::lock::{Lock, Taken, lock};
use crate::listener::{BindError, free};
use crate::log::Log;
use crate::panics;
use crate::preflight::{self, Finding, Host, Wanted};

/// Events that wait for the control loop. It empties them as they come; the bound only holds back a thread gone wild.
const MAX_EVENTS: usize = 1024;

/// How long a message waits before it is offered again to a shard whose mailbox is full: one that takes in many sockets.
const MAILBOX_FULL: Duration = Duration::from_millis(1);

/// How long a shard may take to hear that it ends.
const STOP: Duration = Duration::from_secs(1);

/// What the control loop is told by its threads.
#[derive(Debug)]
enum Event {
    /// Files of the configuration may have changed.
    Changed,
    /// A signal.
    Signal(Signal),
    /// The address of some host name has changed.
    Resolved,
    /// The loader has finished a job.
    Loaded(Box<Finished>),
}

/// Why Weir does not run.
#[derive(Debug)]
pub enum Failure {
    /// The configuration has problems.
    Refused(Refused),
    /// The host does not allow it.
    Host(Vec<Finding>),
    /// Anything else, above all an address that is taken.
    Other(anyhow::Error),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// Runs Weir until a signal ends it. `tests` is for the start alone: a reload is refused by a failing `[[test]]` in any case.
pub fn run(origin: Origin, tests: Tests) -> Result<(), Failure> {
    signals::ignore_reload();
    let (unresolved, reading) = read(origin)?;
    let host = allowed_host(&unresolved)?;
    run_loaded(&host, reading, unresolved, tests)
}

/// The same on a host that [`look_at_host`] has found to allow it.
pub fn run_on(host: &Host, origin: Origin, tests: Tests) -> Result<(), Failure> {
    let (unresolved, reading) = read(origin)?;
    run_loaded(host, reading, unresolved, tests)
}

/// What reads the configuration, and how it and other threads tell the control loop.
struct FirstReading {
    origin: Origin,
    reader: Reader,
    sender: Sender<Event>,
    events: Receiver<Event>,
}

fn read(origin: Origin) -> Result<(Loaded, FirstReading), Failure> {
    let (sender, events) = async_channel::bounded(MAX_EVENTS);
    let reader = Reader::start(origin.clone(), sender.clone());
    let mut reader = reader.context("cannot start the thread that reads the configuration")?;
    let unresolved = load::compile(reader.read()?, &Resolved::new())?;
    Ok((unresolved, FirstReading { origin, reader, sender, events }))
}

fn run_loaded(host: &Host, reading: FirstReading, unresolved: Loaded, tests: Tests) -> Result<(), Failure> {
    let log = Log::start(unresolved.compiled.settings.log_level);
    let log = log.context("cannot start the thread that writes the log")?;
    panics::start(&log);
    let result = panics::caught(|| run_logged(host, reading, unresolved, tests, &log));
    log.flush();
    result.unwrap_or_else(|defect| Err(Failure::Other(anyhow!("{defect}"))))
}

fn run_logged(
    host: &Host,
    reading: FirstReading,
    unresolved: Loaded,
    tests: Tests,
    log: &Log,
) -> Result<(), Failure> {
    let FirstReading { origin, reader, sender, events } = reading;
    if let Some(hint) = preflight::hint(host) {
        info!("{hint}");
    }
    let sources = unresolved.sources.clone();
    signals::start(sender.clone()).context("cannot hear signals")?;
    let resolver =
        Resolver::start(sender.clone()).context("cannot start the thread that resolves host names")?;
    let fresh = loader::fresh(unresolved, Resolved::new(), &resolver, tests)?;
    log.print(report::text(&fresh.loaded.sources, &fresh.loaded.compiled.warnings, Shown::First));
    let started = fresh.loaded.compiled.settings.clone();
    let until = Instant::now() + free::PATIENCE;
    let admin = started.admin.map(|address| bind_admin(address, until)).transpose()?;
    wait_for_leftovers(&fresh.loaded.compiled.table, until)?;
    for name in origin.read_once() {
        info!("{} is not a file: it was read once, and a change of it is not noticed", name.display());
    }
    let paths: Vec<_> = origin.paths().map(Into::into).collect();
    if !paths.is_empty()
        && let Err(error) = watch::start(paths, sender.clone())
    {
        warn!("changed files are not noticed ({error}); send HUP to reload");
    }
    let pages = Pages::start().context("cannot start the thread that renders metrics")?;
    // Its tasks do no storage I/O, for which glommio would set 10 MiB aside.
    let executor = LocalExecutorBuilder::default().name("control").io_memory(0).make();
    let executor = executor.map_err(|error| anyhow!("cannot start the control thread: {error}"))?;
    let log = log.clone();
    executor.run(async move {
        let fleet = Fleet::start(&started, shard_cores(&started, host))?;
        let mut binder = Binder::new(fleet.shared());
        let first = fresh.prepare(&mut binder)?;
        let jobs = loader::start(reader, sources, resolver.clone(), binder, log.clone(), sender);
        let jobs = jobs.context("cannot start the thread that loads configurations")?;
        let status = Rc::new(Status::new(fleet, resolver.clone(), log.clone(), pages));
        let mut control = Control { started, in_force: None, status, resolver, log, jobs, events };
        control.put_into_force(first);
        let _lock = match admin {
            None => None,
            Some((listener, lock)) => {
                let started = admin::start(listener, control.status.clone());
                started.context("cannot start the thread of the admin server")?;
                Some(lock)
            }
        };
        // What changed between the first reading and the watch has no event.
        control.file_changed();
        control.serve().await;
        Ok(())
    })
}

/// Whether this host allows what a configuration wants, asked before anything is done for it.
pub fn look_at_host(origin: &Origin) -> Result<Host, Failure> {
    allowed_host(&load::compile(origin.read()?, &Resolved::new())?)
}

/// The host, if it allows what the configuration wants of it.
fn allowed_host(loaded: &Loaded) -> Result<Host, Failure> {
    let host = Host::read();
    let standing = standing(&loaded.compiled, shards_planned(&loaded.compiled.settings, &host.cores).len());
    let findings = preflight::findings(&host, &wanted(loaded, standing));
    if findings.is_empty() { Ok(host) } else { Err(Failure::Host(findings)) }
}

/// What a configuration wants of the host.
fn wanted(loaded: &Loaded, standing: Standing) -> Wanted {
    let settings = &loaded.compiled.settings;
    let gateways = loaded.compiled.table.parts().gateways.iter().flat_map(|gateway| {
        let who = format!("gateway {}", gateway.name);
        gateway.listen.iter().map(move |listen| (who.clone(), *listen.ports.start()))
    });
    let admin = settings.admin.map(|address| ("admin".to_owned(), address.port()));
    // Port 0 is a free one, and those are never privileged.
    let ports = gateways.chain(admin).filter(|&(_, port)| port != 0).collect();
    Wanted { ports, cores: settings.cores.clone(), standing }
}

fn standing(compiled: &Compiled, shards: usize) -> Standing {
    let listen = compiled.table.parts().gateways.iter().flat_map(|gateway| &gateway.listen);
    let listeners = listen.map(|listen| listen.ports.clone().count()).sum();
    Standing { listeners, shards }
}

/// What `check` warns of on a host whose descriptors are too few for `run`.
pub fn descriptors_warning(compiled: &Compiled) -> Option<Problem> {
    let shards = shards_planned(&compiled.settings, &cores::usable()).len();
    let finding = preflight::few_descriptors(preflight::descriptor_limit(), standing(compiled, shards))?;
    let problem =
        Problem::warning("few-descriptors", None, "`weir run` has too few descriptors on this host");
    Some(problem.found(finding.found).wanted(finding.wanted).help(finding.command))
}

fn shards_planned(settings: &Settings, usable: &[usize]) -> Vec<usize> {
    cores::plan(&settings.cores, settings.shards, usable, cores::quota())
}

fn shard_cores(settings: &Settings, host: &Host) -> Vec<usize> {
    let cores = shards_planned(settings, &host.cores);
    let mut distinct = cores.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < cores.len() {
        warn!("{} shards share {} cores; one a core is fastest", cores.len(), distinct.len());
    }
    cores
}

/// The admin listener, and the lock that tells a second Weir whose the address is.
fn bind_admin(address: SocketAddr, until: Instant) -> anyhow::Result<(TcpListener, Lock)> {
    let lock = lock(address).map_err(|Taken { error, holder }| match holder {
        Some(pid) => anyhow!(
            "the admin address {address} is held by another weir, pid {pid}; stop it, or write another `admin` in [proxy]"
        ),
        None => anyhow!("cannot lock the admin address {address}: {error}"),
    })?;
    let listener = free::bind_alone(address, until).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow!(
            "the admin address {address} is taken: {error}; `ss -ltnp 'sport = :{}'` shows by whom. End that process, or \
             write another `admin` in [proxy]",
            address.port()
        ),
        _ => anyhow!("cannot bind the admin address {address}: {error}; write another `admin` in [proxy], or \"off\""),
    })?;
    Ok((listener, lock))
}

/// Waits for what a Weir that has just ended left on the gateways' addresses.
fn wait_for_leftovers(table: &Table, until: Instant) -> anyhow::Result<()> {
    for gateway in &table.parts().gateways {
        for listen in &gateway.listen {
            for port in listen.ports.clone() {
                let address = SocketAddr::new(listen.address, port);
                free::wait_for_leftovers(address, until).map_err(|error| {
                    anyhow!(BindError { address, gateway: gateway.name.clone(), error, holder: None })
                })?;
            }
        }
    }
    Ok(())
}

/// What routes now.
#[derive(Debug)]
struct InForce {
    generation: u64,
    sources: Arc<Sources>,
    settings: Settings,
    host_names: Vec<Arc<str>>,
    resolved: Resolved,
}

/// The control loop and what it holds.
struct Control {
    /// The settings of the start: some hold until a restart.
    started: Settings,
    in_force: Option<InForce>,
    status: Rc<Status>,
    resolver: Resolver,
    log: Log,
    jobs: mpsc::Sender<Job>,
    events: Receiver<Event>,
}

impl Control {
    /// Serves until a signal says to end, then drains.
    async fn serve(&mut self) {
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
            Event::Signal(Signal::HandOver) => warn!("USR2: handing over is not in this version of Weir"),
            // These end `serve`.
            Event::Signal(Signal::Terminate | Signal::Quit) => {}
            Event::Resolved => self.take_addresses(),
            Event::Loaded(finished) => self.take(*finished),
        }
    }

    /// The next event; none if there is none until then. Meanwhile messages for shards are delivered.
    async fn next(&self, until: Option<Instant>) -> Option<Event> {
        while !self.status.deliver() {
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

    /// Ends the shards. One that takes no message ends with the process.
    async fn stop(&self) {
        self.status.stop();
        let until = Instant::now() + STOP;
        while !self.status.deliver() && Instant::now() < until {
            self.next(Some(Instant::now() + MAILBOX_FULL)).await;
        }
        self.status.join();
    }

    fn settings(&self) -> &Settings {
        self.in_force.as_ref().map_or(&self.started, |in_force| &in_force.settings)
    }

    fn file_changed(&self) {
        if self.settings().watch {
            self.order(Job::Changed);
        }
    }

    fn order(&self, job: Job) {
        if self.jobs.send(job).is_err() {
            error!("the thread that loads configurations is gone; restart Weir to take a new one");
        }
    }

    /// A new table, if what name servers say differs from what is in force.
    fn take_addresses(&self) {
        let Some(in_force) = &self.in_force else { return };
        if self.resolver.addresses(&in_force.host_names, Duration::ZERO) != in_force.resolved {
            self.order(Job::Resolved(in_force.sources.clone()));
        }
    }

    /// Takes what the loader made, or keeps what there is and says why.
    fn take(&mut self, Finished { addresses_only, result }: Finished) {
        match result {
            Ok(prepared) => {
                self.put_into_force(prepared);
                if !addresses_only {
                    self.status.reload_succeeded();
                }
                // What changed while it was made ready has had its event, which asked for another table's names.
                self.take_addresses();
            }
            Err(why) => self.refuse(&why),
        }
    }

    fn refuse(&self, why: &str) {
        self.status.reload_failed();
        let generation = self.in_force.as_ref().map_or(0, |in_force| in_force.generation);
        error!(generation, "the new configuration is refused: {why}; what was in force stays");
    }

    /// Hands a table to every shard, and tells. All that takes long has been done.
    fn put_into_force(&mut self, Prepared { ready, sources, settings, host_names, resolved }: Prepared) {
        let generation = ready.generation;
        let mut lines = String::new();
        for bound in self.status.hand_out(ready) {
            let _ = writeln!(lines, "listening gateway={} address={}", bound.gateway, bound.address);
        }
        self.log.print(lines);
        self.resolver.keep(&host_names, settings.resolve_interval);
        self.log.set_level(settings.log_level);
        let unchangeable = unchangeable(&self.started, &settings);
        if !unchangeable.is_empty() {
            warn!("a restart is needed for a change of {} to take effect", unchangeable.join(", "));
        }
        self.status.set_restart_needed(!unchangeable.is_empty());
        info!(generation, "configuration in force");
        self.in_force = Some(InForce { generation, sources, settings, host_names, resolved });
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
