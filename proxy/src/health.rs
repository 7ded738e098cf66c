//! The health board: what the process knows of each endpoint, in a few atomics touched at connect and close, never per byte.
//! Rows belong to (service, address), are found by name when a table is handed out, and outlive tables.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use weir_routing::Table;

/// One endpoint, as all shards see it.
#[derive(Debug, Default)]
pub struct EndpointRow {
    connections: AtomicU64,
}

impl EndpointRow {
    /// Open and dialling connections of the process.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Counts one connection, until it is dropped.
    pub fn connect(self: &Arc<Self>) -> EndpointUse {
        self.connections.fetch_add(1, Relaxed);
        EndpointUse(Arc::clone(self))
    }
}

/// One open or dialling connection to an endpoint.
#[derive(Debug)]
pub struct EndpointUse(Arc<EndpointRow>);

impl Drop for EndpointUse {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// An endpoint by its service's name and its address.
type EndpointKey = (Arc<str>, SocketAddr);

/// A destination by its service's name, its subset's, and the port in use.
type DestinationKey = (Arc<str>, Option<Arc<str>>, Option<u16>);

/// The rows by name. Only the control thread looks here, once a table.
#[derive(Debug, Default)]
pub struct HealthBoard {
    endpoints: Mutex<HashMap<EndpointKey, Arc<EndpointRow>>>,
    positions: Mutex<HashMap<DestinationKey, Arc<AtomicU64>>>,
}

/// The rows of one table, by its ids.
#[derive(Clone, Debug)]
pub struct Rows {
    /// By endpoint.
    pub endpoints: Vec<Arc<EndpointRow>>,
    /// Round robin's position in the process, by destination.
    pub positions: Vec<Arc<AtomicU64>>,
}

impl HealthBoard {
    /// The rows of a table: those that are known, and new ones. Rows that no table and no session uses any more go.
    pub fn rows(&self, table: &Table) -> Rows {
        let mut endpoints = self.endpoints.lock().expect("no one panics with it");
        let mut positions = self.positions.lock().expect("no one panics with it");
        let rows = Rows {
            endpoints: table
                .endpoints
                .iter()
                .map(|endpoint| {
                    let service = Arc::clone(&table.services[endpoint.service.index()].name);
                    Arc::clone(endpoints.entry((service, endpoint.address)).or_default())
                })
                .collect(),
            positions: table
                .destinations
                .iter()
                .map(|destination| {
                    let service = &table.services[destination.service.index()];
                    let subset =
                        destination.subset.map(|subset| Arc::clone(&service.subsets[subset.index()].name));
                    let key = (Arc::clone(&service.name), subset, destination.port);
                    Arc::clone(positions.entry(key).or_default())
                })
                .collect(),
        };
        endpoints.retain(|_, row| Arc::strong_count(row) > 1);
        positions.retain(|_, position| Arc::strong_count(position) > 1);
        rows
    }
}
