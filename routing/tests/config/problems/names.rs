//! Names, what is declared twice, and references to what is not there.

use super::check;

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
