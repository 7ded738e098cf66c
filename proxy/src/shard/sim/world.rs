//! The world of a simulated shard: the simulated kernel, listeners that dials meet, and what is known of each attempt. The ring's
//! completions are in `ring.rs`, the calls of the shard in `machine.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_routing::Keepalive;

use super::posted::Posted;
use super::sabotage::Sabotage;
use super::seen::Seen;
use crate::boards::counters::ShardCounters;
use crate::os::ring::{SlotId, Watched};
use crate::reason::Reason;
use crate::sim::net::{Net, Poll};
use crate::sim::shape::{Ending, Shape};

/// How a listener answers a dial that begins now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    Accepts,
    Refuses,
    /// Nothing is heard of it; the kernel gives up after two minutes.
    Never,
    Unreachable,
    /// This host has no source port left towards it.
    NoSourcePort,
    /// This process has no descriptor left.
    NoDescriptor,
}

impl Answers {
    pub(super) const ALL: [Self; 6] = [
        Self::Accepts,
        Self::Refuses,
        Self::Never,
        Self::Unreachable,
        Self::NoSourcePort,
        Self::NoDescriptor,
    ];

    pub(super) fn result(self) -> Result<(), i32> {
        match self {
            Self::Accepts => Ok(()),
            Self::Refuses => Err(libc::ECONNREFUSED),
            Self::Never => Err(libc::ETIMEDOUT),
            Self::Unreachable => Err(libc::ENETUNREACH),
            Self::NoSourcePort => Err(libc::EADDRNOTAVAIL),
            Self::NoDescriptor => Err(libc::EMFILE),
        }
    }
}

/// How far the ring is with a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    /// The kernel has not taken it.
    Asked,
    UnderWay,
    /// Its completion is posted.
    Posted,
    /// Its completion was delivered to a session that dialled.
    Served,
}

/// One connect.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) id: SlotId,
    pub(super) address: SocketAddr,
    /// Microseconds.
    pub(super) since: u64,
    /// Microseconds: when the network's answer comes.
    pub(super) due: u64,
    pub(super) result: Result<(), i32>,
    pub(super) meets_itself: bool,
    pub(super) progress: Progress,
    /// How often it was cancelled, and when first.
    pub(super) cancels: u32,
    pub(super) cancelled_at: u64,
    /// The peer has a connection.
    pub(super) established: bool,
    pub(super) relayed: bool,
}

/// Bytes that calls moved, by socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) read: u64,
    pub(super) sent: u64,
    pub(super) fin_read: bool,
}

/// What boards should show of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) connected: u64,
    pub(super) failed: BTreeMap<&'static str, u64>,
}

/// See the file's opening.
pub(super) struct World {
    pub(super) net: Net,
    pub(super) counters: Arc<ShardCounters>,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) seen: Seen,
    /// What a socket's poll is called.
    pub(super) watched: Vec<Option<Watched>>,
    pub(super) tallies: Vec<Tally>,
    /// By socket.
    pub(super) attempts: BTreeMap<usize, Attempt>,
    /// The completion queue.
    pub(super) queue: VecDeque<Posted>,
    /// Last completions that were delivered, by which later ones of the same slot can be doubled.
    pub(super) delivered: Vec<Posted>,
    pub(super) answers: BTreeMap<SocketAddr, Answers>,
    pub(super) has_source_address: bool,
    pub(super) expected: BTreeMap<SocketAddr, Expected>,
    /// Reasons of attempts that failed at once.
    pub(super) failed_at_once: Vec<Reason>,
    /// Calls on the system so far.
    pub(super) calls: u64,
    /// The time-out of the attempt that a new socket is for.
    pub(super) connect_timeout: Option<Duration>,
}

impl World {
    pub(super) fn new(net: Net, counters: Arc<ShardCounters>, sabotage: Option<Sabotage>) -> Self {
        Self {
            net,
            counters,
            sabotage,
            seen: Seen::default(),
            watched: vec![],
            tallies: vec![],
            attempts: BTreeMap::new(),
            queue: VecDeque::new(),
            delivered: vec![],
            answers: BTreeMap::new(),
            has_source_address: true,
            expected: BTreeMap::new(),
            failed_at_once: vec![],
            calls: 0,
            connect_timeout: None,
        }
    }

    /// A socket whose poll has not been asked for.
    pub(super) fn add(&mut self, keepalive: Option<Keepalive>) -> usize {
        let shape = self.shape();
        let patience = keepalive.map(patience);
        self.watched.push(None);
        self.tallies.push(Tally::default());
        self.net.add(shape, usize::MAX, patience, Poll::Gone)
    }

    fn shape(&mut self) -> Shape {
        let (faults, rng) = (self.net.faults, &mut self.net.rng);
        let endings = [
            Ending::Fin,
            Ending::Fin,
            Ending::Close,
            Ending::Reset,
            Ending::FinReset,
            Ending::Answer,
            Ending::Vanish,
            Ending::Silence,
        ];
        let most = [1, 200, 64 << 10, 4 << 20][rng.usize(0..4)];
        let mut room = || 1 << rng.u32(12..21);
        let (window, rx_room, tx_room) = (room(), room(), room());
        Shape {
            to_send: rng.u64(0..most),
            ending: endings[rng.usize(0..endings.len())],
            reads: !faults || rng.u8(..) > 20,
            window,
            rx_room,
            tx_room,
            segment: [100, 1448, 4096, 32768][rng.usize(0..4)],
        }
    }

    /// An attempt at this endpoint has failed, which its row must show.
    pub(super) fn expect_failure(&mut self, address: SocketAddr, reason: Reason) {
        *self.expected.entry(address).or_default().failed.entry(reason.as_str()).or_default() += 1;
    }

    /// How an attempt that ended with this error has failed; `None`: not at the endpoint.
    pub(super) fn failure(&self, errno: i32) -> Option<Reason> {
        match errno {
            libc::EMFILE => None,
            libc::ECONNREFUSED => Some(Reason::ConnectRefused),
            libc::ETIMEDOUT | libc::ECANCELED => Some(Reason::ConnectTimeout),
            libc::EADDRNOTAVAIL if self.has_source_address => Some(Reason::NoSourcePort),
            _ => Some(Reason::ConnectError),
        }
    }

    /// Whether the ring still has a request of this socket, or a completion of one.
    pub(super) fn is_held(&self, socket: usize) -> bool {
        let connects = self.attempts.get(&socket).is_some_and(|attempt| {
            attempt.progress < Progress::Posted || self.queue.iter().any(|it| it.is_connect_of(attempt.id))
        });
        let polls = self.net.sockets[socket].poll != Poll::Gone;
        let last =
            self.watched[socket].is_some_and(|watched| self.queue.iter().any(|it| it.is_poll_of(watched)));
        connects || polls || last
    }

    /// Whether the ring still has a request of this slot, or a completion of one.
    pub(super) fn is_slot_held(&self, slot: u32) -> bool {
        let of_slot = |socket: usize| {
            let id = match self.watched[socket] {
                Some(Watched::Client(id) | Watched::Upstream(id)) => Some(id),
                _ => self.attempts.get(&socket).map(|attempt| attempt.id),
            };
            id.is_some_and(|id| id.slot == slot)
        };
        (0..self.net.sockets.len())
            .any(|socket| self.net.sockets[socket].open && of_slot(socket) && self.is_held(socket))
    }

    /// Enters a call on the socket.
    pub(super) fn enter(&mut self, socket: usize) {
        self.calls += 1;
        let is_open = self.net.sockets[socket].open;
        self.net.require(is_open, || format!("a call on the closed socket {socket}"));
    }

    pub(super) fn close(&mut self, socket: usize) {
        let is_held = self.is_held(socket);
        self.net.require(!is_held, || format!("socket {socket} was closed while the ring had it"));
        let it = &self.net.sockets[socket];
        let is_ended = it.reset_by_us || it.dead_at.is_some();
        let is_left = self.attempts.get(&socket).is_some_and(|it| it.established && !it.relayed) && !is_ended;
        self.net.require(!is_left, || format!("upstream {socket} sees a client that came and left in order"));
        self.net.close(socket);
    }
}

/// How long a peer may leave bytes unacknowledged.
pub(super) fn patience(keepalive: Keepalive) -> Duration {
    keepalive.time + keepalive.interval * keepalive.probes
}
