//! Back ends: the other end of a path under test.
//!
//! They share a machine with the load, so an operation should cost them no more than the plainest server: one epoll loop a
//! thread, edge triggered and registered once a connection, buffers shared by all connections of a thread, and a system call
//! more than reading and writing only where nothing else shows the truth.

mod banner;
mod context;
mod echo;
mod flaky;
mod host;
mod lines;
mod listen;
mod protocol;
pub mod relay;
mod rr;
mod settings;
mod sink;
mod slow;
mod source;
mod wire;
mod worker;

pub use self::settings::{Fates, Mode, Served, Settings};

use std::sync::atomic::AtomicBool;
use std::thread;

use anyhow::Context;

/// Serves until `stop` is set.
///
/// # Errors
///
/// When an address cannot be listened on, or a thread, its core or its epoll is refused.
pub fn run(settings: &Settings, stop: &AtomicBool) -> anyhow::Result<Served> {
    host::allow_descriptors();
    let mut workers = Vec::new();
    for listeners in listen::for_threads(settings)? {
        workers.push(worker::Worker::new(settings, workers.len(), listeners)?);
    }
    let mut served = Served::default();
    thread::scope(|scope| {
        let threads: Vec<_> =
            workers.into_iter().map(|worker| scope.spawn(move || worker.run(stop))).collect();
        for thread in threads {
            served += thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?.context("epoll")?;
        }
        Ok(served)
    })
}
