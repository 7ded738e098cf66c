//! Weir, the program: control thread, shards, ring, relay. The only crate that does I/O for clients.

pub mod accept;
pub mod clock;
pub mod dial;
pub mod fleet;
pub mod health;
pub mod in_force;
pub mod limits;
pub mod listener;
pub mod mailbox;
pub mod metrics;
pub mod outcome;
pub mod pools;
pub mod relay;
pub mod ring;
pub mod session;
pub mod shard;
pub mod sys;
pub mod wheel;
