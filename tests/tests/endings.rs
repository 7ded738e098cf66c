//! Endings: each kind of end, on each leg, in copy and in splice, with bytes still on their way and without. Bytes received
//! before an end are always delivered first; a FIN becomes a FIN and a reset a reset.

use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use weir_bench::payload::pattern::{self, Way};
use weir_tests::backend::Upstreams;
use weir_tests::client::{
    End, PATIENCE, connect, connect_to_end, is_readable, read_end, read_exactly, read_to_end, reset,
    unacknowledged, write_all, write_until_held_back,
};
use weir_tests::wait::{assert_on_time, ms};
use weir_tests::{Backend, Weir, busy, client, quiet, wait_for};

use crate::support::edge_with;

/// Bytes on their way: more than one read and one pipe of 64 KiB, less than the kernel's buffers hold.
const PENDING: usize = 200 << 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Leg {
    Client,
    Upstream,
}

/// One Weir, and connections through it of which the test plays both sides.
struct Stage {
    weir: Weir,
    upstreams: Upstreams,
    _backend: Backend,
}

/// The side whose end is under test, and the other one.
struct Sides {
    near: TcpStream,
    far: TcpStream,
}

impl Stage {
    fn new(relay: &str, policy: &str) -> Self {
        let (backend, upstreams) = Backend::manual();
        let weir = Weir::start(&edge_with(&format!("relay = \"{relay}\""), &[backend.address], policy));
        Self { weir, upstreams, _backend: backend }
    }

    /// A connection over which a byte has gone both ways.
    fn connect(&mut self, leg: Leg) -> Sides {
        let client = connect(self.weir.address("edge"));
        let upstream = self.upstreams.next();
        for (from, to) in [(&client, &upstream), (&upstream, &client)] {
            write_all(from, b"!");
            assert_eq!(read_exactly(to, 1), b"!");
        }
        match leg {
            Leg::Client => Sides { near: client, far: upstream },
            Leg::Upstream => Sides { near: upstream, far: client },
        }
    }
}

/// The conditions of a table's row: (relay, leg, bytes pending).
fn each(policy: &str, row: impl Fn(&Stage, Leg, Sides, &[u8])) {
    let _turn = busy();
    let mut pending = vec![0; PENDING];
    pattern::fill(&mut pending, 0, Way::Up, 0);
    for relay in ["copy", "splice", "auto"] {
        let mut stage = Stage::new(relay, policy);
        for leg in [Leg::Client, Leg::Upstream] {
            for bytes in [&[][..], &pending[..1], &pending] {
                eprintln!("{relay}, {leg:?}, {} bytes pending", bytes.len());
                let sides = stage.connect(leg);
                row(&stage, leg, sides, bytes);
                stage.weir.clean();
            }
        }
        let moved = |by: &str| stage.weir.metric(&format!("weir_{by}_bytes_total"), &[]);
        match relay {
            "copy" => assert_eq!(moved("spliced"), 0.0),
            // Bytes that arrive between a splice that found nothing and the look behind it are copied.
            "splice" => assert!(moved("spliced") > 10.0 * moved("copied")),
            _ => assert!(moved("copied") > 0.0),
        }
    }
}

/// Sends bytes and waits until Weir's kernel has all of them: from there on they are received, and must be delivered.
fn hand_over(near: &TcpStream, bytes: &[u8]) {
    write_all(near, bytes);
    assert!(
        wait_for(PATIENCE, || unacknowledged(near) == 0),
        "Weir's kernel does not take {} bytes",
        bytes.len()
    );
}

#[test]
fn a_fin_becomes_a_fin_after_the_bytes_and_the_other_way_lives_on() {
    each("", |stage, _, Sides { near, far }, bytes| {
        write_all(&near, bytes);
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&far), (bytes.to_vec(), End::Fin));
        for _ in 0..3 {
            hand_over(&far, bytes);
            assert_eq!(read_exactly(&near, bytes.len()), bytes);
        }
        assert!(!is_readable(&near, ms(20)), "the other way is open");
        far.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_end(&near), End::Fin);
        assert!(wait_for(ms(1000), || stage.weir.active() == 0.0), "a FIN on both sides frees the slot");
    });
}

#[test]
fn fins_that_cross_end_both_ways() {
    each("", |_, _, Sides { near, far }, bytes| {
        write_all(&near, bytes);
        write_all(&far, bytes);
        near.shutdown(Shutdown::Write).unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&far), (bytes.to_vec(), End::Fin));
        assert_eq!(read_to_end(&near), (bytes.to_vec(), End::Fin));
    });
}

#[test]
fn a_reset_becomes_a_reset_after_the_bytes_that_came_before_it() {
    each("", |stage, leg, Sides { near, far }, bytes| {
        let reason = if leg == Leg::Client { "client_reset" } else { "upstream_reset" };
        let before = stage.weir.closed(reason);
        hand_over(&near, bytes);
        reset(near);
        assert_eq!(read_to_end(&far), (bytes.to_vec(), End::Reset));
        assert!(wait_for(ms(2000), || stage.weir.closed(reason) == before + 1.0), "counted as {reason}");
    });
}

#[test]
fn a_reset_with_the_bytes_right_before_it_still_delivers_what_arrived() {
    each("", |_, _, Sides { near, far }, bytes| {
        // No waiting: bytes that have not left the sender's kernel are thrown away there. A prefix arrives, then a reset.
        write_all(&near, bytes);
        reset(near);
        let (arrived, end) = read_to_end(&far);
        assert_eq!(end, End::Reset);
        assert!(bytes.starts_with(&arrived), "{} bytes that were never sent", arrived.len());
    });
}

#[test]
fn a_reset_after_a_fin_is_still_a_reset() {
    each("", |_, _, Sides { near, far }, bytes| {
        write_all(&near, bytes);
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&far), (bytes.to_vec(), End::Fin));
        reset(near);
        // The far side has had its FIN; the reset shows when it writes, or at once.
        let gone = wait_for(ms(2000), || {
            use std::io::Write;
            (&far).write_all(b"there?").is_err()
        });
        assert!(gone, "the far side goes on writing into nothing");
    });
}

#[test]
fn a_reset_after_a_fin_is_passed_on_to_a_side_that_sends_nothing() {
    each("", |stage, leg, Sides { near, far }, bytes| {
        let reason = if leg == Leg::Client { "client_reset" } else { "upstream_reset" };
        let before = stage.weir.closed(reason);
        write_all(&near, bytes);
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&far), (bytes.to_vec(), End::Fin));
        reset(near);
        // Reading gives the FIN again and writing would show the reset anyway: the socket's own error is what came unasked.
        let is_reset = || far.take_error().expect("it is open").is_some_and(|error| client::is_reset(&error));
        assert!(wait_for(ms(2000), is_reset), "the far side gets no reset");
        assert!(wait_for(ms(2000), || stage.weir.closed(reason) == before + 1.0), "counted as {reason}");
    });
}

#[test]
fn closing_with_unread_bytes_is_a_reset_as_the_kernel_makes_it() {
    each("", |_, _, Sides { near, far }, bytes| {
        write_all(&far, b"never read");
        assert!(is_readable(&near, PATIENCE));
        hand_over(&near, bytes);
        drop(near);
        assert_eq!(read_to_end(&far), (bytes.to_vec(), End::Reset));
    });
}

#[test]
fn a_fin_waits_for_a_reader_that_is_slow() {
    for relay in ["copy", "splice"] {
        for leg in [Leg::Client, Leg::Upstream] {
            let _turn = busy();
            let mut stage = Stage::new(relay, "flush_timeout = \"200ms\"");
            let Sides { near, far } = stage.connect(leg);
            let block = vec![b'z'; 64 << 10];
            let written = write_until_held_back(&near, &block, 64 << 20);
            near.shutdown(Shutdown::Write).unwrap();
            // Longer than flush_timeout: a FIN in its turn is no ending that has to hurry.
            assert!(!is_readable(&near, ms(400)), "{relay} {leg:?}: a slow reader is not an end");
            let (bytes, end) = read_to_end(&far);
            assert_eq!((bytes.len(), end), (written, End::Fin), "{relay} {leg:?}");
            drop((near, far));
            stage.weir.clean();
        }
    }
}

#[test]
fn a_reset_waits_flush_timeout_for_a_reader_that_does_not_read() {
    let _turn = quiet();
    for relay in ["copy", "splice"] {
        for leg in [Leg::Client, Leg::Upstream] {
            let mut stage = Stage::new(relay, "flush_timeout = \"500ms\"");
            let Sides { near, far } = stage.connect(leg);
            write_until_held_back(&near, &vec![b'z'; 64 << 10], 64 << 20);
            let start = Instant::now();
            reset(near);
            assert!(wait_for(ms(3000), || stage.weir.active() == 0.0), "{relay} {leg:?}: it never ends");
            // The last byte left before the reset, at most the 100 ms that the sender was held back before.
            assert!(start.elapsed() >= ms(390), "{relay} {leg:?}: reset after {:?}", start.elapsed());
            assert!(start.elapsed() <= ms(800), "{relay} {leg:?}: reset after {:?}", start.elapsed());
            assert_eq!(read_to_end(&far).1, End::Reset);
            stage.weir.clean();
        }
    }
}

#[test]
fn a_peer_that_keeps_its_window_closed_is_dead_after_user_timeout() {
    let _turn = quiet();
    for (leg, reason) in [(Leg::Client, "upstream_timeout"), (Leg::Upstream, "client_timeout")] {
        let mut stage = Stage::new("auto", "user_timeout = \"1s\"");
        let Sides { near, far } = stage.connect(leg);
        write_until_held_back(&near, &vec![b'z'; 64 << 10], 64 << 20);
        let (_, end) = read_to_end(&near);
        assert_eq!(end, End::Reset, "{leg:?}");
        stage.weir.expect_closed(reason, 1);
        drop(far);
        stage.weir.clean();
    }
}

#[test]
fn a_client_that_resets_while_its_upstream_is_dialled_leaves_nothing_behind() {
    let _turn = busy();
    let hole = weir_tests::backend::BlackHole::new();
    let mut weir = Weir::start(&edge_with("", &[hole.address], "connect_timeout = \"5s\""));
    let address = weir.address("edge");
    for _ in 0..50 {
        let stream = connect(address);
        reset(stream);
    }
    weir.expect_closed("client_gone", 50);
    weir.clean();
}

#[test]
fn a_client_that_ends_with_a_fin_before_its_upstream_answered_is_served() {
    let _turn = busy();
    for relay in ["copy", "splice"] {
        let mut stage = Stage::new(relay, "");
        for bytes in [&b""[..], b"question"] {
            let client = connect(stage.weir.address("edge"));
            write_all(&client, bytes);
            client.shutdown(Shutdown::Write).unwrap();
            let upstream = stage.upstreams.next();
            assert_eq!(read_to_end(&upstream), (bytes.to_vec(), End::Fin));
            write_all(&upstream, b"answer");
            drop(upstream);
            assert_eq!(read_to_end(&client), (b"answer".to_vec(), End::Fin));
        }
        stage.weir.expect_closed("done", 2);
        stage.weir.clean();
    }
}

#[test]
fn an_upstream_that_resets_at_once_resets_the_client() {
    let _turn = busy();
    let backend = Backend::resetting();
    let mut weir = Weir::start(&edge_with("", &[backend.address], ""));
    let address = weir.address("edge");
    for _ in 0..50 {
        assert_eq!(connect_to_end(address), End::Reset);
    }
    weir.clean();
}

#[test]
fn the_end_follows_the_last_byte_within_100_ms() {
    let _turn = quiet();
    for relay in ["copy", "splice"] {
        for with_reset in [false, true] {
            let mut stage = Stage::new(relay, "");
            let Sides { near, far } = stage.connect(Leg::Upstream);
            hand_over(&near, &vec![b'y'; PENDING]);
            assert_eq!(read_exactly(&far, PENDING).len(), PENDING);
            let start = Instant::now();
            if with_reset {
                reset(near)
            } else {
                drop(near)
            }
            let end = read_end(&far);
            assert_eq!(end, if with_reset { End::Reset } else { End::Fin });
            assert_on_time("the end", Duration::ZERO, start.elapsed());
        }
    }
}

/// A splice stops at a mark of urgent data for ever, and calls it the end once a FIN is there.
#[test]
fn urgent_bytes_stay_in_their_place_and_nothing_behind_them_is_lost() {
    let _turn = busy();
    for relay in ["copy", "splice", "auto"] {
        let mut stage = Stage::new(relay, "");
        for leg in [Leg::Client, Leg::Upstream] {
            let sides = stage.connect(leg);
            write_all(&sides.near, b"hello");
            rustix::net::send(&sides.near, b"!", rustix::net::SendFlags::OOB).expect("urgent data");
            write_all(&sides.near, b"world");
            assert_eq!(read_exactly(&sides.far, 11), b"hello!world", "{relay}, {leg:?}");
            rustix::net::send(&sides.near, b"!", rustix::net::SendFlags::OOB).expect("urgent data");
            write_all(&sides.near, b"bye");
            sides.near.shutdown(Shutdown::Write).expect("a FIN");
            assert_eq!(read_to_end(&sides.far), (b"!bye".to_vec(), End::Fin), "{relay}, {leg:?}");
            drop(sides);
            stage.weir.clean();
        }
    }
}
