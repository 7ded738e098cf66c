//! Connection limits, exact across shards.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use weir_tests::client::{End, ask, connect_to_end, try_ask, try_connect};
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
