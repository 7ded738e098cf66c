//! Dialling: refused, unanswered, the next endpoint, and no endpoint at all.

use std::time::Instant;

use weir_tests::backend::{BlackHole, refusing};
use weir_tests::client::{End, ask_once, connect_to_end};
use weir_tests::wait::{assert_on_time, ms};
use weir_tests::{Backend, Weir, busy, quiet};

use crate::support::edge;

#[test]
fn a_refused_endpoint_gives_way_to_the_next() {
    let _turn = busy();
    let one = Backend::lines("one");
    let mut weir = Weir::start(&edge(&[refusing(), one.address], "balance = \"random\""));
    let address = weir.address("edge");
    for _ in 0..50 {
        assert_eq!(ask_once(address, "hello").expect("an answer"), "one hello");
    }
    weir.expect_closed("done", 50);
    weir.clean();
}

#[test]
fn an_endpoint_that_does_not_answer_gives_way_after_connect_timeout() {
    let _turn = quiet();
    let (hole, one) = (BlackHole::new(), Backend::lines("one"));
    let toml = format!(
        r#"
[gateway.edge]
listen = ["127.0.0.1:0"]
to = [{{ service = "db" }}]

[service.db]
endpoints = ["{}", {{ address = "{}", priority = 0 }}]
policy = {{ connect_timeout = "300ms", balance = "round_robin" }}
"#,
        hole.address, one.address
    );
    let mut weir = Weir::start(&toml);
    let address = weir.address("edge");
    let mut late = 0;
    for _ in 0..4 {
        let start = Instant::now();
        assert_eq!(ask_once(address, "hello").expect("an answer"), "one hello");
        if start.elapsed() > ms(250) {
            assert_on_time("the second endpoint", ms(300), start.elapsed());
            late += 1;
        }
    }
    assert_eq!(late, 2, "one in two connections meets the silent endpoint first");
    weir.clean();
}

#[test]
fn connections_one_after_the_other_are_spread_by_weight() {
    let _turn = busy();
    for (weights, connections, heavy) in [([100, 1], 400, 388..=400), ([3, 1], 800, 551..=649)] {
        let [one, other] = ["one", "other"].map(Backend::lines);
        let toml = format!(
            r#"
[gateway.edge]
listen = ["127.0.0.1:0"]
to = [{{ service = "db" }}]

[service.db]
endpoints = [{{ address = "{}", weight = {} }}, {{ address = "{}", weight = {} }}]
"#,
            one.address, weights[0], other.address, weights[1]
        );
        // In a plain loop: the connection before may still be counted.
        let mut weir = Weir::start(&toml);
        let address = weir.address("edge");
        let answers = (0..connections).map(|_| ask_once(address, "hello").expect("an answer"));
        let to_one = answers.filter(|answer| answer == "one hello").count();
        assert!(heavy.contains(&to_one), "{weights:?}: {to_one} of {connections}");
        weir.clean();
    }
}

#[test]
fn when_all_fail_the_client_is_reset_and_the_metrics_have_the_reason() {
    let _turn = quiet();
    let hole = BlackHole::new();
    for (name, endpoint, policy, reason, after) in [
        ("refused", refusing(), "connect_attempts = 1", "connect_refused", ms(0)),
        (
            "refused twice, the second time a second later",
            refusing(),
            "connect_attempts = 2",
            "connect_refused",
            ms(1000),
        ),
        (
            "silent",
            hole.address,
            "connect_attempts = 1\nconnect_timeout = \"300ms\"",
            "connect_timeout",
            ms(300),
        ),
        (
            "out of time",
            hole.address,
            "connect_timeout = \"5s\"\nconnect_deadline = \"400ms\"",
            "connect_timeout",
            ms(400),
        ),
    ] {
        let mut weir = Weir::start(&edge(&[endpoint], policy));
        let address = weir.address("edge");
        let start = Instant::now();
        assert_eq!(connect_to_end(address), End::Reset, "{name}");
        assert_on_time(name, after, start.elapsed());
        weir.expect_closed(reason, 1);
        weir.clean();
    }
}

#[test]
fn a_destination_without_endpoints_fails_its_share_and_no_other() {
    let _turn = busy();
    let one = Backend::lines("one");
    let mut weir = Weir::start(&format!(
        r#"
[gateway.edge]
listen = ["127.0.0.1:0"]
to = [{{ service = "db", subset = "v1" }}]

[service.db]
endpoints = [{{ address = "{}", labels = {{ version = "v2" }} }}]

[service.db.subset.v1]
labels = {{ version = "v1" }}
"#,
        one.address
    ));
    assert_eq!(connect_to_end(weir.address("edge")), End::Reset);
    weir.expect_closed("no_endpoint", 1);
    assert_eq!(one.accepted(), 0, "it does not spill to the whole service");
    weir.clean();
}

#[test]
fn the_second_priority_is_for_when_the_first_has_no_endpoint() {
    let _turn = busy();
    let (one, two) = (Backend::lines("one"), Backend::lines("two"));
    let mut weir = Weir::start(&format!(
        r#"
[gateway.edge]
listen = ["127.0.0.1:0"]
to = [{{ service = "db" }}]

[service.db]
endpoints = [{{ address = "{}" }}, {{ address = "{}", priority = 1 }}]
"#,
        one.address, two.address
    ));
    let address = weir.address("edge");
    for _ in 0..50 {
        assert_eq!(ask_once(address, "hello").expect("an answer"), "one hello");
    }
    assert_eq!(two.accepted(), 0);
}

#[test]
fn a_host_name_stands_for_its_addresses() {
    let _turn = busy();
    let one = Backend::lines("one");
    let mut weir = Weir::start(&format!(
        r#"
[gateway.edge]
listen = ["127.0.0.1:0"]
to = [{{ service = "db" }}]

[service.db]
endpoints = ["localhost:{}"]
"#,
        one.address.port()
    ));
    let address = weir.address("edge");
    let answered = || ask_once(address, "hello").is_ok_and(|answer| answer == "one hello");
    assert!(weir_tests::wait_for(ms(2000), answered), "localhost is resolved at the start");
}
