//! The events of the control loop: all that other threads send it, and what each carries.

use std::sync::Arc;

use weir_routing::{Resolved, Settings, Sources};

use super::binding::ReadyTable;

/// An event, sent by a thread of its own kind.
#[derive(Debug)]
pub(super) enum Event {
    /// Files of the configuration may have changed.
    Changed,
    /// A signal.
    Signal(Signal),
    /// The address of some host name has changed.
    Resolved,
    /// The loader has finished a job.
    Loaded(Box<Finished>),
}

/// A signal that the loop acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// HUP.
    Reload,
    /// TERM or INT.
    Terminate,
    /// QUIT.
    Quit,
    /// USR2.
    HandOver,
}

/// The result of one of the loader's jobs.
#[derive(Debug)]
pub(super) struct Finished {
    /// The text is the one that was in force before; only addresses of its host names are new.
    pub(super) addresses_only: bool,
    /// A table, or a short reason why there is none; problems have been printed.
    pub(super) result: Result<Prepared, String>,
}

/// A configuration that comes into force by being handed out.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The table.
    pub(super) ready: ReadyTable,
    /// The texts it came from.
    pub(super) sources: Arc<Sources>,
    /// Its settings.
    pub(super) settings: Settings,
    /// The host names in it.
    pub(super) host_names: Vec<Arc<str>>,
    /// The addresses it was compiled with.
    pub(super) resolved: Resolved,
}
