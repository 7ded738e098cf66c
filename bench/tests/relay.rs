//! The relay that is the floor of comparisons: it is the least there can be, so it must at least be right.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;
use support::{Backend, PATIENCE, ledger, run, settings};
use weir_bench::payload::pattern::{self, Way};
use weir_bench::settings::{Sizes, Work};

/// A relay, and both ends of one connection through it.
struct Path {
    relay: Backend,
    client: TcpStream,
    upstream: TcpStream,
}

impl Path {
    fn open() -> Path {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let relay = Backend::start("relay", &[&address]);
        let client = TcpStream::connect(relay.address).expect("it listens");
        let (upstream, _) = listener.accept().expect("it connects");
        for stream in [&client, &upstream] {
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        }
        Path { relay, client, upstream }
    }

    /// The same, with the writer of this direction first and its reader second.
    fn ends(&mut self, way: Way) -> [&mut TcpStream; 2] {
        match way {
            Way::Up => [&mut self.client, &mut self.upstream],
            Way::Down => [&mut self.upstream, &mut self.client],
        }
    }
}

fn rest(stream: &mut TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map(|_| bytes).map_err(|error| error.kind())
}

/// Writes pattern until none has been taken for a while, which is when all queues are full; returns how many bytes it took.
fn write_until_stalled(writer: &mut TcpStream, way: Way) -> u64 {
    /// More than any queues hold: the kernel's are bounded by `tcp_rmem` and `tcp_wmem`, some 10 MiB each way and leg.
    const BOUND: u64 = 256 << 20;
    let mut piece = vec![0; 100_000];
    let (mut sent, mut last) = (0, Instant::now());
    writer.set_nonblocking(true).expect("a socket");
    while last.elapsed() < Duration::from_millis(300) {
        assert!(sent < BOUND, "{way:?}: {sent} bytes were taken without a reader");
        pattern::fill(&mut piece, 1, way, sent);
        match writer.write(&piece) {
            Ok(bytes) => (sent, last) = (sent + bytes as u64, Instant::now()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{way:?}: {error}"),
        }
    }
    writer.set_nonblocking(false).expect("a socket");
    sent
}

#[test]
fn behind_a_stalled_reader_it_takes_no_more_and_loses_nothing() {
    for ways in [&[Way::Up][..], &[Way::Down], &[Way::Up, Way::Down]] {
        let mut path = Path::open();
        let mut sent = Vec::new();
        for &way in ways {
            let [writer, _] = path.ends(way);
            sent.push((way, write_until_stalled(writer, way)));
        }
        for (way, sent) in sent {
            let [writer, reader] = path.ends(way);
            writer.shutdown(Shutdown::Write).expect("it is open");
            let bytes = rest(reader).expect("an orderly end");
            assert_eq!(bytes.len() as u64, sent, "{way:?} of {ways:?}");
            assert_eq!(pattern::mismatch(&bytes, 1, way, 0), None, "{way:?} of {ways:?}");
        }
    }
}

#[test]
fn a_fin_is_passed_on_and_the_other_direction_lives_on() {
    for way in [Way::Up, Way::Down] {
        let mut path = Path::open();
        let [first, second] = path.ends(way);
        first.write_all(b"question").expect("it reads");
        first.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(rest(second).as_deref(), Ok(&b"question"[..]), "{way:?}");
        second.write_all(b"answer").expect("it reads");
        second.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(rest(first).as_deref(), Ok(&b"answer"[..]), "{way:?}");
        let (status, printed) = path.relay.stop();
        assert_eq!(status.code(), Some(0));
        assert_eq!(printed, "served connections=1 broken=0 bytes_in=14 bytes_out=14 faults=0\n", "{way:?}");
    }
}

#[test]
fn a_reset_is_passed_on_also_behind_a_fin() {
    for way in [Way::Up, Way::Down] {
        for after_fin in [false, true] {
            let Path { relay, client, upstream } = Path::open();
            let (first, mut second) = if way == Way::Up { (client, upstream) } else { (upstream, client) };
            if after_fin {
                first.shutdown(Shutdown::Write).expect("it is open");
                assert_eq!(rest(&mut second).as_deref(), Ok(&b""[..]), "{way:?}");
            }
            SockRef::from(&first).set_linger(Some(Duration::ZERO)).expect("it is open");
            drop(first);
            // Behind a FIN, reading gives that FIN again; the error shows in the socket. Nothing is written, which would show it too.
            let deadline = Instant::now() + PATIENCE;
            while after_fin && second.take_error().expect("it is open").is_none() {
                assert!(Instant::now() < deadline, "{way:?}: the reset behind a FIN was not passed on");
                std::thread::yield_now();
            }
            if !after_fin {
                assert_eq!(rest(&mut second), Err(ErrorKind::ConnectionReset), "{way:?}");
            }
            let (_, printed) = relay.stop();
            assert!(
                printed.contains("connections=1 broken=1 "),
                "{way:?}, after a FIN {after_fin}: {printed}"
            );
        }
    }
}

#[test]
fn a_reset_behind_bytes_that_the_other_end_does_not_read_is_passed_on() {
    for way in [Way::Up, Way::Down] {
        let mut path = Path::open();
        let [writer, _] = path.ends(way);
        write_until_stalled(writer, way);
        let Path { relay, client, upstream } = path;
        let (first, mut second) = match way {
            Way::Up => (client, upstream),
            Way::Down => (upstream, client),
        };
        SockRef::from(&first).set_linger(Some(Duration::ZERO)).expect("a socket");
        drop(first);
        // Nothing is read before the relay has reset its other leg, which discards what was received.
        let deadline = Instant::now() + PATIENCE;
        while SockRef::from(&second).take_error().expect("a socket").is_none() {
            assert!(Instant::now() < deadline, "{way:?}: the reset was not passed on");
            std::thread::yield_now();
        }
        let _ = rest(&mut second);
        let (_, printed) = relay.stop();
        assert!(printed.contains("connections=1 broken=1 "), "{way:?}: {printed}");
    }
}

#[test]
fn a_connection_that_the_upstream_refuses_is_reset_and_the_relay_goes_on() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let relay = Backend::start("relay", &[&closed.to_string()]);
    for _ in 0..3 {
        let mut client = TcpStream::connect(relay.address).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        assert_eq!(rest(&mut client), Err(ErrorKind::ConnectionReset));
    }
    let (status, printed) = relay.stop();
    assert_eq!(status.code(), Some(0));
    assert!(printed.contains("connections=3 broken=3 "), "{printed}");
}

#[test]
fn connections_that_end_in_any_way_lose_and_change_no_byte() {
    let echo = Backend::start("echo", &[]);
    let relay = Backend::start("relay", &[&echo.address.to_string()]);
    let outcome =
        run(&settings(relay.address, Work::Churn { connections: 8, bytes: Sizes::Uniform(0, 200_000) }));
    let ledger = ledger(&outcome);
    assert_eq!(ledger.fault_count, 0, "{:?}", ledger.faults);
    assert!(ledger.errors.is_empty() && ledger.ok > 20, "{} ok, {:?}", ledger.ok, ledger.errors);
}

#[test]
fn each_listener_leads_to_its_own_upstream() {
    let ends = ["one", "two"].map(|text| Backend::start("banner", &["--text", text]));
    let [first, second] = ends.each_ref().map(|end| end.address.to_string());
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let relay = Backend::start("relay", &[&first, &free.to_string(), &second]);
    for (address, wanted) in [(relay.address, "one"), (free, "two")] {
        let mut client = connect_when_it_listens(address);
        client.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(rest(&mut client).as_deref(), Ok(wanted.as_bytes()));
    }
}

/// The second listener of a relay is there shortly after the first was printed.
fn connect_when_it_listens(address: std::net::SocketAddr) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        std::thread::yield_now();
    }
}
