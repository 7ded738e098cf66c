//! Runs against real servers: counts add up whatever happens, and faults of a server are seen.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::process::Signal;
use support::{Backend, run};
use weir_bench::drive::{self, Moment};
use weir_bench::ledger::Ledger;
use weir_bench::settings::{Arrivals, Close, Exchange, Pace, Part, Settings, Sizes, Verify, Work};

fn framed(size: u32) -> Exchange {
    Exchange::Framed { request: Sizes::Fixed(size), response: Sizes::Fixed(size) }
}

fn rr(connections: usize, depth: usize, size: u32) -> Work {
    Work::Rr { connections, exchange: framed(size), depth }
}

fn crr(connections: usize, exchanges: u32, close: Close) -> Work {
    Work::Crr { connections, exchange: framed(64), exchanges, close }
}

fn settings(target: SocketAddr, works: Vec<(Work, Pace)>, duration: Duration) -> Settings {
    let part = |(work, pace)| Part { name: "part".to_owned(), work, pace };
    let core = core_affinity::get_core_ids().expect("cores").last().expect("one").id;
    Settings {
        target,
        parts: works.into_iter().map(part).collect(),
        cores: vec![core],
        warmup: Duration::ZERO,
        duration,
        drain: Duration::from_secs(2),
        operations: None,
        timeout: Duration::from_secs(5),
        verify: Verify::Full,
        sources: Vec::new(),
        waiting: 10_000,
        seed: 1,
    }
}

fn open(rate: f64) -> Pace {
    Pace::Open { rate, arrivals: Arrivals::Constant }
}

#[track_caller]
fn balanced(ledger: &Ledger) {
    assert!(
        ledger.adds_up(),
        "planned {} is not ok {} + failed {} + timeout {} + unfinished {} + dropped {}",
        ledger.planned,
        ledger.ok,
        ledger.failed,
        ledger.timeout,
        ledger.unfinished,
        ledger.dropped
    );
}

/// Samples above a time, in nanoseconds.
fn above(times: &weir_bench::ledger::Times, limit: Duration) -> u64 {
    times.len() - times.count_between(0, limit.as_nanos() as u64)
}

#[test]
fn a_server_that_stops_for_a_second_is_seen_in_response_times_and_not_in_service_times() {
    let server = Backend::start("rr", &[]);
    let connections = 16;
    let settings =
        settings(server.address, vec![(rr(connections, 1, 64), open(1000.0))], Duration::from_secs(10));
    let outcome = drive::run(&settings, &AtomicBool::new(false), &mut |moment| match moment {
        Moment::Second(second) if second.at == 3 => server.signal(Signal::STOP),
        Moment::Second(second) if second.at == 4 => server.signal(Signal::CONT),
        _ => {}
    });
    let outcome = outcome.expect("the run is carried out");
    let ledger = &outcome.parts[0].ledger;
    balanced(ledger);
    assert_eq!((ledger.planned, ledger.ok), (10_000, 10_000));
    let longest = Duration::from_nanos(ledger.response.max());
    assert!(longest >= Duration::from_millis(950), "the longest response took {longest:?}");
    let late = above(&ledger.response, Duration::from_millis(50)) as f64 / ledger.response.len() as f64;
    assert!((0.085..0.11).contains(&late), "{late} of all responses took more than 50 ms");
    let slow = above(&ledger.service, Duration::from_millis(50));
    assert!(slow <= connections as u64, "{slow} service times above 50 ms, of {connections} connections");
}

#[test]
fn counts_add_up_whatever_is_done_and_however_it_is_answered() {
    let servers = [
        ("rr", vec![]),
        ("echo", vec![]),
        ("flaky", vec!["--reset", "0.2", "--close", "0.2", "--refuse", "0.1", "--stall", "0.1"]),
        ("slow", vec!["--delay", "30ms"]),
    ];
    for (name, arguments) in servers {
        let server = Backend::start(name, &arguments);
        let works = [
            (rr(1, 1, 64), Pace::Closed),
            (rr(8, 4, 3000), Pace::Closed),
            (rr(8, 1, 64), open(3000.0)),
            (crr(8, 2, Close::Rst), Pace::Closed),
            (crr(8, 1, Close::Fin), open(500.0)),
            (
                Work::Hold { connections: 50, ramp: 10_000.0, heartbeat: Some(Duration::from_millis(100)) },
                Pace::Closed,
            ),
        ];
        for (work, pace) in works {
            let what = format!("{work:?} {pace:?} against {name}");
            let mut settings = settings(server.address, vec![(work, pace)], Duration::from_millis(300));
            settings.drain = Duration::from_millis(100);
            settings.timeout = Duration::from_millis(200);
            settings.waiting = 50;
            let ledger = &run(&settings).parts[0].ledger;
            balanced(ledger);
            assert!(ledger.planned > 0, "nothing was planned: {what}");
            assert!(ledger.ok > 0, "nothing was done: {what}: {:?}", ledger.errors);
            assert_eq!(ledger.fault_count, 0, "{what}: {:?}", ledger.faults);
            if name == "rr" {
                assert_eq!(ledger.failed + ledger.timeout, 0, "{what}: {:?}", ledger.errors);
            }
            let named: u64 = ledger.errors.values().sum();
            assert!(named >= ledger.failed, "{what}: {} failed, named {named}", ledger.failed);
        }
    }
}

#[test]
fn parts_of_a_mix_have_their_own_ledgers() {
    let server = Backend::start("rr", &[]);
    let works = vec![(rr(4, 1, 64), open(1000.0)), (crr(4, 1, Close::Rst), open(200.0))];
    let outcome = run(&settings(server.address, works, Duration::from_millis(500)));
    for (part, planned) in outcome.parts.iter().zip([500, 100]) {
        balanced(&part.ledger);
        assert_eq!((part.ledger.planned, part.ledger.ok), (planned, planned));
    }
    assert_eq!((outcome.parts[0].ledger.opened, outcome.parts[1].ledger.opened), (4, 100));
}

#[test]
fn a_run_ends_after_the_operations_it_was_given() {
    let server = Backend::start("rr", &[]);
    for pace in [Pace::Closed, open(5000.0)] {
        let mut settings = settings(server.address, vec![(rr(4, 2, 64), pace)], Duration::from_secs(60));
        settings.operations = Some(777);
        let outcome = run(&settings);
        let ledger = &outcome.parts[0].ledger;
        assert_eq!((ledger.planned, ledger.ok), (777, 777), "{pace:?}");
        assert!(outcome.elapsed < Duration::from_secs(10), "{pace:?} took {:?}", outcome.elapsed);
    }
}

#[test]
fn a_server_that_goes_away_fails_operations_and_is_not_stormed() {
    let server = Backend::start("rr", &[]);
    let settings = settings(server.address, vec![(rr(8, 1, 64), Pace::Closed)], Duration::from_secs(3));
    let outcome = drive::run(&settings, &AtomicBool::new(false), &mut |moment| {
        if matches!(moment, Moment::Second(second) if second.at == 0) {
            server.signal(Signal::KILL);
        }
    });
    let ledger = &outcome.expect("the run is carried out").parts[0].ledger;
    balanced(ledger);
    // A killed server's kernel resets a connection with unread bytes, and sends a FIN on the others.
    let broken: u64 = ["reset", "closed early"].iter().filter_map(|error| ledger.errors.get(*error)).sum();
    assert_eq!(broken, 8, "{:?}", ledger.errors);
    // 8 connections try again every 50 ms for 2 s.
    let refused = ledger.errors.get("refused").copied().unwrap_or_default();
    assert!((100..=400).contains(&refused), "tried {refused} times: {:?}", ledger.errors);
}

/// An echo that gives every eighth piece of a connection to this before it sends it back.
fn spoiled_echo(spoil: fn(&mut Vec<u8>)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its number");
    let echo = move |mut stream: TcpStream| {
        let mut buffer = [0; 4096];
        for piece in 1.. {
            let received = stream.read(&mut buffer).unwrap_or(0);
            let mut bytes = buffer[..received].to_vec();
            if piece % 8 == 0 {
                spoil(&mut bytes);
            }
            if received == 0 || stream.write_all(&bytes).is_err() {
                return;
            }
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || echo(stream));
        }
    });
    address
}

#[test]
fn wrong_bytes_fail_their_operation_and_are_named() {
    type Spoil = fn(&mut Vec<u8>);
    let cases: [(&str, Spoil); 5] = [
        ("1 bit flipped", |bytes| bytes[40] ^= 4),
        ("1 bit flipped", |bytes| bytes[3] ^= 1),
        ("bytes duplicated", |bytes| bytes.extend_from_within(..)),
        ("bytes missing", |bytes| drop(bytes.drain(64..72))),
        ("bytes that no connection sends", |bytes| bytes[32..].fill(0xaa)),
    ];
    for (wanted, spoil) in cases {
        let mut settings =
            settings(spoiled_echo(spoil), vec![(rr(1, 1, 256), Pace::Closed)], Duration::from_millis(400));
        settings.timeout = Duration::from_millis(200);
        let ledger = &run(&settings).parts[0].ledger;
        balanced(ledger);
        assert!(ledger.ok > 0 && ledger.fault_count > 0, "{wanted}: {:?}", ledger.errors);
        let named: Vec<String> = ledger.faults.iter().map(ToString::to_string).collect();
        assert!(named.iter().all(|fault| fault.contains(wanted)), "{wanted}: {named:?}");
    }
}

#[test]
fn connections_are_made_from_each_source_in_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut settings = settings(
        listener.local_addr().expect("its number"),
        vec![(Work::Hold { connections: 6, ramp: 1000.0, heartbeat: None }, Pace::Closed)],
        Duration::from_millis(50),
    );
    settings.sources = ["127.0.0.7", "127.0.0.8"].map(|source| source.parse().expect("an address")).to_vec();
    let outcome = run(&settings);
    assert_eq!(outcome.parts[0].ledger.opened, 6);
    // The first is the one that asks whether a server listens.
    let _ = listener.accept();
    let mut from: Vec<String> =
        (0..6).map(|_| listener.accept().expect("one of six").1.ip().to_string()).collect();
    from.sort();
    assert_eq!(from, ["127.0.0.7", "127.0.0.7", "127.0.0.7", "127.0.0.8", "127.0.0.8", "127.0.0.8"]);
}
