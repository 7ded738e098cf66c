//! Routes and conditions that can never match: warnings.

use super::check;
use crate::{line, problems_of, sources};

#[test]
fn rules_that_can_never_match_are_reported() {
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
match = [{ ports = ["5400-5500"] }, { source_subnets = ["11.0.0.0/8"] }]
to = [{ service = "db" }]
[[route]]
match = [{ ports = [5432], source_subnets = ["10.0.0.0/8"] }, { source_subnets = ["11.1.0.0/16", "11.2.0.1"] }]
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
fn conditions_without_effect_are_reported() {
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

/// A service at one VIP and port, and one at every port of a network that holds the VIP; IPv4 on two ports, IPv6 on a third.
const TWO_SERVICES: &str = r#"
[gateway.edge]
listen = ["0.0.0.0:80-81", "[fd00::1]:90"]
[service.web]
vips = ["10.0.0.1"]
ports = [{ port = 80 }]
endpoints = ["127.0.0.1:1"]
[service.all]
vips = ["10.0.0.0/24"]
ports = "any"
endpoints = ["127.0.0.1"]
"#;

#[test]
fn conditions_that_can_each_hold_and_never_together_are_reported() {
    /// `contradiction`: the keys of the conditions that can never hold together, the first with its place.
    #[track_caller]
    fn check(conditions: &str, contradiction: &[&str]) {
        let rule = format!("match = [{{ {conditions} }}]");
        let text = format!("[[route]]\n{rule}\nto = [{{ service = \"all\" }}]\n{TWO_SERVICES}");
        let sources = sources(&[&text]);
        let lines = problems_of(&sources).iter().map(|problem| line(&sources, problem)).collect::<Vec<_>>();
        let found: Vec<&String> = lines.iter().filter(|line| line.contains("never-matches")).collect();
        let Some((last, first)) = contradiction.split_last() else {
            return assert!(found.is_empty(), "{conditions}: {found:?}");
        };
        let key = format!("{} = ", first.first().unwrap_or(last));
        let column = 1 + rule.find(&key).expect("it is there") + key.len();
        let quoted: Vec<String> = first.iter().map(|key| format!("`{key}`")).collect();
        let expected = format!(
            "a.toml:2:{column} warning never-matches {} and `{last}` can never hold together: no connection to a gateway \
             of route `route-1` has {}",
            quoted.join(", "),
            if first.len() == 1 { "both" } else { "all of them" }
        );
        assert_eq!(found, [&expected], "{conditions}");
    }
    let web = r#"destination_services = ["web"]"#;
    check(&format!("{web}, ports = [80]"), &[]);
    check(&format!("{web}, ports = [81]"), &["destination_services", "ports"]);
    check(r#"destination_services = ["all"], ports = [81]"#, &[]);
    check(r#"destination_services = ["web", "all"], ports = [81]"#, &[]);
    check(r#"destination_services = ["all"], ports = [90]"#, &["destination_services", "ports"]);
    check(&format!(r#"{web}, destination_subnets = ["10.0.0.0/8"]"#), &[]);
    check(
        &format!(r#"{web}, destination_subnets = ["10.1.0.0/16"]"#),
        &["destination_services", "destination_subnets"],
    );
    check(r#"ports = [90], destination_subnets = ["fd00::/8"]"#, &[]);
    check(r#"ports = [80], destination_subnets = ["fd00::/8"]"#, &["ports", "destination_subnets"]);
    check(r#"destination_subnets = ["fd00::/8"], source_subnets = ["fd00::/8"]"#, &[]);
    check(
        r#"destination_subnets = ["fd00::/8"], source_subnets = ["10.0.0.0/8"]"#,
        &["destination_subnets", "source_subnets"],
    );
    check(&format!(r#"{web}, source_subnets = ["fd00::/8"]"#), &["destination_services", "source_subnets"]);
    // Any two of the three can hold: the network at port 81, the service at port 80, both services in the network.
    check(r#"destination_services = ["web", "all"], ports = [81], destination_subnets = ["10.0.0.1"]"#, &[]);
    check(
        r#"destination_services = ["web"], ports = ["80-81"], destination_subnets = ["10.0.0.2", "10.0.0.1"]"#,
        &[],
    );
    // One that fails alone is reported alone.
    check(r#"ports = [80], destination_subnets = ["10.0.0.0/8"], source_subnets = ["10.0.0.0/8"]"#, &[]);
}

#[test]
fn a_contradiction_names_the_ports_of_the_services() {
    let text = format!(
        "[[route]]\nmatch = [{{ destination_services = [\"web\"], ports = [81] }}]\nto = [{{ service = \"all\" }}]\n{TWO_SERVICES}"
    );
    let sources = sources(&[&text]);
    let problems = problems_of(&sources);
    let problem = problems.iter().find(|problem| problem.code == "never-matches").expect("it is reported");
    let related: Vec<&str> = problem.related.iter().map(|other| other.message.as_str()).collect();
    assert_eq!(related, ["and this", "`web` has VIP 10.0.0.1 and port 80"]);
}

#[test]
fn sources_of_a_family_that_no_gateway_listens_on_are_reported() {
    check(
        r#"[[route]]
match = [{ source_subnets = ["fd00::/8"] }, { source_subnets = ["fd00::/8", "10.0.0.0/8"] }]
to = [{ service = "db" }]
"#,
        &[
            r#"a.toml:2:29 warning never-matches `source_subnets` can never match: no gateway of route `route-1` listens on an address of their family"#,
        ],
    );
}
