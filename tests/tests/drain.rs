//! TERM and INT: queued connections are served, sessions may finish, those left at the deadline are reset, and the exit is 0.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use weir_tests::client::{End, ask, ask_once, connect, read_end, try_ask, try_connect};
use weir_tests::metrics::{Metrics, get};
use weir_tests::wait::ms;
use weir_tests::{Backend, Weir, busy, holds_for, quiet, wait_for};

use crate::support::edge_with;

fn start(backend: &Backend, proxy: &str) -> (Weir, TcpStream) {
    let mut weir = Weir::start(&edge_with(proxy, &[backend.address], ""));
    let stream = connect(weir.address("edge"));
    assert_eq!(ask(&stream, "hello"), "one hello");
    (weir, stream)
}

/// Waits until nothing is accepted any more.
fn stopped_accepting(weir: &mut Weir) -> bool {
    let address = weir.address("edge");
    wait_for(ms(3000), || try_connect(address).is_err())
}

#[test]
fn an_idle_weir_ends_at_once_with_0() {
    let _turn = busy();
    for signal in [Signal::TERM, Signal::INT] {
        let backend = Backend::lines("one");
        let (mut weir, stream) = start(&backend, "");
        drop(stream);
        weir.clean();
        weir.signal(signal);
        assert_eq!(weir.exit(Duration::from_secs(3)).code(), Some(0));
    }
}

#[test]
fn open_sessions_finish_and_new_ones_are_refused() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let (mut weir, stream) = start(&backend, "");
    weir.signal(Signal::TERM);
    assert!(stopped_accepting(&mut weir), "it goes on accepting");
    for _ in 0..10 {
        assert_eq!(ask(&stream, "still"), "one still");
    }
    assert!(weir.is_running());
    drop(stream);
    assert_eq!(weir.exit(Duration::from_secs(3)).code(), Some(0));
}

#[test]
fn another_weir_may_have_the_address_while_sessions_drain() {
    let _turn = quiet();
    let (backend, other) = (Backend::lines("one"), Backend::lines("two"));
    let (mut weir, stream) = start(&backend, "");
    let address = weir.address("edge");
    weir.signal(Signal::QUIT);
    assert!(stopped_accepting(&mut weir), "it goes on accepting");
    let at = edge_with("", &[other.address], "").replace("127.0.0.1:0\"]", &format!("{address}\"]"));
    let mut next = Weir::start(&at);
    assert_eq!(next.address("edge"), address, "{at}");
    assert_eq!(ask_once(address, "hello").ok().as_deref(), Some("two hello"));
    assert_eq!(ask(&stream, "still"), "one still");
    drop(stream);
    assert_eq!(weir.exit(Duration::from_secs(3)).code(), Some(0));
    assert_eq!(ask_once(address, "hello").ok().as_deref(), Some("two hello"));
}

#[test]
fn sessions_left_at_drain_timeout_are_reset() {
    let _turn = quiet();
    let (backend, upstreams) = Backend::manual();
    let mut weir = Weir::start(&edge_with("drain_timeout = \"1s\"", &[backend.address], ""));
    let address = weir.address("edge");
    let clients: Vec<TcpStream> = (0..10).map(|_| connect(address)).collect();
    let held: Vec<TcpStream> = (0..10).map(|_| upstreams.next()).collect();
    let start = Instant::now();
    weir.signal(Signal::TERM);
    for stream in clients.iter().chain(&held) {
        assert_eq!(read_end(stream), End::Reset);
        // Spread over the last fifth of the deadline.
        assert!(start.elapsed() >= ms(800), "reset after {:?}", start.elapsed());
    }
    assert_eq!(weir.exit(Duration::from_secs(2)).code(), Some(0));
    assert!(start.elapsed() <= ms(1500), "gone after {:?}", start.elapsed());
}

#[test]
fn a_session_that_is_reset_at_drain_timeout_is_counted_as_drain() {
    const OPEN: usize = 10;
    let _turn = busy();
    let (backend, upstreams) = Backend::manual();
    let mut weir = Weir::start(&edge_with("drain_timeout = \"2s\"", &[backend.address], ""));
    let address = weir.address("edge");
    let clients: Vec<TcpStream> = (0..OPEN).map(|_| connect(address)).collect();
    let _held: Vec<TcpStream> = (0..OPEN).map(|_| upstreams.next()).collect();
    weir.signal(Signal::TERM);
    // Sessions are reset one after the other over 400 ms, and the admin server answers until the last one is gone.
    let mut by_reason = BTreeMap::new();
    while let Ok(answer) = get(weir.admin(), "/metrics", "localhost") {
        by_reason = Metrics::parse(&answer.body).by_label("weir_connections_closed_total", "reason");
    }
    assert_eq!(weir.exit(Duration::from_secs(3)).code(), Some(0));
    let drained = by_reason.remove("drain").unwrap_or_default();
    assert!((1.0..=OPEN as f64).contains(&drained), "{drained} of {OPEN} as drain, others as {by_reason:?}");
    assert_eq!(by_reason.values().sum::<f64>(), 0.0, "others as {by_reason:?}");
    clients.iter().for_each(|stream| assert_eq!(read_end(stream), End::Reset));
}

#[test]
fn a_second_signal_means_now() {
    let _turn = busy();
    for second in [Signal::TERM, Signal::INT] {
        let backend = Backend::lines("one");
        let (mut weir, stream) = start(&backend, "drain_timeout = \"0s\"");
        weir.signal(Signal::TERM);
        assert!(stopped_accepting(&mut weir), "it goes on accepting");
        // Connects are refused at once, and two signals within 50 ms count as one.
        assert!(holds_for(ms(100), || ask(&stream, "still") == "one still"));
        weir.signal(second);
        assert_eq!(read_end(&stream), End::Reset);
        assert_eq!(weir.exit(Duration::from_secs(2)).code(), Some(0));
    }
}

#[test]
fn two_signals_within_50_ms_are_one() {
    let _turn = quiet();
    for second in [Signal::TERM, Signal::INT] {
        let backend = Backend::lines("one");
        let (mut weir, stream) = start(&backend, "");
        let first = Instant::now();
        weir.signal(Signal::TERM);
        // As far apart as `timeout` sends them.
        while first.elapsed() < ms(1) {
            std::hint::spin_loop();
        }
        weir.signal(second);
        assert!(stopped_accepting(&mut weir), "it goes on accepting");
        assert!(holds_for(ms(200), || try_ask(&stream, "still").is_ok()), "the session is reset");
        drop(stream);
        assert_eq!(weir.exit(Duration::from_secs(3)).code(), Some(0));
    }
}

#[test]
fn no_connection_that_the_kernel_has_completed_is_reset() {
    let _turn = quiet();
    for round in 0..10 {
        let backend = Backend::lines("one");
        let (mut weir, stream) = start(&backend, "");
        let address = weir.address("edge");
        // Stopped, it accepts nothing: these wait in the kernel's queues when the signal comes.
        weir.pause();
        let queued: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
        weir.signal(Signal::TERM);
        weir.resume();
        for (at, stream) in queued.iter().enumerate() {
            let answer = try_ask(stream, "hello");
            assert_eq!(answer.ok().as_deref(), Some("one hello"), "round {round}: connection {at} of 100");
        }
        drop((queued, stream));
        assert_eq!(weir.exit(Duration::from_secs(3)).code(), Some(0));
    }
}

#[test]
fn under_load_a_drain_refuses_and_never_resets() {
    let _turn = quiet();
    for _ in 0..5 {
        let backend = Backend::lines("one");
        let (mut weir, stream) = start(&backend, "");
        let address = weir.address("edge");
        drop(stream);
        let clients: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    loop {
                        match try_connect(address) {
                            Ok(stream) => assert_eq!(try_ask(&stream, "hello").expect("served"), "one hello"),
                            Err(error) => return error.kind(),
                        }
                    }
                })
            })
            .collect();
        assert!(wait_for(ms(2000), || backend.accepted() > 200));
        weir.signal(Signal::TERM);
        for client in clients {
            assert_eq!(client.join().expect("no reset"), std::io::ErrorKind::ConnectionRefused);
        }
        assert_eq!(weir.exit(Duration::from_secs(3)).code(), Some(0));
    }
}

#[test]
fn hangup_and_friends_do_not_end_it() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let (mut weir, stream) = start(&backend, "");
    for signal in [Signal::PIPE, Signal::WINCH, Signal::TTIN, Signal::TTOU, Signal::HUP] {
        weir.signal(signal);
    }
    assert!(holds_for(ms(200), || weir.is_running()));
    assert_eq!(ask(&stream, "still"), "one still");
    assert!(ask_once(weir.address("edge"), "new").is_ok());
}
