//! Timeouts: never early, at most 100 ms and 1 % late, and the ends that both sides get when one is reached.

use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use weir_tests::backend::Upstreams;
use weir_tests::client::{End, connect, is_readable, read_end, read_exactly, write_all};
use weir_tests::wait::{assert_on_time, ms};
use weir_tests::{Backend, Weir, quiet};

use crate::support::edge;

struct Pair {
    weir: Weir,
    client: TcpStream,
    upstream: TcpStream,
    accepted: Instant,
    _backend: (Backend, Upstreams),
}

/// One connection through a Weir with this policy; `accepted` is just before it was opened.
fn pair(policy: &str) -> Pair {
    let (backend, upstreams) = Backend::manual();
    let mut weir = Weir::start(&edge(&[backend.address], policy));
    let address = weir.address("edge");
    let accepted = Instant::now();
    let client = connect(address);
    let upstream = upstreams.next();
    Pair { weir, client, upstream, accepted, _backend: (backend, upstreams) }
}

#[test]
fn an_idle_connection_ends_with_a_fin_on_both_sides() {
    let _turn = quiet();
    let Pair { weir, client, upstream, accepted, _backend } = pair("idle_timeout = \"600ms\"");
    assert_eq!(read_end(&client), End::Fin);
    assert_on_time("idle from accept", ms(600), accepted.elapsed());
    assert_eq!(read_end(&upstream), End::Fin);
    drop((client, upstream));
    weir.expect_closed("idle_timeout", 1);
    weir.clean();
}

#[test]
fn bytes_either_way_put_idleness_off() {
    let _turn = quiet();
    let Pair { weir, client, upstream, accepted, _backend } = pair("idle_timeout = \"600ms\"");
    let mut last = accepted;
    for round in 0..6 {
        assert!(!is_readable(&client, ms(300)), "alive in round {round}");
        let (from, to) = if round % 2 == 0 { (&client, &upstream) } else { (&upstream, &client) };
        last = Instant::now();
        write_all(from, b"x");
        read_exactly(to, 1);
    }
    assert_eq!(read_end(&client), End::Fin);
    assert_on_time("idle after the last byte", ms(600), last.elapsed());
    drop((client, upstream));
    weir.expect_closed("idle_timeout", 1);
}

#[test]
fn a_half_closed_connection_has_its_own_timeout() {
    let _turn = quiet();
    let policy = "idle_timeout = \"300ms\"\nhalf_close_timeout = \"700ms\"";
    for up in [true, false] {
        let Pair { weir, client, upstream, _backend, .. } = pair(policy);
        let (near, far) = if up { (client, upstream) } else { (upstream, client) };
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_end(&far), End::Fin);
        assert!(!is_readable(&near, ms(400)), "idle_timeout no longer counts");
        let last = Instant::now();
        write_all(&far, b"late");
        assert_eq!(read_exactly(&near, 4), b"late");
        assert_eq!(read_end(&near), End::Fin);
        assert_on_time("half-closed after the last byte", ms(700), last.elapsed());
        drop((near, far));
        weir.expect_closed("half_close_timeout", 1);
        weir.clean();
    }
}

#[test]
fn max_duration_runs_from_accept_whatever_moves() {
    let _turn = quiet();
    let Pair { weir, client, upstream, accepted, _backend } = pair("max_duration = \"700ms\"");
    while !is_readable(&client, ms(50)) {
        write_all(&client, b"x");
        read_exactly(&upstream, 1);
        assert!(accepted.elapsed() < ms(2000), "it does not end");
    }
    assert_on_time("from accept", ms(700), accepted.elapsed());
    assert_eq!(read_end(&client), End::Fin);
    assert_eq!(read_end(&upstream), End::Fin);
    drop((client, upstream));
    weir.expect_closed("max_duration", 1);
    weir.clean();
}

#[test]
fn peers_that_ignore_the_fin_are_reset_after_flush_timeout() {
    let _turn = quiet();
    let Pair { weir, client, upstream, accepted, _backend } =
        pair("idle_timeout = \"300ms\"\nflush_timeout = \"400ms\"");
    assert_eq!(read_end(&client), End::Fin);
    assert_eq!(read_end(&upstream), End::Fin);
    weir.expect_closed("idle_timeout", 1);
    assert!(accepted.elapsed() >= ms(700), "they had flush_timeout to answer");
    assert!(accepted.elapsed() <= ms(700 + 300), "reset after {:?}", accepted.elapsed());
    weir.clean();
    drop((client, upstream));
}

#[test]
#[ignore = "long: run by CI"]
fn long_timeouts_hold_for_many_connections_at_once() {
    let _turn = quiet();
    let (backend, upstreams) = Backend::manual();
    let mut weir = Weir::start(&edge(&[backend.address], "idle_timeout = \"2s\""));
    let address = weir.address("edge");
    let clients: Vec<(Instant, TcpStream)> = (0..300).map(|_| (Instant::now(), connect(address))).collect();
    let held: Vec<TcpStream> = (0..300).map(|_| upstreams.next()).collect();
    let threads: Vec<_> = clients
        .into_iter()
        .map(|(start, client)| {
            std::thread::spawn(move || {
                assert_eq!(read_end(&client), End::Fin);
                start.elapsed()
            })
        })
        .collect();
    for thread in threads {
        assert_on_time("idle", Duration::from_secs(2), thread.join().expect("an orderly end"));
    }
    drop(held);
    weir.expect_closed("idle_timeout", 300);
    weir.clean();
}
