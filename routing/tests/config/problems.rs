//! Every message, at its line and column, with its code. A case without lines is one that nothing is said about.

use crate::{line, said, sources};

/// What follows each case: the smallest useful configuration.
const BASE: &str = r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
to = [{ service = "db" }]
[service.db]
endpoints = ["10.0.0.11:5432"]
"#;

/// Checks what is said about a text that [`BASE`] follows.
#[track_caller]
pub(crate) fn check(text: &str, wanted: &[&str]) {
    check_files(&[&format!("{text}{BASE}")], wanted);
}

/// Checks what is said about texts: "file:line:column code message", in order of places.
#[track_caller]
pub(crate) fn check_files(texts: &[&str], wanted: &[&str]) {
    let sources = sources(texts);
    let found: Vec<String> = said(&sources).iter().map(|problem| line(&sources, problem)).collect();
    assert_eq!(found, wanted, "{}", texts.join("\n---\n"));
}

#[test]
fn unknown_keys_are_refused_everywhere_with_the_nearest_known_one() {
    check(
        r#"[gateway.other]
lisen = ["0.0.0.0:1"]
"#,
        &[r#"a.toml:2:1 unknown-key unknown key `lisen`"#],
    );
    check(
        r#"[[route]]
match = [{ source_label = { app = "a" } }]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:12 unknown-key unknown key `source_label`"#],
    );
    check(
        r#"[[route]]
to = [{ service = "db", wieght = 1 }]
"#,
        &[r#"a.toml:2:25 unknown-key unknown key `wieght`"#],
    );
    check(
        r#"[servce.x]
"#,
        &[r#"a.toml:1:2 unknown-key unknown key `servce`"#],
    );
    check(
        r#"[proxy]
colour = "red"
"#,
        &[r#"a.toml:2:1 unknown-key unknown key `colour`"#],
    );
    check(
        r#"[service.x]
endpoints = [{ addres = "10.0.0.1:1" }]
"#,
        &[r#"a.toml:2:16 unknown-key unknown key `addres`"#],
    );
    check(
        r#"[service.x.subset.v1]
label = {}
"#,
        &[r#"a.toml:2:1 unknown-key unknown key `label`"#],
    );
    check(
        r#"[policy.x]
keepalive = { tiem = "1s" }
"#,
        &[r#"a.toml:2:15 unknown-key unknown key `tiem`"#],
    );
    check(
        r#"[[test]]
expect = { services = "db" }
"#,
        &[r#"a.toml:2:12 unknown-key unknown key `services`"#],
    );
}

#[test]
fn several_problems_of_shape_are_told_at_once() {
    check(
        r#"[proxy]
shards = "two"
watch = "yes"
workers = 2
[gateway.other]
listen = "0.0.0.0:1"
[[route]]
to = [{ service = 5 }, "db"]
match = [{ ports = [true] }]
[service.x]
endpoints = [5]
[log]
level = 1.5
"#,
        &[
            r#"a.toml:2:10 wrong-type `shards` is not a whole number"#,
            r#"a.toml:3:9 wrong-type `watch` is not true or false"#,
            r#"a.toml:4:1 unknown-key unknown key `workers`"#,
            r#"a.toml:6:10 wrong-type `listen` is not a list"#,
            r#"a.toml:8:19 wrong-type `service` is not a string"#,
            r#"a.toml:8:24 wrong-type `to` is not a table"#,
            r#"a.toml:9:21 wrong-type `ports` is not a string or a whole number"#,
            r#"a.toml:11:14 wrong-type `endpoints` is not an address such as "10.0.0.1:5432", or a table with `address`"#,
            r#"a.toml:13:9 wrong-type `level` is not a string"#,
        ],
    );
}

/// A list is never taken for the fields of a table, in order.
#[test]
fn a_list_is_no_table() {
    let cases = [
        ("proxy = [\"all\"]\n", "a.toml:1:9 wrong-type `proxy` is not a table"),
        ("[policy]\nx = [\"slow\"]\n", "a.toml:2:5 wrong-type `x` is not a table"),
        ("[policy.x]\nkeepalive = [\"1s\"]\n", "a.toml:2:13 wrong-type `keepalive` is not a table"),
        ("[[route]]\nto = [[\"db\", \"x\"]]\n", "a.toml:2:7 wrong-type `to` is not a table"),
        (
            "[[route]]\nto = [{ service = \"db\" }]\nmatch = [[[1]]]\n",
            "a.toml:3:10 wrong-type `match` is not a table",
        ),
        (
            "[service.x]\nendpoints = [[\"10.0.0.1:1\"]]\n",
            "a.toml:2:14 wrong-type `endpoints` is not an address such as \"10.0.0.1:5432\", or a table with `address`",
        ),
        (
            "[service.x]\nports = [[\"a\", 1]]\nendpoints = [\"10.0.0.1:1\"]\n",
            "a.toml:2:10 wrong-type `ports` is not a table",
        ),
        (
            "[service.x]\npolicy = [\"p\"]\nendpoints = [\"10.0.0.1:1\"]\n",
            "a.toml:2:10 wrong-type `policy` is not a table",
        ),
        (
            "[service.x]\nsubset.v1 = [\"v1\"]\nendpoints = [\"10.0.0.1:1\"]\n",
            "a.toml:2:13 wrong-type `v1` is not a table",
        ),
        ("[workload]\nx = [\"w\"]\n", "a.toml:2:5 wrong-type `x` is not a table"),
        ("[gateway]\nx = [\"g\", [\"127.0.0.1:1\"]]\n", "a.toml:2:5 wrong-type `x` is not a table"),
        (
            "[[test]]\nsource = \"10.0.0.1\"\ndestination = \"10.0.0.2:5432\"\nexpect = [\"r\"]\n",
            "a.toml:4:10 wrong-type `expect` is not a table",
        ),
    ];
    for (text, wanted) in cases {
        check(text, &[wanted]);
    }
}

#[test]
fn texts_that_are_not_toml_are_told_with_every_syntax_error() {
    check(
        r#"[proxy
shards = 1
"#,
        &[r#"a.toml:1:7 syntax not TOML: unclosed table, expected `]`"#],
    );
    check(
        r#"[proxy]
shards = 
watch = maybe
"#,
        &[
            r#"a.toml:2:10 syntax not TOML: string values must be quoted, expected literal string"#,
            r#"a.toml:3:9 syntax not TOML: string values must be quoted, expected literal string"#,
        ],
    );
    check(
        r#"[proxy]
relay = "auto
"#,
        &[r#"a.toml:2:14 syntax not TOML: invalid basic string, expected `"`"#],
    );
}

#[test]
fn what_is_declared_twice_is_told_with_both_places() {
    check(
        r#"[service.x.subset.v1]
labels = {}
[service.x.subset.v1]
labels = {}
"#,
        &[r#"a.toml:3:19 declared-twice duplicate subset names: v1"#],
    );
    check(
        r#"[proxy]
shards = 1
shards = 2
"#,
        &[r#"a.toml:3:1 declared-twice `shards` is declared twice"#],
    );
    check(
        r#"[gateway.other]
listen = ["0.0.0.0:1"]
[gateway."default/other"]
listen = ["0.0.0.0:2"]
"#,
        &[r#"a.toml:3:10 declared-twice gateway `other` is declared twice"#],
    );
    check(
        r#"[[route]]
name = "a"
match = [{ ports = [5432] }]
to = [{ service = "db" }]
[[route]]
name = "a"
to = [{ service = "db" }]
"#,
        &[r#"a.toml:6:8 declared-twice route `a` is declared twice"#],
    );
    check(
        r#"[[route]]
name = "route-1"
match = [{ ports = [5432] }]
to = [{ service = "db" }]
[[route]]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:5:1 declared-twice route `route-1` is declared twice"#],
    );
    check(
        r#"[service.x]
ports = [{ port = 1 }, { port = 1 }, { name = "a", port = 2 }, { name = "a", port = 3 }]
endpoints = ["10.0.0.1"]
"#,
        &[
            r#"a.toml:2:24 declared-twice port 1 is declared twice"#,
            r#"a.toml:2:64 declared-twice port name is declared twice"#,
        ],
    );
    check(
        r#"[service.x]
endpoints = ["10.0.0.1:1", "10.0.0.1:1"]
"#,
        &[r#"a.toml:2:28 declared-twice 10.0.0.1 is an endpoint of `x` twice"#],
    );
}

#[test]
fn names_are_dns_labels() {
    check(
        r#"namespace = "Foo"
"#,
        &[r#"a.toml:1:13 bad-name namespace is invalid: Foo"#],
    );
    check(
        r#"[gateway.Edge]
listen = ["0.0.0.0:1"]
"#,
        &[r#"a.toml:1:10 bad-name gateway name is invalid: Edge"#],
    );
    check(
        r#"[service.x.subset.v_1]
[service.x]
endpoints = ["10.0.0.1:1"]
"#,
        &[r#"a.toml:1:19 bad-name subset name is invalid: v_1"#],
    );
    check(
        r#"[service."a/b/c"]
endpoints = ["10.0.0.1:1"]
"#,
        &[r#"a.toml:1:10 bad-name service name is invalid: b/c"#],
    );
    check(
        r#"[[route]]
name = "a b"
match = [{ ports = [5432] }]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:8 bad-name route name is invalid: a b"#],
    );
    check(
        r#"[workload.a]
ports = { "T" = 1 }
"#,
        &[r#"a.toml:2:11 bad-name port name is invalid: T"#],
    );
}

#[test]
fn references_must_exist_and_slips_get_a_suggestion() {
    check(
        r#"[[route]]
to = [{ service = "bd" }]
"#,
        &[r#"a.toml:2:19 unknown-reference unknown service `bd`"#],
    );
    check(
        r#"[[route]]
to = [{ service = "nothing" }]
"#,
        &[r#"a.toml:2:19 unknown-reference unknown service `nothing`"#],
    );
    check(
        r#"[[route]]
to = [{ service = "foo/db" }]
"#,
        &[r#"a.toml:2:19 unknown-reference unknown service `foo/db`"#],
    );
    check(
        r#"[[route]]
to = [{ service = "db", subset = "v1" }]
"#,
        &[r#"a.toml:2:34 unknown-reference unknown subset `v1` of service `db`"#],
    );
    check(
        r#"[[route]]
gateways = ["egde"]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:13 unknown-reference unknown gateway `egde`"#],
    );
    check(
        r#"[policy.slow]
use = "slwo"
[service.x]
policy.use = "slwo"
endpoints = ["10.0.0.1:1"]
"#,
        &[
            r#"a.toml:2:7 unknown-reference unknown policy `slwo`"#,
            r#"a.toml:4:14 unknown-reference unknown policy `slwo`"#,
        ],
    );
    check(
        r#"[[route]]
match = [{ destination_services = ["bd"] }]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:36 unknown-reference unknown service `bd`"#],
    );
    check(
        r#"[[test]]
source = "10.0.0.1"
destination = "10.0.0.2:5432"
expect = { route = "route-9", service = "bd" }
"#,
        &[
            r#"a.toml:4:20 unknown-reference unknown route `route-9`"#,
            r#"a.toml:4:41 unknown-reference unknown service `bd`"#,
        ],
    );
    check(
        r#"[[test]]
source = "10.0.0.1"
destination = "10.0.0.2:5432"
expect = { service = "db", subsets = ["v1"] }
"#,
        &[r#"a.toml:4:39 unknown-reference unknown subset `v1` of service `db`"#],
    );
}

#[test]
fn durations_have_units() {
    check(
        r#"[policy.x]
idle_timeout = 30
"#,
        &[r#"a.toml:2:16 no-unit 30 of what? A duration has a unit"#],
    );
    check(
        r#"[policy.x]
idle_timeout = "30"
"#,
        &[r#"a.toml:2:16 no-unit 30 of what? A duration has a unit"#],
    );
    check(
        r#"[policy.x]
idle_timeout = "0s"
flush_timeout = 0
max_duration = "0"
"#,
        &[],
    );
    check(
        r#"[policy.x]
connect_timeout = "500us"
"#,
        &[r#"a.toml:2:19 bad-duration duration must be greater than 1ms"#],
    );
    check(
        r#"[policy.x]
connect_timeout = "1ms"
"#,
        &[],
    );
    check(
        r#"[policy.x]
connect_timeout = "1500us"
"#,
        &[r#"a.toml:2:19 bad-duration only durations to ms precision are supported"#],
    );
    check(
        r#"[policy.x]
idle_timeout = "30m1h"
"#,
        &[r#"a.toml:2:16 bad-duration `30m1h` is not a duration"#],
    );
    check(
        r#"[policy.x]
idle_timeout = "400d"
"#,
        &[r#"a.toml:2:16 bad-duration a duration must be at most 366 days"#],
    );
    check(
        r#"[proxy]
busy_poll = "50us"
"#,
        &[],
    );
    check(
        r#"[proxy]
busy_poll = "2s"
"#,
        &[r#"a.toml:2:13 out-of-range `busy_poll` must be at most 1s: longer, a shard would never sleep"#],
    );
    check(
        r#"[policy.x]
keepalive = { time = "1500ms", interval = "0s" }
"#,
        &[
            r#"a.toml:2:22 bad-duration the kernel takes whole seconds here"#,
            r#"a.toml:2:43 out-of-range `keepalive.interval` must be at least 1s"#,
        ],
    );
    check(
        r#"[policy.x]
keepalive = { time = "10h", probes = 128 }
"#,
        &[
            r#"a.toml:2:22 out-of-range `keepalive.time` must be at most 9h6m7s: the kernel takes no more"#,
            r#"a.toml:2:38 out-of-range `keepalive.probes` must be a whole number from 1 to 127"#,
        ],
    );
    check(
        r#"[policy.x]
user_timeout = "30d"
"#,
        &[
            r#"a.toml:2:16 out-of-range `user_timeout` must be at most 24d20h31m23s647ms: the kernel takes no more"#,
        ],
    );
}

#[test]
fn settings_are_checked() {
    check(
        r#"[proxy]
cores = "3-1"
"#,
        &[r#"a.toml:2:9 bad-cores `3-1` is not a list of cores"#],
    );
    check(
        r#"[proxy]
cores = "0-3,8"
"#,
        &[],
    );
    check(
        r#"[proxy]
admin = "0.0.0.0:9347"
"#,
        &[
            r#"a.toml:2:9 admin-not-loopback `admin` on 0.0.0.0:9347 needs `admin_token_file`, which is not in this version of Weir"#,
        ],
    );
    check(
        r#"[proxy]
admin = "off"
"#,
        &[],
    );
    check(
        r#"[proxy]
admin = "127.0.0.1"
"#,
        &[r#"a.toml:2:9 bad-address `127.0.0.1` is not an address with a port"#],
    );
    check(
        r#"[proxy]
admin = "127.0.0.1:5432"
"#,
        &[r#"a.toml:2:9 listen-twice `admin` and a gateway both want 127.0.0.1:5432"#],
    );
    check(
        r#"[proxy]
relay = "splcie"
"#,
        &[r#"a.toml:2:9 unknown-value `relay` cannot be "splcie""#],
    );
    check(
        r#"[proxy]
shards = -1
max_connections = -5
"#,
        &[
            r#"a.toml:2:10 out-of-range `shards` must be a whole number from 0 to 1024"#,
            r#"a.toml:3:19 out-of-range `max_connections` must be a whole number from 0 to 4294967295"#,
        ],
    );
    check(
        r#"[proxy]
locality = "a/b/c/d"
"#,
        &[r#"a.toml:2:12 bad-locality `a/b/c/d` is not a locality"#],
    );
    check(
        r#"[log]
level = "inof"
"#,
        &[r#"a.toml:2:9 unknown-value `level` cannot be "inof""#],
    );
}

#[test]
fn listen_addresses_are_checked() {
    check(
        r#"[gateway.other]
"#,
        &[r#"a.toml:1:10 no-listen gateway `other` listens nowhere"#],
    );
    check(
        r#"[gateway.other]
listen = []
"#,
        &[r#"a.toml:2:10 no-listen gateway `other` listens nowhere"#],
    );
    check(
        r#"[gateway.other]
listen = ["10.0.0.1", ":80", "::1:80", "localhost:80"]
"#,
        &[
            r#"a.toml:2:11 bad-listen `10.0.0.1` has no port"#,
            r#"a.toml:2:23 bad-listen `:80` is not an address to listen on"#,
            r#"a.toml:2:30 bad-listen `::1:80` is not an address to listen on"#,
            r#"a.toml:2:40 bad-listen `localhost:80` is not an address to listen on"#,
        ],
    );
    check(
        r#"[gateway.other]
listen = ["10.0.0.1:70000", "10.0.0.1:9-8", "10.0.0.1:0-8", "10.0.0.1:+5"]
"#,
        &[
            r#"a.toml:2:11 bad-listen port number 70000 must be in the range 1..65535"#,
            r#"a.toml:2:29 bad-listen the range 9-8 is empty: its first port is above its last"#,
            r#"a.toml:2:45 bad-listen port number 0 must be in the range 1..65535"#,
            r#"a.toml:2:61 bad-listen `+5` is not a port"#,
        ],
    );
    check(
        r#"[gateway.other]
listen = ["0.0.0.0:5000-6000"]
"#,
        &[r#"a.toml:4:11 listen-twice port 5432 of 0.0.0.0 is listened on twice"#],
    );
    check(
        r#"[gateway.other]
listen = ["10.0.0.1:5432", "[::]:5432", "127.0.0.1:0", "127.0.0.1:0"]
to = [{ service = "db" }]
"#,
        &[],
    );
    check(
        r#"[gateway.other]
listen = ["systemd:web"]
"#,
        &[r#"a.toml:2:11 not-in-this-version `listen = "systemd:web"` is not in this version of Weir"#],
    );
    check(
        r#"[gateway.other]
listen = ["0.0.0.0:1"]
unmatched = "passthrough"
"#,
        &[r#"a.toml:3:13 not-in-this-version `unmatched = "passthrough"` is not in this version of Weir"#],
    );
    check(
        r#"[gateway.other]
listen = ["0.0.0.0:1"]
unmatched = "rejct"
"#,
        &[r#"a.toml:3:13 unknown-value `unmatched` cannot be "rejct""#],
    );
    check(
        r#"[gateway.other]
listen = ["0.0.0.0:1"]
unmatched = "reject"
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:3:13 warning no-effect `unmatched` has no effect beside `to`: what no route took goes there"#,
        ],
    );
}

#[test]
fn conditions_are_checked() {
    check(
        r#"[[route]]
match = [{ destination_subnets = ["192.168.0.0/33"] }]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:35 bad-cidr 192.168.0.0/33 is not a valid CIDR block"#],
    );
    check(
        r#"[[route]]
match = [{ source_subnets = ["1.1.A.1"] }]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:30 bad-address 1.1.A.1 is not a valid IP"#],
    );
    check(
        r#"[[route]]
match = [{ source_subnets = ["10.1.2.3/8", "0.0.0.0/0", "::/0", "::ffff:10.0.0.1"] }]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:30 warning host-bits 10.1.2.3/8 has host bits: it means 10.0.0.0/8"#],
    );
    check(
        r#"[[route]]
match = [{ ports = [70000, 65536, 0, "5432", "5400-5500", "9-8", "x"] }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:2:21 bad-port port number 70000 must be in the range 1..65535"#,
            r#"a.toml:2:28 bad-port port number 65536 must be in the range 1..65535"#,
            r#"a.toml:2:35 bad-port port number 0 must be in the range 1..65535"#,
            r#"a.toml:2:59 bad-port the range 9-8 is empty: its first port is above its last"#,
            r#"a.toml:2:66 bad-port `x` is not a port"#,
        ],
    );
    check(
        r#"[[route]]
match = [{ source_labels = { app = "-x", "-k" = "v" } }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:2:36 bad-label invalid tag value: "-x""#,
            r#"a.toml:2:42 bad-label invalid tag key: "-k""#,
        ],
    );
    check(
        r#"[[route]]
match = []
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:9 empty-list `match` is an empty list, which nothing could match"#],
    );
    check(
        r#"[[route]]
match = [{}]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:2:10 warning matches-everything a block without conditions: route `route-1` matches everything"#,
        ],
    );
    check(
        r#"[[route]]
match = [{ ports = [] }, { source_namespaces = [], source_subnets = [] }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:2:20 empty-list `ports` is an empty list, which nothing could match"#,
            r#"a.toml:2:48 empty-list `source_namespaces` is an empty list, which nothing could match"#,
            r#"a.toml:2:69 empty-list `source_subnets` is an empty list, which nothing could match"#,
        ],
    );
    check(
        r#"[[route]]
match = [{ source_labels = {} }]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:28 warning no-effect `source_labels = {}` holds for every source"#],
    );
    check(
        r#"[[route]]
gateways = []
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:12 empty-list `gateways` is an empty list, which nothing could match"#],
    );
    check(
        r#"[[route]]
match = [{ destination_services = ["db"] }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:2:36 service-without-vip service `db` has no VIP, so it is never an original destination"#,
        ],
    );
    check(
        r#"[[route]]
sticky = "sorce"
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:10 unknown-value `sticky` cannot be "sorce""#],
    );
}

#[test]
fn a_route_does_one_thing() {
    check(
        r#"[[route]]
"#,
        &[r#"a.toml:1:1 no-destination route `route-1` leads nowhere: TCP route is required"#],
    );
    check(
        r#"[[route]]
to = []
"#,
        &[r#"a.toml:2:6 no-destination `to` is empty: TCP route is required"#],
    );
    check(
        r#"[[route]]
to = [{ service = "db" }]
reject = true
"#,
        &[r#"a.toml:2:6 two-actions route `route-1` has `to` and `reject`: which of them?"#],
    );
    check(
        r#"[[route]]
reject = true
sticky = "source"
"#,
        &[r#"a.toml:3:10 warning no-effect `sticky` has no effect on a route that rejects"#],
    );
    check(
        r#"[[route]]
reject = false
"#,
        &[r#"a.toml:1:1 no-destination route `route-1` leads nowhere: TCP route is required"#],
    );
    check(
        r#"[[route]]
to = [{ port = 5 }]
"#,
        &[r#"a.toml:2:7 missing-key a destination needs `service`"#],
    );
}

#[test]
fn with_several_gateways_a_route_names_its_own() {
    check(
        r#"[gateway.other]
listen = ["0.0.0.0:1"]
[[route]]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:3:1 no-gateways route `route-1` does not say on which of the 2 gateways it holds"#],
    );
    check(
        r#"[gateway.other]
listen = ["0.0.0.0:1"]
[[route]]
gateways = ["*"]
to = [{ service = "db" }]
"#,
        &[],
    );
}

#[test]
fn weights_stand_on_all_or_none_and_are_above_zero_together() {
    check(
        r#"[[route]]
to = [{ service = "db", weight = 0 }, { service = "x", weight = 0 }]
[service.x]
endpoints = ["10.0.0.1:1"]
"#,
        &[r#"a.toml:2:6 no-weight total destination weight = 0"#],
    );
    check(
        r#"[[route]]
to = [{ service = "db", weight = 5 }, { service = "x", weight = -1 }]
[service.x]
endpoints = ["10.0.0.1:1"]
"#,
        &[r#"a.toml:2:65 bad-weight weight -1 < 0"#],
    );
    check(
        r#"[[route]]
to = [{ service = "db", weight = 550 }, { service = "x", weight = 500 }]
[service.x]
endpoints = ["10.0.0.1:1"]
"#,
        &[],
    );
    check(
        r#"[[route]]
to = [{ service = "db", weight = 100 }, { service = "x", weight = 0 }]
[service.x]
endpoints = ["10.0.0.1:1"]
"#,
        &[],
    );
    check(
        r#"[[route]]
to = [{ service = "db", weight = 0 }]
"#,
        &[r#"a.toml:2:6 no-weight total destination weight = 0"#],
    );
    check(
        r#"[[route]]
to = [{ service = "db", weight = 1000001 }]
"#,
        &[r#"a.toml:2:34 bad-weight weight 1000001 > 1000000"#],
    );
    check(
        r#"[[route]]
to = [{ service = "db", weight = 1 }, { service = "x" }]
[service.x]
endpoints = ["10.0.0.1:1"]
"#,
        &[r#"a.toml:2:39 weights-on-some weights stand on some destinations and not on all"#],
    );
    check(
        r#"[[route]]
to = [{ service = "db", weight = 1 }, { service = "db", weight = 2 }]
"#,
        &[r#"a.toml:2:39 warning listed-twice `db` stands in this split twice"#],
    );
}

#[test]
fn ports_of_services_and_endpoints_fit() {
    check(
        r#"[service.x]
endpoints = ["10.0.0.1"]
"#,
        &[
            r#"a.toml:2:14 endpoint-without-port an endpoint of service `x`, which has no `ports`, needs a port"#,
        ],
    );
    check(
        r#"[service.x]
vips = ["10.9.9.9"]
endpoints = ["10.0.0.1:1"]
"#,
        &[r#"a.toml:2:8 vip-without-ports service `x` has VIPs and no `ports`"#],
    );
    check(
        r#"[service.x]
ports = [{ port = 1 }, { port = 2 }]
endpoints = ["10.0.0.1:1"]
"#,
        &[
            r#"a.toml:3:14 endpoint-with-port an endpoint with a port serves all ports of its service, and `x` has 2"#,
        ],
    );
    check(
        r#"[service.x]
ports = [{ port = 70000 }, { port = 5, target_port = 0 }, { name = "a" }]
endpoints = ["10.0.0.1"]
"#,
        &[
            r#"a.toml:2:19 bad-port port number 70000 must be in the range 1..65535"#,
            r#"a.toml:2:54 bad-port port number 0 must be in the range 1..65535"#,
            r#"a.toml:2:59 missing-key a port of a service needs `port`"#,
        ],
    );
    check(
        r#"[[route]]
to = [{ service = "db", port = 5432 }]
"#,
        &[r#"a.toml:2:32 unknown-port service `db` has no `ports`, so a destination cannot name one"#],
    );
    check(
        r#"[[route]]
to = [{ service = "x", port = 3 }]
[service.x]
ports = [{ port = 1 }, { port = 2 }]
endpoints = ["10.0.0.1"]
"#,
        &[r#"a.toml:2:31 unknown-port service `x` has no port 3"#],
    );
    check(
        r#"[service.x]
selector = { app = "x" }
"#,
        &[r#"a.toml:2:12 selector-without-ports service `x` selects workloads and has no `ports`"#],
    );
    check(
        r#"[service.x]
ports = [{ port = 1 }]
selector = { app = "x" }
"#,
        &[
            r#"a.toml:1:10 warning no-endpoint service `x` has no endpoint: what is routed to it is reset"#,
            r#"a.toml:3:12 warning no-effect `selector` selects no workload of namespace `default`"#,
        ],
    );
    check(
        r#"[service.x]
ports = [{ port = 1 }]
selector = {}
"#,
        &[
            r#"a.toml:1:10 warning no-endpoint service `x` has no endpoint: what is routed to it is reset"#,
            r#"a.toml:3:12 warning no-effect an empty `selector` selects nothing"#,
        ],
    );
    check(
        r#"[service.x]
ports = [{ port = 1 }]
vips = ["10.9.9.9"]
endpoints = ["10.0.0.1"]
[service.y]
ports = [{ port = 2 }, { port = 1 }]
vips = ["10.9.9.9"]
endpoints = ["10.0.0.2"]
"#,
        &[r#"a.toml:7:9 shared-vip VIP 10.9.9.9/32 at port 1 is declared twice"#],
    );
}

#[test]
fn endpoints_are_checked() {
    check(
        r#"[service.x]
endpoints = ["0.0.0.0:1", "10.0.0.256:1", "db.example.com:99999", "db.example.com:x", "a b:1", {}]
"#,
        &[
            r#"a.toml:2:14 bad-address 0.0.0.0 stands for all addresses of a host and cannot be dialled"#,
            r#"a.toml:2:27 bad-address `10.0.0.256` is neither an address nor a host name"#,
            r#"a.toml:2:43 bad-port port number 99999 must be in the range 1..65535"#,
            r#"a.toml:2:67 bad-address `x` is not a port"#,
            r#"a.toml:2:87 bad-address `a b` is neither an address nor a host name"#,
            r#"a.toml:2:96 missing-key an endpoint needs `address`"#,
        ],
    );
    check(
        r#"[service.x]
endpoints = ["127.0.0.1:5432"]
"#,
        &[
            r#"a.toml:2:14 loop 127.0.0.1:5432 is one of our own listeners: a connection to it would come back"#,
        ],
    );
    check(
        r#"[service.x]
endpoints = ["db.example.com:5432"]
"#,
        &[
            r#"a.toml:2:14 warning not-resolved `db.example.com` has no address yet: until a name server gives one it is no endpoint"#,
        ],
    );
    check(
        r#"[service.x]
endpoints = [{ address = "10.0.0.1:1", weight = 0 }, { address = "10.0.0.2:1", weight = -1 }, { address = "10.0.0.3:1", priority = 1000, locality = "a//b" }]
"#,
        &[
            r#"a.toml:2:26 warning weight-zero weight 0: this endpoint of `x` gets no connections"#,
            r#"a.toml:2:89 bad-weight weight -1 < 0"#,
            r#"a.toml:2:132 out-of-range `priority` must be a whole number from 0 to 127"#,
            r#"a.toml:2:149 bad-locality `a//b` is not a locality"#,
        ],
    );
    check(
        r#"[service.x]
"#,
        &[r#"a.toml:1:10 warning no-endpoint service `x` has no endpoint: what is routed to it is reset"#],
    );
    check(
        r#"[service.x]
endpoints = ["10.0.0.1:1"]
[service.x.subset.v1]
labels = { version = "v1" }
"#,
        &[
            r#"a.toml:3:19 warning no-endpoint no endpoint of `x` has the labels of subset `v1`: what is routed to it is reset"#,
        ],
    );
}

#[test]
fn workloads_are_checked() {
    check(
        r#"[workload.a]
addresses = ["10.0.0.1", "10.0.0.0/24"]
[workload.b]
addresses = ["10.0.0.1"]
"#,
        &[r#"a.toml:4:14 owned-twice 10.0.0.1 belongs to two workloads"#],
    );
    check(
        r#"[workload.a]
ports = { tcp = 0 }
weight = -1
labels = { app = "-x" }
addresses = ["10.0.0.0/40"]
"#,
        &[
            r#"a.toml:2:17 bad-port port number 0 must be in the range 1..65535"#,
            r#"a.toml:3:10 bad-weight weight -1 < 0"#,
            r#"a.toml:4:18 bad-label invalid tag value: "-x""#,
            r#"a.toml:5:14 bad-cidr 10.0.0.0/40 is not a valid CIDR block"#,
        ],
    );
    check(
        r#"[workload.a]
labels = { app = "x" }
addresses = ["10.0.0.0/24"]
[service.x]
ports = [{ port = 1 }]
selector = { app = "x" }
"#,
        &[
            r#"a.toml:1:11 warning no-address workload `default/a` is selected by service `x` and has no single address: it is no endpoint"#,
            r#"a.toml:4:10 warning no-endpoint service `x` has no endpoint: what is routed to it is reset"#,
        ],
    );
}

#[test]
fn policies_are_checked() {
    check(
        r#"[policy.a]
use = "b"
[policy.b]
use = "a"
[policy.c]
use = "a"
"#,
        &[
            r#"a.toml:2:7 policy-cycle policy `a` uses itself: a -> b -> a"#,
            r#"a.toml:4:7 policy-cycle policy `b` uses itself: b -> a -> b"#,
        ],
    );
    check(
        r#"[policy.a]
use = "a"
"#,
        &[r#"a.toml:2:7 policy-cycle policy `a` uses itself: a -> a"#],
    );
    check(
        r#"[policy.a]
balance = "leastconnections"
"#,
        &[r#"a.toml:2:11 unknown-value `balance` cannot be "leastconnections""#],
    );
    check(
        r#"[policy.a]
balance = "passthrough"
"#,
        &[r#"a.toml:2:11 not-in-this-version `balance = "passthrough"` is not in this version of Weir"#],
    );
    check(
        r#"[policy.a]
connect_attempts = 0
max_connections = -1
"#,
        &[
            r#"a.toml:2:20 out-of-range `connect_attempts` must be a whole number from 1 to 100"#,
            r#"a.toml:3:19 out-of-range `max_connections` must be a whole number from 0 to 4294967295"#,
        ],
    );
    check(
        r#"[policy.passthrough]
idle_timeout = "0s"
"#,
        &[r#"a.toml:1:9 not-in-this-version `policy.passthrough` is not in this version of Weir"#],
    );
}

#[test]
fn tests_are_checked() {
    check(
        r#"[[test]]
"#,
        &[
            r#"a.toml:1:1 missing-key test `test-1` needs `source`"#,
            r#"a.toml:1:1 missing-key test `test-1` needs `destination`"#,
            r#"a.toml:1:1 missing-key test `test-1` needs `expect`"#,
        ],
    );
    check(
        r#"[[test]]
source = "10.0.0.1"
destination = "10.0.0.2"
expect = { reject = true }
"#,
        &[r#"a.toml:3:15 bad-address `10.0.0.2` is not an address with a port"#],
    );
    check(
        r#"[[test]]
source = "10.0.0.1"
destination = "10.0.0.2:1"
expect = { reject = true }
"#,
        &[
            r#"a.toml:3:15 which-gateway no gateway listens on 10.0.0.2:1: the test does not say at which it arrives"#,
        ],
    );
    check(
        r#"[[test]]
source = "10.0.0.1:99"
destination = "10.0.0.2:5432"
expect = {}
"#,
        &[r#"a.toml:4:10 empty-expect `expect` says nothing, so the test could not fail"#],
    );
    check(
        r#"[gateway.other]
listen = ["10.0.0.1:1", "10.0.0.2:7"]
[gateway.third]
listen = ["10.0.0.3:1", "0.0.0.0:7"]
[[route]]
gateways = ["other", "third"]
reject = true
[[test]]
source = "10.0.0.1"
destination = "10.0.0.2:7"
expect = { reject = true }
"#,
        &[],
    );
}

#[test]
fn rules_that_can_never_match_are_told() {
    check(
        r#"[[route]]
to = [{ service = "db" }]
[[route]]
match = [{ source_subnets = ["10.1.0.0/16"] }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:3:1 warning never-matches rule `route-2` can never match: not used (route without matches defined before)"#,
        ],
    );
    check(
        r#"[[route]]
match = [{ destination_subnets = ["10.0.0.0/8"] }]
to = [{ service = "db" }]
[[route]]
match = [{ destination_subnets = ["10.1.0.0/16"] }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:4:1 warning never-matches rule `route-2` can never match: not used (duplicate/overlapping match in rule route-1)"#,
        ],
    );
    check(
        r#"[[route]]
match = [{ destination_subnets = ["10.1.0.0/16"] }]
to = [{ service = "db" }]
[[route]]
match = [{ destination_subnets = ["10.1.0.0/16"] }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:4:1 warning never-matches rule `route-2` can never match: not used (duplicate/overlapping match in rule route-1)"#,
        ],
    );
    check(
        r#"[[route]]
match = [{ destination_subnets = ["10.1.0.0/16"] }]
to = [{ service = "db" }]
[[route]]
match = [{ destination_subnets = ["10.0.0.0/8"] }]
to = [{ service = "db" }]
"#,
        &[],
    );
    check(
        r#"[[route]]
match = [{ ports = ["5400-5500"] }, { source_subnets = ["fd00::/8"] }]
to = [{ service = "db" }]
[[route]]
match = [{ ports = [5432], source_subnets = ["10.0.0.0/8"] }, { source_subnets = ["fd00:1::/32", "fd00:2::1"] }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:4:1 warning never-matches rule `route-2` can never match: not used (all matches used by prior rules)"#,
        ],
    );
    check(
        r#"[[route]]
match = [{ source_subnets = ["10.0.0.0/8"] }]
to = [{ service = "db" }]
[[route]]
match = [{ source_subnets = ["10.1.0.0/16"] }, { source_subnets = ["11.0.0.0/8"] }, { source_subnets = ["11.1.0.0/16"] }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:5:10 warning never-matches rule `route-2` match 1 is not used (duplicate/overlapping match in rule route-1)"#,
            r#"a.toml:5:85 warning never-matches rule `route-2` match 3 is not used (duplicate/overlapping match in rule route-2)"#,
        ],
    );
    check(
        r#"[[route]]
order = 1
match = [{ source_subnets = ["10.0.0.0/8"] }]
to = [{ service = "db" }]
[[route]]
match = [{ source_subnets = ["10.1.0.0/16"] }]
to = [{ service = "db" }]
"#,
        &[],
    );
    check(
        r#"[[route]]
enabled = false
to = [{ service = "db" }]
[[route]]
to = [{ service = "db" }]
"#,
        &[],
    );
    check(
        r#"[gateway.other]
listen = ["0.0.0.0:1"]
[[route]]
gateways = ["other"]
to = [{ service = "db" }]
[[route]]
gateways = ["*"]
to = [{ service = "db" }]
[[route]]
gateways = ["edge"]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:9:1 warning never-matches rule `route-3` can never match: not used (route without matches defined before)"#,
        ],
    );
    check(
        r#"[[route]]
match = [{ source_namespaces = ["foo"] }]
to = [{ service = "db" }]
[[route]]
match = [{ source_namespaces = ["foo"], source_labels = { app = "x" } }]
to = [{ service = "db" }]
[workload."foo/a"]
labels = { app = "x" }
addresses = ["10.0.0.1"]
"#,
        &[
            r#"a.toml:4:1 warning never-matches rule `route-2` can never match: not used (duplicate/overlapping match in rule route-1)"#,
        ],
    );
}

#[test]
fn conditions_without_effect_are_told() {
    check(
        r#"[[route]]
match = [{ ports = [80] }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:2:20 warning never-matches `ports` can never match: no gateway of rule `route-1` listens on such a port"#,
        ],
    );
    check(
        r#"[gateway.other]
listen = ["198.51.100.1:80"]
[[route]]
gateways = ["other"]
match = [{ destination_subnets = ["203.0.113.0/24"] }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:5:34 warning never-matches `destination_subnets` can never match: no gateway of rule `route-1` listens on an address in them"#,
        ],
    );
    check(
        r#"[gateway.other]
listen = ["198.51.100.1:0"]
[[route]]
gateways = ["other"]
match = [{ ports = [80] }]
to = [{ service = "db" }]
"#,
        &[],
    );
    check(
        r#"[[route]]
match = [{ source_namespaces = ["foo"] }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:2:32 warning never-matches `source_namespaces` can never match: no workload is in namespace `foo`"#,
        ],
    );
    check(
        r#"[[route]]
match = [{ source_labels = { app = "x" } }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:2:28 warning never-matches `source_labels` can never match: no workload has these labels"#,
        ],
    );
    check(
        r#"[[route]]
match = [{ source_labels = { app = "x" } }]
reject = true
[workload.a]
labels = { app = "x" }
addresses = ["10.0.0.1"]
"#,
        &[
            r#"a.toml:2:10 warning unknown-sources-pass rule `route-1` rejects by labels or namespace: sources that no workload owns pass it"#,
        ],
    );
    check(
        r#"[[route]]
match = [{ source_labels = { app = "x" }, source_subnets = ["10.0.0.0/8"] }]
reject = true
[workload.a]
labels = { app = "x" }
addresses = ["10.0.0.1"]
"#,
        &[],
    );
    check(
        r#"[service.x]
ports = [{ port = 5432 }]
vips = ["10.9.9.9"]
endpoints = ["10.0.0.1"]
"#,
        &[
            r#"a.toml:5:10 warning vip-without-rule gateway `edge` covers the VIP of `x`, which no rule of it names: such connections go to the service itself"#,
        ],
    );
    check(
        r#"[service.x]
ports = [{ port = 5432 }]
vips = ["10.9.9.9"]
endpoints = ["10.0.0.1"]
[[route]]
match = [{ destination_services = ["x"] }]
to = [{ service = "x" }]
"#,
        &[],
    );
    check(
        r#"[service.x]
ports = [{ port = 80 }]
vips = ["10.9.9.9"]
endpoints = ["10.0.0.1"]
[[route]]
match = [{ destination_services = ["x"] }]
to = [{ service = "x" }]
"#,
        &[
            r#"a.toml:6:35 warning never-matches `destination_services` can never match: no gateway of rule `route-1` listens on a VIP and port of them"#,
        ],
    );
}

#[test]
fn gateways_that_lead_nowhere_are_told() {
    let nowhere = [
        r#"a.toml:1:10 warning leads-nowhere gateway `other` leads nowhere: every connection to it would be reset (`no_route`)"#,
    ];
    let cases: [(&str, &[&str]); 8] = [
        ("", &nowhere),
        ("[[route]]\ngateways = [\"edge\"]\nto = [{ service = \"db\" }]\n", &nowhere),
        ("[[route]]\ngateways = [\"other\"]\nto = [{ service = \"db\" }]\nenabled = false\n", &nowhere),
        (
            "[service.x]\nvips = [\"10.0.0.1\"]\nports = [{ port = 8 }]\nendpoints = [\"10.1.0.1\"]\n",
            &nowhere,
        ),
        ("to = [{ service = \"db\" }]\n", &[]),
        ("[[route]]\ngateways = [\"*\"]\nreject = true\n", &[]),
        // What the second listener gets goes to the service itself, as another warning says.
        (
            "[service.x]\nvips = [\"10.0.0.1\"]\nports = [{ port = 7 }]\nendpoints = [\"10.1.0.1\"]\n",
            &[
                r#"a.toml:1:10 warning vip-without-rule gateway `other` covers the VIP of `x`, which no rule of it names: such connections go to the service itself"#,
            ],
        ),
        // What is wrong may be where it should lead.
        ("too = []\n", &[r#"a.toml:3:1 unknown-key unknown key `too`"#]),
    ];
    for (rest, wanted) in cases {
        check(&format!("[gateway.other]\nlisten = [\"10.0.0.2:7\", \"10.0.0.1:7\"]\n{rest}"), wanted);
    }
}

#[test]
fn the_environment_fills_strings() {
    check(
        r#"[service.x]
endpoints = ["${HOST}:1", "${NONE:-10.0.0.2}:1"]
"#,
        &[],
    );
    check(
        r#"[service.x]
endpoints = ["${NONE}:1", "${1}:1", "${HOST"]
"#,
        &[
            r#"a.toml:2:14 variable-not-set the environment variable `NONE` is not set"#,
            r#"a.toml:2:27 bad-variable `1` is not the name of a variable"#,
            r#"a.toml:2:37 bad-variable `${` without its `}`"#,
        ],
    );
}

#[test]
fn texts_are_one_configuration() {
    check_files(
        &[
            r#"[proxy]
shards = 1
[gateway.edge]
listen = ["0.0.0.0:5432"]
"#,
            r#"[proxy]
shards = 2
"#,
        ],
        &[r#"b.toml:1:2 declared-twice `[proxy]` stands in more than one file"#],
    );
    check_files(
        &[
            r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
"#,
            r#"[gateway.edge]
listen = ["0.0.0.0:5433"]
"#,
        ],
        &[r#"b.toml:1:10 declared-twice gateway `edge` is declared twice"#],
    );
    check_files(
        &[
            r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
to = [{ service = "db" }]
[service.db]
endpoints = ["10.0.0.1:1"]
"#,
            r#"namespace = "foo"
[gateway.edge]
listen = ["0.0.0.0:5433"]
to = [{ service = "db" }]
[service.db]
endpoints = ["10.0.0.1:1"]
"#,
        ],
        &[],
    );
    check_files(
        &[
            r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
[service.db]
endpoints = ["10.0.0.1:1"]
"#,
            r#"namespace = "foo"
[[route]]
gateways = ["edge"]
to = [{ service = "db" }]
"#,
        ],
        &[r#"b.toml:4:19 unknown-reference unknown service `foo/db`"#],
    );
    check_files(
        &[
            r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
[service.db]
endpoints = ["10.0.0.1:1"]
"#,
            r#"namespace = "foo"
[[route]]
gateways = ["edge"]
to = [{ service = "default/db" }]
"#,
        ],
        &[],
    );
    check_files(
        &[
            r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
[service.db]
endpoints = ["10.0.0.1:1"]
[[route]]
to = [{ service = "db" }]
"#,
            r#"[[route]]
match = [{ ports = [5432] }]
to = [{ service = "db" }]
"#,
        ],
        &[
            r#"b.toml:1:1 never-matches rule `route-2` can never match: not used (route without matches defined before)"#,
        ],
    );
    check_files(&[r#""#], &[r#"- no-gateway no file declares a gateway: nothing would be listened on"#]);
    check_files(
        &[r#"[service.db]
endpoints = ["10.0.0.1:1"]
"#],
        &[r#"- no-gateway no file declares a gateway: nothing would be listened on"#],
    );
    check_files(
        &[
            r#"[proxy]
x = 1
"#,
            r#"[proxy
"#,
        ],
        &[r#"b.toml:1:7 syntax not TOML: unclosed table, expected `]`"#],
    );
}
