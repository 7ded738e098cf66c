//! Keys of later versions: refused by name, with advice, and accepted where their value changes nothing in this version.

use super::check_whole;

#[test]
fn a_value_that_changes_nothing_is_accepted() {
    check_whole(
        r#"[gateway.other]
listen = ["0.0.0.0:1"]
to = [{ service = "db" }]
interception = "none"
proxy_protocol = "off"
interface = ""
freebind = false
max_connections = 0
max_connections_per_source = 0
max_connection_rate = 0
max_connection_rate_per_source = 0
trusted_peers = []
[proxy]
control = "off"
state = "off"
metrics = "off"
trusted_peers = []
[log]
access = "off"
null = false
while_open = "0s"
[service.x]
endpoints = [{ address = "10.0.0.1:1", state = "ready", max_connections = 0 }]
[service.x.policy]
outlier = { enabled = false }
source = "auto"
mark = 0
interface = ""
proxy_protocol = "off"
on_unhealthy = "keep"
on_recovered = "keep"
on_removed = "keep"
max_connections_per_endpoint = 0
[workload.w]
state = "ready"
addresses = ["10.0.0.9"]
"#,
        &[],
    );
}

#[test]
fn any_other_value_is_refused() {
    check_whole(
        r#"[gateway.other]
listen = ["0.0.0.0:1"]
to = [{ service = "db" }]
proxy_protocol = "v2"
[service.x]
endpoints = [{ address = "10.0.0.1:1", state = "drain" }, { srv = "_pg._tcp.db" }]
[service.x.policy]
outlier = { enabled = true }
locality = {}
balance = "passthrough"
[log]
access = "all"
[[test]]
source = "10.0.0.1"
sni = "x"
destination = "10.0.0.1:1"
expect = { passthrough = true }
"#,
        &[
            "a.toml:4:1 not-in-this-version `proxy_protocol` is not in this version of Weir",
            "  found: proxy_protocol",
            r#"  wanted: proxy_protocol = "off""#,
            "  help: take it out",
            "a.toml:6:40 not-in-this-version `state` is not in this version of Weir",
            "  found: state",
            r#"  wanted: state = "ready""#,
            "  help: `weight = 0` keeps new connections from it",
            "a.toml:6:61 not-in-this-version `srv` is not in this version of Weir",
            "  found: srv",
            "  help: list the addresses or host names, with their ports",
            "a.toml:8:1 not-in-this-version `outlier` is not in this version of Weir",
            "  found: outlier",
            "  wanted: outlier = { enabled = false }",
            "  help: take it out: a failed connect goes on to another endpoint, within `connect_attempts`",
            "a.toml:9:1 not-in-this-version `locality` is not in this version of Weir",
            "  found: locality",
            "  help: take it out: `priority` of endpoints decides which are used first",
            r#"a.toml:10:11 not-in-this-version `balance = "passthrough"` is not in this version of Weir"#,
            r#"  found: balance = "passthrough""#,
            r#"  wanted: "least_connections" or "round_robin" or "random" or "source_ip""#,
            "a.toml:12:1 not-in-this-version `access` is not in this version of Weir",
            "  found: access",
            r#"  wanted: access = "off""#,
            "  help: take it out: this version writes no access log, and `/metrics` counts every end by its reason",
            "a.toml:15:1 not-in-this-version `sni` is not in this version of Weir",
            "  found: sni",
            "  help: take the whole test out: without this it would claim something else",
            "a.toml:17:12 not-in-this-version `passthrough` is not in this version of Weir",
            "  found: passthrough",
            "  wanted: passthrough = false",
            "  help: take the whole test out: without this it would claim something else",
        ],
    );
}

#[test]
fn a_refused_condition_leads_to_the_route_and_never_to_a_wider_one() {
    check_whole(
        r#"[[route]]
match = [{ sni = ["a"] }]
to = [{ service = "db" }]
"#,
        &[
            "a.toml:2:12 not-in-this-version `sni` is not in this version of Weir",
            "  found: sni",
            "  help: take the whole route out, or write `enabled = false` in it: without this it would do something else",
        ],
    );
    check_whole(
        r#"[[route]]
enabled = false
lane = "v1"
match = [{ sni = ["a"] }]
to = [{ service = "db" }]
"#,
        &[],
    );
}
