//! The start of Weir: reads the configuration, asks whether the host allows it, starts the threads and the shards, puts the first table
//! into force, and runs the control loop until it ends.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use async_channel::{Receiver, Sender};
use glommio::LocalExecutorBuilder;
use tracing::{info, warn};
use weir_routing::{Resolved, Settings, Sources, Table};

use super::binding::Binder;
use super::event::Event;
use super::loader::{self, Fresh};
use super::pages::Pages;
use super::reader::Reader;
use super::resolve::Resolver;
use super::status::{Facts, Status};
use super::{Control, admin, host, signals, watch};
use crate::fleet::Fleet;
use crate::front::load::{self, Loaded, Origin, Refused, Tests};
use crate::front::report::{self, Shown};
use crate::listener::lock::{Lock, Taken, lock};
use crate::listener::{BindError, free};
use crate::log::Log;
use crate::panics;
use crate::preflight::{self, Finding, Host};

/// Events that wait for the control loop. It empties them as they come; the bound only holds back a defective thread.
const MAX_EVENTS: usize = 1024;

/// Why Weir does not run.
#[derive(Debug)]
pub(crate) enum Failure {
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

impl From<Vec<Finding>> for Failure {
    fn from(findings: Vec<Finding>) -> Self {
        Self::Host(findings)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// Runs Weir until a signal ends it. `tests` is for the start alone: a reload is refused by a failing `[[test]]` in any case.
pub(crate) fn run(origin: Origin, tests: Tests) -> Result<(), Failure> {
    signals::ignore_reload();
    let first = First::read(origin)?;
    let host = host::allowed(&first.unresolved.compiled)?;
    first.run(&host, tests)
}

/// The same on a host that [`look_at_host`] has found to allow it.
pub(crate) fn run_on(host: &Host, origin: Origin, tests: Tests) -> Result<(), Failure> {
    First::read(origin)?.run(host, tests)
}

/// Whether this host allows what a configuration wants, asked before anything is done for it.
pub(crate) fn look_at_host(origin: &Origin) -> Result<Host, Failure> {
    Ok(host::allowed(&load::compile(origin.read()?, &Resolved::new())?.compiled)?)
}

/// The first reading of the configuration, and the channel by which its thread and others send events to the loop.
struct First {
    /// Compiled without the addresses of host names.
    unresolved: Loaded,
    origin: Origin,
    reader: Reader,
    sender: Sender<Event>,
    events: Receiver<Event>,
}

impl First {
    fn read(origin: Origin) -> Result<Self, Failure> {
        let (sender, events) = async_channel::bounded(MAX_EVENTS);
        let reader = Reader::start(origin.clone(), sender.clone());
        let mut reader = reader.context("cannot start the thread that reads the configuration")?;
        let unresolved = load::compile(reader.read()?, &Resolved::new())?;
        Ok(Self { unresolved, origin, reader, sender, events })
    }

    fn run(self, host: &Host, tests: Tests) -> Result<(), Failure> {
        let log = Log::start(self.unresolved.compiled.settings.log_level);
        let log = log.context("cannot start the thread that writes the log")?;
        panics::start(&log);
        let result = panics::caught(|| self.run_logged(host, tests, &log));
        log.flush();
        result.unwrap_or_else(|defect| Err(Failure::Other(anyhow!("{defect}"))))
    }

    fn run_logged(self, host: &Host, tests: Tests, log: &Log) -> Result<(), Failure> {
        let Self { unresolved, origin, reader, sender, events } = self;
        if let Some(hint) = preflight::hint(host) {
            info!("{hint}");
        }
        let sources = unresolved.sources.clone();
        signals::start(sender.clone()).context("cannot handle signals")?;
        let resolver = Resolver::start(sender.clone());
        let resolver = resolver.context("cannot start the thread that resolves host names")?;
        let fresh = loader::fresh(unresolved, Resolved::new(), &resolver, tests)?;
        log.print(report::text(&fresh.loaded.sources, &fresh.loaded.compiled.warnings, Shown::First));
        let settings = fresh.loaded.compiled.settings.clone();
        let until = Instant::now() + free::PATIENCE;
        let admin = settings.admin.map(|address| bind_admin(address, until)).transpose()?;
        wait_for_leftovers(&fresh.loaded.compiled.table, until)?;
        watch_files(&origin, &sender);
        let pages = Pages::start().context("cannot start the thread that renders metrics")?;
        // Its tasks do no storage I/O, for which glommio would set 10 MiB aside.
        let executor = LocalExecutorBuilder::default().name("control").io_memory(0).make();
        let executor = executor.map_err(|error| anyhow!("cannot start the control thread: {error}"))?;
        let cores = shard_cores(&settings, host);
        let log = log.clone();
        let threads = Threads { reader, sources, resolver, log, pages, sender, events };
        Ok(executor.run(threads.serve(settings, cores, fresh, admin))?)
    }
}

/// The threads that the control loop works with, started before it.
struct Threads {
    reader: Reader,
    /// The texts that `reader` read first.
    sources: Arc<Sources>,
    resolver: Resolver,
    log: Log,
    pages: Pages,
    sender: Sender<Event>,
    events: Receiver<Event>,
}

impl Threads {
    /// Starts the shards, the loader and the admin server, puts the first table into force, and serves until the end.
    async fn serve(
        self,
        started: Settings,
        cores: Vec<usize>,
        fresh: Fresh,
        admin: Option<(TcpListener, Lock)>,
    ) -> anyhow::Result<()> {
        let Self { reader, sources, resolver, log, pages, sender, events } = self;
        let fleet = Fleet::start(&started, cores)?;
        let mut binder = Binder::new(fleet.shared());
        let first = fresh.prepare(&mut binder)?;
        let jobs = loader::start(reader, sources, resolver.clone(), binder, log.clone(), sender);
        let jobs = jobs.context("cannot start the thread that loads configurations")?;
        let facts = Rc::new(RefCell::new(Facts::default()));
        let status = Status::new(Rc::clone(&facts), &fleet, resolver.clone(), log.clone(), pages);
        let mut control = Control { started, current: None, fleet, facts, resolver, log, jobs, events };
        control.put_into_force(first);
        let _lock = match admin {
            None => None,
            Some((listener, lock)) => {
                let started = admin::start(listener, Rc::new(status));
                started.context("cannot start the thread of the admin server")?;
                Some(lock)
            }
        };
        // A change between the first reading and the watch has no event.
        control.file_changed();
        control.serve().await;
        Ok(())
    }
}

/// Notices changed files from now on, where there are any.
fn watch_files(origin: &Origin, sender: &Sender<Event>) {
    for name in origin.read_once() {
        info!("{} is not a file: it was read once, and a change of it is not noticed", name.display());
    }
    let paths: Vec<_> = origin.paths().map(Into::into).collect();
    if !paths.is_empty()
        && let Err(error) = watch::start(paths, sender.clone())
    {
        warn!("changed files are not noticed ({error}); send HUP to reload");
    }
}

fn shard_cores(settings: &Settings, host: &Host) -> Vec<usize> {
    let cores = host::planned_shards(settings, &host.cores);
    let mut distinct = cores.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < cores.len() {
        warn!("{} shards share {} cores; one a core is fastest", cores.len(), distinct.len());
    }
    cores
}

/// The admin listener, and the lock by which a second Weir finds out whose the address is.
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

/// Waits until the sockets of a Weir that has just ended have left the gateways' addresses.
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
