//! Connection limits, exact across shards.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use weir_tests::client::{End, ask, connect_from, connect_to_end, try_ask, try_connect};
use weir_tests::{Backend, Weir, busy, wait_for};

use crate::support::{edge, edge_with};

const LIMIT: usize = 40;
const TRIES: usize = 200;

/// Opens many connections at once; returns those that are served.
fn rush(address: SocketAddr) -> Vec<TcpStream> {
    let threads: Vec<_> = (0..TRIES)
        .map(|_| {
            std::thread::spawn(move || {
                let stream = try_connect(address).ok()?;
                try_ask(&stream, "hello").is_ok().then_some(stream)
            })
        })
        .collect();
    threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
}

/// Each round fills the limit exactly, whatever shard a connection lands on; connections that end make room for as many.
fn check(toml: &str, reason: &str) {
    let _turn = busy();
    let mut weir = Weir::start(toml);
    let address = weir.address("edge");
    let mut served = rush(address);
    assert_eq!(served.len(), LIMIT);
    weir.expect_closed(reason, TRIES - LIMIT);
    assert_eq!(weir.active(), LIMIT as f64);

    served.truncate(LIMIT - 7);
    assert!(wait_for(Duration::from_secs(2), || weir.active() == (LIMIT - 7) as f64));
    let more = rush(address);
    assert_eq!(more.len(), 7);
    for stream in served.iter().chain(&more) {
        assert_eq!(ask(stream, "again"), "one again");
    }
    assert_eq!(connect_to_end(address), End::Reset);
    drop((served, more));
    weir.clean();
}

#[test]
fn the_limit_of_the_process_is_exact() {
    let backend = Backend::lines("one");
    check(
        &edge_with(&format!("shards = 2\nmax_connections = {LIMIT}"), &[backend.address], ""),
        "limit_process",
    );
}

#[test]
fn the_limit_of_a_service_is_exact() {
    let backend = Backend::lines("one");
    check(&edge(&[backend.address], &format!("max_connections = {LIMIT}")), "limit_service");
}

#[test]
fn a_subset_counts_in_its_own_limit_and_in_its_services() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let mut weir = Weir::start(&format!(
        r#"
[gateway.edge]
listen = ["127.0.0.1:0"]
to = [{{ service = "db", subset = "v1" }}]

[gateway.all]
listen = ["127.0.0.1:0"]
to = [{{ service = "db" }}]

[service.db]
endpoints = [{{ address = "{}", labels = {{ version = "v1" }} }}]
policy = {{ max_connections = 3 }}

[service.db.subset.v1]
labels = {{ version = "v1" }}
policy = {{ max_connections = 2 }}
"#,
        backend.address
    ));
    let (edge, all) = (weir.address("edge"), weir.address("all"));
    let mut held = Vec::new();
    for (address, served) in [(edge, true), (edge, true), (edge, false), (all, true), (all, false)] {
        let stream = try_connect(address).ok().filter(|stream| try_ask(stream, "hello").is_ok());
        assert_eq!(stream.is_some(), served, "{address} after {}", held.len());
        held.extend(stream);
    }
    weir.expect_closed("limit_service", 2);
}

/// Gateway `edge` with these lines, over one service of a back end of lines.
fn limited(gateway: &str, backend: &Backend) -> String {
    format!(
        "[proxy]\nshards = 2\n[gateway.edge]\nlisten = [\"127.0.0.1:0\"]\n{gateway}\n\
         to = [{{ service = \"db\" }}]\n[service.db]\nendpoints = [\"{}\"]\n",
        backend.address
    )
}

#[test]
fn the_limit_of_a_gateway_is_exact() {
    let backend = Backend::lines("one");
    check(&limited(&format!("max_connections = {LIMIT}"), &backend), "limit_gateway");
}

/// A connection from this address of the loopback network that is served; none where it is refused.
fn served_from(source: u8, address: SocketAddr) -> Option<TcpStream> {
    let stream = connect_from([127, 0, 0, source].into(), address).ok()?;
    try_ask(&stream, "hello").is_ok().then_some(stream)
}

#[test]
fn each_source_has_a_limit_of_its_own() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let mut weir = Weir::start(&limited("max_connections_per_source = 3", &backend));
    let address = weir.address("edge");
    let mut held: Vec<TcpStream> = Vec::new();
    for source in [5, 6] {
        let served: Vec<TcpStream> = (0..6).filter_map(|_| served_from(source, address)).collect();
        assert_eq!(served.len(), 3, "127.0.0.{source}");
        held.extend(served);
    }
    weir.expect_closed("limit_source", 6);
    assert_eq!(backend.accepted(), 6, "nothing is dialled for a connection that is refused");
    assert_eq!(weir.metric("weir_limited_sources", &[("gateway", "edge")]), 2.0);
    drop(held.remove(0));
    assert!(wait_for(Duration::from_secs(5), || weir.active() == 5.0));
    held.extend(served_from(5, address));
    assert_eq!(held.len(), 6, "a place that was given back is taken again");
    drop(held);
    assert!(wait_for(Duration::from_secs(5), || weir.metric("weir_limited_sources", &[("gateway", "edge")])
        == 0.0));
    weir.clean();
}

/// How many of a burst of connections are served, and how long the burst took.
fn burst(source: u8, address: SocketAddr) -> (usize, Duration) {
    let began = Instant::now();
    let served = (0..60).filter(|_| served_from(source, address).is_some()).count();
    (served, began.elapsed())
}

#[test]
fn rates_let_one_seconds_worth_through_and_then_refill_evenly() {
    let _turn = busy();
    let backend = Backend::lines("one");
    for (gateway, reason) in [
        ("max_connection_rate = 20", "limit_gateway"),
        ("max_connection_rate_per_source = 20", "limit_source"),
    ] {
        let mut weir = Weir::start(&limited(gateway, &backend));
        let address = weir.address("edge");
        let (served, took) = burst(5, address);
        let most = 21 + (took.as_secs_f64() * 20.0) as usize;
        assert!((20..=most).contains(&served), "{gateway}: {served} of 60 in {took:?}");
        weir.expect_closed(reason, 60 - served);
        let is_per_source = reason == "limit_source";
        let other = served_from(6, address).is_some();
        assert!(other || !is_per_source, "another source has a rate of its own");
        assert!(wait_for(Duration::from_secs(5), || served_from(5, address).is_some()), "it is refilled");
        weir.clean();
    }
}

#[test]
fn a_reload_changes_maxima_and_never_counts() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let text = |gateway: &str| limited(gateway, &backend);
    let mut weir = Weir::start(&text("max_connections = 2"));
    let address = weir.address("edge");
    let mut held: Vec<TcpStream> = (0..4).filter_map(|_| served_from(5, address)).collect();
    assert_eq!(held.len(), 2);
    weir.reload(&text("max_connections = 3\nmax_connections_per_source = 9"));
    held.extend((0..4).filter_map(|_| served_from(5, address)));
    assert_eq!(held.len(), 3, "those of before count against the new limit");
    let limit = |name: &str| weir.metric(name, &[("scope", "gateway"), ("name", "edge")]);
    assert_eq!((limit("weir_limit"), limit("weir_limit_used")), (3.0, 3.0));
    weir.reload(&text("max_connections = 1"));
    assert!(served_from(5, address).is_none());
    assert_eq!(ask(&held[0], "again"), "one again", "a lower limit ends no connection");
    weir.reload(&text(""));
    held.extend((0..4).filter_map(|_| served_from(5, address)));
    assert_eq!(held.len(), 7, "without a limit");
    assert!(!weir.metrics().by_label("weir_limit", "scope").contains_key("gateway"));
    drop(held);
    weir.clean();
    // A gateway that is gone leaves with its last connection, not with the next reload.
    weir.reload(&text("max_connections = 4").replace("gateway.edge", "gateway.other"));
    let is_gone = || !weir.metrics().by_label("weir_limit_used", "name").contains_key("edge");
    assert!(
        wait_for(Duration::from_secs(5), is_gone),
        "{:?}",
        weir.metrics().by_label("weir_limit_used", "name")
    );
}
