//! Makes a configuration ready in a thread of its own: reads, parses, compiles and tests it, prints its problems, and has
//! it bound. The control loop gets a table that cannot be refused any more, so that signals and the admin server are never late, however
//! large it is.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use async_channel::Sender;
use weir_routing::{Compiled, Resolved, Sources};

use super::binding::Binder;
use super::event::{Event, Finished, Prepared};
use super::reader::{Reader, Reading, refused_by};
use super::resolve::Resolver;
use crate::front::load::{self, Loaded, Refused, Tests};
use crate::front::report::{self, Shown};
use crate::log::Log;
use crate::panics;

/// How long a configuration waits for the addresses of names that it brings. A later answer makes another table.
const WAIT_FOR_NAMES: Duration = Duration::from_secs(1);

/// A reason to make a new table.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// Files may have changed: a text that was read before is not taken again.
    Changed,
    /// Read in any case.
    Reload,
    /// The texts in force, with the addresses of now.
    Resolved(Arc<Sources>),
}

/// A configuration that may come into force.
#[derive(Debug)]
pub(super) struct Fresh {
    /// The texts, compiled.
    pub(super) loaded: Loaded,
    /// The addresses it was compiled with.
    pub(super) resolved: Resolved,
}

impl Fresh {
    /// Binds it.
    ///
    /// Errors: an address could not be bound; nothing has changed then.
    pub(super) fn prepare(self, binder: &mut Binder) -> anyhow::Result<Prepared> {
        let Self { loaded: Loaded { sources, compiled }, resolved } = self;
        let Compiled { table, settings, host_names, .. } = compiled;
        let ready = binder.ready(table, &settings)?;
        Ok(Prepared { ready, sources, settings, host_names, resolved })
    }
}

/// Runs the `[[test]]`s of a configuration that was compiled with the addresses in `resolved`; first compiles it again if it names
/// hosts that were not among them.
pub(super) fn fresh(
    mut loaded: Loaded,
    mut resolved: Resolved,
    resolver: &Resolver,
    tests: Tests,
) -> Result<Fresh, Refused> {
    let names = &loaded.compiled.host_names;
    if names.iter().any(|name| !resolved.contains_key(name)) {
        resolved = resolver.addresses(names, WAIT_FOR_NAMES);
        loaded = load::compile(loaded.sources, &resolved)?;
    }
    resolved.retain(|name, _| loaded.compiled.host_names.contains(name));
    Ok(Fresh { loaded: loaded.tested(tests)?, resolved })
}

/// Starts the thread. `last` is the text that is in force, bound by `binder`.
pub(super) fn start(
    reader: Reader,
    last: Arc<Sources>,
    resolver: Resolver,
    binder: Binder,
    log: Log,
    events: Sender<Event>,
) -> io::Result<mpsc::Sender<Job>> {
    let (jobs, received) = mpsc::channel();
    let (in_force, last) = (last.clone(), Some(Ok(last)));
    let mut loader = Loader { reader, resolver, binder, log, in_force, addresses: None, last };
    let run = move || {
        for job in received {
            let addresses_only = matches!(job, Job::Resolved(_));
            let worked = panics::caught(|| loader.work(job));
            let Some(result) = worked.unwrap_or_else(|defect| Some(loader.prepare(Err(refused_by(defect)))))
            else {
                continue;
            };
            let finished = Finished { addresses_only, result };
            if events.send_blocking(Event::Loaded(Box::new(finished))).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("load".into()).spawn(run)?;
    Ok(jobs)
}

/// The state of the thread.
struct Loader {
    reader: Reader,
    resolver: Resolver,
    binder: Binder,
    log: Log,
    /// The text of the last table that was made ready.
    in_force: Arc<Sources>,
    /// The host names of that table, and the addresses it was made with; none before the first that this thread made.
    addresses: Option<(Vec<Arc<str>>, Resolved)>,
    /// The last reading; none where the same text may well be taken the next time.
    last: Option<Reading>,
}

impl Loader {
    /// Does one job. None: there is nothing to do.
    fn work(&mut self, job: Job) -> Option<Result<Prepared, String>> {
        let fresh = match job {
            // Another text has been made ready since: its names are looked at once it is in force.
            Job::Resolved(sources) if !Arc::ptr_eq(&sources, &self.in_force) => return None,
            // Several answers that came while one table was made ask for one more, not for one each.
            Job::Resolved(_) if self.has_all_addresses() => return None,
            // A test may well fail by an address that moved; the text that is in force has passed.
            Job::Resolved(sources) => self.compile(sources, Tests::Skip),
            Job::Changed | Job::Reload => {
                let reading = self.reader.read();
                if matches!(job, Job::Changed) && self.last.as_ref() == Some(&reading) {
                    return None;
                }
                self.last = Some(reading.clone());
                let fresh = reading.and_then(|sources| self.compile(sources, Tests::Refuse));
                if let Ok(fresh) = &fresh {
                    let Loaded { sources, compiled } = &fresh.loaded;
                    self.log.print(report::text(sources, &compiled.warnings, Shown::First));
                }
                fresh
            }
        };
        Some(self.prepare(fresh))
    }

    /// Whether the last table that was made ready has the addresses of now.
    fn has_all_addresses(&self) -> bool {
        self.addresses
            .as_ref()
            .is_some_and(|(names, resolved)| self.resolver.addresses(names, Duration::ZERO) == *resolved)
    }

    fn compile(&self, sources: Arc<Sources>, tests: Tests) -> Result<Fresh, Refused> {
        let resolved = self.resolver.known();
        fresh(load::compile(sources, &resolved)?, resolved, &self.resolver, tests)
    }

    fn prepare(&mut self, fresh: Result<Fresh, Refused>) -> Result<Prepared, String> {
        let prepared = self.bind(fresh);
        match &prepared {
            Ok(prepared) => {
                self.in_force = Arc::clone(&prepared.sources);
                self.addresses = Some((prepared.host_names.clone(), prepared.resolved.clone()));
            }
            Err(_) => self.resolver.forget_refused(),
        }
        prepared
    }

    fn bind(&mut self, fresh: Result<Fresh, Refused>) -> Result<Prepared, String> {
        let fresh = fresh.map_err(|refused| {
            self.log.print(report::text(&refused.sources, &refused.problems, Shown::First));
            report::summary(&refused.problems)
        })?;
        fresh.prepare(&mut self.binder).map_err(|error| {
            // The address may be free the next time, with the same text.
            self.last = None;
            format!("{error:#}")
        })
    }
}
