//! Services, their endpoints and workloads.

use super::check;

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
            r#"a.toml:1:10 warning no-endpoint service `x` has no endpoint: connections routed to it are reset"#,
            r#"a.toml:3:12 warning no-effect `selector` selects no workload of namespace `default`"#,
        ],
    );
    check(
        r#"[service.x]
ports = [{ port = 1 }]
selector = {}
"#,
        &[
            r#"a.toml:1:10 warning no-endpoint service `x` has no endpoint: connections routed to it are reset"#,
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
            r#"a.toml:2:14 bad-address 0.0.0.0 cannot be dialled: it stands for all addresses of a host"#,
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
            r#"a.toml:2:49 warning weight-zero weight 0: this endpoint of `x` gets no connections"#,
            r#"a.toml:2:89 bad-weight weight -1 < 0"#,
            r#"a.toml:2:132 out-of-range `priority` must be a whole number from 0 to 127"#,
            r#"a.toml:2:149 bad-locality `a//b` is not a locality"#,
        ],
    );
    check(
        r#"[service.x]
"#,
        &[
            r#"a.toml:1:10 warning no-endpoint service `x` has no endpoint: connections routed to it are reset"#,
        ],
    );
    check(
        r#"[service.x]
endpoints = ["10.0.0.1:1"]
[service.x.subset.v1]
labels = { version = "v1" }
"#,
        &[
            r#"a.toml:3:19 warning no-endpoint no endpoint of `x` has the labels of subset `v1`: connections routed to it are reset"#,
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
            r#"a.toml:1:11 warning no-address workload `a` is selected by service `x` and has no single address: it is no endpoint"#,
            r#"a.toml:4:10 warning no-endpoint service `x` has no endpoint: connections routed to it are reset"#,
        ],
    );
}
