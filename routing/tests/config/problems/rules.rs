//! Routes and conditions that can never match: warnings.

use super::check;

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
            r#"a.toml:3:1 warning never-matches route `route-2` can never match: not used (route without matches defined before)"#,
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
            r#"a.toml:4:1 warning never-matches route `route-2` can never match: not used (duplicate/overlapping match in route `route-1`)"#,
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
            r#"a.toml:4:1 warning never-matches route `route-2` can never match: not used (duplicate/overlapping match in route `route-1`)"#,
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
            r#"a.toml:4:1 warning never-matches route `route-2` can never match: not used (all matches used by prior routes)"#,
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
            r#"a.toml:5:10 warning never-matches route `route-2` match 1 is not used (duplicate/overlapping match in route `route-1`)"#,
            r#"a.toml:5:85 warning never-matches route `route-2` match 3 is not used (duplicate/overlapping match in route `route-2`)"#,
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
            r#"a.toml:9:1 warning never-matches route `route-3` can never match: not used (route without matches defined before)"#,
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
            r#"a.toml:4:1 warning never-matches route `route-2` can never match: not used (duplicate/overlapping match in route `route-1`)"#,
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
            r#"a.toml:2:20 warning never-matches `ports` can never match: no gateway of route `route-1` listens on such a port"#,
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
            r#"a.toml:5:34 warning never-matches `destination_subnets` can never match: no gateway of route `route-1` listens on an address in them"#,
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
            r#"a.toml:2:10 warning unknown-sources-pass route `route-1` rejects by labels or namespace: sources that no workload owns pass it"#,
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
            r#"a.toml:5:10 warning vip-without-route gateway `edge` covers the VIP of `x`, which no route of it names: such connections go to the service itself"#,
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
            r#"a.toml:6:35 warning never-matches `destination_services` can never match: no gateway of route `route-1` listens on a VIP and port of them"#,
        ],
    );
}
