//! All shards, as the control thread sees them: started once, handed a table at each reload, drained and stopped at the end.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use weir_routing::{GatewayId, Settings, Table};

use crate::checks;
use crate::descriptors::Standing;
use crate::health::HealthBoard;
use crate::in_force::InForce;
use crate::limits::{Limit, LimitsBoard, Seats};
use crate::listener::Listener;
use crate::mailbox::{ListenerId, Mailbox, Message, NewTable};
use crate::metrics::{Metrics, ShardCounters};
use crate::panics;
use crate::pools::pipes_max;
use crate::shard::{self, Shard, Start};
use crate::sys;

/// The shards, and what they share.
pub struct Fleet {
    shards: Vec<ShardHandle>,
    listeners: Vec<Open>,
    last_listener: u32,
    health: Arc<HealthBoard>,
    limits: LimitsBoard,
    seats: Seats,
    process: Arc<Limit>,
    descriptors: u64,
    metrics: Arc<Metrics>,
}

struct ShardHandle {
    mailbox: Arc<Mailbox>,
    executor: ExecutorJoinHandle<()>,
    /// Messages that found the mailbox full, in order.
    waiting: RefCell<VecDeque<Message>>,
}

/// A listener that is open, and what it was asked for: with port 0 that is not its address.
struct Open {
    id: ListenerId,
    asked: Asked,
    listener: Listener,
}

/// What a gateway's `listen` asks for. Port 0 stands for another port each time it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    address: SocketAddr,
    /// For port 0: the gateway, and the how many-eth of its listeners this is.
    free: Option<(Arc<str>, usize)>,
}

/// A listener, for the line that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Whose it is.
    pub gateway: Arc<str>,
    /// With the port that port 0 became.
    pub address: SocketAddr,
}

impl Fleet {
    /// Starts one shard on each of `cores` (one may occur more than once), without a table.
    ///
    /// Errors: a thread or a ring could not be made.
    pub fn start(settings: &Settings, cores: Vec<usize>) -> anyhow::Result<Self> {
        let descriptors = sys::raise_descriptor_limit();
        let seats = Seats::new(cores.len());
        let process = Limit::new(settings.max_connections);
        let mailboxes: Arc<[Arc<Mailbox>]> = cores
            .iter()
            .map(|_| Mailbox::new().map(Arc::new))
            .collect::<std::io::Result<Vec<_>>>()
            .context("no descriptor for a shard's doorbell")?
            .into();
        let counters: Vec<Arc<ShardCounters>> = cores.iter().map(|_| Arc::default()).collect();
        let (graveyard, retired) = mpsc::channel::<InForce>();
        // Freeing a large table takes longer than a turn may.
        std::thread::Builder::new()
            .name("weir-reaper".into())
            .spawn(move || panics::kept(|| retired.iter().for_each(drop)))?;
        let health = Arc::default();
        checks::start(Arc::clone(&health)).context("cannot start the thread that watches endpoints")?;
        let seed = fastrand::u64(..);
        let mut shards = Vec::new();
        for (index, &core) in cores.iter().enumerate() {
            let start = Start {
                index,
                mailbox: Arc::clone(&mailboxes[index]),
                peers: Arc::clone(&mailboxes),
                seats: seats.clone(),
                process: Arc::clone(&process),
                counters: Arc::clone(&counters[index]),
                relay_mode: settings.relay,
                descriptors,
                seed,
                graveyard: graveyard.clone(),
            };
            let mailbox = Arc::clone(&mailboxes[index]);
            shards.push(ShardHandle { mailbox, executor: spawn(start, core)?, waiting: RefCell::default() });
        }
        let metrics = Metrics::new(counters, seats.clone(), pipes_max(descriptors), Arc::clone(&process));
        Ok(Self {
            shards,
            listeners: Vec::new(),
            last_listener: 0,
            health,
            limits: LimitsBoard::default(),
            seats,
            process,
            descriptors,
            metrics: Arc::new(metrics),
        })
    }

    /// Brings a table into force: new listeners are bound first, all or none, and only then listen; every shard gets its copy, and
    /// listeners that are gone close. Listeners whose address stays are not touched. Returns all listeners.
    ///
    /// Errors: an address could not be bound, or there are not descriptors enough for all; nothing has changed then.
    pub fn apply(
        &mut self,
        table: &Table,
        settings: &Settings,
        generation: u64,
    ) -> anyhow::Result<Vec<Bound>> {
        let wanted = asked(table);
        let least = self.standing(wanted.len()).least_limit();
        anyhow::ensure!(
            least <= self.descriptors,
            "{} addresses to listen on take {least} descriptors, and this process may open {}; raise its hard limit \
             (LimitNOFILE in systemd, `ulimit -Hn`)",
            wanted.len(),
            self.descriptors
        );
        let mut opened = Vec::new();
        let known: HashSet<&Asked> = self.listeners.iter().map(|open| &open.asked).collect();
        for (asked, gateway) in &wanted {
            if !known.contains(asked) {
                let name = &table.gateways[gateway.index()].name;
                let listener = Listener::bind(name, asked.address, self.shards.len())?;
                opened.push((asked.clone(), name, listener));
            }
        }
        opened.iter().try_for_each(|(_, gateway, listener)| listener.listen(gateway))?;
        let still: HashSet<&Asked> = wanted.iter().map(|(asked, _)| asked).collect();
        self.listeners.iter_mut().filter(|open| !still.contains(&open.asked)).for_each(|open| {
            open.listener.turn_away();
        });
        self.listeners.retain(|open| still.contains(&open.asked));
        let mut sockets_of_shards: Vec<Vec<(ListenerId, SocketAddr, Arc<OwnedFd>)>> =
            self.shards.iter().map(|_| Vec::new()).collect();
        for (asked, _, listener) in opened {
            self.last_listener += 1;
            let id = ListenerId(self.last_listener);
            for (shard, socket) in sockets_of_shards.iter_mut().zip(listener.sockets()) {
                shard.push((id, listener.address, Arc::clone(socket)));
            }
            self.listeners.push(Open { id, asked, listener });
        }
        self.process.set_maximum(Some(self.max_connections(settings)));
        self.hand_out(table, settings, generation, &wanted, sockets_of_shards);
        Ok(self.bound(table, &wanted))
    }

    fn hand_out(
        &self,
        table: &Table,
        settings: &Settings,
        generation: u64,
        wanted: &[(Asked, GatewayId)],
        sockets: Vec<Vec<(ListenerId, SocketAddr, Arc<OwnedFd>)>>,
    ) {
        let bound: Vec<SocketAddr> = self.listeners.iter().map(|open| open.listener.address).collect();
        let ids: HashMap<&Asked, ListenerId> =
            self.listeners.iter().map(|open| (&open.asked, open.id)).collect();
        let listeners: HashMap<ListenerId, GatewayId> =
            wanted.iter().filter_map(|(asked, gateway)| Some((*ids.get(asked)?, *gateway))).collect();
        let listeners = Arc::new(listeners);
        let in_force = InForce::new(generation, table.clone(), &self.health, &self.limits, &bound);
        for (shard, opened) in self.shards.iter().zip(sockets) {
            let new = NewTable {
                in_force: Arc::new(in_force.clone()),
                listeners: Arc::clone(&listeners),
                opened,
                busy_poll: settings.busy_poll,
            };
            shard.tell(Message::InForce(Box::new(new)));
        }
        self.health.set_in_force(generation);
        self.limits.prune();
        self.metrics.prune(|key| {
            table.gateways.iter().any(|gateway| gateway.name == key.gateway)
                && (key.service.is_empty()
                    || table.services.iter().any(|service| service.name == key.service))
        });
    }

    fn bound(&self, table: &Table, wanted: &[(Asked, GatewayId)]) -> Vec<Bound> {
        let addresses: HashMap<&Asked, SocketAddr> =
            self.listeners.iter().map(|open| (&open.asked, open.listener.address)).collect();
        wanted
            .iter()
            .filter_map(|(asked, gateway)| {
                let gateway = Arc::clone(&table.gateways[gateway.index()].name);
                Some(Bound { gateway, address: *addresses.get(asked)? })
            })
            .collect()
    }

    fn standing(&self, listeners: usize) -> Standing {
        Standing { listeners, shards: self.shards.len() }
    }

    /// `max_connections`, but never more than the descriptors allow.
    fn max_connections(&self, settings: &Settings) -> u64 {
        let allowed = self.standing(self.listeners.len()).connections(self.descriptors);
        match settings.max_connections {
            Some(wanted) if wanted > allowed => {
                tracing::warn!(
                    "max_connections = {wanted} needs more than the {} descriptors of this process: {allowed} are taken; raise \
                     its hard limit (LimitNOFILE in systemd, `ulimit -Hn`)",
                    self.descriptors
                );
                allowed
            }
            wanted => wanted.unwrap_or(allowed),
        }
    }

    /// The lowest generation that a shard routes by; 0 before the first.
    pub fn in_force(&self) -> u64 {
        self.metrics.generation()
    }

    /// Closes every listener, as a reload that has none of them would: what the kernel has completed is served.
    pub fn stop_accepting(&mut self) {
        self.listeners.iter_mut().for_each(|open| open.listener.turn_away());
        self.shards.iter().for_each(|shard| shard.tell(Message::CloseListeners));
    }

    /// Whether some listener is open, or is still being emptied.
    pub fn is_accepting(&self) -> bool {
        self.metrics.listeners() > 0
    }

    /// Connections that are open, being dialled, or on their way from one shard to another.
    pub fn active(&self) -> u64 {
        self.seats.total()
    }

    /// Resets what is left, spread over this time.
    pub fn reset_all(&self, spread: Duration) {
        self.shards.iter().for_each(|shard| shard.tell(Message::ResetAll(spread)));
    }

    /// Offers the shards again what their mailboxes had no room for; whether nothing waits any more.
    pub fn deliver(&self) -> bool {
        // Each gets its turn, also behind one that has no room.
        let without_room = self.shards.iter().filter(|shard| !shard.deliver());
        without_room.count() == 0
    }

    /// Orders the shards to end.
    pub fn stop(&self) {
        self.shards.iter().for_each(|shard| shard.tell(Message::Stop));
    }

    /// Waits for the end of the shards that have taken all their messages, the order to end above all.
    pub fn join(self) {
        for shard in self.shards.into_iter().filter(ShardHandle::deliver) {
            // A shard that panicked has ended the process.
            let _ = shard.executor.join();
        }
    }

    /// What the shards count.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// What the process knows of the endpoints.
    pub fn health(&self) -> Arc<HealthBoard> {
        Arc::clone(&self.health)
    }
}

impl ShardHandle {
    /// Puts a message behind those that wait, and delivers what there is room for: the mailbox of a shard that is busy taking in
    /// sockets may be full, and the control loop must not wait for it.
    fn tell(&self, message: Message) {
        self.waiting.borrow_mut().push_back(message);
        self.deliver();
    }

    /// Whether nothing waits any more.
    fn deliver(&self) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(message) = waiting.pop_front() {
            if let Err(back) = self.mailbox.send(message) {
                waiting.push_front(back);
                return false;
            }
        }
        true
    }
}

fn spawn(start: Start, core: usize) -> anyhow::Result<ExecutorJoinHandle<()>> {
    let index = start.index;
    let (ready, started) = mpsc::sync_channel(1);
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
        .name(&format!("weir-shard-{index}"))
        // Shards do not use the executor's own I/O.
        .io_memory(0)
        .spawn(move || async move {
            let shard = Shard::new(start);
            let _ = ready.send(shard.as_ref().err().map(std::io::Error::to_string));
            if let Ok(mut shard) = shard {
                panics::end_the_process(shard::current_session);
                shard.run();
            }
        })
        .map_err(|error| anyhow::anyhow!("shard {index} could not start on core {core}: {error}"))?;
    match started.recv() {
        Ok(None) => Ok(executor),
        Ok(Some(error)) => anyhow::bail!("shard {index} could not set up its ring: {error}"),
        Err(_) => anyhow::bail!("shard {index} ended while it started on core {core}"),
    }
}

/// Every address that the table's gateways ask for.
fn asked(table: &Table) -> Vec<(Asked, GatewayId)> {
    let mut all = Vec::new();
    for (index, gateway) in table.gateways.iter().enumerate() {
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
