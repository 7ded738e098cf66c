//! The admin server, as a monitor and a browser would see it.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::process::Signal;
use weir_tests::client::{ask, ask_once, connect};
use weir_tests::metrics::{get, request};
use weir_tests::wait::ms;
use weir_tests::{Backend, Weir, busy, quiet, wait_for};

use crate::support::{edge, edge_with};

#[test]
fn paths_have_their_status() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let weir = Weir::start(&edge(&[backend.address], ""));
    for (path, status) in
        [("/live", 200), ("/ready", 200), ("/metrics", 200), ("/nothing", 404), ("/../live", 404)]
    {
        assert_eq!(weir.get(path).status, status, "{path}");
    }
    let post = request(
        weir.admin(),
        "POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(post.expect("an answer").status, 405);
}

#[test]
fn only_a_host_that_is_an_address_or_localhost_is_answered() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let weir = Weir::start(&edge(&[backend.address], ""));
    let port = weir.admin().port();
    for (host, answered) in [
        ("localhost".to_owned(), true),
        (format!("localhost:{port}"), true),
        (format!("127.0.0.1:{port}"), true),
        ("[::1]".to_owned(), true),
        ("10.1.2.3".to_owned(), true),
        ("weir.attacker.example".to_owned(), false),
        (format!("rebound.example:{port}"), false),
    ] {
        let answer = get(weir.admin(), "/metrics", &host).expect("an answer");
        assert_eq!(answer.status == 200, answered, "Host: {host} got {}", answer.status);
        assert_eq!(answer.body.contains("weir_"), answered, "Host: {host}");
    }
}

#[test]
fn metrics_count_the_bytes_that_moved() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let mut weir = Weir::start(&edge(&[backend.address], ""));
    let stream = connect(weir.address("edge"));
    assert_eq!(ask(&stream, "hello"), "one hello");
    for (name, labels, value) in [
        ("weir_connections_opened_total", &[("gateway", "edge"), ("route", "")][..], 1.0),
        ("weir_connections_active", &[("gateway", "edge"), ("service", "db")][..], 1.0),
        ("weir_shard_connections_active", &[][..], 1.0),
        ("weir_connections_closed_total", &[][..], 0.0),
        ("weir_bytes_total", &[("service", "db"), ("direction", "up")][..], 6.0),
        ("weir_bytes_total", &[("service", "db"), ("direction", "down")][..], 10.0),
        ("weir_config_last_reload_successful", &[][..], 1.0),
        ("weir_draining", &[][..], 0.0),
    ] {
        let mut found = 0.0;
        let reached = wait_for(ms(2000), || {
            found = weir.metric(name, labels);
            found == value
        });
        assert!(reached, "{name}{labels:?} is {found}, not {value}");
    }
    assert!(weir.metric("weir_build_info", &[]) == 1.0 && weir.metric("weir_config_generation", &[]) >= 1.0);
    drop(stream);
    weir.expect_closed("done", 1);
    let labels = [("gateway", "edge"), ("service", "db"), ("reason", "done"), ("fault", "ok")];
    assert_eq!(weir.metric("weir_connections_closed_total", &labels), 1.0);
    weir.clean();
}

#[test]
fn opened_is_closed_and_active_at_every_moment() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let mut weir = Weir::start(&edge(&[backend.address], ""));
    let (address, stop) = (weir.address("edge"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    ask_once(address, "hello").expect("an answer");
                }
            });
        }
        for _ in 0..200 {
            let metrics = weir.metrics();
            let sum = |name: &str| metrics.sum(name, &[]);
            let (opened, closed) =
                (sum("weir_connections_opened_total"), sum("weir_connections_closed_total"));
            let active = sum("weir_connections_active");
            if opened != closed + active {
                stop.store(true, Ordering::Relaxed);
                panic!("opened {opened}, closed {closed}, active {active}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    weir.clean();
}

#[test]
fn ready_is_503_as_soon_as_it_drains() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let mut weir = Weir::start(&edge_with("drain_delay = \"2s\"", &[backend.address], ""));
    let address = weir.address("edge");
    let stream: TcpStream = connect(address);
    assert_eq!(ask(&stream, "hello"), "one hello");
    weir.signal(Signal::TERM);
    assert!(wait_for(ms(500), || weir.get("/ready").status == 503), "still ready");
    assert_eq!(weir.get("/live").status, 200);
    assert_eq!(weir.metric("weir_draining", &[]), 1.0);
    assert_eq!(ask_once(address, "more").expect("drain_delay: it goes on accepting"), "one more");
}

#[test]
fn a_silent_client_does_not_keep_others_from_asking() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let weir = Weir::start(&edge(&[backend.address], ""));
    let silent: Vec<TcpStream> = (0..20).map(|_| connect(weir.admin())).collect();
    assert_eq!(weir.get("/live").status, 200);
    drop(silent);
}

#[test]
fn silent_clients_make_room_for_those_who_ask() {
    let _turn = quiet();
    let backend = Backend::lines("one");
    let weir = Weir::start(&edge(&[backend.address], ""));
    let mut silent: Vec<TcpStream> = Vec::new();
    for round in 0..20 {
        silent.extend((0..70).map(|_| connect(weir.admin())));
        for path in ["/live", "/ready"] {
            let start = Instant::now();
            assert_eq!(weir.get(path).status, 200, "{path}, round {round}");
            assert!(start.elapsed() <= ms(100), "{path}, round {round}: {:?}", start.elapsed());
        }
    }
    drop(silent);
    weir.clean();
}
