//! Reads, parses, compiles and tests a configuration in a thread of its own, so that signals and the admin server are never late
//! however large it is.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use async_channel::Sender;
use weir_routing::{Resolved, Sources};

use super::Event;
use super::resolve::Resolver;
use crate::load::{self, Loaded, Origin, Refused, Tests};
use crate::log::Log;
use crate::report;

/// How long a configuration waits for the addresses of names that it brings. What comes later is another table.
const WAIT_FOR_NAMES: Duration = Duration::from_secs(1);

/// What makes a new table.
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
    /// The texts and what became of them.
    pub(super) loaded: Loaded,
    /// The addresses it was compiled with.
    pub(super) resolved: Resolved,
}

/// What came of a job.
#[derive(Debug)]
pub(super) struct Finished {
    /// The job.
    pub(super) job: Job,
    /// A table, or why there is none.
    pub(super) result: Result<Fresh, Refused>,
}

/// Tests what was compiled with the addresses in `resolved`; first compiles it again if it names hosts that were not among them.
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

/// Starts the thread, which also prints what is wrong with a text. `last` is the text that is in force.
pub(super) fn start(
    origin: Origin,
    last: Arc<Sources>,
    resolver: Resolver,
    log: Log,
    events: Sender<Event>,
) -> io::Result<mpsc::Sender<Job>> {
    let (jobs, received) = mpsc::channel();
    let run = move || {
        let mut last = Ok(last);
        for job in received {
            let Some(result) = work(&job, &origin, &mut last, &resolver) else { continue };
            log.print(wrong(&job, &result));
            if events.send_blocking(Event::Loaded(Box::new(Finished { job, result }))).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("load".into()).spawn(run)?;
    Ok(jobs)
}

/// What is wrong with a text that was read, as it is printed.
fn wrong(job: &Job, result: &Result<Fresh, Refused>) -> String {
    match result {
        // The same text as before, and so are its warnings.
        Ok(_) if matches!(job, Job::Resolved(_)) => String::new(),
        Ok(fresh) => report::text(&fresh.loaded.sources, &fresh.loaded.compiled.warnings),
        Err(refused) => report::text(&refused.sources, &refused.problems),
    }
}

type Reading = Result<Arc<Sources>, Refused>;

/// Does one job. None: nothing has changed.
fn work(
    job: &Job,
    origin: &Origin,
    last: &mut Reading,
    resolver: &Resolver,
) -> Option<Result<Fresh, Refused>> {
    let compile = |sources, tests| {
        let resolved = resolver.known();
        fresh(load::compile(sources, &resolved)?, resolved, resolver, tests)
    };
    if let Job::Resolved(sources) = job {
        // A test may well fail by an address that moved; the text that is in force has passed.
        return Some(compile(sources.clone(), Tests::Skip));
    }
    let reading = origin.read_settled();
    if matches!(job, Job::Changed) && reading == *last {
        return None;
    }
    last.clone_from(&reading);
    Some(reading.and_then(|sources| compile(sources, Tests::Refuse)))
}
