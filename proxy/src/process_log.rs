//! The process log: what happens to the process, on stderr. One line a connection is the access log's, not this one's.

use std::io;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};
use weir_routing::compile::LogLevel;

use crate::report::coloured;

/// The door through which a reload changes the level.
#[derive(Clone, Debug)]
pub struct ProcessLog {
    level: reload::Handle<LevelFilter, Registry>,
}

impl ProcessLog {
    /// Starts the process log. Only the first of a process writes anything.
    pub fn start(level: LogLevel) -> Self {
        let (filter, handle) = reload::Layer::new(filter(level));
        let lines =
            fmt::layer().with_writer(io::stderr).with_ansi(coloured(&io::stderr())).with_target(false);
        // A second log of one process can only be a test's: it keeps the first.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Self { level: handle }
    }

    /// From now on this level.
    pub fn set_level(&self, level: LogLevel) {
        // Fails only if the subscriber is gone, and then nobody reads the log.
        let _ = self.level.reload(filter(level));
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
