//! The program `weir`: its control thread and its shards. The only crate that does I/O for clients.
//!
//! `cli` reads the arguments. `front` reads and checks a configuration and prints what is wrong with it; it is the only part that
//! other programs use. `preflight` looks at the host. `control` then runs everything that is not data: reload, signals, names, the
//! admin server. It hands each new table to the `fleet` of shards. A `shard` then takes a connection through admission,
//! `dial` and `relay` to its `outcome`.

pub mod front;

#[cfg(feature = "runtime")]
mod boards;
#[cfg(feature = "runtime")]
mod checks;
#[cfg(feature = "runtime")]
mod cli;
#[cfg(feature = "runtime")]
mod clock;
#[cfg(feature = "runtime")]
mod control;
#[cfg(feature = "runtime")]
mod cores;
#[cfg(feature = "runtime")]
mod demo;
#[cfg(feature = "runtime")]
mod descriptors;
#[cfg(feature = "runtime")]
mod dial;
#[cfg(feature = "runtime")]
mod fleet;
#[cfg(feature = "runtime")]
mod listener;
#[cfg(feature = "runtime")]
mod log;
#[cfg(feature = "runtime")]
mod mailbox;
#[cfg(feature = "runtime")]
mod os;
#[cfg(feature = "runtime")]
mod outcome;
#[cfg(feature = "runtime")]
mod panics;
#[cfg(feature = "runtime")]
mod preflight;
#[cfg(feature = "runtime")]
mod reason;
#[cfg(feature = "runtime")]
mod relay;
#[cfg(feature = "runtime")]
mod shard;
#[cfg(all(test, feature = "runtime"))]
mod sim;
#[cfg(feature = "runtime")]
mod version;
#[cfg(feature = "runtime")]
mod wheel;

#[cfg(feature = "runtime")]
pub use self::cli::main;
