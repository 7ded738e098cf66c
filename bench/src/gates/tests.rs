//! Tables of runs that a gate passes and of those that it fails.

use std::time::Duration;

use super::*;
use crate::report::fixture;

/// A run, and the change made to it.
fn with(mut outcome: Outcome, change: impl FnOnce(&mut Outcome)) -> Outcome {
    change(&mut outcome);
    outcome
}

/// Verdict of the gate of this name: none where it is not asked.
#[track_caller]
fn check(name: &str, outcome: &Outcome, passed: Option<bool>, text: &str) {
    let gates = judge(outcome);
    let gate = gates.iter().find(|gate| gate.name == name);
    assert_eq!(gate.map(|gate| gate.passed), passed, "{gate:?}");
    let message = gate.map(|gate| gate.message.as_str()).unwrap_or_default();
    assert!(message.contains(text), "{message:?} does not have {text:?}");
}

#[test]
fn a_good_run_passes_every_gate_that_applies() {
    let gates = judge(&fixture::open());
    assert!(valid(&gates), "{gates:?}");
    let names: Vec<&str> = gates.iter().map(|gate| gate.name).collect();
    let all = ["achieved", "lag", "drops", "own core", "steady", "samples", "conservation", "integrity"];
    assert_eq!(names, all);
}

#[test]
fn achieved_wants_99_of_100_done_and_done_in_time() {
    let short_of = |missing: u64| {
        with(fixture::open(), |outcome| {
            outcome.parts[0].ledger.ok -= missing;
            outcome.parts[0].ledger.unfinished += missing;
        })
    };
    check("achieved", &short_of(100), Some(true), "9,900 of 10,000 planned (99.0 %)");
    check("achieved", &short_of(101), Some(false), "overloaded");
    // All were done, but a tenth of them after the plan had ended.
    let late = |share: u64| {
        with(fixture::open(), |outcome| {
            let late = 1000 * share / 100;
            for second in outcome.seconds.iter_mut().filter(|second| second.at >= 0) {
                second.ok -= late;
            }
            let after = crate::ledger::Second { at: 10, ok: late * 10, ..outcome.seconds[5].clone() };
            outcome.seconds.push(after);
        })
    };
    check("achieved", &late(0), Some(true), "100.0 %");
    check("achieved", &late(10), Some(false), "before the plan ended: 9,000 of 10,000");
    check("achieved", &fixture::interrupted(), Some(true), "3,000 of 3,000");
    check("achieved", &fixture::short(), None, "");
}

#[test]
fn a_closed_loop_in_which_much_fails_is_not_believed() {
    let failing = |failed: u64, unfinished: u64| {
        with(fixture::short(), |outcome| {
            let ledger = &mut outcome.parts[0].ledger;
            (ledger.ok, ledger.failed, ledger.unfinished) = (990, failed, unfinished);
            ledger.planned = 990 + failed + unfinished;
        })
    };
    check("achieved", &failing(10, 0), None, "");
    check("achieved", &failing(11, 0), Some(false), "990 of 1,001 planned (98.9 %)");
    check("achieved", &failing(0, 100), None, "");
}

#[test]
fn slow_answers_under_way_at_the_end_are_not_an_overload() {
    // Half a second each at 1,000 a second: 500 are under way at any time, at the end too.
    let slow = with(fixture::open(), |outcome| {
        outcome.parts[0].ledger.service = fixture::sampled(10_000, 500e6, 1);
        outcome.seconds.last_mut().expect("seconds").ok -= 500;
    });
    check("achieved", &slow, Some(true), "");
}

#[test]
fn lag_may_be_a_quarter_of_the_response_or_250_us() {
    let lagging = |lag: f64, response: f64| {
        with(fixture::open(), |outcome| {
            outcome.parts[0].ledger.lag = fixture::sampled(10_000, lag, 3);
            outcome.parts[0].ledger.response = fixture::sampled(10_000, response, 1);
        })
    };
    check("lag", &lagging(30e3, 30e3), Some(true), "at most 250 us");
    check("lag", &lagging(100e3, 100e3), Some(false), "in part its own");
    check("lag", &lagging(1e6, 5e6), Some(true), "");
    check("lag", &lagging(1e6, 3e6), Some(false), "");
    check("lag", &fixture::short(), None, "");
}

#[test]
fn nothing_may_be_dropped() {
    let dropping = |dropped| with(fixture::open(), |outcome| outcome.parts[0].ledger.dropped = dropped);
    check("drops", &dropping(0), Some(true), "no operation");
    check("drops", &dropping(1), Some(false), "10,000 were waiting already");
    check("drops", &fixture::short(), None, "");
}

#[test]
fn the_generators_core_must_have_room() {
    let busy =
        |outcome, share| with(outcome, |outcome| outcome.busy[0].cpu = outcome.busy[0].wall.mul_f64(share));
    check("own core", &busy(fixture::open(), 0.79), Some(true), "79.0 % of core 1");
    check("own core", &busy(fixture::open(), 0.81), Some(false), "response times cannot be believed");
    check("own core", &busy(fixture::short(), 0.81), Some(false), "the generator's limit, not the system's");
    check("own core", &with(fixture::open(), |outcome| outcome.busy.clear()), None, "");
}

#[test]
fn halves_must_be_alike_beyond_what_is_chance() {
    let second_half = |outcome, share: f64| {
        with(outcome, |outcome: &mut Outcome| {
            for second in outcome.seconds.iter_mut().filter(|second| second.at >= 5) {
                second.ok = (second.ok as f64 * share) as u64;
                second.bytes = (second.bytes as f64 * share) as u64;
            }
        })
    };
    check("steady", &second_half(fixture::open(), 0.91), Some(true), "first half 1,000/s, second half 910/s");
    check("steady", &second_half(fixture::open(), 0.89), Some(false), "11.0 % apart");
    check("steady", &second_half(fixture::stream(), 0.91), Some(true), "2.40 GB/s");
    check("steady", &second_half(fixture::stream(), 0.89), Some(false), "");
    let few = with(fixture::open(), |outcome| outcome.seconds.iter_mut().for_each(|second| second.ok = 10));
    check("steady", &second_half(few, 0.8), Some(true), "20.0 % apart");
    check("steady", &fixture::short(), None, "");
}

#[test]
fn p99_needs_a_thousand_samples_and_more_is_withheld_below_ten_thousand() {
    let timed = |samples| {
        with(fixture::short(), |outcome| {
            outcome.parts[0].ledger.service = fixture::sampled(samples, 1e6, 1);
        })
    };
    check("samples", &timed(999), Some(false), "999 service times, p99 needs 1,000");
    check("samples", &timed(1000), Some(true), "p99.9 needs 10,000 and is withheld");
    check("samples", &timed(10_000), Some(true), "10,000 service times");
    check("samples", &fixture::stream(), None, "");
}

#[test]
fn a_percentile_is_shown_only_with_ten_samples_above_it() {
    for (quantile, least) in [(0.5, 20), (0.9, 100), (0.99, 1000), (0.999, 10_000)] {
        assert_eq!(needed(quantile), least);
        assert!(percentile(&fixture::sampled(least, 1e6, 1), quantile).is_some());
        assert!(percentile(&fixture::sampled(least - 1, 1e6, 1), quantile).is_none());
    }
}

#[test]
fn counts_and_times_must_add_up() {
    check("conservation", &fixture::overloaded(), Some(true), "planned = ok");
    let lost = with(fixture::open(), |outcome| outcome.parts[0].ledger.ok -= 1);
    check("conservation", &lost, Some(false), "10,000 planned, but 9,999 ended");
    let untimed = with(fixture::open(), |outcome| {
        outcome.parts[0].ledger.response = fixture::sampled(9_999, 1e5, 1);
    });
    check("conservation", &untimed, Some(false), "9,999 response times");
}

#[test]
fn a_single_fault_refuses_the_run_and_is_named() {
    let verified = |verify| with(fixture::open(), |outcome| outcome.settings.verify = verify);
    check("integrity", &verified(Verify::Full), Some(true), "every byte");
    check("integrity", &verified(Verify::Stamp), Some(true), "stamps");
    check("integrity", &verified(Verify::Off), None, "");
    let broken = with(verified(Verify::Full), |outcome| {
        let fault = Fault { connection: 3, direction: "down", offset: 64, kind: FaultKind::Foreign(9) };
        outcome.parts[0].ledger.faults.push(fault);
        outcome.parts[0].ledger.fault_count = 1;
    });
    check("integrity", &broken, Some(false), "bytes of connection 9");
}

#[test]
fn a_server_of_another_protocol_is_no_path_that_spoils_bytes() {
    let faulty = |ok: u64, bytes_down: u64, faults: &[(u64, FaultKind)]| {
        with(fixture::short(), |outcome| {
            let ledger = &mut outcome.parts[0].ledger;
            (ledger.ok, ledger.failed) = (ok, ledger.planned - ok);
            (ledger.opened, ledger.bytes_down) = (10, bytes_down);
            for (offset, kind) in faults {
                let (direction, offset, kind) = ("down", *offset, kind.clone());
                ledger.fault(Fault { connection: 0, direction, offset, kind });
            }
        })
    };
    let strange = [(0, FaultKind::Garbage), (1, FaultKind::Garbage)];
    check("peer", &faulty(0, 400, &strange), Some(false), "run `weir-bench serve rr` there");
    check("integrity", &faulty(0, 400, &strange), None, "");
    // Too little for a header, on all ten connections.
    check("peer", &faulty(0, 60, &[]), Some(false), "not a weir-bench peer");
    check("peer", &faulty(0, 160, &[]), None, "");
    check("peer", &faulty(0, 0, &[]), None, "");
    // The peer understood once, or sent bytes of ours.
    let own = [(0, FaultKind::Garbage), (0, FaultKind::Missing(3))];
    let late = [(64, FaultKind::Garbage)];
    for broken in [faulty(1, 400, &strange), faulty(0, 400, &own), faulty(0, 400, &late)] {
        check("peer", &broken, None, "");
        check("integrity", &broken, Some(false), "does not keep its bytes");
    }
}

#[test]
fn a_run_in_which_nothing_happened_is_judged_all_the_same() {
    for outcome in [fixture::empty(), with(fixture::open(), |outcome| outcome.elapsed = Duration::ZERO)] {
        check("achieved", &outcome, Some(true), "");
    }
    let gates = judge(&fixture::empty());
    assert!(!valid(&gates));
    assert!(gates.iter().all(|gate| !gate.message.contains("NaN")), "{gates:?}");
}
