//! Streams and churns do their work, at each level of verification, and their counts add up.

mod support;

use std::time::Duration;

use support::{Backend, ledger, run, settings};
use weir_bench::ledger::Ledger;
use weir_bench::payload::fault::FaultKind;
use weir_bench::settings::{Direction, Sizes, Verify, Work};

/// Counts of this work against this back end, in which nothing may go wrong.
#[track_caller]
fn check(mode: &str, work: Work, verify: Verify) -> Ledger {
    let backend = Backend::start(mode, &[]);
    let mut settings = settings(backend.address, work);
    settings.verify = verify;
    settings.warmup = Duration::from_millis(100);
    let outcome = run(&settings);
    let ledger = ledger(&outcome);
    assert_eq!(ledger.fault_count, 0, "{:?}", ledger.faults);
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors);
    assert_eq!((ledger.failed, ledger.timeout, ledger.unfinished), (0, 0, 0));
    ledger.clone()
}

const LEVELS: [Verify; 3] = [Verify::Full, Verify::Stamp, Verify::Off];
const CONNECTIONS: usize = 3;
/// Bytes that the slowest machine moves in the time of a test.
const SOME: u64 = 1 << 20;

#[test]
fn each_stream_is_one_operation_and_its_bytes_are_those_of_the_measured_time() {
    for verify in LEVELS {
        for (mode, direction) in
            [("sink", Direction::Up), ("source", Direction::Down), ("echo", Direction::Both)]
        {
            let ledger = check(mode, Work::Stream { connections: CONNECTIONS, direction }, verify);
            let what =
                format!("{direction:?} {verify:?}: {} up, {} down", ledger.bytes_up, ledger.bytes_down);
            let each_once = CONNECTIONS as u64;
            assert_eq!(
                (ledger.planned, ledger.ok, ledger.opened),
                (each_once, each_once, each_once),
                "{what}"
            );
            assert_eq!(ledger.bytes_up > SOME, direction != Direction::Down, "{what}");
            assert_eq!(ledger.bytes_down > SOME, direction != Direction::Up, "{what}");
        }
    }
}

#[test]
fn a_stream_up_that_nobody_vouches_for_is_no_success() {
    // It reads all and closes, but sends no verdict.
    let backend = Backend::start("banner", &["--text", ""]);
    let outcome = run(&settings(backend.address, Work::Stream { connections: 1, direction: Direction::Up }));
    let ledger = ledger(&outcome);
    assert_eq!((ledger.ok, ledger.errors.get("no verdict")), (0, Some(&1)), "{:?}", ledger.errors);
}

#[test]
fn churning_connections_come_and_go_and_all_end_as_they_were_to() {
    for verify in LEVELS {
        let ledger = check("echo", Work::Churn { connections: 8, bytes: Sizes::Uniform(0, 200_000) }, verify);
        assert!(ledger.ok > 20, "{verify:?}: only {}", ledger.ok);
        assert!(ledger.bytes_up > SOME && ledger.bytes_down > SOME, "{verify:?}");
    }
}

#[test]
fn a_churn_against_a_back_end_that_breaks_connections_reports_it() {
    let backend = Backend::start("flaky", &["--reset", "0.5", "--close", "0.5"]);
    let outcome =
        run(&settings(backend.address, Work::Churn { connections: 4, bytes: Sizes::Fixed(500_000) }));
    let ledger = ledger(&outcome);
    assert!(ledger.failed > 0 && ledger.errors.contains_key("closed early"), "{:?}", ledger.errors);
    // Where we had sent our FIN, an orderly end before all of it came back is a loss.
    assert!(ledger.faults.iter().all(|fault| matches!(fault.kind, FaultKind::Cut(_))), "{:?}", ledger.faults);
}
