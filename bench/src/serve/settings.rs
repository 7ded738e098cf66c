//! A back end's settings, and the counts it ends with.

use std::net::SocketAddr;
use std::time::Duration;

/// Settings of a back end.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Its kind.
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

/// A back end's way with a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// Sends back all bytes.
    Echo,
    /// Reads all and, if a header asked for it, reports at the end what it received.
    Sink,
    /// Sends pattern until the reader is gone.
    Source,
    /// Sends back each line with this before it.
    Lines {
        /// Text before a line, and a space after it.
        prefix: String,
    },
    /// Answers framed requests with framed responses of the size they ask for.
    Rr,
    /// Speaks first, then only listens.
    Banner {
        /// Its greeting.
        text: String,
    },
    /// An echo that takes its time.
    Slow {
        /// How long bytes are kept before they are sent back.
        delay: Duration,
        /// Bytes a second that are read.
        rate: Option<u64>,
    },
    /// An echo on which not every connection can rely.
    Flaky(Fates),
}

impl Mode {
    /// Whether nothing can be done for a connection before the client has sent something.
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
    /// Neither read nor answered after some bytes.
    pub stall: f64,
    /// The same seed gives the connections of a thread the same fates in the same order.
    pub seed: u64,
}

/// Counts of a server that has ended.
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
    /// Streams and requests with a fault.
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
