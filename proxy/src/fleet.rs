//! Stand-in for the shards, with the fleet's interface and none of its work.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_routing::{Settings, Table};

/// The shards.
#[derive(Debug, Default)]
pub struct Fleet {
    generation: u64,
}

/// A listener that was bound.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Whose it is.
    pub gateway: Arc<str>,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A listener that could not be bound.
#[derive(Debug)]
pub struct BindError {
    message: String,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BindError {}

/// The counters of all shards.
#[derive(Debug, Default)]
pub struct Metrics;

impl Metrics {
    /// Writes the connection series.
    pub fn render(&self, out: &mut String) {
        let _ = out;
    }
}

impl Fleet {
    /// Starts a shard on each of these cores.
    pub fn start(settings: &Settings, cores: Vec<usize>) -> anyhow::Result<Fleet> {
        let _ = (settings, cores);
        Ok(Fleet::default())
    }

    /// Binds what is new, hands out copies, closes what is gone.
    pub fn apply(
        &mut self,
        table: &Table,
        settings: &Settings,
        generation: u64,
    ) -> Result<Vec<Bound>, BindError> {
        let _ = (table, settings);
        self.generation = generation;
        Ok(Vec::new())
    }

    /// The lowest generation that a shard routes by.
    pub fn in_force(&self) -> u64 {
        self.generation
    }

    /// Closes all listeners.
    pub fn stop_accepting(&self) {}

    /// Sessions.
    pub fn active(&self) -> u64 {
        0
    }

    /// Resets what is left, spread over this time.
    pub fn reset_all(&self, spread: Duration) {
        let _ = spread;
    }

    /// Joins the shards.
    pub fn stop(self) {}

    /// The counters.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::default()
    }
}
