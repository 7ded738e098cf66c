//! Routing with real sockets: the effect of a rule on a client. The rules themselves are tested where they are compiled.

use std::net::{IpAddr, SocketAddr};

use weir_tests::client::{End, ask, ask_once, connect, connect_from, connect_to_end, is_reset, try_ask};
use weir_tests::wait::ms;
use weir_tests::weir_process::free_admin;
use weir_tests::{Backend, Weir, busy, wait_for};

const CONNECTIONS: usize = 2000;

fn count(answers: &[String], word: &str) -> usize {
    answers.iter().filter(|answer| answer.starts_with(word)).count()
}

fn ask_all(address: SocketAddr) -> Vec<String> {
    (0..CONNECTIONS).map(|_| ask_once(address, "hello").expect("an answer")).collect()
}

#[test]
fn connections_are_split_by_weight_within_four_sigma() {
    let _turn = busy();
    let (one, two) = (Backend::lines("one"), Backend::lines("two"));
    let mut weir = Weir::start(&format!(
        r#"
[gateway.edge]
listen = ["127.0.0.1:0"]

[[route]]
name = "split"
to = [{{ service = "one", weight = 20 }}, {{ service = "two", weight = 80 }}, {{ service = "never", weight = 0 }}]

[service.one]
endpoints = ["{}"]
[service.two]
endpoints = ["{}"]
[service.never]
endpoints = ["127.0.0.1:1"]
"#,
        one.address, two.address
    ));
    let answers = ask_all(weir.address("edge"));
    let first = count(&answers, "one hello");
    assert!((328..=472).contains(&first), "20 % of {CONNECTIONS} came out as {first}");
    assert_eq!(first + count(&answers, "two hello"), CONNECTIONS);
    weir.expect_closed("done", CONNECTIONS);
    assert_eq!(
        weir.metric("weir_connections_opened_total", &[("gateway", "edge"), ("route", "split")]),
        2000.0
    );
    weir.clean();
}

#[test]
fn sources_ports_and_labels_choose_the_rule() {
    let _turn = busy();
    let (one, two, three) = (Backend::lines("one"), Backend::lines("two"), Backend::lines("three"));
    let mut weir = Weir::start(&format!(
        r#"
[gateway.edge]
listen = ["127.0.0.1:0"]
to = [{{ service = "three" }}]

[[route]]
match = [{{ source_subnets = ["127.0.7.0/24"] }}]
to = [{{ service = "one" }}]

[[route]]
match = [{{ source_labels = {{ app = "telnet-client" }} }}]
to = [{{ service = "two" }}]

[[route]]
match = [{{ source_subnets = ["127.0.9.9"] }}]
reject = true

[workload.client]
labels = {{ app = "telnet-client" }}
addresses = ["127.0.8.1"]

[service.one]
endpoints = ["{}"]
[service.two]
endpoints = ["{}"]
[service.three]
endpoints = ["{}"]
"#,
        one.address, two.address, three.address
    ));
    let address = weir.address("edge");
    for (source, wanted) in
        [("127.0.7.3", "one"), ("127.0.8.1", "two"), ("127.0.8.2", "three"), ("127.0.0.1", "three")]
    {
        let stream = connect_from(source.parse::<IpAddr>().unwrap(), address).expect("a connection");
        assert_eq!(ask(&stream, "hello"), format!("{wanted} hello"), "from {source}");
    }
    let rejected =
        connect_from("127.0.9.9".parse().unwrap(), address).and_then(|stream| try_ask(&stream, "hello"));
    assert!(rejected.as_ref().is_err_and(is_reset), "{rejected:?}");
    weir.expect_closed("rejected", 1);
    weir.clean();
}

#[test]
fn a_connection_that_no_rule_takes_is_reset() {
    let _turn = busy();
    let one = Backend::lines("one");
    let mut weir = Weir::start(&format!(
        r#"
[gateway.edge]
listen = ["127.0.0.1:0"]

[[route]]
match = [{{ source_subnets = ["10.0.0.0/8"] }}]
to = [{{ service = "one" }}]

[service.one]
endpoints = ["{}"]
"#,
        one.address
    ));
    let address = weir.address("edge");
    assert_eq!(connect_to_end(address), End::Reset);
    weir.expect_closed("no_route", 1);
    assert_eq!(one.accepted(), 0);
    weir.clean();
}

#[test]
fn a_server_that_speaks_first_is_heard_by_a_silent_client() {
    let _turn = busy();
    let backend = Backend::banner("220 ready");
    let mut weir = Weir::start(&crate::support::edge(&[backend.address], ""));
    let stream = connect(weir.address("edge"));
    assert_eq!(weir_tests::client::read_exactly(&stream, 10), b"220 ready\n");
    assert_eq!(ask(&stream, "hello"), "banner hello");
    drop(stream);
    weir.clean();
}

#[test]
fn ipv6_and_port_ranges_are_listened_on() {
    let _turn = busy();
    let one = Backend::lines("one");
    let mut weir = Weir::start(&format!(
        r#"
[gateway.edge]
listen = ["[::1]:0"]
to = [{{ service = "one" }}]

[gateway.range]
listen = ["127.0.0.1:32500-32503"]

[[route]]
gateways = ["range"]
match = [{{ ports = ["32501-32502"] }}]
to = [{{ service = "one" }}]

[service.one]
endpoints = ["{}"]
"#,
        one.address
    ));
    assert_eq!(ask_once(weir.address("edge"), "six").expect("an answer"), "one six");
    for (port, taken) in [(32500, false), (32501, true), (32502, true), (32503, false)] {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if taken {
            assert_eq!(ask_once(address, "hello").expect("an answer"), "one hello", "port {port}");
        } else {
            assert_eq!(connect_to_end(address), End::Reset, "port {port}");
        }
    }
    weir.clean();
}

#[test]
fn a_sticky_source_stays_with_its_destination() {
    let _turn = busy();
    let (one, two) = (Backend::lines("one"), Backend::lines("two"));
    let mut weir = Weir::start(&format!(
        r#"
[gateway.edge]
listen = ["127.0.0.1:0"]

[[route]]
sticky = "source"
to = [{{ service = "one", weight = 50 }}, {{ service = "two", weight = 50 }}]

[service.one]
endpoints = ["{}"]
[service.two]
endpoints = ["{}"]
"#,
        one.address, two.address
    ));
    let address = weir.address("edge");
    let from = |source: u8| {
        let stream = connect_from(IpAddr::from([127, 0, 0, source]), address).expect("a connection");
        ask(&stream, "hello")
    };
    let first: Vec<String> = (1..=40).map(from).collect();
    let second: Vec<String> = (1..=40).map(from).collect();
    assert_eq!(first, second);
    assert!((4..=36).contains(&count(&first, "one")), "both destinations have sources: {first:?}");
}

#[test]
fn any_port_is_dialled_as_the_client_dialled_it() {
    let _turn = busy();
    let (one, two) = (free_admin(), free_admin());
    let at = |address: SocketAddr| SocketAddr::from(([127, 0, 0, 2], address.port()));
    let backends = [Backend::lines_at(at(one), "one"), Backend::lines_at(at(two), "two")];
    let mut weir = Weir::start(&format!(
        r#"
[gateway.edge]
listen = ["{one}", "{two}"]
to = [{{ service = "realm" }}]

[service.realm]
ports = "any"
endpoints = ["127.0.0.2"]

[gateway.back]
listen = ["127.0.0.3:0"]
to = [{{ service = "back" }}]

[service.back]
ports = "any"
endpoints = ["127.0.0.3"]
"#
    ));
    assert_eq!(ask_once(one, "hello").expect("an answer"), "one hello");
    assert_eq!(ask_once(two, "hello").expect("an answer"), "two hello");
    assert_eq!(backends.each_ref().map(Backend::accepted), [1, 1]);
    // Only the kernel knew that port: the dialled address is the listener itself.
    assert_eq!(connect_to_end(weir.address("back")), End::Reset);
    weir.expect_closed("loop", 1);
    // State and series belong to the address, whatever port was dialled.
    let of_it = |name: &str| weir.metric(name, &[("service", "realm"), ("endpoint", "127.0.0.2")]);
    assert!(wait_for(ms(2000), || of_it("weir_endpoint_connections_total") == 2.0));
    weir.expect_closed("done", 2);
    assert_eq!(of_it("weir_endpoint_connections_active"), 0.0);
    weir.clean();
}
