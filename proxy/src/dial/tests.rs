//! The dial as tables: a script of events, and the action after each.

use weir_routing::Timeouts;

use super::*;

/// The endpoints that `pick` offers, one entry an attempt.
type Offers<'a> = &'a [Option<u32>];

const REFUSED: Event =
    Event::Failed(Failure { reason: Reason::ConnectRefused, outlook: Outlook::EndpointMayAnswer });
const NO_PORT: Event =
    Event::Failed(Failure { reason: Reason::NoSourcePort, outlook: Outlook::HostMayRecover });
const NO_ADDRESS: Event = Event::Failed(Failure { reason: Reason::ConnectError, outlook: Outlook::Hopeless });

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How often a dial is to try, and for how long.
struct Policy {
    attempts: u32,
    timeouts: Timeouts,
}

fn policy(attempts: u32) -> Policy {
    let timeouts = Timeouts {
        connect: Some(millis(3_000)),
        connect_deadline: Some(millis(10_000)),
        idle: Some(millis(3_600_000)),
        half_close: None,
        flush: None,
        max_duration: None,
    };
    Policy { attempts, timeouts }
}

fn dial(policy: &Policy) -> Dial {
    Dial::new(policy.attempts, &policy.timeouts, Millis(0))
}

/// Runs the events of `script` (millisecond, event, wanted action) through a dial that was accepted at 0.
#[track_caller]
fn check(policy: &Policy, offers: Offers<'_>, script: &[(u64, Event, Action)]) {
    let mut dial = dial(policy);
    let mut offers = offers.iter().map(|offer| offer.map(EndpointId));
    for (index, &(at, event, wanted)) in script.iter().enumerate() {
        let action = dial.on(event, Millis(at), |_| offers.next().flatten());
        assert_eq!(action, wanted, "event {index}, {event:?} at {at}: {dial:?}");
    }
    assert_eq!(offers.next(), None, "an endpoint was not asked for");
}

const ONE: Action = Action::Connect(EndpointId(1));
const TWO: Action = Action::Connect(EndpointId(2));

#[test]
fn endpoints_are_tried_until_one_answers_or_attempts_are_used_up() {
    let three = policy(3);
    check(&three, &[Some(1)], &[(0, Event::Begin, ONE), (5, Event::Connected, Action::Established)]);
    check(
        &three,
        &[Some(1), Some(2), Some(1)],
        &[
            (0, Event::Begin, ONE),
            (1, REFUSED, TWO),
            (2, REFUSED, ONE),
            (3, REFUSED, Action::Fail(Reason::ConnectRefused)),
        ],
    );
    check(&three, &[None], &[(0, Event::Begin, Action::Fail(Reason::NoEndpoint))]);
    check(
        &policy(1),
        &[Some(1)],
        &[(0, Event::Begin, ONE), (1, REFUSED, Action::Fail(Reason::ConnectRefused))],
    );
}

#[test]
fn endpoints_that_have_all_failed_are_tried_again_after_a_second() {
    check(
        &policy(3),
        &[Some(1), None, Some(1)],
        &[
            (0, Event::Begin, ONE),
            (10, REFUSED, Action::Wait),
            (1_010, Event::Timer, Action::Wait),
            (1_011, Event::Timer, ONE),
            (1_012, Event::Connected, Action::Established),
        ],
    );
    // Of those that this host cannot dial, and where the client would learn it later than `connect_timeout`, there is no second round.
    check(
        &policy(3),
        &[Some(1), None],
        &[(0, Event::Begin, ONE), (10, NO_ADDRESS, Action::Fail(Reason::ConnectError))],
    );
    let mut hasty = policy(3);
    hasty.timeouts.connect = Some(millis(900));
    check(
        &hasty,
        &[Some(1), None],
        &[(0, Event::Begin, ONE), (10, NO_PORT, Action::Fail(Reason::NoSourcePort))],
    );
    check(&policy(3), &[Some(1), None], &[(0, Event::Begin, ONE), (10, NO_PORT, Action::Wait)]);
}

#[test]
fn an_attempt_that_times_out_is_cancelled_and_counts_when_its_completion_comes() {
    let timed_out =
        Event::Failed(Failure { reason: Reason::ConnectTimeout, outlook: Outlook::EndpointMayAnswer });
    check(
        &policy(2),
        &[Some(1), Some(2)],
        &[
            (0, Event::Begin, ONE),
            (3_000, Event::Timer, Action::Wait),
            (3_001, Event::Timer, Action::Cancel),
            (3_001, Event::Timer, Action::Wait),
            (3_002, timed_out, TWO),
            (6_010, Event::Timer, Action::Cancel),
            // It answered behind the back of the cancel.
            (6_011, Event::Connected, Action::Established),
        ],
    );
}

#[test]
fn deadlines_end_a_dial_whatever_it_waits_for() {
    let deadline = |offers: Offers<'_>, script: &[(u64, Event, Action)]| check(&policy(9), offers, script);
    deadline(
        &[Some(1)],
        &[
            (0, Event::Begin, ONE),
            (3_001, Event::Timer, Action::Cancel),
            (10_001, Event::Timer, Action::Fail(Reason::ConnectTimeout)),
        ],
    );
    deadline(
        &[Some(1), None],
        &[
            (0, Event::Begin, ONE),
            (9_500, REFUSED, Action::Wait),
            (10_001, Event::Timer, Action::Fail(Reason::ConnectRefused)),
        ],
    );
    let mut short = policy(3);
    short.timeouts.max_duration = Some(millis(50));
    check(
        &short,
        &[Some(1)],
        &[(0, Event::Begin, ONE), (51, Event::Timer, Action::Fail(Reason::MaxDuration))],
    );
    short.timeouts.idle = Some(millis(40));
    check(
        &short,
        &[Some(1)],
        &[(0, Event::Begin, ONE), (41, Event::Timer, Action::Fail(Reason::IdleTimeout))],
    );
}

#[test]
fn a_completion_without_a_connect_is_a_defect() {
    for event in [Event::Connected, REFUSED] {
        let mut dial = dial(&policy(3));
        assert_eq!(dial.on(event, Millis(0), |_| None), Action::Fail(Reason::Internal));
    }
}

#[test]
fn the_timer_is_set_to_the_next_thing_that_time_decides() {
    let mut dial = dial(&policy(3));
    let _ = dial.on(Event::Begin, Millis(100), |_| Some(EndpointId(1)));
    assert_eq!(dial.wake_at(), Some(Millis(3_101)), "this attempt");
    let _ = dial.on(Event::Timer, Millis(3_101), |_| None);
    assert_eq!(dial.wake_at(), Some(Millis(10_001)), "all of them");
    let _ = dial.on(REFUSED, Millis(4_000), |_| None);
    assert_eq!(dial.wake_at(), Some(Millis(5_001)), "the next round");
}

#[test]
fn a_dial_that_is_abandoned_blames_an_endpoint_that_had_its_time() {
    let begun = || {
        let mut dial = dial(&policy(3));
        let _ = dial.on(Event::Begin, Millis(0), |_| Some(EndpointId(7)));
        dial
    };
    assert_eq!(begun().abandon(Millis(900)), None, "a client that leaves early");
    assert_eq!(begun().abandon(Millis(1_001)), Some(EndpointId(7)), "one that has waited for a second");
    let mut cancelled = begun();
    let _ = cancelled.on(Event::Timer, Millis(3_001), |_| None);
    assert_eq!(cancelled.abandon(Millis(3_001)), Some(EndpointId(7)));
    let mut pausing = begun();
    let _ = pausing.on(REFUSED, Millis(1), |_| None);
    assert_eq!(pausing.abandon(Millis(9_000)), None, "it was counted already");
}

#[test]
fn an_attempt_that_has_failed_is_not_blamed_again_when_the_dial_ends() {
    let timed_out =
        Event::Failed(Failure { reason: Reason::ConnectTimeout, outlook: Outlook::EndpointMayAnswer });
    // The last attempt was cancelled for its time-out, or had taken more than a second, when its completion came.
    for (cancelled, completion) in [(true, timed_out), (true, REFUSED), (false, REFUSED)] {
        let mut dial = dial(&policy(1));
        let _ = dial.on(Event::Begin, Millis(0), |_| Some(EndpointId(1)));
        if cancelled {
            assert_eq!(dial.on(Event::Timer, Millis(3_001), |_| None), Action::Cancel);
        }
        let action = dial.on(completion, Millis(3_010), |_| None);
        assert!(matches!(action, Action::Fail(_)), "{completion:?}: {action:?}");
        assert_eq!(dial.abandon(Millis(3_010)), None, "{completion:?} was counted already");
    }
    // It is not about the endpoint that no descriptor is left.
    let mut dial = dial(&policy(3));
    let _ = dial.on(Event::Begin, Millis(0), |_| Some(EndpointId(1)));
    let action = dial.on(Event::Impossible(Reason::LimitProcess), Millis(2_000), |_| None);
    assert_eq!(action, Action::Fail(Reason::LimitProcess));
    assert_eq!(dial.abandon(Millis(2_000)), None);
}

#[test]
fn no_attempt_begins_when_the_time_of_the_dial_is_over() {
    // A process that was stopped learns late of the failure, or of the connection itself.
    check(
        &policy(3),
        &[Some(1)],
        &[(0, Event::Begin, ONE), (10_001, REFUSED, Action::Fail(Reason::ConnectRefused))],
    );
    check(&policy(3), &[], &[(10_001, Event::Begin, Action::Fail(Reason::ConnectTimeout))]);
    let mut short = policy(3);
    short.timeouts.idle = Some(millis(50));
    check(&short, &[Some(1)], &[(0, Event::Begin, ONE), (51, REFUSED, Action::Fail(Reason::IdleTimeout))]);
    // The failure of the last attempt has come before time is judged.
    short.attempts = 1;
    check(&short, &[Some(1)], &[(0, Event::Begin, ONE), (51, REFUSED, Action::Fail(Reason::ConnectRefused))]);
}

#[test]
fn errors_of_a_connect_have_names() {
    use Outlook::{EndpointMayAnswer, Hopeless, HostMayRecover};
    let cases = [
        (libc::ECONNREFUSED, true, Some((Reason::ConnectRefused, EndpointMayAnswer))),
        (libc::ETIMEDOUT, true, Some((Reason::ConnectTimeout, EndpointMayAnswer))),
        (libc::EADDRNOTAVAIL, true, Some((Reason::NoSourcePort, HostMayRecover))),
        (libc::EADDRNOTAVAIL, false, Some((Reason::ConnectError, Hopeless))),
        (libc::EAFNOSUPPORT, true, Some((Reason::ConnectError, Hopeless))),
        (libc::ENETUNREACH, true, Some((Reason::ConnectError, HostMayRecover))),
        (libc::EMFILE, true, None),
        (libc::ENFILE, true, None),
    ];
    for (errno, has_address, wanted) in cases {
        let wanted = wanted.map(|(reason, outlook)| Failure { reason, outlook });
        assert_eq!(Failure::of(errno, || has_address), wanted, "errno {errno}");
    }
    let mut dial = dial(&policy(3));
    let _ = dial.on(Event::Begin, Millis(0), |_| Some(EndpointId(1)));
    let named = |dial: &Dial| dial.failure(libc::ECANCELED, || true).map(|failure| failure.reason);
    assert_eq!(named(&dial), Some(Reason::ConnectError));
    let _ = dial.on(Event::Timer, Millis(3_001), |_| None);
    assert_eq!(named(&dial), Some(Reason::ConnectTimeout), "a connect that was cancelled for its time-out");
}
