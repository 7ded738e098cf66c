//! Conditions, actions and weights of routes.

use super::check;

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
        &[r#"a.toml:2:39 weights-on-some some destinations have a weight and others have none"#],
    );
    check(
        r#"[[route]]
to = [{ service = "db", weight = 1 }, { service = "db", weight = 2 }]
"#,
        &[r#"a.toml:2:39 warning listed-twice `db` is in this split twice"#],
    );
}
