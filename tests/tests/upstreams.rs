//! Dials that fail: how they are counted and logged although another endpoint takes over, and when the client is reset.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use weir_tests::backend::{BlackHole, refusing};
use weir_tests::client::{End, ask_once, connect, connect_to_end, read_end, reset};
use weir_tests::wait::{assert_on_time, ms};
use weir_tests::{Backend, Namespace, Weir, busy, holds_for, quiet, wait_for};

use crate::support::edge;

const ERRORS: &str = "weir_endpoint_connect_errors_total";
const CONNECTED: &str = "weir_endpoint_connections_total";
const ACTIVE: &str = "weir_endpoint_connections_active";

/// Lines of the process log about failing dials.
fn lines_with(weir: &Weir, word: &str) -> usize {
    weir.output().lines().filter(|line| line.contains(word)).count()
}

#[test]
fn a_dead_endpoint_is_counted_and_logged_although_another_one_takes_over() {
    let _turn = busy();
    let (dead, one) = (refusing(), Backend::lines("one"));
    let toml = edge(&[dead, one.address], "balance = \"random\"");
    let mut weir = Weir::start(&toml);
    let address = weir.address("edge");
    let (dead_name, one_name) = (dead.to_string(), one.address.to_string());
    let sum = |weir: &Weir, name: &str, endpoint: &str| {
        weir.metric(name, &[("service", "db"), ("endpoint", endpoint)])
    };
    for _ in 0..50 {
        assert_eq!(ask_once(address, "hello").expect("an answer"), "one hello");
    }
    weir.expect_closed("done", 50);
    assert_eq!(sum(&weir, CONNECTED, &one_name), 50.0);
    assert_eq!(sum(&weir, CONNECTED, &dead_name), 0.0);
    assert_eq!(sum(&weir, ERRORS, &one_name), 0.0);
    let failed = weir.metric(ERRORS, &[("endpoint", &dead_name), ("reason", "connect_refused")]);
    assert!((10.0..=40.0).contains(&failed), "{failed} of 50 met it first");
    let line = weir.line(&["WARN", "dials fail", "service=db", "connect_refused", &dead_name]);
    assert!(!line.contains(&one_name), "{line}");

    let held = connect(address);
    let open = |weir: &Weir| sum(weir, ACTIVE, &one_name) == 1.0;
    assert!(wait_for(ms(2000), || open(&weir)), "an open connection is one");
    weir.reload(&format!("{toml}\n# changed\n"));
    assert!(open(&weir), "a reload loses no connection");
    assert!(sum(&weir, CONNECTED, &one_name) >= 51.0, "a reload loses no count");
    assert!(sum(&weir, ERRORS, &dead_name) >= failed, "a reload loses no error");
    drop(held);

    assert_eq!(lines_with(&weir, "dials fail"), 1, "one line, whatever fails in the next ten seconds");
    assert_eq!(lines_with(&weir, "connects again"), 0);
    let _alive = Backend::start_at(dead, drop);
    let over = || {
        let _ = ask_once(address, "hello");
        lines_with(&weir, "connects again") == 1
    };
    assert!(wait_for(Duration::from_secs(10), over), "no line reports that it is over:\n{}", weir.output());
    weir.clean();
}

#[test]
fn an_endpoint_that_never_answers_is_counted_though_its_clients_are_less_patient() {
    let _turn = quiet();
    let hole = BlackHole::new();
    let mut weir = Weir::start(&edge(&[hole.address], "connect_timeout = \"8s\""));
    let address = weir.address("edge");
    let timed_out = |weir: &Weir| weir.metric(ERRORS, &[("reason", "connect_timeout")]);
    let hasty = connect(address);
    let dialling = |weir: &Weir| weir.metric(ACTIVE, &[]) == 1.0;
    assert!(wait_for(ms(2000), || dialling(&weir)));
    reset(hasty);
    weir.expect_closed("client_gone", 1);
    assert_eq!(timed_out(&weir), 0.0, "a client that leaves at once shows nothing about the endpoint");
    let patient = connect(address);
    assert!(holds_for(ms(1200), || true));
    reset(patient);
    weir.expect_closed("client_gone", 2);
    assert_eq!(timed_out(&weir), 1.0);
    weir.line(&["WARN", "dials fail", "connect_timeout 1"]);
    weir.clean();
}

#[test]
fn an_endpoint_that_is_a_listener_of_its_own_is_a_loop() {
    let _turn = busy();
    let one = Backend::lines("one");
    let mut weir = Weir::start(&edge(&[one.address], ""));
    let address = weir.address("edge");
    weir.reload(&edge(&[address], ""));
    assert_eq!(connect_to_end(address), End::Reset);
    weir.expect_closed("loop", 1);
    weir.line(&["WARN", "dials fail", "loop 1"]);
    weir.clean();
}

/// A connection from a port that the kernel need not choose.
fn connect_from_port(port: u16, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("a free port");
    socket.connect(&address.into()).expect("Weir listens");
    socket.into()
}

/// A host on which dialling fails.
struct Case {
    name: &'static str,
    endpoint: &'static str,
    /// Set once Weir runs: a variable of `/proc/sys/net`, its value, and what it is set to again.
    host: Option<[&'static str; 3]>,
    reason: &'static str,
    /// How many attempts fail, and when the client is reset.
    attempts: f64,
    after: Duration,
}

const PORTS: &str = "ipv4/ip_local_port_range";
const ALL_PORTS: &str = "32768 60999";

#[test]
fn a_failure_that_the_host_knows_at_once_ends_within_connect_timeout() {
    let _turn = quiet();
    for Case { name, endpoint, host, reason, attempts, after } in [
        Case {
            name: "the only source port is taken",
            endpoint: "127.0.0.1:7001",
            host: Some([PORTS, "40000 40000", ALL_PORTS]),
            reason: "no_source_port",
            attempts: 2.0,
            after: ms(1000),
        },
        Case {
            name: "no route",
            endpoint: "203.0.113.1:80",
            host: None,
            reason: "connect_error",
            attempts: 2.0,
            after: ms(1000),
        },
        Case {
            name: "no address of the family",
            endpoint: "[2001:db8::1]:80",
            host: Some(["ipv6/conf/all/disable_ipv6", "1", "0"]),
            reason: "connect_error",
            attempts: 1.0,
            after: ms(0),
        },
        Case {
            name: "the source port is the endpoint's",
            endpoint: "127.0.0.1:45000",
            host: Some([PORTS, "45000 45000", ALL_PORTS]),
            reason: "loop",
            attempts: 2.0,
            after: ms(1000),
        },
    ] {
        let Some(namespace) = Namespace::new() else { return };
        namespace.run(|| {
            let gateway: SocketAddr = ([127, 0, 0, 1], 7000).into();
            let backend = Backend::start_at(([127, 0, 0, 1], 7001).into(), drop);
            let taken = connect_from_port(40_000, backend.address);
            let weir = Weir::start(&format!(
                "[gateway.edge]\nlisten = [\"{gateway}\"]\nto = [{{ service = \"db\" }}]\n[service.db]\nendpoints = [\"{endpoint}\"]\n"
            ));
            host.inspect(|[variable, value, _]| set(variable, value));
            let start = Instant::now();
            let client = connect_from_port(50_000, gateway);
            assert_eq!(read_end(&client), End::Reset, "{name}");
            let took = start.elapsed();
            host.inspect(|[variable, _, before]| set(variable, before));
            assert_on_time(name, after, took);
            weir.expect_closed(reason, 1);
            let labels = [("service", "db"), ("endpoint", endpoint), ("reason", reason)];
            assert_eq!(weir.metric(ERRORS, &labels), attempts, "{name}");
            weir.clean();
            drop(taken);
        });
    }
}

/// Sets a variable of `/proc/sys/net`, in the namespace of the calling thread.
fn set(variable: &str, value: &str) {
    let path = format!("/proc/sys/net/{variable}");
    std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}
