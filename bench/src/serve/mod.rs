//! Back ends: the other end of a path under test.
//!
//! They share a machine with the load, so an operation should cost them no more than the plainest server: one epoll loop a
//! thread, edge triggered and registered once a connection, buffers shared by all connections of a thread, and a system call
//! more than reading and writing only where nothing else tells the truth.

mod banner;
mod context;
mod echo;
mod flaky;
mod host;
mod lines;
mod listen;
pub mod relay;
mod room;
mod rr;
mod settings;
mod sink;
mod slow;
mod source;
mod talk;
mod wire;

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
    let mut rooms = Vec::new();
    for listeners in listen::for_threads(settings)? {
        rooms.push(room::Room::new(settings, rooms.len(), listeners)?);
    }
    let mut served = Served::default();
    thread::scope(|scope| {
        let threads: Vec<_> = rooms.into_iter().map(|room| scope.spawn(move || room.run(stop))).collect();
        for thread in threads {
            served += thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?.context("epoll")?;
        }
        Ok(served)
    })
}
