//! Back ends do as their names promise, refuse wrong use with advice, keep to bounds, and end well.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Backend, PATIENCE};
use weir_bench::payload::frame::{Complaint, HEADER, Kind, Request, Response, Status};
use weir_bench::payload::pattern::{self, Way};
use weir_bench::payload::{check::Checker, fault::FaultKind};
use weir_bench::settings::Verify;

const CONNECTION: u32 = 5;

fn connect(backend: &Backend) -> TcpStream {
    let stream = TcpStream::connect(backend.address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// All bytes that come back for those that are sent, after which our side is closed.
fn answer(backend: &Backend, sent: &[u8]) -> Vec<u8> {
    let mut stream = connect(backend);
    stream.write_all(sent).expect("it reads");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it closes orderly");
    answer
}

/// A frame up: the header, and pattern after it.
fn frame(length: u32, answer: u32, kind: Kind) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    pattern::fill(&mut bytes, CONNECTION, Way::Up, 0);
    let header = Request { connection: CONNECTION, length, answer, verify: Verify::Full, kind };
    bytes[..HEADER].copy_from_slice(&header.encode());
    bytes
}

fn response(bytes: &[u8]) -> Option<Response> {
    Response::decode(bytes.first_chunk()?)
}

#[test]
fn each_mode_answers_as_its_name_says() {
    let check = |mode, arguments: &[&str], sent: &str, wanted: &str| {
        let answer = answer(&Backend::start(mode, arguments), sent.as_bytes());
        assert_eq!(String::from_utf8_lossy(&answer), wanted, "{mode} {arguments:?}");
    };
    check("echo", &[], "hello", "hello");
    check("echo", &["--threads", "2"], "hello", "hello");
    check("lines", &["--prefix", "one"], "a\nb\n", "one a\none b\n");
    check("banner", &["--text", "220 ready"], "ignored", "220 ready");
    check("sink", &[], "unasked", "");
    check("slow", &["--delay", "30ms", "--rate", "100"], "hello", "hello");
}

#[test]
fn slow_keeps_bytes_for_the_delay() {
    let backend = Backend::start("slow", &["--delay", "150ms"]);
    let start = Instant::now();
    assert_eq!(answer(&backend, b"hello"), b"hello");
    assert!(start.elapsed() >= Duration::from_millis(150), "after {:?}", start.elapsed());
}

#[test]
fn slow_reads_no_faster_than_its_rate() {
    let backend = Backend::start("slow", &["--rate", "10000"]);
    let start = Instant::now();
    assert_eq!(answer(&backend, &[7; 3000]).len(), 3000);
    // The first piece is read at once.
    assert!(start.elapsed() >= Duration::from_millis(250), "after {:?}", start.elapsed());
}

#[test]
fn rr_answers_in_the_sizes_asked_for_whole_or_in_pieces() {
    let backend = Backend::start("rr", &[]);
    let (first, second) = (frame(16, 300_000, Kind::Exchange), frame(16, 16, Kind::Exchange));
    let answer = answer(&backend, &[first, second].concat());
    assert_eq!(answer.len(), 300_016);
    let fine = |length| Some(Response { connection: CONNECTION, length, status: Status::Fine });
    assert_eq!(response(&answer), fine(300_000));
    assert_eq!(pattern::mismatch(&answer[HEADER..300_000], CONNECTION, Way::Down, HEADER as u64), None);
    assert_eq!(response(&answer[300_000..]), fine(16));
}

#[test]
fn rr_answers_a_wrong_request_with_its_fault() {
    let backend = Backend::start("rr", &[]);
    let whole = frame(1000, 64, Kind::Exchange);
    let mut flipped = whole.clone();
    flipped[500] ^= 3;
    let mut header = whole.clone();
    header[5] ^= 1;
    let cases = [
        (flipped, FaultKind::Flipped(2)),
        (header, FaultKind::Flipped(1)),
        ([&whole[..300], &whole[340..]].concat(), FaultKind::Missing(40)),
        (whole[..900].to_vec(), FaultKind::Cut(100)),
    ];
    for (sent, kind) in cases {
        let status = response(&answer(&backend, &sent)).map(|response| response.status);
        assert_eq!(status, Some(Status::Faulty(Complaint::new(&kind))), "{kind:?}");
    }
    let (_, printed) = backend.stop();
    assert_eq!(printed.matches("fault connection 5, up, byte ").count(), 4, "{printed}");
    assert!(printed.contains("faults=4"), "{printed}");
}

#[test]
fn a_sink_counts_and_checks_a_stream_with_a_header() {
    let backend = Backend::start("sink", &[]);
    let sent = frame(70_000, 16, Kind::StreamUp);
    let mut wrong = sent.clone();
    wrong[69_000] ^= 8;
    let flipped = Status::Faulty(Complaint::new(&FaultKind::Flipped(1)));
    for (sent, status) in [(sent, Status::Fine), (wrong, flipped)] {
        let verdict = Response { connection: CONNECTION, length: 70_000, status };
        assert_eq!(response(&answer(&backend, &sent)), Some(verdict));
    }
}

#[test]
fn a_source_sends_the_stream_it_is_asked_for() {
    let backend = Backend::start("source", &[]);
    let mut stream = connect(&backend);
    stream.write_all(&frame(16, 16, Kind::StreamDown)).expect("it reads");
    let mut bytes = vec![0; 1 << 20];
    stream.read_exact(&mut bytes).expect("it sends");
    assert_eq!(response(&bytes).map(|response| response.connection), Some(CONNECTION));
    let mut checker = Checker::new(CONNECTION, Way::Down, Verify::Full);
    checker.skip(HEADER);
    assert_eq!(checker.take(&bytes[HEADER..]), None);
    assert_eq!(checker.finish(None), None);
}

#[test]
fn an_echo_reads_no_further_than_it_can_send() {
    let backend = Backend::start("echo", &[]);
    let mut stream = connect(&backend);
    stream.set_nonblocking(true).expect("a socket");
    // It stops taking bytes at some point, long before it would have to keep all of them. The kernel's queues of a connection
    // are bounded by tcp_rmem and tcp_wmem, some 10 MiB each way.
    let (piece, bound) = (vec![1; 1 << 16], 256 << 20);
    let (mut sent, mut last) = (0, Instant::now());
    while sent < bound && last.elapsed() < Duration::from_millis(500) {
        match stream.write(&piece) {
            Ok(bytes) => (sent, last) = (sent + bytes, Instant::now()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < bound, "it took {sent} bytes without a reader");
    stream.set_nonblocking(false).expect("a socket");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("it sends all");
    assert_eq!(back.len(), sent);
}

/// How a connection to a flaky back end ends, when it sends more than any fate waits for.
fn fate(backend: &Backend) -> &'static str {
    let mut stream = connect(backend);
    stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let bytes = vec![1; 70_000];
    let sent = stream.write_all(&bytes);
    let mut back = vec![0; bytes.len()];
    let mut count = 0;
    while count < back.len() {
        match stream.read(&mut back[count..]) {
            Ok(0) => return "closed",
            Ok(more) => count += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return "stalled",
            Err(_) => return "reset",
        }
    }
    if sent.is_ok() { "fine" } else { "reset" }
}

#[test]
fn a_flaky_back_end_treats_connections_as_asked() {
    let cases: [(&[&str], &str); 5] = [
        (&[], "fine"),
        (&["--refuse", "1"], "reset"),
        (&["--reset", "1"], "reset"),
        (&["--close", "1"], "closed"),
        (&["--stall", "1"], "stalled"),
    ];
    for (arguments, wanted) in cases {
        let backend = Backend::start("flaky", arguments);
        for _ in 0..2 {
            assert_eq!(fate(&backend), wanted, "{arguments:?}");
        }
    }
}

#[test]
fn a_signal_ends_it_well_and_it_prints_its_counts() {
    let backend = Backend::start("echo", &[]);
    assert_eq!(answer(&backend, b"hello"), b"hello");
    let (status, printed) = backend.stop();
    assert_eq!(status.code(), Some(0));
    assert_eq!(printed, "served connections=1 broken=0 bytes_in=5 bytes_out=5 faults=0\n");
}

#[test]
fn without_descriptors_it_reports_that_and_goes_on() {
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_weir-bench");
    command.args(["-c", "ulimit -n 16; exec \"$0\" serve echo 127.0.0.1:0", program]);
    let backend = Backend::of(command);
    let many: Vec<TcpStream> = (0..16).map(|_| connect(&backend)).collect();
    let mut last = connect(&backend);
    last.write_all(b"hello").expect("the kernel takes it");
    drop(many);
    let mut back = [0; 5];
    last.read_exact(&mut back).expect("it is accepted when others have gone");
    assert_eq!(&back, b"hello");
    let (status, printed) = backend.stop();
    assert_eq!(status.code(), Some(0));
    assert!(
        printed.contains("no more connections accepted for now") && printed.contains("ulimit -Hn"),
        "{printed}"
    );
}

#[test]
fn arguments_that_cannot_work_are_refused_with_advice() {
    let taken = Backend::start("echo", &[]);
    let address = taken.address.to_string();
    let cases: [(&[&str], i32, &str); 8] = [
        (&["echo", &address], 1, "something does already"),
        (&["relay", &address, "127.0.0.1:1"], 1, "something does already"),
        (&["relay", "127.0.0.1:0"], 2, "2 values required"),
        (&["relay", "127.0.0.1:0", "127.0.0.1:1", "127.0.0.1:0"], 2, "has no upstream"),
        (&["echo", "192.0.2.1:0"], 1, "does not have the address"),
        (&["echo"], 2, "ADDRESS:PORT"),
        (&["flaky", "127.0.0.1:0", "--reset", "1.5"], 2, "fraction from 0 to 1"),
        (&["flaky", "127.0.0.1:0", "--reset", "0.6", "--close", "0.6"], 2, "more than 1"),
    ];
    for (arguments, code, message) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir-bench"));
        let child =
            command.arg("serve").args(arguments).stdin(Stdio::null()).output().expect("the program starts");
        let printed = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.code(), Some(code), "{arguments:?}: {printed}");
        assert!(printed.contains(message), "{arguments:?}: {printed}");
    }
}
