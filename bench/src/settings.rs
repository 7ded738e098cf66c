//! A run as it will be run: nothing optional that only meant "default", every name resolved.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Where the load goes.
    pub target: SocketAddr,
    /// Parts; more than one for a mix, each with its own ledger.
    pub parts: Vec<Part>,
    /// Cores the threads are pinned to, one thread each.
    pub cores: Vec<usize>,
    /// Time that runs before counting starts.
    pub warmup: Duration,
    /// How long operations are planned for.
    pub duration: Duration,
    /// How long after that the last answers are waited for.
    pub drain: Duration,
    /// Ends a run early after this many operations.
    pub operations: Option<u64>,
    /// After this an operation is given up.
    pub timeout: Duration,
    /// How closely bytes are looked at.
    pub verify: Verify,
    /// Addresses connections are made from, in turn; empty: as the kernel picks.
    pub sources: Vec<IpAddr>,
    /// Operations of an open loop that may wait for a free connection, all threads together; more are dropped, and counted.
    pub waiting: usize,
    /// Where chance starts.
    pub seed: u64,
}

/// One kind of work, its pace, and its name in reports.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// "rr", "crr", "stream down", ...
    pub name: String,
    /// Its work.
    pub work: Work,
    /// When.
    pub pace: Pace,
}

/// When operations start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Pace {
    /// The next when the last has ended. Its times are service times: they hide the cost of waiting.
    Closed,
    /// By a plan that no completion moves.
    Open {
        /// Operations a second, all threads together.
        rate: f64,
        /// How they fall.
        arrivals: Arrivals,
    },
}

/// How the intended times of an open loop fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Arrivals {
    /// Evenly.
    Constant,
    /// As if from very many independent users.
    Poisson,
}

/// How closely bytes are looked at, by both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verify {
    /// Only counted.
    Off,
    /// The first 16 bytes of each 4 KiB of a connection's stream, and every header: all but flips between are noticed.
    Stamp,
    /// Every byte.
    Full,
}

/// A kind of work.
#[derive(Clone, Debug, Serialize)]
pub enum Work {
    /// Requests and responses on connections that stay.
    Rr {
        /// Connections, all threads together.
        connections: usize,
        /// Its request and response.
        exchange: Exchange,
        /// Requests under way on one connection.
        depth: usize,
    },
    /// Connect, some exchanges, close: one operation.
    Crr {
        /// Connections at a time, all threads together.
        connections: usize,
        /// Its request and response.
        exchange: Exchange,
        /// How many exchanges a connection.
        exchanges: u32,
        /// How it ends.
        close: Close,
    },
    /// Connect and wait for the first bytes that the other end sends unasked, which proves the upstream leg; then close.
    Connect {
        /// Connections at a time, all threads together.
        connections: usize,
        /// How it ends.
        close: Close,
    },
    /// As many bytes as go.
    Stream {
        /// Connections, all threads together.
        connections: usize,
        /// Which way.
        direction: Direction,
    },
    /// Connections that do next to nothing.
    Hold {
        /// Connections, all threads together.
        connections: usize,
        /// Connections opened a second while ramping up.
        ramp: f64,
        /// How often each sends a request of its own.
        heartbeat: Option<Duration>,
    },
    /// Connections whose ends come anyhow: closed, reset, half-closed, stalled, at random offsets; against an echo, verified.
    Churn {
        /// Connections at a time, all threads together.
        connections: usize,
        /// Bytes a connection would send if nothing ended it sooner.
        bytes: Sizes,
    },
}

impl Work {
    /// Connections at a time, all threads together.
    pub fn connections(&self) -> usize {
        match self {
            Work::Rr { connections, .. }
            | Work::Crr { connections, .. }
            | Work::Connect { connections, .. }
            | Work::Stream { connections, .. }
            | Work::Hold { connections, .. }
            | Work::Churn { connections, .. } => *connections,
        }
    }
}

/// One request and its response.
#[derive(Clone, Debug, Serialize)]
pub enum Exchange {
    /// Frames of our own with these sizes, verified; see [`crate::payload::frame`]. Header included.
    Framed {
        /// Bytes of a request.
        request: Sizes,
        /// Bytes of a response; an echo answers with the request's own.
        response: Sizes,
    },
    /// The same bytes each time, and so many bytes back: for servers that speak another protocol. Nothing is verified.
    Raw {
        /// Bytes that are sent.
        request: Vec<u8>,
        /// How many bytes come back.
        response: usize,
    },
}

/// Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Sizes {
    /// Always this.
    Fixed(u32),
    /// Any from the first to the second, equally likely.
    Uniform(u32, u32),
    /// One of these, by weight.
    Weighted(Vec<(u32, u32)>),
}

impl Sizes {
    /// The smallest that may be drawn.
    pub fn smallest(&self) -> u32 {
        match self {
            Sizes::Fixed(size) | Sizes::Uniform(size, _) => *size,
            Sizes::Weighted(choices) => {
                choices.iter().filter(|(_, weight)| *weight > 0).map(|(size, _)| *size).min().unwrap_or(0)
            }
        }
    }
}

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Close {
    /// Orderly: our FIN, and theirs is waited for. Leaves a port in TIME_WAIT.
    Fin,
    /// By a reset (SO_LINGER 0), which leaves nothing behind and hides the cost of TIME_WAIT.
    Rst,
}

/// Which way bytes of a stream go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Direction {
    /// To the server, a `sink`.
    Up,
    /// From the server, a `source`.
    Down,
    /// Both at once, against an `echo`.
    Both,
}
