//! Where gateways listen, and where they lead.

use super::check;

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
            r#"a.toml:3:13 warning no-effect `unmatched` has no effect beside `to`: connections that no route took go there"#,
        ],
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
        &[r#"a.toml:3:1 no-gateways route `route-1` names none of the 2 gateways"#],
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
fn gateways_that_lead_nowhere_are_reported() {
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
        // Connections of the second listener go to the service itself, as another warning has it.
        (
            "[service.x]\nvips = [\"10.0.0.1\"]\nports = [{ port = 7 }]\nendpoints = [\"10.1.0.1\"]\n",
            &[
                r#"a.toml:1:10 warning vip-without-route gateway `other` covers the VIP of `x`, which no route of it names: such connections go to the service itself"#,
            ],
        ),
        // It should perhaps lead to the thing with the problem.
        ("too = []\n", &[r#"a.toml:3:1 unknown-key unknown key `too`"#]),
    ];
    for (rest, wanted) in cases {
        check(&format!("[gateway.other]\nlisten = [\"10.0.0.2:7\", \"10.0.0.1:7\"]\n{rest}"), wanted);
    }
}
