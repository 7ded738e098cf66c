//! The table of endings: what happens on one leg, and what the other leg sees. Each row for either leg, by copy and by splice, and
//! with what was received delivered already, stuck until its reader goes on, or stuck for good.

use weir_routing::RelayMode;
use weir_routing::Timeouts;

use super::shard::{Shard, keepalive, timeouts};
use crate::reason::Reason;
use crate::relay::Side;
use crate::sim::net::Net;
use crate::sim::shape::{Ending, Shape};

/// What the leg sends before its end: more than the buffers towards the other leg take.
const SENT: u64 = 50_000;

const IDLE: u64 = 1_000;
const HALF_CLOSE: u64 = 700;
const FLUSH: u64 = 300;

/// A timer may be late by the wheel's tick and a turn, and a send queue may be asked 50 ms later.
const LATE: u64 = 62;

/// What happens on one leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Fin,
    Reset,
    /// The reset stands behind the data when the relay first looks.
    DataAndReset,
    FinThenReset,
    /// Keepalive or TCP_USER_TIMEOUT gave up.
    Dead,
    Silence,
    MaxDuration,
    Drain,
}

/// When the other leg's reader takes what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    AtOnce,
    Later,
    Never,
}

/// What the other leg's peer has seen.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    everything: bool,
    fin: bool,
    reset: bool,
}

/// A session, the leg on which things happen, and the other.
struct Case {
    shard: Shard,
    session: usize,
    this: usize,
    that: usize,
}

impl Case {
    fn new(side: Side, mode: RelayMode, reader: Reader, max_duration: u64) -> Self {
        Self::with(side, mode, reader, timeouts(IDLE, HALF_CLOSE, FLUSH, max_duration), 0)
    }

    fn with(side: Side, mode: RelayMode, reader: Reader, timeouts: Timeouts, patience: u64) -> Self {
        let mut net = Net::new(1, 8, 16);
        net.faults = false;
        let mut shard = Shard::new(net, None);
        let shape = |to_send, window| Shape {
            to_send,
            ending: Ending::Fin,
            reads: true,
            window,
            rx_room: 1 << 20,
            tx_room: 8 << 10,
            segment: 4096,
        };
        let window = if reader == Reader::AtOnce { 1 << 20 } else { 0 };
        let mut shapes = [shape(SENT, 1 << 20), shape(10, window)];
        if side == Side::Upstream {
            shapes.reverse();
        }
        let session = shard.open(shapes, timeouts, keepalive(patience), mode);
        let sockets = shard.sockets(session);
        let (this, that) = (sockets[side as usize], sockets[side.other() as usize]);
        Self { shard, session, this, that }
    }

    /// Turns of a millisecond until something is so, at most `most`; how many it took.
    fn run(&mut self, most: u64, until: impl Fn(&Self) -> bool) -> u64 {
        for passed in 0..most {
            if until(self) {
                return passed;
            }
            for socket in [self.this, self.that] {
                self.shard.net.flow(socket, usize::MAX);
                self.shard.net.peer_reads(socket, usize::MAX);
            }
            self.shard.turn();
            self.shard.net.now += 1_000;
            assert_eq!(self.shard.net.broken, None, "{}", self.shard.describe());
        }
        most
    }

    fn happen(&mut self, event: Event) {
        let ending = match event {
            Event::Fin => Ending::Fin,
            Event::Reset | Event::DataAndReset => Ending::Reset,
            Event::FinThenReset => Ending::FinReset,
            Event::Dead => Ending::Vanish,
            Event::Silence | Event::MaxDuration => return,
            Event::Drain => return self.shard.kill(self.session, Reason::Drain),
        };
        self.shard.net.sockets[self.this].peer.ending = ending;
        self.shard.net.peer_ends(self.this);
        if event == Event::FinThenReset {
            self.shard.net.peer_ends(self.this);
        }
    }

    fn ended(&self) -> Option<Reason> {
        self.shard.ended(self.session)
    }

    fn seen(&self, socket: usize) -> Seen {
        let peer = &self.shard.net.sockets[socket].peer;
        Seen { everything: peer.arrived == SENT, fin: peer.has_fin, reset: peer.has_reset }
    }
}

/// The row's last two columns: what the other leg sees, and the reason. `None`: the session goes on.
fn expected(event: Event, side: Side, reader: Reader) -> (Seen, Option<Reason>) {
    let client = side == Side::Client;
    let either = |if_client, if_upstream| Some(if client { if_client } else { if_upstream });
    let everything = reader != Reader::Never;
    let by_reset = Seen { everything, fin: false, reset: true };
    match event {
        Event::Fin if everything => (Seen { everything, fin: true, reset: false }, None),
        // What is held has to leave before more is read, and so the FIN behind it is not known.
        Event::Fin => (by_reset, Some(Reason::IdleTimeout)),
        Event::Reset | Event::DataAndReset | Event::FinThenReset => {
            (by_reset, either(Reason::ClientReset, Reason::UpstreamReset))
        }
        Event::Dead => (by_reset, either(Reason::ClientTimeout, Reason::UpstreamTimeout)),
        Event::Silence => (Seen { everything, fin: everything, reset: true }, Some(Reason::IdleTimeout)),
        Event::MaxDuration => (Seen { everything, fin: everything, reset: true }, Some(Reason::MaxDuration)),
        Event::Drain => {
            (Seen { everything: reader == Reader::AtOnce, fin: false, reset: true }, Some(Reason::Drain))
        }
    }
}

fn check(event: Event, side: Side, mode: RelayMode, reader: Reader) {
    let max_duration = if event == Event::MaxDuration { 200 } else { 0 };
    let mut case = Case::new(side, mode, reader, max_duration);
    case.shard.net.peer_sends(case.this, SENT as usize);
    if event != Event::DataAndReset {
        case.run(20, |_| false);
    }
    case.happen(event);
    // The moment from which the row's clock runs.
    case.run(20, |_| false);
    if let Some(quiet) = quiet_for(event) {
        let passed = case.run(quiet + LATE, |case| case.seen(case.this).fin || case.ended().is_some());
        assert!(passed + 40 >= quiet && passed < quiet + LATE, "time was up after {passed} ms");
    }
    if reader == Reader::Later {
        let seen = case.seen(case.that);
        assert!(event == Event::Drain || !seen.fin && !seen.reset, "an end overtook the data: {seen:?}");
        case.shard.net.sockets[case.that].peer.window = 1 << 20;
    }
    let most = IDLE + 2 * FLUSH + 2 * LATE;
    let (want, reason) = expected(event, side, reader);
    if reason.is_some() {
        case.run(most, |case| case.ended().is_some());
    } else {
        case.run(50, |_| false);
    }
    assert_eq!((case.seen(case.that), case.ended()), (want, reason));
    if reason.is_none() {
        answer(&mut case);
    }
    case.run(5, |_| false);
    case.shard.net.check_returned();
    assert_eq!(case.shard.net.broken, None);
}

/// How long a time-out waits that is the event.
fn quiet_for(event: Event) -> Option<u64> {
    match event {
        Event::Silence => Some(IDLE),
        Event::MaxDuration => Some(200),
        _ => None,
    }
}

/// The half-closed session still carries the answer, and ends with the other FIN at once.
fn answer(case: &mut Case) {
    case.shard.net.peer_sends(case.that, 10);
    case.run(5, |_| false);
    assert_eq!(case.shard.net.sockets[case.this].peer.arrived, 10);
    case.shard.net.peer_ends(case.that);
    case.run(3, |_| false);
    assert!(case.seen(case.this).fin);
    assert_eq!(case.ended(), Some(Reason::Done));
}

#[test]
fn each_leg_learns_how_the_other_ended() {
    use Event::{DataAndReset, Dead, Drain, Fin, FinThenReset, MaxDuration, Reset, Silence};
    for event in [Fin, Reset, DataAndReset, FinThenReset, Dead, Silence, MaxDuration, Drain] {
        for side in Side::BOTH {
            for mode in [RelayMode::Copy, RelayMode::Splice] {
                for reader in [Reader::AtOnce, Reader::Later, Reader::Never] {
                    eprintln!("{event:?} on {side:?}, {mode:?}, reads {reader:?}");
                    check(event, side, mode, reader);
                }
            }
        }
    }
}

#[test]
fn half_close_is_bounded_and_bytes_extend_it() {
    for side in Side::BOTH {
        let mut case = Case::new(side, RelayMode::Auto, Reader::AtOnce, 0);
        case.shard.net.peer_sends(case.this, SENT as usize);
        case.happen(Event::Fin);
        case.run(HALF_CLOSE - 100, |_| false);
        case.shard.net.peer_sends(case.that, 10);
        let passed = case.run(2 * HALF_CLOSE, |case| case.seen(case.this).fin);
        assert!((HALF_CLOSE..HALF_CLOSE + LATE).contains(&passed), "{passed} ms after the last byte");
        let passed = case.run(2 * FLUSH, |case| case.ended().is_some());
        assert!((FLUSH..FLUSH + LATE).contains(&passed), "the reset came {passed} ms later");
        assert_eq!(case.ended(), Some(Reason::HalfCloseTimeout));
        assert!(
            case.seen(case.that).reset && !case.seen(case.this).reset,
            "who has ended in order is not reset"
        );
    }
}

/// What keepalive takes; it looks every fifth of it.
const PATIENCE: u64 = 500;

#[test]
fn a_peer_that_falls_silent_with_bytes_under_way_is_given_up() {
    for side in Side::BOTH {
        for mode in [RelayMode::Copy, RelayMode::Splice] {
            for patience in [PATIENCE, 0] {
                eprintln!("{side:?}, {mode:?}, keepalive takes {patience}");
                let mut case = Case::with(side, mode, Reader::AtOnce, timeouts(0, 0, FLUSH, 0), patience);
                case.shard.net.peer_sends(case.this, SENT as usize);
                case.run(20, |_| false);
                case.shard.net.sockets[case.this].peer.ending = Ending::Silence;
                case.shard.net.peer_ends(case.this);
                // These bytes it will not acknowledge, and those that follow move idleness on.
                case.shard.net.peer_sends(case.that, 5);
                let passed = case.run(2 * PATIENCE, |case| case.ended().is_some());
                if patience == 0 {
                    assert_eq!(case.ended(), None, "without keepalive nothing is promised");
                    continue;
                }
                assert!((PATIENCE..PATIENCE + PATIENCE / 5 + LATE).contains(&passed), "after {passed} ms");
                let reason = [Reason::ClientTimeout, Reason::UpstreamTimeout][side as usize];
                assert_eq!(case.ended(), Some(reason));
                assert_eq!(case.seen(case.that), Seen { everything: true, fin: false, reset: true });
                case.run(5, |_| false);
                case.shard.net.check_returned();
                assert_eq!(case.shard.net.broken, None);
            }
        }
    }
}

#[test]
fn a_peer_whose_window_is_closed_lives() {
    for side in Side::BOTH {
        for mode in [RelayMode::Copy, RelayMode::Splice] {
            let mut case = Case::with(side, mode, Reader::Later, timeouts(0, 0, FLUSH, 0), PATIENCE);
            case.shard.net.peer_sends(case.this, SENT as usize);
            case.run(10 * PATIENCE, |case| case.ended().is_some());
            assert_eq!(case.ended(), None, "{side:?}, {mode:?}");
            case.shard.net.sockets[case.that].peer.window = 1 << 20;
            case.run(20, |_| false);
            assert!(case.seen(case.that).everything, "{side:?}, {mode:?}");
        }
    }
}
