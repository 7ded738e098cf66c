//! A reader that does not read, against a sender at full speed: the sender is held back, and memory stays flat.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use weir_tests::client::{ask_once, connect, connect_small, is_readable, write_until_held_back};
use weir_tests::wait::ms;
use weir_tests::weir_process::free_admin;
use weir_tests::{Backend, Weir, holds_for, host, quiet, wait_for};

use crate::support::edge_with;

/// Connections that are stopped at once.
const STOPPED: usize = 16;

/// How much Weir's own memory may grow under them.
const GROWTH: u64 = 16 << 20;

/// Pages of all TCP sockets of this host, in bytes.
fn kernel_memory() -> u64 {
    let table = std::fs::read_to_string("/proc/net/sockstat").expect("/proc is mounted");
    let line = table.lines().find(|line| line.starts_with("TCP:")).expect("it counts TCP");
    let pages: u64 = line.split_whitespace().last().and_then(|word| word.parse().ok()).expect("pages");
    pages * rustix::param::page_size() as u64
}

/// Stops `STOPPED` transfers with `stop`, then looks at what it costs while nothing is read.
fn check(relay: &str, upstream: &Backend, stop: impl Fn(SocketAddr) -> TcpStream, release: impl FnOnce()) {
    let lines = Backend::lines("one");
    let toml = edge_with(&format!("relay = \"{relay}\""), &[upstream.address], "");
    let mut weir = Weir::start(&format!(
        "{toml}\n[gateway.other]\nlisten = [\"127.0.0.1:0\"]\nto = [{{ service = \"lines\" }}]\n\
         [service.lines]\nendpoints = [\"{}\"]\n",
        lines.address
    ));
    let (address, other) = (weir.address("edge"), weir.address("other"));
    assert_eq!(ask_once(other, "warm").expect("an answer"), "one warm");
    let resident = weir.resident();
    let held: Vec<TcpStream> = (0..STOPPED).map(|_| stop(address)).collect();
    // Until every buffer on the way is full.
    let moved = || weir.metric("weir_bytes_total", &[]);
    let quiet_down = || {
        let before = moved();
        holds_for(ms(200), || moved() == before)
    };
    assert!(
        wait_for(Duration::from_secs(10), quiet_down),
        "{relay}: bytes still move, although no reader takes them"
    );
    let (bytes, kernel) = (moved(), kernel_memory());
    let flat = holds_for(Duration::from_secs(2), || weir.resident() < resident + GROWTH);
    assert!(flat, "{relay}: grew from {resident} to {}", weir.resident());
    assert_eq!(moved(), bytes, "{relay}: bytes moved while no reader read");
    assert!(kernel_memory() < kernel + (64 << 20), "{relay}: the kernel's memory grew from {kernel}");
    assert_eq!(ask_once(other, "hello").expect("others are served"), "one hello");
    // A leg that is stuck holds a tail or a pipe. How `auto` moves it depends on how fast the first bytes came.
    let (tails, tail_bytes) = (weir.metric("weir_tails_in_use", &[]), weir.metric("weir_tail_bytes", &[]));
    let pipes = weir.metric("weir_pipes_in_use", &[]);
    let fits = match relay {
        "copy" => pipes == 0.0,
        "splice" => tails == 0.0,
        _ => true,
    };
    assert!(fits, "{relay}: {tails} tails and {pipes} pipes");
    assert_eq!(tails + pipes, STOPPED as f64, "{relay}: one tail or pipe a stalled reader");
    let of_class = tails * 4096.0 <= tail_bytes && tail_bytes <= tails * 65536.0;
    assert!(of_class && tail_bytes <= weir.metric("weir_tail_bytes_max", &[]), "{relay}: {tail_bytes} bytes");
    let cpu = weir.cpu_time();
    assert!(holds_for(ms(1000), || true));
    assert!(weir.cpu_time() - cpu < ms(200), "{relay}: it spins while nothing can move");
    drop(held);
    release();
    weir.clean();
}

#[test]
fn a_client_that_does_not_read_holds_its_upstream_back() {
    let _turn = quiet();
    for relay in ["copy", "splice"] {
        let source = Backend::source();
        check(
            relay,
            &source,
            |address| {
                let stream = connect_small(address, 32 << 10).expect("a connection");
                assert!(is_readable(&stream, Duration::from_secs(5)));
                stream
            },
            || {},
        );
    }
}

#[test]
fn an_upstream_that_does_not_read_holds_its_client_back() {
    let _turn = quiet();
    for relay in ["copy", "auto"] {
        let (backend, upstreams) = Backend::manual();
        let block = vec![b'x'; 256 << 10];
        check(
            relay,
            &backend,
            |address| {
                let stream = connect(address);
                let written = write_until_held_back(&stream, &block, 1 << 30);
                assert!(written < 64 << 20, "{written} bytes went nowhere");
                stream
            },
            || drop(upstreams),
        );
    }
}

/// Memory of this host that programs could still have.
fn available() -> u64 {
    let table = std::fs::read_to_string("/proc/meminfo").expect("/proc is mounted");
    let line = table.lines().find(|line| line.starts_with("MemAvailable:")).expect("the kernel reports it");
    line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).expect("KiB") << 10
}

/// The same, once neither it nor what sockets hold has moved for a second; on a host that is never quiet, after ten.
fn settled_memory() -> u64 {
    let is_settled = || {
        let (before, sockets) = (available(), kernel_memory());
        holds_for(ms(1000), || {
            available().abs_diff(before) < 8 << 20 && kernel_memory().abs_diff(sockets) < 1 << 20
        })
    };
    wait_for(Duration::from_secs(10), is_settled);
    available()
}

/// The host's memory that each of many readers takes which read nothing from the start.
fn memory_a_stalled_reader(address: SocketAddr) -> u64 {
    const READERS: u64 = 200;
    // Connections that ended before give their memory back later.
    let before = settled_memory();
    let held: Vec<TcpStream> = (0..READERS).map(|_| connect(address)).collect();
    for stream in &held {
        assert!(is_readable(stream, Duration::from_secs(5)), "the source sends");
    }
    let taken = before.saturating_sub(settled_memory()) / READERS;
    drop(held);
    taken
}

#[test]
#[ignore = "long: run by CI"]
fn long_a_stalled_reader_takes_no_more_memory_than_behind_haproxy() {
    let _turn = quiet();
    if !host::has(&["haproxy"]) {
        return;
    }
    let source = Backend::source();
    for (relay, option) in [("copy", ""), ("splice", "option splice-response\n option splice-request")] {
        // All else on the host that takes or frees memory meanwhile is in the figures: a round in which it did shows nothing.
        let mut rounds: Vec<(u64, u64)> = Vec::new();
        while rounds.len() < 3 && rounds.last().is_none_or(|(own, peer)| own > peer) {
            rounds.push(memory_beside_haproxy(&source, relay, option));
        }
        let shown: Vec<String> =
            rounds.iter().map(|(own, peer)| format!("{} and {}", own >> 10, peer >> 10)).collect();
        eprintln!("{relay}: KiB a stalled reader, ours and behind HAProxy: {}", shown.join("; "));
        assert!(rounds.iter().any(|(own, peer)| own <= peer), "{relay}: {rounds:?}");
    }
}

/// The memory of a stalled reader behind Weir, and then behind HAProxy.
fn memory_beside_haproxy(source: &Backend, relay: &str, option: &str) -> (u64, u64) {
    let mut weir = Weir::start(&edge_with(&format!("relay = \"{relay}\""), &[source.address], ""));
    let own = memory_a_stalled_reader(weir.address("edge"));
    weir.clean();
    drop(weir);
    let address = free_admin();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("haproxy.cfg");
    let text = format!(
        "global\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n \
         timeout server 1m\n {option}\nlisten edge\n bind {address}\n server one {}\n",
        source.address
    );
    std::fs::write(&file, text).expect("the configuration can be written");
    let mut haproxy = std::process::Command::new("haproxy").arg("-f").arg(&file).spawn().expect("it starts");
    assert!(wait_for(Duration::from_secs(10), || TcpStream::connect(address).is_ok()), "it listens");
    let peer = memory_a_stalled_reader(address);
    haproxy.kill().and_then(|()| haproxy.wait()).expect("it ends");
    (own, peer)
}
