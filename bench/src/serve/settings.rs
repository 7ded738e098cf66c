//! A back end's settings, and the counts it ends with.

use std::net::SocketAddr;
use std::time::Duration;

/// What a back end is asked to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What it does.
    pub mode: Mode,
    /// Where it listens; port 0 is any free one.
    pub addresses: Vec<SocketAddr>,
    /// Threads, each with its own listeners.
    pub threads: usize,
    /// Core of the first thread; the next has the next one.
    pub core: Option<usize>,
    /// Connections that may wait to be accepted.
    pub backlog: i32,
}

/// What a back end does with a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// Sends back what comes.
    Echo,
    /// Reads all and, if a header asked for it, says at the end what it got.
    Sink,
    /// Sends pattern until nobody reads any more.
    Source,
    /// Sends back each line with this before it.
    Lines {
        /// What comes before a line, and a space after it.
        prefix: String,
    },
    /// Answers framed requests with framed responses of the size they ask for.
    Rr,
    /// Speaks first, then only listens.
    Banner {
        /// What it says.
        text: String,
    },
    /// An echo that takes its time.
    Slow {
        /// How long what came is kept before it is sent back.
        delay: Duration,
        /// Bytes a second that are read.
        rate: Option<u64>,
    },
    /// An echo on which not every connection can rely.
    Flaky(Fates),
}

impl Mode {
    /// Whether nothing can be done for a connection before the client has said something.
    pub(super) fn waits_for_client(&self) -> bool {
        !matches!(self, Mode::Banner { .. } | Mode::Flaky(_))
    }

    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Mode::Echo => "echo",
            Mode::Sink => "sink",
            Mode::Source => "source",
            Mode::Lines { .. } => "lines",
            Mode::Rr => "rr",
            Mode::Banner { .. } => "banner",
            Mode::Slow { .. } => "slow",
            Mode::Flaky(_) => "flaky",
        }
    }
}

/// Fractions of connections that do not end well, and where their chance starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fates {
    /// Reset at once.
    pub refuse: f64,
    /// Reset after some bytes.
    pub reset: f64,
    /// Closed after some bytes.
    pub close: f64,
    /// Never heard of again after some bytes.
    pub stall: f64,
    /// The same seed gives the connections of a thread the same fates in the same order.
    pub seed: u64,
}

/// What was done until it was ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Connections accepted.
    pub connections: u64,
    /// Connections that ended in an error, such as a reset.
    pub broken: u64,
    /// Bytes that came.
    pub bytes_in: u64,
    /// Bytes that went.
    pub bytes_out: u64,
    /// Streams and requests that were not what they had to be.
    pub faults: u64,
}

impl std::ops::AddAssign for Served {
    fn add_assign(&mut self, other: Served) {
        self.connections += other.connections;
        self.broken += other.broken;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.faults += other.faults;
    }
}
