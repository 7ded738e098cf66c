//! Makes a table ready (step 3 of the walk), on the loader's thread: binds the listeners that are new, and makes one complete copy
//! for each shard, bound to the boards. All that is left to the control loop is to put the copies into mailboxes.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tracing::warn;
use weir_routing::{GatewayId, Settings, Table};

use crate::boards::in_force::InForce;
use crate::boards::labels::Labels;
use crate::descriptors::Standing;
use crate::fleet::Shared;
use crate::listener::{Listener, ListenerId, Sockets};
use crate::shard::NewTable;

/// Binds tables to listeners and boards. It keeps the listeners of the last table that it made ready.
pub(super) struct Binder {
    shared: Shared,
    listeners: Vec<Open>,
    last_listener: u32,
    generation: u64,
}

/// A listener that is open, and the address that was asked for: with port 0 that is another one.
struct Open {
    id: ListenerId,
    asked: Asked,
    listener: Listener,
}

/// An address that a gateway's `listen` asks for. Port 0 stands for another port each time it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    address: SocketAddr,
    /// For port 0: the gateway, and the how many-eth of its listeners this is.
    free: Option<(Arc<str>, usize)>,
}

/// A listener, for the log and the admin server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// Whose it is.
    pub(super) gateway: Arc<str>,
    /// With the port that port 0 became.
    pub(super) address: SocketAddr,
}

/// A table that nothing can refuse any more.
#[derive(Debug)]
pub(super) struct ReadyTable {
    /// Which table this is, counted from 1.
    pub(super) generation: u64,
    /// One a shard.
    pub(super) copies: Vec<NewTable>,
    /// All listeners.
    pub(super) listeners: Vec<Bound>,
    /// Those that the last table had not.
    pub(super) opened: Vec<Bound>,
    /// Their sockets, for the end of accepting.
    pub(super) sockets: Vec<Sockets>,
}

/// How the listeners of a table differ from those of the last one.
struct Change {
    /// The sockets of new ones, by shard.
    of_shards: Vec<Vec<(ListenerId, SocketAddr, Arc<OwnedFd>)>>,
    new: HashSet<ListenerId>,
    gone: Vec<Open>,
}

impl Binder {
    /// For the tables of these shards.
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared, listeners: Vec::new(), last_listener: 0, generation: 0 }
    }

    /// Makes a table ready. New listeners are bound first, all or none; those whose address stays are not touched.
    ///
    /// Errors: an address could not be bound, or there are not descriptors enough for all; nothing has changed then.
    pub(super) fn ready(&mut self, table: Table, settings: &Settings) -> anyhow::Result<ReadyTable> {
        let wanted = asked(&table);
        let Change { of_shards, new, gone } = self.bind(&table, &wanted)?;
        self.generation += 1;
        self.shared.limits.process.set_maximum(Some(self.max_connections(settings)));
        let labels = Arc::new(Labels::new(&table));
        self.shared.registry.enter(&labels);
        let ids: HashMap<&Asked, &Open> = self.listeners.iter().map(|open| (&open.asked, open)).collect();
        let open: Vec<(&Open, GatewayId)> =
            wanted.iter().filter_map(|(asked, gateway)| Some((*ids.get(asked)?, *gateway))).collect();
        let bound = |&(open, gateway): &(&Open, GatewayId)| Bound {
            gateway: Arc::clone(&table.parts().gateways[gateway.index()].name),
            address: open.listener.address,
        };
        let listeners: Vec<Bound> = open.iter().map(bound).collect();
        let opened = open.iter().filter(|(open, _)| new.contains(&open.id)).map(bound).collect();
        let gateways: HashMap<ListenerId, GatewayId> =
            open.iter().map(|(open, gateway)| (open.id, *gateway)).collect();
        let gateways = Arc::new(gateways);
        let addresses: Vec<SocketAddr> = listeners.iter().map(|bound| bound.address).collect();
        let in_force = InForce::new(
            self.generation,
            table,
            labels,
            &self.shared.health,
            &self.shared.limits,
            &addresses,
        );
        self.shared.limits.prune();
        // The last shard gets the original.
        let copies =
            std::iter::repeat_n(in_force, of_shards.len()).zip(of_shards).map(|(in_force, opened)| {
                NewTable {
                    in_force: Arc::new(in_force),
                    listeners: Arc::clone(&gateways),
                    opened,
                    busy_poll: settings.busy_poll,
                }
            });
        let copies = copies.collect();
        let sockets = self.listeners.iter().map(|open| open.listener.sockets().clone()).collect();
        // Not before the shards' copies are ready, which close them.
        gone.iter().for_each(|open| open.listener.sockets().turn_away());
        Ok(ReadyTable { generation: self.generation, copies, listeners, opened, sockets })
    }

    /// Binds the listeners that the table asks for and that are not open yet, all of them before any listens, and forgets those that it
    /// does not ask for.
    fn bind(&mut self, table: &Table, wanted: &[(Asked, GatewayId)]) -> anyhow::Result<Change> {
        let Shared { shards, descriptors, .. } = self.shared;
        let least = self.standing(wanted.len()).least_limit();
        anyhow::ensure!(
            least <= descriptors,
            "{} addresses to listen on take {least} descriptors, and this process may open {descriptors}; raise its hard limit \
             (LimitNOFILE in systemd, `ulimit -Hn`)",
            wanted.len(),
        );
        let known: HashSet<&Asked> = self.listeners.iter().map(|open| &open.asked).collect();
        let mut opened = Vec::new();
        for (asked, gateway) in wanted.iter().filter(|(asked, _)| !known.contains(asked)) {
            let name = &table.parts().gateways[gateway.index()].name;
            opened.push((asked.clone(), name, Listener::bind(name, asked.address, shards)?));
        }
        opened.iter().try_for_each(|(_, gateway, listener)| listener.listen(gateway))?;
        let still: HashSet<&Asked> = wanted.iter().map(|(asked, _)| asked).collect();
        let (stay, gone): (Vec<Open>, Vec<Open>) =
            std::mem::take(&mut self.listeners).into_iter().partition(|open| still.contains(&open.asked));
        self.listeners = stay;
        let mut change =
            Change { of_shards: (0..shards).map(|_| Vec::new()).collect(), new: HashSet::new(), gone };
        for (asked, _, listener) in opened {
            self.last_listener += 1;
            let id = ListenerId(self.last_listener);
            change.new.insert(id);
            for (shard, socket) in change.of_shards.iter_mut().zip(listener.sockets().of_shards()) {
                shard.push((id, listener.address, socket));
            }
            self.listeners.push(Open { id, asked, listener });
        }
        Ok(change)
    }

    fn standing(&self, listeners: usize) -> Standing {
        Standing { listeners, shards: self.shared.shards }
    }

    /// `max_connections`, but never more than the descriptors allow.
    fn max_connections(&self, settings: &Settings) -> u64 {
        let descriptors = self.shared.descriptors;
        let allowed = self.standing(self.listeners.len()).connections(descriptors);
        match settings.max_connections {
            Some(wanted) if wanted > allowed => {
                warn!(
                    "max_connections = {wanted} needs more than the {descriptors} descriptors of this process: {allowed} are \
                     taken; raise its hard limit (LimitNOFILE in systemd, `ulimit -Hn`)"
                );
                allowed
            }
            wanted => wanted.unwrap_or(allowed),
        }
    }
}

/// Every address that the table's gateways ask for.
fn asked(table: &Table) -> Vec<(Asked, GatewayId)> {
    let mut all = Vec::new();
    for (index, gateway) in table.parts().gateways.iter().enumerate() {
        let mut free = 0;
        for listen in &gateway.listen {
            for port in listen.ports.clone() {
                let name = (port == 0).then(|| {
                    free += 1;
                    (Arc::clone(&gateway.name), free)
                });
                all.push((
                    Asked { address: SocketAddr::new(listen.address, port), free: name },
                    GatewayId(index as u32),
                ));
            }
        }
    }
    all
}
