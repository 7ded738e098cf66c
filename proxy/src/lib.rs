//! The program `weir`: its control thread and its shards. The only crate that does I/O for clients.
//!
//! `cli` reads the arguments. `load` reads and checks a configuration, `report` prints what is wrong with it. `preflight` looks at
//! the host. `control` then runs everything that is not data: reload, signals, names, the admin server. It hands each new
//! table to the `fleet` of shards.

pub mod cli;
pub mod control;
pub mod cores;
pub mod demo;
pub mod fleet;
pub mod load;
pub mod metrics_text;
pub mod preflight;
pub mod process_log;
pub mod report;
pub mod ring;
pub mod sys;
pub mod version;
