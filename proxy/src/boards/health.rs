//! The health board: a row for each endpoint, a few atomics touched when a dial begins and ends, never per byte. Rows belong to
//! (service, address), are found by name when a table is handed out, and outlive tables.
//!
//! Shards write here, `/metrics` and the health thread ([`crate::checks`]) read.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;

use weir_routing::Table;
use weir_routing::endpoint_name;

use self::Ordering::Relaxed;
use crate::boards::prometheus::families;
use crate::boards::prometheus::text::Family;
use crate::reason::Reason;

/// How a dial can fail at an endpoint. [`Reason::LimitProcess`] is not among them: it is not about the endpoint.
pub(crate) const FAILURES: [Reason; 5] = [
    Reason::ConnectRefused,
    Reason::ConnectTimeout,
    Reason::ConnectError,
    Reason::NoSourcePort,
    Reason::Loop,
];

/// Failed dials, in the order of [`FAILURES`].
pub(crate) type Failed = [u64; FAILURES.len()];

/// One endpoint, as all shards see it.
#[derive(Debug, Default)]
pub(crate) struct EndpointRow {
    connections: AtomicU64,
    connected: AtomicU64,
    failed_in_a_row: AtomicU64,
    failed: [AtomicU64; FAILURES.len()],
    /// The last generation that was bound to this row.
    generation: AtomicU64,
}

impl EndpointRow {
    /// Open and dialling connections of the process.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Counts one connection, until it is dropped.
    pub(crate) fn connect(self: &Arc<Self>) -> EndpointUse {
        self.connections.fetch_add(1, Relaxed);
        EndpointUse(Arc::clone(self))
    }

    fn fail(&self, reason: Reason) {
        if let Some(index) = FAILURES.iter().position(|&failure| failure == reason) {
            self.failed[index].fetch_add(1, Relaxed);
            self.failed_in_a_row.fetch_add(1, Relaxed);
        }
    }
}

/// One open or dialling connection to an endpoint.
#[derive(Debug)]
pub(crate) struct EndpointUse(Arc<EndpointRow>);

impl EndpointUse {
    /// The dial has connected.
    pub(crate) fn connected(&self) {
        self.0.connected.fetch_add(1, Relaxed);
        // Read first: an endpoint that has not failed keeps this word clean.
        if self.0.failed_in_a_row.load(Relaxed) > 0 {
            self.0.failed_in_a_row.store(0, Relaxed);
        }
    }
}

impl Drop for EndpointUse {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// Wakes the health thread when a dial has failed. The first failure costs a shard one call; those that follow cost a load
/// until the thread has found every endpoint well again.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    is_rung: AtomicBool,
    listener: OnceLock<Thread>,
}

impl Bell {
    fn ring(&self) {
        if !self.is_rung.load(Relaxed) && !self.is_rung.swap(true, Ordering::AcqRel) {
            self.listener.get().inspect(|thread| thread.unpark());
        }
    }

    /// The calling thread is the one to be unparked.
    pub(crate) fn listen(&self) {
        // A second listener of one board would be a defect; the first keeps it.
        let _ = self.listener.set(std::thread::current());
    }

    /// Whether it was rung since [`Self::silence`].
    pub(crate) fn is_rung(&self) -> bool {
        self.is_rung.load(Ordering::Acquire)
    }

    /// From now on a failure wakes the listener again. Earlier failures have to be looked for after this.
    pub(crate) fn silence(&self) {
        self.is_rung.swap(false, Ordering::AcqRel);
    }
}

/// An endpoint by its service's name and its address.
type EndpointKey = (Arc<str>, SocketAddr);

/// A destination by its service's name, its subset's, and the port in use.
type DestinationKey = (Arc<str>, Option<Arc<str>>, Option<u16>);

/// The rows by name. No shard looks here; names are looked up once a table.
#[derive(Debug, Default)]
pub(crate) struct HealthBoard {
    endpoints: Mutex<HashMap<EndpointKey, Arc<EndpointRow>>>,
    positions: Mutex<HashMap<DestinationKey, Arc<AtomicU64>>>,
    in_force: AtomicU64,
    bell: Arc<Bell>,
}

/// The rows of one table, by its ids.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    /// By endpoint.
    pub endpoints: Vec<Arc<EndpointRow>>,
    /// Round robin's position in the process, by destination.
    pub positions: Vec<Arc<AtomicU64>>,
    bell: Arc<Bell>,
}

impl Rows {
    /// A dial to the endpoint with this index has failed.
    pub(crate) fn fail(&self, endpoint: usize, reason: Reason) {
        self.endpoints[endpoint].fail(reason);
        self.bell.ring();
    }
}

/// The dials to one endpoint and their results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Its service.
    pub service: Arc<str>,
    /// Its address, whose port may be `CLIENTS_PORT`.
    pub address: SocketAddr,
    /// Open and dialling connections.
    pub active: u64,
    /// Dials that connected.
    pub connected: u64,
    /// Dials that failed.
    pub failed: Failed,
    /// The last dial failed, and the table in force has the endpoint.
    pub is_failing: bool,
}

/// Rows that are kept for the next scrape. Without scrapes, those of endpoints that are gone would otherwise pile up.
const MOST_UNREAD: usize = 10_000;

/// Forgets rows that no table and no session has.
fn forget_unused(endpoints: &mut HashMap<EndpointKey, Arc<EndpointRow>>) {
    endpoints.retain(|_, row| Arc::strong_count(row) > 1);
}

impl HealthBoard {
    /// The rows of a table that may become this generation: those that are known, and new ones. Positions that no table uses any
    /// more go. So do rows of endpoints, but when their series are rendered: an endpoint that was gone and is back between two
    /// scrapes has never left, and its counters go on.
    pub(crate) fn rows(&self, generation: u64, table: &Table) -> Rows {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = Rows {
            endpoints: table
                .parts()
                .endpoints
                .iter()
                .map(|endpoint| {
                    let service = Arc::clone(&table.parts().services[endpoint.service.index()].name);
                    let row = endpoints.entry((service, endpoint.address)).or_default();
                    row.generation.store(generation, Relaxed);
                    Arc::clone(row)
                })
                .collect(),
            positions: table
                .parts()
                .destinations
                .iter()
                .map(|destination| {
                    let service = &table.parts().services[destination.service.index()];
                    let subset =
                        destination.subset.map(|subset| Arc::clone(&service.subsets[subset.index()].name));
                    let key = (Arc::clone(&service.name), subset, destination.port);
                    Arc::clone(positions.entry(key).or_default())
                })
                .collect(),
            bell: Arc::clone(&self.bell),
        };
        if endpoints.len() > table.parts().endpoints.len() + MOST_UNREAD {
            forget_unused(&mut endpoints);
        }
        positions.retain(|_, position| Arc::strong_count(position) > 1);
        rows
    }

    /// The table that routes from now on: a failing endpoint that only older tables have counts no longer.
    pub(crate) fn set_in_force(&self, generation: u64) {
        self.in_force.store(generation, Relaxed);
    }

    /// The bell that rings when a dial has failed.
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Every endpoint that a table or a session has, or that has not been forgotten since, in the order of names and addresses.
    pub(crate) fn read(&self) -> Vec<Reading> {
        let in_force = self.in_force.load(Relaxed);
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let mut readings: Vec<Reading> = endpoints
            .iter()
            .map(|((service, address), row)| Reading {
                service: Arc::clone(service),
                address: *address,
                active: row.connections(),
                connected: row.connected.load(Relaxed),
                failed: row.failed.each_ref().map(|count| count.load(Relaxed)),
                is_failing: row.failed_in_a_row.load(Relaxed) > 0 && row.generation.load(Relaxed) >= in_force,
            })
            .collect();
        drop(endpoints);
        readings
            .sort_unstable_by(|one, other| (&one.service, one.address).cmp(&(&other.service, other.address)));
        readings
    }

    /// Every endpoint's series, in Prometheus' text format 0.0.4.
    pub(crate) fn render(&self, out: &mut String) {
        forget_unused(&mut self.endpoints.lock().unwrap_or_else(PoisonError::into_inner));
        let readings = self.read();
        let named: Vec<(String, &Reading)> =
            readings.iter().map(|reading| (endpoint_name(reading.address), reading)).collect();
        let mut counts = |family: Family, value: fn(&Reading) -> u64| {
            family.head(out);
            for (address, reading) in &named {
                family.sample(out, &[&reading.service, address], value(reading));
            }
        };
        counts(families::ENDPOINT_ACTIVE, |reading| reading.active);
        counts(families::ENDPOINT_CONNECTED, |reading| reading.connected);
        families::ENDPOINT_ERRORS.head(out);
        for (address, reading) in &named {
            for (reason, count) in FAILURES.iter().zip(reading.failed).filter(|&(_, count)| count > 0) {
                families::ENDPOINT_ERRORS.sample(out, &[&reading.service, address, reason.as_str()], count);
            }
        }
    }
}
