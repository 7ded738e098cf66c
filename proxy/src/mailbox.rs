//! What others want of a shard: a bounded queue, and a doorbell that the shard's ring polls.
//!
//! The executor's own channels are not used: on a shard it looks at them only when its pre-emption timer has fired, so that a
//! message could be 100 ms late.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use concurrent_queue::{ConcurrentQueue, PushError};
use rustix::event::{EventfdFlags, eventfd};
use weir_routing::GatewayId;

use crate::accept::HandedOver;
use crate::boards::in_force::InForce;

/// Messages that may wait. A handed-over socket that finds it full stays where it was accepted.
const CAPACITY: usize = 4096;

/// Names a listener of the process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

/// A message to a shard.
#[derive(Debug)]
pub enum Message {
    /// Decide by this from now on.
    InForce(Box<NewTable>),
    /// A socket that another shard accepted.
    Socket(HandedOver),
    /// Close every listener, as a reload that has none of them would: they get no new connections any more.
    CloseListeners,
    /// Reset what is left, spread over this time.
    ResetAll(Duration),
    /// Leave the loop.
    Stop,
}

/// A table with the listeners that belong to it.
#[derive(Debug)]
pub struct NewTable {
    /// The shard's own copy.
    pub in_force: Arc<InForce>,
    /// The gateway of each listener that stays or is new; the others, which get no new connections any more, are closed.
    pub listeners: Arc<HashMap<ListenerId, GatewayId>>,
    /// This shard's sockets of the new ones.
    pub opened: Vec<(ListenerId, SocketAddr, Arc<OwnedFd>)>,
    /// How long the shard spins before it sleeps.
    pub busy_poll: Duration,
}

/// A shard's mailbox.
#[derive(Debug)]
pub struct Mailbox {
    queue: ConcurrentQueue<Message>,
    doorbell: OwnedFd,
}

impl Mailbox {
    /// An empty one.
    ///
    /// Errors: no descriptor left for the doorbell.
    pub fn new() -> io::Result<Self> {
        let doorbell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { queue: ConcurrentQueue::bounded(CAPACITY), doorbell })
    }

    /// Puts a message in and rings. Gives it back if the mailbox is full.
    pub fn send(&self, message: Message) -> Result<(), Message> {
        match self.queue.push(message) {
            Ok(()) => {
                // Full (2^64 rings) cannot be, and a doorbell is rung for its edge, not for its count.
                let _ = rustix::io::write(&self.doorbell, &1u64.to_ne_bytes());
                Ok(())
            }
            Err(PushError::Full(message) | PushError::Closed(message)) => Err(message),
        }
    }

    /// The next message.
    pub fn take(&self) -> Option<Message> {
        self.queue.pop().ok()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What the ring polls.
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.doorbell.as_fd()
    }
}
