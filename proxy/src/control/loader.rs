//! Reads, parses, compiles and tests a configuration in a thread of its own, so that signals and the admin server are never late
//! however large it is.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use async_channel::Sender;
use weir_routing::{Resolved, Sources};

use super::Event;
use super::reader::{Reader, Reading, refused_by};
use super::resolve::Resolver;
use crate::load::{self, Loaded, Refused, Tests};
use crate::log::Log;
use crate::panics;
use crate::report::{self, Shown};

/// How long a configuration waits for the addresses of names that it brings. What comes later is another table.
const WAIT_FOR_NAMES: Duration = Duration::from_secs(1);

/// What makes a new table.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// Files may have changed: a text that was read before is not taken again.
    Changed,
    /// Read in any case.
    Reload,
    /// The last table could not be brought into force, by no fault of its text: the same text may be taken when it is saved again.
    Forget,
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
    mut reader: Reader,
    last: Arc<Sources>,
    resolver: Resolver,
    log: Log,
    events: Sender<Event>,
) -> io::Result<mpsc::Sender<Job>> {
    let (jobs, received) = mpsc::channel();
    let run = move || {
        let mut last = Some(Ok(last));
        for job in received {
            let worked = panics::caught(|| {
                let result = work(&job, &mut reader, &mut last, &resolver)?;
                log.print(wrong(&job, &result));
                Some(result)
            });
            let Some(result) = worked.unwrap_or_else(|defect| Some(Err(refused_by(defect)))) else {
                continue;
            };
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
        Ok(fresh) => report::text(&fresh.loaded.sources, &fresh.loaded.compiled.warnings, Shown::First),
        Err(refused) => report::text(&refused.sources, &refused.problems, Shown::First),
    }
}

/// Does one job. `last` is what was read last, unless it may be taken again. None: there is nothing to take.
fn work(
    job: &Job,
    reader: &mut Reader,
    last: &mut Option<Reading>,
    resolver: &Resolver,
) -> Option<Result<Fresh, Refused>> {
    let compile = |sources, tests| {
        let resolved = resolver.known();
        fresh(load::compile(sources, &resolved)?, resolved, resolver, tests)
    };
    match job {
        // A test may well fail by an address that moved; the text that is in force has passed.
        Job::Resolved(sources) => return Some(compile(sources.clone(), Tests::Skip)),
        Job::Forget => {
            *last = None;
            resolver.forget_refused();
            return None;
        }
        Job::Changed | Job::Reload => {}
    }
    let reading = reader.read();
    if matches!(job, Job::Changed) && last.as_ref() == Some(&reading) {
        return None;
    }
    *last = Some(reading.clone());
    let result = reading.and_then(|sources| compile(sources, Tests::Refuse));
    if result.is_err() {
        resolver.forget_refused();
    }
    Some(result)
}
