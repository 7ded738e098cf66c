//! The program `weir`: its control thread and its shards. The only crate that does I/O for clients.
//!
//! `cli` reads the arguments. `load` reads and checks a configuration, `report` prints what is wrong with it. `preflight` looks at
//! the host. `control` then runs everything that is not data: reload, signals, names, the admin server. It hands each new
//! table to the `fleet` of shards. A `shard` then takes a connection through `accept`, `dial` and `relay` to its `outcome`.

pub mod accept;
pub mod boards;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod control;
pub mod cores;
pub mod demo;
pub mod descriptors;
pub mod dial;
pub mod fleet;
pub mod later;
pub mod listener;
pub mod load;
pub mod log;
pub mod mailbox;
pub mod os;
pub mod outcome;
pub mod panics;
pub mod pools;
pub mod preflight;
pub mod reason;
pub mod relay;
pub mod report;
pub mod session;
pub mod shard;
pub mod version;
mod visible;
pub mod wheel;
