//! The output of `explain`: each case a text, an arrival, and lines that must be there.

use weir_routing::explain::{Extent, explain};
use weir_routing::{Arrival, Gateway};

/// Lines are compared with one space between words; each wanted one is a line or its beginning.
#[track_caller]
fn check(toml: &str, source: &str, destination: &str, wanted: &[&str]) {
    let table = super::load(&super::sources(&[toml])).expect("a good file").table;
    let destination = destination.parse().expect("an address and a port");
    let gateways = Gateway::listening(&table.parts().gateways, destination);
    let [gateway] = gateways[..] else { panic!("{gateways:?} listen on {destination}") };
    let arrival = Arrival::new(gateway, format!("{source}:0").parse().expect("an address"), destination);
    let text = explain(&table, &arrival, Extent::Near).to_text();
    let lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let mut from = 0;
    for wanted in wanted {
        let found = lines[from..].iter().position(|line| line.starts_with(wanted));
        from += found.unwrap_or_else(|| panic!("no line {wanted:?} from line {from} of\n{text}")) + 1;
    }
}

const EDGE: &str = "[gateway.edge]\nlisten = [\"0.0.0.0:80\"]\n";

#[test]
fn routes_that_are_off_are_listed_at_their_place() {
    check(
        &format!(
            "{EDGE}
[[route]]
name = \"last\"
order = 9
enabled = false
reject = true
[[route]]
name = \"first\"
enabled = false
reject = true
[[route]]
name = \"second\"
enabled = false
reject = true
[[route]]
name = \"third\"
match = [{{ source_subnets = [\"10.0.0.0/8\"] }}]
reject = true
[[route]]
name = \"fourth\"
reject = true
"
        ),
        "10.0.0.1",
        "192.0.2.1:80",
        &[
            "rule 1 first a.toml:10 off",
            "rule 2 second a.toml:14 off",
            "rule 3 third a.toml:18 MATCH",
            "rule 4 fourth a.toml:22 not reached",
            "rule 5 last a.toml:5 off",
            "decision reject via route",
        ],
    );
}

#[test]
fn a_rule_of_another_gateway_shows_the_line_that_names_it() {
    check(
        &format!(
            "{EDGE}[gateway.other]
listen = [\"0.0.0.0:81\"]
[[route]]
name = \"elsewhere\"
match = [{{ ports = [81] }}]
gateways = [
  \"other\",
]
reject = true
"
        ),
        "10.0.0.1",
        "192.0.2.1:80",
        &["rule 1 elsewhere a.toml:6 no gateways: wanted other, found edge a.toml:8"],
    );
}

#[test]
fn names_in_namespace_default_are_plain() {
    let toml = format!(
        "{EDGE}[workload.client]\naddresses = [\"10.0.0.1\"]\n[workload.\"foo/client\"]\naddresses = [\"10.0.0.2\"]\n"
    );
    check(
        &toml,
        "10.0.0.1",
        "192.0.2.1:80",
        &["arrival 10.0.0.1 -> 192.0.2.1:80 gateway edge workload client {}"],
    );
    check(
        &toml,
        "10.0.0.2",
        "192.0.2.1:80",
        &["arrival 10.0.0.2 -> 192.0.2.1:80 gateway edge workload foo/client {}"],
    );
}

#[test]
fn a_share_of_a_few_in_a_million_is_not_nothing() {
    check(
        &format!(
            "{EDGE}to = [
  {{ service = \"a\", weight = 1 }}, {{ service = \"b\", weight = 999999 }},
  {{ service = \"c\", weight = 0 }},
]
[service]
a.endpoints = [\"10.0.0.1:1\"]
b.endpoints = [{{ address = \"10.0.0.2:1\", weight = 1000000 }}, \"10.0.0.3:1\"]
c.endpoints = [\"10.0.0.4:1\"]
"
        ),
        "10.0.0.1",
        "192.0.2.1:80",
        &[
            "split a 1 of 1000000 = < 0.1 % b 999999 of 1000000 = > 99.9 %",
            "split c 0 of 1000000 = 0.0 %",
            "endpoint a 10.0.0.1:1 weight 1 100.0 %",
            "endpoint b 10.0.0.2:1 weight 1000000 > 99.9 %",
            "endpoint b 10.0.0.3:1 weight 1 < 0.1 %",
        ],
    );
}

#[test]
fn endpoints_of_weight_0_are_shown() {
    check(
        &format!(
            "{EDGE}to = [{{ service = \"db\" }}]
[service.db]
selector = {{ app = \"db\" }}
ports = [{{ port = 5432 }}]
endpoints = [
  {{ address = \"10.0.0.2\", weight = 0 }},
  {{ address = \"10.0.0.1\", locality = \"eu\" }},
  {{ address = \"10.0.0.3\", priority = 1, weight = 0 }},
]
[workload.old]
addresses = [\"10.0.0.9\"]
labels = {{ app = \"db\" }}
weight = 0
"
        ),
        "10.0.0.1",
        "192.0.2.1:80",
        &[
            "endpoint db 10.0.0.1:5432 weight 1 100.0 % eu",
            "endpoint db 10.0.0.2:5432 weight 0 0.0 %",
            "endpoint db 10.0.0.9:5432 weight 0 0.0 %",
            "endpoint db 10.0.0.3:5432 weight 0 0.0 % priority 1",
        ],
    );
}

/// The endpoint is the one of Maglev's table; it stays the same as long as the addresses and weights do.
#[test]
fn source_ip_shows_the_endpoint_of_a_source() {
    let toml = format!(
        "{EDGE}to = [{{ service = \"db\" }}]
[service.db]
endpoints = [\"10.0.0.1:1\", \"10.0.0.2:1\", \"10.0.0.3:1\"]
policy = {{ balance = \"source_ip\" }}
"
    );
    let table = super::load(&super::sources(&[&toml])).expect("a good file").table;
    let mut seen = std::collections::BTreeSet::new();
    for last in 1..=40 {
        let source = format!("192.0.2.{last}");
        let arrival = Arrival::new(
            weir_routing::GatewayId(0),
            format!("{source}:0").parse().expect("an address"),
            "192.0.2.1:80".parse().expect("an address"),
        );
        let endpoint = explain(&table, &arrival, Extent::Whole).split[0].source_ip.expect("an endpoint");
        let line = format!("source_ip db {endpoint}, for source {source} while it is usable");
        check(&toml, &source, "192.0.2.1:80", &[&line]);
        seen.insert(endpoint);
    }
    assert_eq!(seen.len(), 3, "40 sources go to all three");
}

#[test]
fn a_gateway_on_a_free_port_may_get_what_no_other_listens_on() {
    let toml = "[gateway.fixed]\nlisten = [\"0.0.0.0:80\"]\n[gateway.free]\nlisten = [\"127.0.0.1:0\"]\n";
    check(toml, "127.0.0.1", "127.0.0.1:80", &["arrival 127.0.0.1 -> 127.0.0.1:80 gateway fixed"]);
    check(toml, "127.0.0.1", "127.0.0.1:31400", &["arrival 127.0.0.1 -> 127.0.0.1:31400 gateway free"]);
    let toml = "[gateway.all]\nlisten = [\"0.0.0.0:0\"]\n[gateway.six]\nlisten = [\"[::]:0\"]\n[gateway.own]\nlisten = [\"127.0.0.1:0\"]\n";
    check(toml, "127.0.0.1", "127.0.0.1:9", &["arrival 127.0.0.1 -> 127.0.0.1:9 gateway own"]);
    check(toml, "127.0.0.1", "127.0.0.2:9", &["arrival 127.0.0.1 -> 127.0.0.2:9 gateway all"]);
    check(toml, "127.0.0.1", "[::1]:9", &["arrival 127.0.0.1 -> [::1]:9 gateway six"]);
}

#[test]
fn a_vip_without_the_port_is_distinguished_from_no_vip() {
    let toml = "[gateway.mesh]
listen = [\"0.0.0.0:80-81\"]
[[route]]
match = [{ destination_services = [\"server\"] }]
reject = true
[service.server]
vips = [\"192.168.0.1\", \"192.168.1.0/24\"]
ports = [{ port = 80 }]
endpoints = [\"10.0.0.1\"]
[service.other]
vips = [\"192.168.1.1\"]
ports = [{ port = 82 }]
endpoints = [\"10.0.0.1\"]
";
    let failed = "rule 1 route-1 a.toml:3 no destination_services: wanted server, found";
    for (destination, found) in [
        ("192.0.2.1:80", "no service a.toml:4"),
        ("192.168.0.1:81", "no service: `server` has no port 81"),
        ("192.168.1.1:81", "no service: 81 is no port of `other` or `server`"),
    ] {
        check(toml, "10.0.0.1", destination, &[&format!("{failed} {found}")]);
    }
}
