//! The work that arms are compared by, and its names: `rr-64-512` is requests and responses of 64 bytes on 512 connections.

use std::str::FromStr;

use super::arms::End;
use crate::settings::{Close, Direction, Exchange, Sizes, Work};

/// Connections at a time when a name of work that connects has no number of them.
const CONNECTING: usize = 16;
/// Connections of a hold that are opened a second: as many as the slowest peer accepts without refusing.
const RAMP: f64 = 3000.0;

/// One piece of work.
#[derive(Clone, Debug)]
pub struct Job {
    /// As it was asked for.
    pub name: String,
    /// The work itself.
    pub work: Work,
    /// The back end it needs.
    pub end: End,
}

/// The work of a whole comparison.
pub const DEFAULT: [&str; 10] = [
    "rr-64-1",
    "rr-64-64",
    "rr-64-512",
    "rr-16k-64",
    "crr-64",
    "stream-down-4",
    "stream-up-4",
    "stream-down-64",
    "stream-up-64",
    "hold-9000",
];

/// The work of a short one.
pub const QUICK: [&str; 4] = ["rr-64-64", "crr-64", "stream-down-4", "hold-1000"];

/// The unit of work, which decides the unit of its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds an operation.
    Operation,
    /// Seconds for 1e9 bytes.
    Gigabyte,
    /// A connection that is held.
    Connection,
}

impl Unit {
    /// Of the work with this name.
    pub fn of(work: &str) -> Self {
        match work.split('-').next() {
            Some("stream") => Unit::Gigabyte,
            Some("hold") => Unit::Connection,
            _ => Unit::Operation,
        }
    }

    /// A cost of this many CPU seconds for so many operations. Connections that nothing is sent on cost memory, not CPU.
    pub fn cost(self, cpu: f64, operations: f64) -> f64 {
        let scale = match self {
            Unit::Operation => 1e6,
            Unit::Gigabyte => 1.0,
            Unit::Connection => return 0.0,
        };
        if operations > 0.0 { cpu / operations * scale } else { 0.0 }
    }

    /// Unit of the headline figure.
    pub fn cost_name(self) -> &'static str {
        match self {
            Unit::Operation => "us CPU an operation",
            Unit::Gigabyte => "s CPU a GB",
            Unit::Connection => "bytes a connection",
        }
    }
}

impl Job {
    /// Whether it also makes sense by a plan.
    pub fn can_be_open(&self) -> bool {
        Unit::of(&self.name) == Unit::Operation
    }

    /// How many connections it has.
    pub fn connections(&self) -> usize {
        match self.work {
            Work::Rr { connections, .. }
            | Work::Crr { connections, .. }
            | Work::Connect { connections, .. }
            | Work::Stream { connections, .. }
            | Work::Hold { connections, .. }
            | Work::Churn { connections, .. } => connections,
        }
    }
}

impl FromStr for Job {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let words: Vec<&str> = name.split('-').collect();
        let crr = |close, bytes: &str, connections| {
            let (exchange, exchanges) = (exchange(bytes)?, 1);
            Ok::<_, String>((Work::Crr { connections, exchange, exchanges, close }, End::Rr))
        };
        let (work, end) = match words[..] {
            ["rr", bytes, connections] => {
                let (connections, exchange) = (number(connections)?, exchange(bytes)?);
                (Work::Rr { connections, exchange, depth: 1 }, End::Rr)
            }
            ["crr", "fin", bytes] => crr(Close::Fin, bytes, CONNECTING)?,
            ["crr", "fin", bytes, connections] => crr(Close::Fin, bytes, number(connections)?)?,
            ["crr", bytes] => crr(Close::Rst, bytes, CONNECTING)?,
            ["crr", bytes, connections] => crr(Close::Rst, bytes, number(connections)?)?,
            ["connect", connections] => {
                (Work::Connect { connections: number(connections)?, close: Close::Rst }, End::Banner)
            }
            ["stream", "down", connections] => {
                (Work::Stream { connections: number(connections)?, direction: Direction::Down }, End::Source)
            }
            ["stream", "up", connections] => {
                (Work::Stream { connections: number(connections)?, direction: Direction::Up }, End::Sink)
            }
            ["hold", connections] => {
                (Work::Hold { connections: number(connections)?, ramp: RAMP, heartbeat: None }, End::Rr)
            }
            _ => {
                return Err(
                    "wanted rr-BYTES-CONNECTIONS, crr-BYTES[-CONNECTIONS], crr-fin-BYTES[-CONNECTIONS], \
                    connect-CONNECTIONS, stream-down-CONNECTIONS, stream-up-CONNECTIONS or hold-CONNECTIONS"
                        .to_owned(),
                );
            }
        };
        Ok(Self { name: name.to_owned(), work, end })
    }
}

fn number(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(connections @ 1..=1_000_000) => Ok(connections),
        _ => Err(format!("{text:?} is no number of connections from 1 to 1000000")),
    }
}

/// Requests and responses of the same size: `64`, `16k`.
fn exchange(text: &str) -> Result<Exchange, String> {
    let bytes = match text.strip_suffix('k') {
        Some(thousands) => thousands.parse::<u32>().ok().and_then(|number| number.checked_mul(1024)),
        None => text.parse().ok(),
    };
    match bytes {
        Some(bytes @ 16..=0x0400_0000) => {
            Ok(Exchange::Framed { request: Sizes::Fixed(bytes), response: Sizes::Fixed(bytes) })
        }
        _ => Err(format!("{text:?} is no size from 16 (a header) to 65536k")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_its_work() {
        fn check(name: &str, expected: &str) {
            let found = match name.parse::<Job>() {
                Ok(Job { work: Work::Rr { connections, exchange, depth }, end, .. }) => {
                    format!("{end:?} {connections} {} x{depth}", bytes(&exchange))
                }
                Ok(Job { work: Work::Crr { connections, exchange, exchanges, close }, end, .. }) => {
                    format!("{end:?} {connections} {} x{exchanges} {close:?}", bytes(&exchange))
                }
                Ok(Job { work: Work::Stream { connections, direction }, end, .. }) => {
                    format!("{end:?} {connections} {direction:?}")
                }
                Ok(job) => format!("{:?} {}", job.end, job.connections()),
                Err(message) => message,
            };
            assert!(found.contains(expected), "{name}: {found}, not {expected}");
        }
        fn bytes(exchange: &Exchange) -> u32 {
            match exchange {
                Exchange::Framed { request: Sizes::Fixed(up), response: Sizes::Fixed(down) }
                    if up == down =>
                {
                    *up
                }
                other => panic!("{other:?}"),
            }
        }
        check("rr-64-512", "Rr 512 64 x1");
        check("rr-16k-64", "Rr 64 16384 x1");
        check("crr-64", "Rr 16 64 x1 Rst");
        check("crr-64-4", "Rr 4 64 x1 Rst");
        check("crr-fin-100", "Rr 16 100 x1 Fin");
        check("crr-fin-100-2", "Rr 2 100 x1 Fin");
        check("connect-8", "Banner 8");
        check("stream-down-4", "Source 4 Down");
        check("stream-up-64", "Sink 64 Up");
        check("hold-9000", "Rr 9000");
        check("rr-64", "wanted rr-");
        check("stream-both-4", "wanted rr-");
        check("", "wanted rr-");
        check("rr-64-0", "no number of connections");
        check("hold-many", "no number of connections");
        check("rr-15-1", "no size");
        check("rr-4294967295k-1", "no size");
        DEFAULT.iter().chain(&QUICK).for_each(|name| drop(name.parse::<Job>().unwrap()));
    }

    #[test]
    fn costs_are_microseconds_an_operation_and_seconds_a_gigabyte() {
        fn check(work: &str, expected: f64) {
            assert!((Unit::of(work).cost(0.5, 100.0) - expected).abs() < 1e-9, "{work}");
        }
        check("rr-64-1", 5000.0);
        check("crr-64", 5000.0);
        check("stream-up-4", 0.005);
        check("hold-9000", 0.0);
        assert!(Unit::Operation.cost(1.0, 0.0).abs() < 1e-9);
    }
}
