//! All shards, as the control thread sees them: started once, handed a table at each reload, drained and stopped at the end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use anyhow::Context as _;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use weir_routing::Settings;

use crate::boards::counters::ShardCounters;
use crate::boards::health::HealthBoard;
use crate::boards::in_force::InForce;
use crate::boards::limits::{LimitsBoard, ShardLoad};
use crate::boards::prometheus::Metrics;
use crate::boards::registry::Registry;
use crate::checks;
use crate::descriptors::pipes_max;
use crate::listener::Sockets;
use crate::mailbox::Mailbox;
use crate::os::sys;
use crate::panics;
use crate::shard::{self, Message, NewTable, Shard, Start, tail_bytes_max};

/// The shards, and what they share.
pub(crate) struct Fleet {
    shards: Vec<ShardHandle>,
    /// Of the listeners of the table in force.
    sockets: Vec<Sockets>,
    shard_load: ShardLoad,
    shared: Shared,
    metrics: Arc<Metrics>,
    retired_tables: Sender<InForce>,
    /// The last generation that was handed out.
    handed_out: u64,
}

/// The boards and limits that every table is bound to.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// How many shards there are.
    pub(crate) shards: usize,
    /// The process's limit of descriptors.
    pub(crate) descriptors: u64,
    /// How many connections there may be.
    pub(crate) limits: Arc<LimitsBoard>,
    /// Where series get their labels.
    pub(crate) registry: Arc<Registry>,
    /// The rows of endpoints.
    pub(crate) health: Arc<HealthBoard>,
}

struct ShardHandle {
    mailbox: Arc<Mailbox<Message>>,
    executor: ExecutorJoinHandle<()>,
    /// Messages that found the mailbox full, in order.
    waiting: RefCell<VecDeque<Message>>,
}

impl Fleet {
    /// Starts one shard on each of `cores` (one may occur more than once), without a table.
    ///
    /// Errors: a thread or a ring could not be made.
    pub(crate) fn start(settings: &Settings, cores: Vec<usize>) -> anyhow::Result<Self> {
        let descriptors = sys::raise_descriptor_limit();
        let shard_load = ShardLoad::new(cores.len());
        let limits = Arc::new(LimitsBoard::new(settings.max_connections));
        let mailboxes: Arc<[Arc<Mailbox<Message>>]> = cores
            .iter()
            .map(|_| Mailbox::new().map(Arc::new))
            .collect::<std::io::Result<Vec<_>>>()
            .context("no descriptor for a shard's doorbell")?
            .into();
        let registry: Arc<Registry> = Arc::default();
        let counters: Vec<Arc<ShardCounters>> = cores.iter().map(|_| Arc::default()).collect();
        let (retired_tables, to_free) = mpsc::channel::<InForce>();
        // Freeing a large table takes longer than a turn may.
        std::thread::Builder::new()
            .name("weir-reaper".into())
            .spawn(move || panics::kept(|| to_free.iter().for_each(drop)))?;
        let health = Arc::default();
        checks::start(Arc::clone(&health)).context("cannot start the thread that watches endpoints")?;
        let seed = fastrand::u64(..);
        let mut shards = Vec::new();
        for (index, &core) in cores.iter().enumerate() {
            let start = Start {
                index,
                mailbox: Arc::clone(&mailboxes[index]),
                peers: Arc::clone(&mailboxes),
                shard_load: shard_load.clone(),
                limits: Arc::clone(&limits),
                counters: Arc::clone(&counters[index]),
                registry: Arc::clone(&registry),
                relay_mode: settings.relay,
                descriptors,
                seed,
                retired_tables: retired_tables.clone(),
            };
            let mailbox = Arc::clone(&mailboxes[index]);
            shards.push(ShardHandle { mailbox, executor: spawn(start, core)?, waiting: RefCell::default() });
        }
        let metrics = Metrics::new(
            counters,
            shard_load.clone(),
            pipes_max(descriptors),
            tail_bytes_max(cores.len()),
            Arc::clone(&limits),
            Arc::clone(&registry),
        );
        let shared = Shared { shards: shards.len(), descriptors, limits, registry, health };
        Ok(Self {
            shards,
            sockets: Vec::new(),
            shard_load,
            shared,
            metrics: Arc::new(metrics),
            retired_tables,
            handed_out: 0,
        })
    }

    /// The boards and limits that the loader binds tables to.
    pub(crate) fn shared(&self) -> Shared {
        self.shared.clone()
    }

    /// Gives every shard its copy of a table. Nothing here takes long or waits.
    pub(crate) fn hand_out(&mut self, generation: u64, copies: Vec<NewTable>, sockets: Vec<Sockets>) {
        self.sockets = sockets;
        self.handed_out = generation;
        self.shared.health.set_in_force(generation);
        for (shard, copy) in self.shards.iter().zip(copies) {
            shard.send(Message::InForce(Box::new(copy)));
        }
    }

    /// Gives up a holder's table; the last holder's is freed in a thread for that.
    pub(crate) fn retire(&self, in_force: Arc<InForce>) {
        if let Some(in_force) = Arc::into_inner(in_force) {
            // It fails only while the process ends.
            let _ = self.retired_tables.send(in_force);
        }
    }

    /// Closes every listener, as a reload that has none of them would: connections that the kernel has completed are served.
    pub(crate) fn stop_accepting(&self) {
        self.sockets.iter().for_each(Sockets::turn_away);
        self.shards.iter().for_each(|shard| shard.send(Message::CloseListeners));
    }

    /// Whether some listener is open, or is still being emptied, or is on its way to a shard with a table.
    pub(crate) fn is_accepting(&self) -> bool {
        self.metrics.listeners() > 0 || self.metrics.generation() < self.handed_out
    }

    /// Connections that are open, being dialled, or on their way from one shard to another.
    pub(crate) fn active(&self) -> u64 {
        self.shard_load.total()
    }

    /// Resets every session, evenly over this time.
    pub(crate) fn reset_all(&self, spread: Duration) {
        self.shards.iter().for_each(|shard| shard.send(Message::ResetAll(spread)));
    }

    /// Offers the shards again the messages that their mailboxes had no room for; whether none waits any more.
    pub(crate) fn deliver(&self) -> bool {
        // Each gets its turn, also behind one that has no room.
        let without_room = self.shards.iter().filter(|shard| !shard.deliver());
        without_room.count() == 0
    }

    /// Orders the shards to end.
    pub(crate) fn stop(&self) {
        self.shards.iter().for_each(|shard| shard.send(Message::Stop));
    }

    /// Waits for the end of the shards that have taken all their messages, the order to end above all.
    pub(crate) fn join(self) {
        for shard in self.shards.into_iter().filter(ShardHandle::deliver) {
            // A shard that panicked has ended the process.
            let _ = shard.executor.join();
        }
    }

    /// The counters of the shards.
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// The health board.
    pub(crate) fn health(&self) -> Arc<HealthBoard> {
        Arc::clone(&self.shared.health)
    }
}

impl ShardHandle {
    /// Puts a message behind those that wait, and delivers as many as there is room for: the mailbox of a shard that is busy taking in
    /// sockets may be full, and the control loop must not wait for it.
    fn send(&self, message: Message) {
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
