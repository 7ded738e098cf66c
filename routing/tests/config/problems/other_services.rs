//! Routes that take connections to more services than they lead to.

use crate::{line, problems_of, sources};

/// A gateway on three VIPs, two of which share a port; it precedes each case.
const SERVICES: &str = r#"[gateway.mesh]
listen = ["192.168.0.1:80", "192.168.0.2:80", "192.168.0.3:443"]
[service.a]
vips = ["192.168.0.1"]
ports = [{ port = 80 }]
endpoints = ["10.0.0.1"]
[service.b]
vips = ["192.168.0.2"]
ports = [{ port = 80 }]
endpoints = ["10.0.0.2"]
[service.c]
vips = ["192.168.0.3"]
ports = [{ port = 443 }]
endpoints = ["10.0.0.3"]
[service.elsewhere]
endpoints = ["10.0.0.4:1"]
[workload."foo/client"]
addresses = ["10.0.1.1"]
"#;

/// Compares the warnings of this kind, by line, column and message.
#[track_caller]
fn check(routes: &str, wanted: &[&str]) {
    let sources = sources(&[&format!("{SERVICES}{routes}")]);
    let found = problems_of(&sources);
    assert!(found.iter().all(|problem| problem.severity == weir_routing::Severity::Warning), "{found:?}");
    let found = found.iter().filter(|problem| problem.code == "takes-other-services");
    let found: Vec<String> = found.map(|problem| line(&sources, problem)).collect();
    assert_eq!(found, wanted, "{routes}");
}

#[test]
fn a_route_to_one_service_that_takes_others_is_warned_of() {
    check(
        r#"[[route]]
to = [{ service = "a" }]
"#,
        &[
            "a.toml:19:1 warning takes-other-services route `route-1` names no destination: it also takes connections to `b`, `c`, which arrive at gateway `mesh` too",
        ],
    );
    check(
        r#"[[route]]
name = "canary"
match = [{ destination_services = ["a"] }, { source_namespaces = ["foo"], ports = [80] }]
to = [{ service = "a" }]
"#,
        &[
            "a.toml:21:44 warning takes-other-services route `canary` names no destination: it also takes connections to `b`, which arrive at gateway `mesh` too",
        ],
    );
}

#[test]
fn a_route_that_means_them_all_is_not_warned_of() {
    // It names its destination.
    for condition in [
        "destination_services = [\"a\"]",
        "destination_services = [\"a\"], source_namespaces = [\"foo\"]",
        "destination_subnets = [\"192.168.0.0/24\"]",
    ] {
        check(&format!("[[route]]\nmatch = [{{ {condition} }}]\nto = [{{ service = \"a\" }}]\n"), &[]);
    }
    // Its port is that of one service.
    check("[[route]]\nmatch = [{ ports = [443] }]\nto = [{ service = \"c\" }]\n", &[]);
    // It leads to none of them, or to all that it takes.
    check("[[route]]\nto = [{ service = \"elsewhere\" }]\n", &[]);
    check("[[route]]\nreject = true\n", &[]);
    check("[[route]]\nmatch = [{ ports = [80] }]\nto = [{ service = \"a\" }, { service = \"b\" }]\n", &[]);
    // Routes before it took the others.
    for match_b in ["destination_services = [\"b\"]", "destination_subnets = [\"192.168.0.2\"]"] {
        check(
            &format!(
                r#"[[route]]
match = [{{ {match_b} }}, {{ ports = [443] }}]
to = [{{ service = "elsewhere" }}]
[[route]]
to = [{{ service = "a" }}]
"#
            ),
            &[],
        );
    }
}

#[test]
fn a_vip_that_arrives_at_another_gateway_is_no_service_of_this_one() {
    let text = |listen: &str| {
        format!(
            r#"[gateway.edge]
listen = ["0.0.0.0:80"]
[gateway.own]
listen = ["{listen}"]
to = [{{ service = "b" }}]
[[route]]
gateways = ["edge"]
to = [{{ service = "a" }}]
[service.a]
vips = ["192.168.0.1"]
ports = [{{ port = 80 }}]
endpoints = ["10.0.0.1"]
[service.b]
vips = ["192.168.0.2"]
ports = [{{ port = 80 }}]
endpoints = ["10.0.0.2"]
"#
        )
    };
    let check = |listen: &str, warned: bool| {
        let found = problems_of(&sources(&[&text(listen)]))
            .iter()
            .any(|problem| problem.code == "takes-other-services");
        assert_eq!(found, warned, "{listen}");
    };
    check("192.168.0.2:80", false);
    check("192.168.0.2:81", true);
}

#[test]
fn the_help_has_the_text_to_write() {
    let text = format!("{SERVICES}[[route]]\nto = [{{ service = \"a\" }}, {{ service = \"b\" }}]\n");
    let problems = problems_of(&sources(&[&text]));
    let problem =
        problems.iter().find(|problem| problem.code == "takes-other-services").expect("it is there");
    assert_eq!(
        problem.help.as_deref(),
        Some(
            "write `destination_services = [\"a\", \"b\"]` in every block of its `match`, as `hosts` of a VirtualService does"
        )
    );
}
