//! `[proxy]` and `[log]` as the process runs by them: every value is there, "0s" has become `None` (no limit).

use std::net::SocketAddr;
use std::time::Duration;

use crate::problem::Place;

/// How data is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RelayMode {
    /// Copy, splice where it pays.
    #[default]
    Auto,
    /// Always through the buffer.
    Copy,
    /// Always through a pipe.
    Splice,
}

/// Which cores shards run on.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Cores {
    /// Those this process may use (affinity, cgroup quota).
    #[default]
    All,
    /// These.
    List(Vec<usize>),
}

/// The level of the process log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// And possible problems.
    Warn,
    /// And events.
    #[default]
    Info,
    /// And the reasons.
    Debug,
    /// And everything.
    Trace,
}

/// `[proxy]` and `[log]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Cores, and where they are written.
    pub cores: Cores,
    /// Where `cores` is written, if it is.
    pub cores_place: Option<Place>,
    /// 0: one a core.
    pub shards: usize,
    /// None: off.
    pub admin: Option<SocketAddr>,
    /// Where `admin` is written, if it is.
    pub admin_place: Option<Place>,
    /// Take changed files by themselves.
    pub watch: bool,
    /// On TERM: go on accepting this long.
    pub drain_delay: Duration,
    /// Then wait this long; `None`: without end.
    pub drain_timeout: Option<Duration>,
    /// Host names are asked again; `None`: never again.
    pub resolve_interval: Option<Duration>,
    /// The whole process; `None`: from the descriptor limit.
    pub max_connections: Option<u64>,
    /// Spin this long before a shard sleeps.
    pub busy_poll: Duration,
    /// How data is moved.
    pub relay: RelayMode,
    /// The level of the process log.
    pub log_level: LogLevel,
}
