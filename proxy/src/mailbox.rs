//! Messages to a thread that sleeps in a ring: a bounded queue, and a doorbell that the ring polls.
//!
//! The executor's own channels are not used: on a shard it looks at them only when its pre-emption timer has fired, so that a
//! message could be 100 ms late.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use concurrent_queue::{ConcurrentQueue, PushError};
use rustix::event::{EventfdFlags, eventfd};

/// Messages that may wait. A handed-over socket that finds the mailbox full stays where it was accepted.
const CAPACITY: usize = 4096;

/// A mailbox.
#[derive(Debug)]
pub(crate) struct Mailbox<Message> {
    queue: ConcurrentQueue<Message>,
    doorbell: OwnedFd,
}

impl<Message> Mailbox<Message> {
    /// An empty one.
    ///
    /// Errors: no descriptor left for the doorbell.
    pub(crate) fn new() -> io::Result<Self> {
        let doorbell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { queue: ConcurrentQueue::bounded(CAPACITY), doorbell })
    }

    /// Puts a message in and rings. Gives it back if the mailbox is full.
    pub(crate) fn send(&self, message: Message) -> Result<(), Message> {
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
    pub(crate) fn take(&self) -> Option<Message> {
        self.queue.pop().ok()
    }

    /// Whether no message waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The descriptor that the ring polls.
    pub(crate) fn doorbell(&self) -> BorrowedFd<'_> {
        self.doorbell.as_fd()
    }
}
