//! A peer that vanishes while bytes wait for its acknowledgement, and one that only keeps its window closed.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use weir_tests::backend::Upstreams;
use weir_tests::client::{
    End, connect, connect_small, is_readable, read_end, read_exactly, read_to_end, write_all,
    write_until_held_back,
};
use weir_tests::wait::ms;
use weir_tests::{Backend, Namespace, Weir, holds_for, quiet, together, wait_for};

/// The time that `keepalive` below takes from the last answer on.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two looks at what is unacknowledged, and what a busy machine adds.
const LATE: Duration = Duration::from_secs(2);

const WEIR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// Which leg's peer is on the other host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    Client,
    Upstream,
}

/// Two hosts: Weir and one of its peers on the first, the other peer on the second.
struct Hosts {
    near: Namespace,
    far: Namespace,
}

/// A connection through Weir: the end that stays, and the one on the other host.
struct Pair {
    weir: Weir,
    stays: TcpStream,
    goes: TcpStream,
    _backend: (Backend, Upstreams),
}

impl Hosts {
    fn new() -> Option<Self> {
        let (near, far) = (Namespace::new()?, Namespace::new()?);
        near.connect(&far, "weir0", ["10.99.0.1/24", "10.99.0.2/24"]);
        Some(Self { near, far })
    }

    fn pair(&self, leg: Leg, relay: &str, small: bool) -> Pair {
        let backend = |at: Ipv4Addr| move || Backend::manual_at(SocketAddr::new(IpAddr::V4(at), 0));
        let (backend, upstreams) = match leg {
            Leg::Client => self.near.run(backend(Ipv4Addr::LOCALHOST)),
            Leg::Upstream => self.far.run(backend(PEER)),
        };
        let toml = format!(
            r#"
[proxy]
relay = "{relay}"
[gateway.edge]
listen = ["{WEIR}:7000"]
to = [{{ service = "db" }}]
[service.db]
endpoints = ["{}"]
[service.db.policy]
idle_timeout = "0s"
keepalive = {{ time = "1s", interval = "1s", probes = 2 }}
"#,
            backend.address
        );
        let weir = self.near.run(|| Weir::start(&toml));
        let gateway = SocketAddr::from((WEIR, 7000));
        let dial =
            || if small { connect_small(gateway, 8 << 10).expect("a connection") } else { connect(gateway) };
        let (stays, goes) = match leg {
            Leg::Client => {
                let client = self.far.run(dial);
                (upstreams.next(), client)
            }
            Leg::Upstream => {
                let client = self.near.run(dial);
                (client, upstreams.next())
            }
        };
        Pair { weir, stays, goes, _backend: (backend, upstreams) }
    }

    /// Nothing that the far host sends arrives any more. It still receives, and answers nothing.
    fn fall_silent(&self) {
        self.far.ip(&format!("route add blackhole {WEIR}/32"));
    }
}

/// Both directions have carried bytes.
fn warm(pair: &Pair) {
    for (from, to) in [(&pair.stays, &pair.goes), (&pair.goes, &pair.stays)] {
        write_all(from, b"hello");
        assert_eq!(read_exactly(to, 5), b"hello");
    }
}

#[test]
fn a_peer_that_vanishes_with_bytes_under_way_ends_the_session_when_keepalive_says() {
    let _turn = quiet();
    let reasons = [(Leg::Client, "client_timeout"), (Leg::Upstream, "upstream_timeout")];
    let rows = reasons.into_iter().flat_map(|row| ["copy", "splice"].map(|relay| (row, relay)));
    together(rows, |((leg, reason), relay)| {
        let Some(hosts) = Hosts::new() else { return };
        let pair = hosts.pair(leg, relay, false);
        warm(&pair);
        hosts.fall_silent();
        let start = Instant::now();
        // One that goes on sending: each byte would move idleness on.
        let mut sender = &pair.stays;
        while !is_readable(&pair.stays, ms(100)) {
            assert!(start.elapsed() < 3 * PATIENCE, "{leg:?}, {relay}: it does not end");
            if let Err(error) = sender.write_all(b"still here") {
                assert_ne!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
        let took = start.elapsed();
        assert_eq!(read_end(&pair.stays), End::Reset, "{leg:?}, {relay}");
        assert!((PATIENCE..PATIENCE + LATE).contains(&took), "{leg:?}, {relay}: after {took:?}");
        hosts.near.run(|| {
            pair.weir.expect_closed(reason, 1);
            pair.weir.clean();
        });
    });
}

#[test]
fn bytes_of_a_vanished_peer_are_delivered_first() {
    let _turn = quiet();
    together([Leg::Client, Leg::Upstream], |leg| {
        let Some(hosts) = Hosts::new() else { return };
        let pair = hosts.pair(leg, "auto", false);
        warm(&pair);
        write_all(&pair.goes, b"final bytes");
        assert!(is_readable(&pair.stays, Duration::from_secs(5)));
        hosts.fall_silent();
        write_all(&pair.stays, b"are you there?");
        assert_eq!(read_to_end(&pair.stays), (b"final bytes".to_vec(), End::Reset), "{leg:?}");
    });
}

#[test]
fn a_peer_that_keeps_its_window_closed_and_answers_lives() {
    let _turn = quiet();
    let block = vec![b'x'; 256 << 10];
    together([(Leg::Client, "copy"), (Leg::Client, "splice"), (Leg::Upstream, "copy")], |(leg, relay)| {
        let Some(hosts) = Hosts::new() else { return };
        let mut pair = hosts.pair(leg, relay, leg == Leg::Client);
        warm(&pair);
        let written = write_until_held_back(&pair.stays, &block, 1 << 30);
        assert!(written < 64 << 20, "{written} bytes went nowhere");
        // The kernel's probes are more than PATIENCE apart by then.
        let alive = holds_for(4 * PATIENCE, || pair.weir.is_running() && !is_readable(&pair.stays, ms(0)));
        assert!(alive, "{leg:?}, {relay}: a peer that reads slowly was given up");
        let (stays, goes) = (pair.stays, pair.goes);
        stays.shutdown(std::net::Shutdown::Write).expect("it is open");
        let (bytes, end) = read_to_end(&goes);
        assert_eq!((bytes.len(), end), (written, End::Fin), "{leg:?}, {relay}");
        drop((stays, goes));
        hosts.near.run(|| {
            pair.weir.expect_closed("done", 1);
            pair.weir.clean();
        });
    });
}

#[test]
fn a_peer_that_vanishes_with_its_window_closed_is_given_up() {
    let _turn = quiet();
    let Some(hosts) = Hosts::new() else { return };
    let pair = hosts.pair(Leg::Client, "auto", true);
    warm(&pair);
    let block = vec![b'x'; 256 << 10];
    write_until_held_back(&pair.stays, &block, 1 << 30);
    hosts.fall_silent();
    let start = Instant::now();
    let closed = || hosts.near.run(|| pair.weir.closed("client_timeout")) == 1.0;
    assert!(wait_for(6 * PATIENCE, closed), "it is kept for ever");
    assert!(start.elapsed() >= PATIENCE, "after {:?}", start.elapsed());
}
