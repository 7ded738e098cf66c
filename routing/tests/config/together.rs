//! Problems of shape and of meaning come together, and what was cut out for the one gives no false news of the other.

use crate::problems::{check, check_files};

#[test]
fn shape_and_meaning_are_reported_at_once_by_place() {
    check_files(
        &[r#"[gateway.edge]
listen = ["0.0.0.0:70000"]
to = [{ service = "bd" }]
lissten = 3
[service.db]
endpoints = ["10.0.0.11:5432", "10.0.0.300:1"]
policy = { idle_timeout = 30, balanse = "random" }
[[route]]
match = [{ destination_subnets = ["10.0.0.0/33"], prots = [1] }]
to = [{ service = "db", subset = "v1", weight = true }, { service = "nowhere" }]
"#],
        &[
            r#"a.toml:2:11 bad-listen port number 70000 must be in the range 1..65535"#,
            r#"a.toml:3:19 unknown-reference unknown service `bd`"#,
            r#"a.toml:4:1 unknown-key unknown key `lissten`"#,
            r#"a.toml:6:32 bad-address `10.0.0.300` is neither an address nor a host name"#,
            r#"a.toml:7:27 no-unit 30 of what? A duration has a unit"#,
            r#"a.toml:7:31 unknown-key unknown key `balanse`"#,
            r#"a.toml:9:35 bad-cidr 10.0.0.0/33 is not a valid CIDR block"#,
            r#"a.toml:9:51 unknown-key unknown key `prots`"#,
            r#"a.toml:10:49 wrong-type `weight` is not a whole number"#,
            r#"a.toml:10:69 unknown-reference unknown service `nowhere`"#,
        ],
    );
}

#[test]
fn a_route_that_lost_a_condition_is_not_taken_for_a_wide_one() {
    let lost = r#"a.toml:2:12 unknown-key unknown key `destinaton_subnets`"#;
    check(
        r#"[[route]]
match = [{ destinaton_subnets = ["10.0.0.0/8"] }]
to = [{ service = "db" }]
[[route]]
name = "second"
match = [{ source_subnets = ["10.0.0.0/8"] }]
to = [{ service = "db" }]
"#,
        &[lost],
    );
    // Problems that do not depend on it are reported: here of two later rules.
    check(
        r#"[[route]]
match = [{ destinaton_subnets = ["10.0.0.0/8"] }]
to = [{ service = "db" }]
[[route]]
name = "second"
to = [{ service = "db" }]
[[route]]
name = "third"
to = [{ service = "db" }]
"#,
        &[
            lost,
            r#"a.toml:8:8 warning never-matches route `third` can never match: not used (route without matches defined before)"#,
        ],
    );
}

#[test]
fn a_key_that_was_cut_out_is_not_missing() {
    for (text, wanted) in [
        ("[service.x]\nendpoints = \"10.0.0.1:1\"\n", "2:13 wrong-type `endpoints` is not a list"),
        (
            "[service.x]\nendpoints = [5]\n",
            r#"2:14 wrong-type `endpoints` is not an address such as "10.0.0.1:5432", or a table with `address`"#,
        ),
        ("[service.x]\nendpoints = [{ adress = \"10.0.0.1:1\" }]\n", "2:16 unknown-key unknown key `adress`"),
        (
            "[service.x]\nport = [{ port = 1 }]\nendpoints = [\"10.0.0.1\"]\n",
            "2:1 unknown-key unknown key `port`",
        ),
        (
            "[service.x]\nvips = [\"10.1.0.1\"]\nports = 1\nendpoints = [\"10.0.0.1:1\"]\n",
            "3:9 wrong-type `ports` is not a list of ports or \"any\"",
        ),
        (
            "[service.x]\nports = [{ prt = 1 }]\nendpoints = [\"10.0.0.1:1\"]\n",
            "2:12 unknown-key unknown key `prt`",
        ),
        (
            "[service.x]\nselector = { app = 1 }\nports = [{ port = 1 }]\n",
            "2:20 wrong-type `app` is not a string",
        ),
        (
            "[service.x]\nports = [{ port = 5432, target_port = \"x\" }]\nendpoints = [\"127.0.0.1\"]\n",
            "2:39 wrong-type `target_port` is not a whole number",
        ),
        ("[[route]]\ntto = [{ service = \"db\" }]\n", "2:1 unknown-key unknown key `tto`"),
        ("[[route]]\nto = [5]\n", "2:7 wrong-type `to` is not a table"),
        ("[[route]]\nto = [{ servce = \"db\" }]\n", "2:9 unknown-key unknown key `servce`"),
        (
            "[[route]]\nto = [{ service = \"db\", weight = 1 }, { service = \"db\", wait = 1 }]\n",
            "2:57 unknown-key unknown key `wait`",
        ),
        (
            "[[route]]\ngateways = [1]\nto = [{ service = \"db\" }]\n",
            "2:13 wrong-type `gateways` is not a string",
        ),
        ("[[route]]\nmatch = [1]\nto = [{ service = \"db\" }]\n", "2:10 wrong-type `match` is not a table"),
        (
            "[[route]]\nmatch = [{ source_labels = { app = 1 } }]\nto = [{ service = \"db\" }]\n",
            "2:36 wrong-type `app` is not a string",
        ),
        (
            "[[route]]\nmatch = [{ sni = [\"a\"] }]\nto = [{ service = \"db\" }]\n",
            "2:12 not-in-this-version `sni` is not in this version of Weir",
        ),
        ("[gateway.x]\nlisten = 1\n", "2:10 wrong-type `listen` is not a list"),
        (
            "[gateway.x]\nlisten = [\"${UNSET}:1\"]\n",
            "2:11 variable-not-set the environment variable `UNSET` is not set",
        ),
        (
            "[[test]]\nsource = 1\ndestination = \"10.0.0.1:5432\"\nexpect = { service = \"db\" }\n",
            "2:10 wrong-type `source` is not a string",
        ),
        (
            "[[test]]\nsource = \"10.0.0.1\"\ndestination = \"10.0.0.1:1\"\ngatway = \"edge\"\nexpect = { servce = \"db\" }\n",
            "4:1 unknown-key unknown key `gatway`|5:12 unknown-key unknown key `servce`",
        ),
    ] {
        let wanted: Vec<String> = wanted.split('|').map(|line| format!("a.toml:{line}")).collect();
        check(text, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn a_thing_that_was_cut_out_is_not_missed_by_references_to_it() {
    // A gateway of which nothing can be read has its name.
    check(
        "gateway.x = 3\n[[route]]\ngateways = [\"x\"]\nmatch = [{ ports = [1] }]\nto = [{ service = \"db\" }]\n",
        &["a.toml:1:13 wrong-type `x` is not a table"],
    );
    check(
        r#"[gateway.x]
listen = 1
[[route]]
gateways = ["x"]
match = [{ ports = [1], destination_subnets = ["10.0.0.1/32"] }]
to = [{ service = "db" }]
[[test]]
source = "10.0.0.1"
destination = "10.0.0.1:1"
expect = { service = "db" }
"#,
        &["a.toml:2:10 wrong-type `listen` is not a list"],
    );
    // A subset, a port and a VIP of a service.
    check(
        r#"[[route]]
match = [{ destination_services = ["x"] }]
to = [{ service = "x", subset = "v1", port = 1 }]
[[test]]
source = "10.0.0.1"
destination = "10.0.0.1:5432"
expect = { service = "x", subsets = ["v1"] }
[service.x]
vips = "10.0.0.1"
ports = 1
subset = 1
"#,
        &[
            "a.toml:9:8 wrong-type `vips` is not a list",
            "a.toml:10:9 wrong-type `ports` is not a list of ports or \"any\"",
            "a.toml:11:10 wrong-type `subset` is not a table",
        ],
    );
    // The label, address or port of a workload.
    check(
        r#"[service.x]
selector = { app = "x" }
ports = [{ port = 1 }]
[[route]]
match = [{ source_labels = { app = "x" } }, { source_namespaces = ["foo"] }]
to = [{ service = "x" }]
[workload.a]
labels = { app = 1 }
[workload.b]
labels = { app = "x" }
addresses = 1
"#,
        &[
            "a.toml:8:18 wrong-type `app` is not a string",
            "a.toml:11:13 wrong-type `addresses` is not a list",
        ],
    );
    // The name of a route; a policy of a later version.
    check(
        r#"[[route]]
nam = "first"
to = [{ service = "db" }]
[[test]]
source = "10.0.0.1"
destination = "10.0.0.1:5432"
expect = { route = "first" }
[policy.passthrough]
[service.x]
endpoints = ["10.0.0.1:1"]
policy.use = "passthrough"
"#,
        &[
            "a.toml:2:1 unknown-key unknown key `nam`",
            "a.toml:8:9 not-in-this-version `policy.passthrough` is not in this version of Weir",
        ],
    );
    // `admin` has a value that is built in.
    check_files(
        &["[proxy]\nadmin = 9347\n[gateway.x]\nlisten = [\"127.0.0.1:9347\"]\n"],
        &["a.toml:2:9 wrong-type `admin` is not a string"],
    );
}

#[test]
fn names_in_an_unknown_table_may_be_referred_to() {
    check_files(
        &[
            "[gatway.edge]\nlisten = [\"0.0.0.0:1\"]\n",
            r#"[[route]]
gateways = ["edge"]
to = [{ service = "db" }]
[service.db]
endpoints = ["10.0.0.300:1"]
"#,
        ],
        &[
            "a.toml:1:2 unknown-key unknown key `gatway`",
            "b.toml:5:14 bad-address `10.0.0.300` is neither an address nor a host name",
        ],
    );
    check_files(
        &["service = 3\n[gateway.x]\nlisten = [\"0.0.0.0:1\"]\nto = [{ service = \"x\" }]\n"],
        &["a.toml:1:11 wrong-type each service has a header of its own, with its name"],
    );
}

#[test]
fn a_rule_with_an_error_in_it_may_name_the_vip() {
    check(
        r#"[service.x]
vips = ["10.0.0.1"]
ports = [{ port = 5432 }]
endpoints = ["10.0.0.2"]
[[route]]
match = [{ destination_subnets = ["10.0.0.1", "10.0.0.300"] }]
to = [{ service = "x" }]
"#,
        &["a.toml:6:47 bad-address 10.0.0.300 is not a valid IP"],
    );
}

#[test]
fn a_namespace_that_cannot_be_read_leaves_no_name_with_a_meaning() {
    check_files(
        &[
            "namespace = 3\n[gateway.edge]\nlisten = [\"0.0.0.0:1\"]\nto = [{ service = \"x\" }]\nlissten = 1\n",
        ],
        &[
            "a.toml:1:13 wrong-type `namespace` is not a string",
            "a.toml:5:1 unknown-key unknown key `lissten`",
        ],
    );
}
