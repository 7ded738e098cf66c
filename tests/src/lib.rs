//! The ground of the tests from outside: Weir as a child process, clients and backends that behave and misbehave, streams
//! whose every byte shows where it belongs. The claims themselves are in `tests/`, one test binary for all of them.
//!
//! A test takes its [`turn`] first: those that measure time run alone, the others next to each other.

pub mod backend;
pub mod client;
pub mod dns;
pub mod exchange;
pub mod host;
pub mod metrics;
pub mod netns;
pub mod process;
pub mod program;
pub mod turn;
pub mod wait;
pub mod weir_process;

pub use backend::Backend;
pub use metrics::Metrics;
pub use netns::Namespace;
pub use process::Process;
pub use turn::{busy, quiet, together};
pub use wait::{holds_for, wait_for};
pub use weir_process::{Launch, Weir};
