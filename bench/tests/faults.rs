//! Bytes that a proxy on the way leaves out, doubles, changes, reorders or takes from another connection are always noticed,
//! and named rightly; and bytes that it leaves alone are never named.

mod support;

use std::time::Duration;

use support::spoiler::{self, Spoil, Toward};
use support::{Backend, ledger, run, settings};
use weir_bench::payload::fault::FaultKind;
use weir_bench::settings::{Direction, Exchange, Sizes, Work};

/// Where the bytes are spoilt: inside the first request and the first response.
const AT: usize = 1001;

const SPOILS: [Spoil; 5] =
    [Spoil::Drop(37), Spoil::Repeat(41), Spoil::Flip(0x41), Spoil::Swap(101, 57), Spoil::Cross(64)];

fn is_named(kind: &FaultKind, spoil: Spoil) -> bool {
    match spoil {
        Spoil::Drop(bytes) => *kind == FaultKind::Missing(bytes as u64),
        Spoil::Repeat(bytes) => *kind == FaultKind::Duplicated(bytes as u64),
        Spoil::Flip(bits) => *kind == FaultKind::Flipped(bits.count_ones()),
        Spoil::Swap(..) => *kind == FaultKind::Swapped,
        Spoil::Cross(_) => matches!(kind, FaultKind::Foreign(_)),
        Spoil::Nothing => false,
    }
}

/// Runs this work against this back end with each fault on the way, and with none.
#[track_caller]
fn check(mode: &str, work: &Work, toward: Toward, direction: &str) {
    let backend = Backend::start(mode, &[]);
    for spoil in SPOILS.into_iter().chain([Spoil::Nothing]) {
        let proxy = spoiler::start(backend.address, toward, AT, spoil);
        let mut settings = settings(proxy, work.clone());
        settings.timeout = Duration::from_secs(2);
        settings.drain = Duration::from_secs(3);
        let outcome = run(&settings);
        let ledger = ledger(&outcome);
        let named = ledger.faults.iter().filter(|fault| is_named(&fault.kind, spoil)).count();
        if matches!(spoil, Spoil::Nothing) {
            assert_eq!(
                (ledger.fault_count, ledger.failed),
                (0, 0),
                "{:?} {:?}",
                ledger.faults,
                ledger.errors
            );
            assert!(ledger.ok > 0, "without a fault it works: {:?}", ledger.errors);
            continue;
        }
        assert!(named > 0, "{spoil:?} was not named: {:?} {:?}", ledger.faults, ledger.errors);
        assert!(ledger.failed > 0, "an operation with a fault is not ok");
        // A churn may end a connection before enough has come to name the fault.
        if !matches!(work, Work::Churn { .. }) {
            assert_eq!(
                named,
                ledger.faults.len(),
                "{spoil:?} was called something else: {:?}",
                ledger.faults
            );
            assert!(ledger.faults.iter().all(|fault| fault.direction == direction), "{:?}", ledger.faults);
        }
    }
}

fn exchanges() -> Work {
    let exchange = Exchange::Framed { request: Sizes::Fixed(4096), response: Sizes::Fixed(4096) };
    Work::Rr { connections: 2, exchange, depth: 1 }
}

fn stream(direction: Direction) -> Work {
    Work::Stream { connections: 2, direction }
}

#[test]
fn requests_are_checked_by_the_server() {
    check("rr", &exchanges(), Toward::Server, "up");
}

#[test]
fn responses_are_checked_by_the_client() {
    check("rr", &exchanges(), Toward::Client, "down");
}

#[test]
fn streams_up_are_checked_by_the_sink() {
    check("sink", &stream(Direction::Up), Toward::Server, "up");
}

#[test]
fn streams_down_are_checked() {
    check("source", &stream(Direction::Down), Toward::Client, "down");
}

#[test]
fn echoed_streams_are_checked() {
    check("echo", &stream(Direction::Both), Toward::Server, "up");
    check("echo", &stream(Direction::Both), Toward::Client, "up");
}

#[test]
fn connections_that_end_anyhow_are_checked() {
    let work = Work::Churn { connections: 4, bytes: Sizes::Fixed(1 << 20) };
    check("echo", &work, Toward::Client, "up");
}
