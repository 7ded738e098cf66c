//! Copy or splice: when a direction changes, what it does without a pipe, and that quiet sessions hold nothing.

use weir_routing::RelayMode;

use super::shard::{Shard, timeouts};
use crate::relay::direction::SPLICED_FOR_ONE;
use crate::relay::{BUDGET, HOT_BUFFER, PIPE_BYTES, TAIL_CLASSES};
use crate::sim::net::Net;
use crate::sim::shape::{Ending, Shape};

/// A session whose client sends; its reader is never in the way.
fn session(mode: RelayMode, pipes: usize) -> Shard {
    let mut net = Net::new(1, pipes, 256);
    net.faults = false;
    let mut shard = Shard::new(net, None);
    let shape = |to_send| Shape {
        to_send,
        ending: Ending::Fin,
        reads: true,
        window: 8 << 20,
        rx_room: 8 << 20,
        tx_room: 8 << 20,
        segment: 32 << 10,
    };
    shard.open([shape(64 << 20), shape(0)], timeouts(0, 0, 0, 0), None, mode);
    shard
}

/// Nothing bounds what is queued towards a reader: a whole turn goes through before it reads.
fn lift_bounds(shard: &mut Shard) {
    shard.net.sockets.iter_mut().for_each(|socket| socket.unsent_max = usize::MAX);
}

/// The client sends so much at once; it is relayed until nothing moves, and the bytes (copied, spliced) are told.
fn send(shard: &mut Shard, count: usize) -> (u64, u64) {
    let before = (shard.seen.copied, shard.seen.spliced);
    assert!(shard.net.peer_sends(0, count));
    while shard.turn() || shard.needs_no_sleep() {
        shard.net.flow(1, usize::MAX);
        shard.net.peer_reads(1, usize::MAX);
    }
    assert_eq!(shard.net.broken, None);
    assert_eq!(shard.net.sockets[1].peer.arrived, shard.net.sockets[0].peer.sent);
    (shard.seen.copied - before.0, shard.seen.spliced - before.1)
}

#[test]
fn streams_are_spliced_and_conversations_are_copied() {
    const FULL: usize = HOT_BUFFER;
    const ALL_COPIED: (u64, u64) = (FULL as u64, 0);
    let mut shard = session(RelayMode::Auto, 4);
    for _ in 0..3 {
        assert_eq!(send(&mut shard, FULL), ALL_COPIED);
    }
    assert_eq!(send(&mut shard, 1_000), (1_000, 0), "a short read begins the count again");
    for _ in 0..4 {
        assert_eq!(send(&mut shard, FULL), ALL_COPIED);
    }
    assert_eq!(send(&mut shard, FULL), (0, FULL as u64), "after four full reads in a row");
    for _ in 0..15 {
        assert_eq!(send(&mut shard, 1_000), (0, 1_000));
    }
    assert_eq!(send(&mut shard, 16 << 10), (0, 16 << 10), "a long move begins the count again");
    for _ in 0..16 {
        assert_eq!(send(&mut shard, 1_000), (0, 1_000));
    }
    assert_eq!(send(&mut shard, 1_000), (1_000, 0), "after sixteen short moves in a row");
}

#[test]
fn a_fixed_path_stays() {
    for (mode, pipes, spliced) in [
        (RelayMode::Copy, 4, false),
        (RelayMode::Splice, 4, true),
        (RelayMode::Splice, 0, false),
        (RelayMode::Auto, 0, false),
    ] {
        let mut shard = session(mode, pipes);
        for count in [100_usize; 20].into_iter().chain([4 << 20, 1]) {
            let all = count as u64;
            let want = if spliced { (0, all) } else { (all, 0) };
            assert_eq!(send(&mut shard, count), want, "{count} bytes, {mode:?} with {pipes} pipes");
        }
    }
}

#[test]
fn a_turn_ends_with_its_budget_and_a_retry() {
    for (mode, budget) in [(RelayMode::Copy, BUDGET), (RelayMode::Splice, SPLICED_FOR_ONE * BUDGET)] {
        let mut shard = session(mode, 4);
        lift_bounds(&mut shard);
        shard.net.peer_sends(0, 3 * budget);
        for turn in 1..=3 {
            shard.turn();
            let moved = shard.seen.copied + shard.seen.spliced;
            assert_eq!(moved as usize, turn * budget, "{mode:?}, turn {turn}");
            let is_known_to_be_all = turn == 3 && mode == RelayMode::Copy;
            assert_eq!(shard.needs_no_sleep(), !is_known_to_be_all, "a splice does not say what it left");
        }
        shard.turn();
        assert!(!shard.needs_no_sleep());
    }
}

/// Opens sessions whose readers read nothing, on a shard where each client has so much to send.
fn stalled(sessions: usize, mode: RelayMode, to_send: usize) -> Shard {
    let mut net = Net::new(1, 4, 256);
    net.faults = false;
    let mut shard = Shard::new(net, None);
    for _ in 0..sessions {
        let shape = |to_send| Shape {
            to_send,
            ending: Ending::Fin,
            reads: false,
            window: 0,
            rx_room: 4 << 20,
            tx_room: 16 << 10,
            segment: 32 << 10,
        };
        shard.open([shape(to_send as u64), shape(0)], timeouts(0, 0, 0, 0), None, mode);
    }
    shard
}

/// All clients send what they may, until nothing moves.
fn fill(shard: &mut Shard) {
    loop {
        let mut sent = false;
        for client in (0..shard.net.sockets.len()).step_by(2) {
            sent |= shard.net.peer_sends(client, usize::MAX);
        }
        if !sent && !shard.needs_no_sleep() && !shard.turn() {
            return;
        }
        shard.turn();
        assert_eq!(shard.net.broken, None);
    }
}

#[test]
fn a_stalled_reader_holds_a_pipe_of_bounded_bytes() {
    let mut shard = stalled(1, RelayMode::Splice, 16 << 20);
    let held = |shard: &Shard| shard.sessions[0].ledger.read[0] - shard.sessions[0].ledger.sent[1];
    fill(&mut shard);
    assert_eq!(held(&shard), HOT_BUFFER as u64, "of one that has read nothing");
    shard.net.sockets[1].peer.window = 8 << 20;
    while shard.net.flow(1, usize::MAX) || shard.needs_no_sleep() {
        shard.turn();
        shard.net.peer_sends(0, usize::MAX);
    }
    fill(&mut shard);
    assert_eq!(held(&shard), PIPE_BYTES as u64, "its slots hold eight times as much");
}

#[test]
fn stalled_readers_share_the_budget_of_tails() {
    const SESSIONS: usize = 64;
    let mut shard = stalled(SESSIONS, RelayMode::Copy, 1 << 20);
    shard.net.tail_budget = 1 << 20;
    fill(&mut shard);
    let held = shard.sessions.iter().map(|session| session.ledger.tails).sum::<usize>();
    assert_eq!(held, SESSIONS, "whoever stalls holds a tail, also at the budget");
    assert!(shard.net.tail_bytes <= shard.net.tail_budget + SESSIONS * TAIL_CLASSES[0]);
    assert!(shard.net.tail_bytes >= shard.net.tail_budget / 2, "it is used");
}

#[test]
fn what_a_turn_leaves_out_is_first_in_the_next() {
    let mut shard = session(RelayMode::Copy, 0);
    let shape = Shape {
        to_send: 1 << 20,
        ending: Ending::Fin,
        reads: true,
        window: 8 << 20,
        rx_room: 8 << 20,
        tx_room: 8 << 20,
        segment: 32 << 10,
    };
    for _ in 1..3 {
        shard.open([shape, Shape { to_send: 0, ..shape }], timeouts(0, 0, 0, 0), None, RelayMode::Copy);
    }
    lift_bounds(&mut shard);
    shard.turn_bytes = BUDGET as u64;
    for client in [0, 2, 4] {
        shard.net.peer_sends(client, 2 * BUDGET);
    }
    for turn in 0..6 {
        shard.turn();
        let read: Vec<u64> = shard.sessions.iter().map(|session| session.ledger.read[0]).collect();
        let turns = |session: usize| (turn + 3 - session) / 3 * BUDGET;
        assert_eq!(read, [0, 1, 2].map(|session| turns(session) as u64), "turn {turn}");
    }
}
