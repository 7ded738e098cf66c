//! Keys in the wrong place, values of the wrong type, and things without their names.

use super::check_whole;

#[test]
fn a_thing_without_its_name_is_reported_once() {
    check_whole(
        r#"[gateway]
listen = ["0.0.0.0:1"]
"#,
        &[
            "a.toml:1:1 no-name a gateway needs a name in its header",
            "  found: [gateway]",
            "  wanted: [gateway.NAME]",
        ],
    );
    check_whole(
        r#"[service]
endpoints = ["10.0.0.1:1"]
"#,
        &[
            "a.toml:1:1 no-name a service needs a name in its header",
            "  found: [service]",
            "  wanted: [service.NAME]",
        ],
    );
    check_whole(
        r#"[[gateway]]
listen = ["0.0.0.0:1"]
"#,
        &[
            "a.toml:1:1 wrong-type each gateway has a header of its own, with its name",
            "  found: [[gateway]]",
            "  wanted: [gateway.NAME]",
        ],
    );
    check_whole(
        r#"[[service.s]]
endpoints = ["10.0.0.1:1"]
[[service.s]]
endpoints = ["10.0.0.2:1"]
"#,
        &[
            "a.toml:1:11 wrong-type `[[service.s]]` begins a list; a service is declared once, by its name",
            "  found: [[service.s]]",
            "  wanted: [service.s]",
        ],
    );
    check_whole(
        r#"[route.x]
to = [{ service = "db" }]
"#,
        &[
            "a.toml:1:2 wrong-type `route` is a list: each has the header [[route]], and `name` if it has a name",
            "  found: [route...]",
            "  wanted: [[route]]",
        ],
    );
    check_whole(
        r#"[[service.s.subset.v1]]
labels = {}
[service.s]
endpoints = ["10.0.0.1:1"]
"#,
        &[
            "a.toml:1:1 wrong-type `v1` is not a table",
            "  found: [[service.s.subset.v1]]",
            "  wanted: a table",
        ],
    );
    check_whole(
        r#"[service.db.example]
endpoints = ["10.0.0.1:1"]
"#,
        &[
            "a.toml:1:13 unknown-key unknown key `example`",
            "  found: example",
            "  wanted: description, vips, ports, selector, endpoints, policy, subset",
            r#"  help: a name with a dot is quoted: [service."db.example"]"#,
        ],
    );
}

#[test]
fn keys_in_the_wrong_place_are_reported_with_where_they_belong() {
    check_whole(
        r#"[service.x]
endpoints = ["10.0.0.1:1"]
namespace = "foo"
"#,
        &[
            "a.toml:3:1 unknown-key unknown key `namespace`",
            "  found: namespace",
            "  wanted: description, vips, ports, selector, endpoints, policy, subset",
            r#"  help: `namespace` stands once, before the first header of a file; a single thing has its own in its name: "NAMESPACE/NAME""#,
        ],
    );
    check_whole(
        r#"[service.x]
endpoints = ["10.0.0.1:1"]
idle_timeout = "1h"
health_check = {}
[service.x.subset.v1]
max_connections = 5
"#,
        &[
            "a.toml:3:1 unknown-key unknown key `idle_timeout`",
            "  found: idle_timeout",
            "  wanted: description, vips, ports, selector, endpoints, policy, subset",
            "  help: it belongs to the policy: [service.x.policy]",
            "a.toml:4:1 unknown-key unknown key `health_check`",
            "  found: health_check",
            "  wanted: description, vips, ports, selector, endpoints, policy, subset",
            "  help: it belongs to the policy: [service.x.policy]",
            "a.toml:6:1 unknown-key unknown key `max_connections`",
            "  found: max_connections",
            "  wanted: description, labels, policy",
            "  help: it belongs to the policy: [service.x.subset.v1.policy]",
        ],
    );
    check_whole(
        r#"[proxy]
idle_timeout = "1h"
[gateway.other]
connect_timeout = "1s"
listen = ["0.0.0.0:1"]
"#,
        &[
            "a.toml:2:1 unknown-key unknown key `idle_timeout`",
            "  found: idle_timeout",
            "  wanted: cores, shards, locality, admin, watch, drain_delay, drain_timeout, resolve_interval, max_connections, busy_poll, relay",
            "  help: it belongs to the policy: [policy.default] for all services, [service.NAME.policy] for one",
            "a.toml:4:1 unknown-key unknown key `connect_timeout`",
            "  found: connect_timeout",
            "  wanted: description, listen, to, unmatched, max_connections, max_connections_per_source, max_connection_rate, max_connection_rate_per_source",
            "  help: it belongs to the policy: [policy.default] for all services, [service.NAME.policy] for one",
        ],
    );
    check_whole(
        r#"[[route]]
ports = [5432]
to = [{ service = "db" }]
"#,
        &[
            "a.toml:2:1 unknown-key unknown key `ports`",
            "  found: ports",
            "  wanted: description, name, gateways, order, match, to, sticky, reject, enabled",
            "  help: conditions stand in `match`: match = [{ ports = ... }]",
        ],
    );
}

#[test]
fn http_conditions_are_refused_with_those_that_tcp_has() {
    check_whole(
        r#"[[route]]
host = "a.example.com"
to = [{ service = "db" }]
[[route]]
match = [{ host = "x" }, { gateways = ["edge"] }, { nonsense = 1 }, { destinationSubnets = ["10.0.0.0/8"] }, { port = 5432 }]
to = [{ service = "db" }]
"#,
        &[
            "a.toml:2:1 unknown-key unknown key `host`",
            "  found: host",
            "  wanted: description, name, gateways, order, match, to, sticky, reject, enabled",
            "  help: TCP has no such thing: the address that a client dialled is matched by `destination_subnets`, `destination_services` and `ports`, the client by `source_subnets`, `source_labels` and `source_namespaces`",
            "a.toml:5:12 unknown-key unknown key `host`",
            "  found: host",
            "  wanted: ports, destination_subnets, source_subnets, source_labels, source_namespaces, destination_services",
            "  help: TCP has no such thing: the address that a client dialled is matched by `destination_subnets`, `destination_services` and `ports`, the client by `source_subnets`, `source_labels` and `source_namespaces`",
            "a.toml:5:28 unknown-key unknown key `gateways`",
            "  found: gateways",
            "  wanted: ports, destination_subnets, source_subnets, source_labels, source_namespaces, destination_services",
            "  help: `gateways` belongs to the route, beside its `match`",
            "a.toml:5:53 unknown-key unknown key `nonsense`",
            "  found: nonsense",
            "  wanted: ports, destination_subnets, source_subnets, source_labels, source_namespaces, destination_services",
            "  help: correct it, or take the whole route out: without the condition it would match more",
            "a.toml:5:71 unknown-key unknown key `destinationSubnets`",
            "  found: destinationSubnets",
            "  wanted: ports, destination_subnets, source_subnets, source_labels, source_namespaces, destination_services",
            "  help: did you mean `destination_subnets`?",
            "a.toml:5:112 unknown-key unknown key `port`",
            "  found: port",
            "  wanted: ports, destination_subnets, source_subnets, source_labels, source_namespaces, destination_services",
            "  help: did you mean `ports`?",
        ],
    );
}

#[test]
fn values_of_another_type_are_written_out() {
    check_whole(
        r#"[[route]]
to = { service = "db" }
"#,
        &[
            "a.toml:2:6 wrong-type `to` is not a list",
            "  found: a table",
            "  wanted: a list",
            r#"  help: write to = [{ service = "db" }]"#,
        ],
    );
    check_whole(
        r#"[[route]]
to = "db"
[[route]]
to = ["db"]
[gateway.other]
listen = "0.0.0.0:1"
[service.x]
ports = [80]
endpoints = { address = "10.0.0.1" }
vips = "10.9.9.9"
[proxy]
watch = "yes"
shards = "2"
locality = 5
"#,
        &[
            "a.toml:2:6 wrong-type `to` is not a list",
            r#"  found: "db""#,
            "  wanted: a list",
            r#"  help: write to = [{ service = "db" }]"#,
            "a.toml:4:7 wrong-type `to` is not a table",
            r#"  found: "db""#,
            "  wanted: a table",
            r#"  help: write { service = "db" }"#,
            "a.toml:6:10 wrong-type `listen` is not a list",
            r#"  found: "0.0.0.0:1""#,
            "  wanted: a list",
            r#"  help: write listen = ["0.0.0.0:1"]"#,
            "a.toml:8:10 wrong-type `ports` is not a table",
            "  found: 80",
            "  wanted: a table",
            "  help: write { port = 80 }",
            "a.toml:9:13 wrong-type `endpoints` is not a list",
            "  found: a table",
            "  wanted: a list",
            r#"  help: write endpoints = [{ address = "10.0.0.1" }]"#,
            "a.toml:10:8 wrong-type `vips` is not a list",
            r#"  found: "10.9.9.9""#,
            "  wanted: a list",
            r#"  help: write vips = ["10.9.9.9"]"#,
            "a.toml:12:9 wrong-type `watch` is not true or false",
            r#"  found: "yes""#,
            "  wanted: true or false",
            "  help: write watch = true",
            "a.toml:13:10 wrong-type `shards` is not a whole number",
            r#"  found: "2""#,
            "  wanted: a whole number",
            "  help: write shards = 2",
            "a.toml:14:12 wrong-type `locality` is not a string",
            "  found: 5",
            "  wanted: a string",
            r#"  help: write locality = "5""#,
        ],
    );
    check_whole(
        r#"[[route]]
match = [{ source_labels = { version = 1 }, ports = 80, source_subnets = ["10.0.0.0/255.0.0.0"] }]
to = [{ service = "db" }]
"#,
        &[
            "a.toml:2:40 wrong-type `version` is not a string",
            "  found: 1",
            "  wanted: a string",
            r#"  help: write version = "1""#,
            "a.toml:2:53 wrong-type `ports` is not a list",
            "  found: 80",
            "  wanted: a list",
            "  help: write ports = [80]",
            "a.toml:2:75 bad-cidr 10.0.0.0/255.0.0.0 is not a valid CIDR block",
            "  found: 10.0.0.0/255.0.0.0",
            "  wanted: a network such as 10.0.0.0/8 or fd00::/8",
            r#"  help: write "10.0.0.0/8""#,
        ],
    );
}

#[test]
fn dates_and_large_numbers_are_no_values() {
    check_whole(
        r#"[proxy]
shards = 1979-05-27
max_connections = 99999999999999999999
drain_delay = 1979-05-27T07:32:00Z
drain_timeout = 1.5
locality = 07:32:00
busy_poll = 1e999
"#,
        &[
            "a.toml:2:10 wrong-type no key takes a date",
            "  found: 1979-05-27",
            "a.toml:3:19 wrong-type no key takes a number this large",
            "  found: 99999999999999999999",
            "a.toml:4:15 wrong-type no key takes a date",
            "  found: 1979-05-27T07:32:00Z",
            "a.toml:5:17 wrong-type `drain_timeout` is not a string or a whole number",
            "  found: 1.5",
            "  wanted: a string or a whole number",
            r#"  help: a duration is a string with a unit, in whole numbers: "1500ms""#,
            "a.toml:6:12 wrong-type no key takes a date",
            "  found: 07:32:00",
            "a.toml:7:13 wrong-type no key takes a number this large",
            "  found: 1e999",
        ],
    );
}

#[test]
fn values_of_variables_that_cannot_be_used_are_distinguished() {
    check_whole(
        r#"[service.x]
endpoints = ["${LINES}:1", "${LATIN1}:1", "${LATIN1:-10.0.0.1}:2"]
"#,
        &[
            "a.toml:2:14 bad-variable the environment variable `LINES` has a line end or another control character in it",
            r#"  found: "10.0.0.1\n""#,
            "  help: set LINES without it; where it is read from a file, the file may end with a line end",
            "a.toml:2:28 bad-variable the environment variable `LATIN1` is set, and not to UTF-8",
            "  found: ${LATIN1}",
            "  help: a configuration is text in UTF-8; set it so",
            "a.toml:2:43 bad-variable the environment variable `LATIN1` is set, and not to UTF-8",
            "  found: ${LATIN1}",
            "  help: a configuration is text in UTF-8; set it so",
        ],
    );
    check_whole(
        r#"[proxy]
shards = "${HOST}"
"#,
        &[
            "a.toml:2:10 wrong-type `shards` is not a whole number",
            r#"  found: "${HOST}""#,
            "  wanted: a whole number",
            "  help: a variable gives a string; `shards` is a whole number",
        ],
    );
}
