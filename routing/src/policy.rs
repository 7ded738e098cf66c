//! The policy in force for a destination: the sum of the layers of `[policy.*]`, a service and its subset.
//! As run: every value is there, "0s" has become `None` (no limit).

use std::time::Duration;

use crate::problem::Place;

/// How an endpoint is chosen among those of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Balance {
    /// Fewest open and dialling connections of the process divided by weight: exact up to 64 endpoints, above that the
    /// better of two drawn; ties at random.
    #[default]
    LeastConnections,
    /// Weighted and smooth, one position a process.
    RoundRobin,
    /// By weight.
    Random,
    /// Maglev over the source address without its port.
    SourceIp,
}

/// TCP keepalive of both legs. `None` for the whole of it: off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe; whole seconds.
    pub time: Duration,
    /// Between probes; whole seconds.
    pub interval: Duration,
    /// Unanswered probes after which the peer counts as dead.
    pub probes: u32,
}

/// The timeouts, which a session copies when it is decided. `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// One connect attempt.
    pub connect: Option<Duration>,
    /// All connect attempts together.
    pub connect_deadline: Option<Duration>,
    /// No byte in either direction, from accept.
    pub idle: Option<Duration>,
    /// After one FIN, re-armed by bytes; takes the place of `idle`.
    pub half_close: Option<Duration>,
    /// How long an ending waits for received bytes to leave.
    pub flush: Option<Duration>,
    /// From accept.
    pub max_duration: Option<Duration>,
}

/// The policy in force for one destination (service or subset).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// The timeouts.
    pub timeouts: Timeouts,
    /// Connect attempts, at least 1; each on another endpoint.
    pub connect_attempts: u32,
    /// Open and dialling connections in this process; `None`: no limit. Of the service for a service's policy, of the subset
    /// for a subset's own; a subset that only inherits the key is limited by its service alone.
    pub max_connections: Option<u64>,
    /// TCP keepalive, both legs.
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT, both legs; `None`: the kernel's.
    pub user_timeout: Option<Duration>,
}

/// One key of a policy and where its value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// "idle_timeout".
    pub key: &'static str,
    /// "1h".
    pub value: String,
    /// None: built in.
    pub place: Option<Place>,
}
