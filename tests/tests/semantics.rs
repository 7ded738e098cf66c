//! The cases of Istio's documents and tests, spelled natively: cases by their id, the gateway named `mesh`, arrivals made by hand,
//! no sockets. R are routing cases, V are problems at load whose text has Istio's words.

use std::net::{IpAddr, SocketAddr};

use weir_routing::{
    Action, Arrival, Compiled, Destination, FirstBytes, GatewayId, Problem, Resolved, Severity, Source,
    Sources, Table, Verdict, compile, parse,
};

/// The fixture of the documents: two echo servers behind virtual addresses, clients in two namespaces.
const FIXTURE: &str = r#"
[gateway.mesh]
listen = ["127.0.0.1:15001"]

[service.echo-server]
vips = ["192.168.10.10"]
ports = [{ name = "tcp", port = 19000, target_port = 9000 }]
selector = { app = "echo-server" }

[service.echo-server-2]
vips = ["192.168.10.20"]
ports = [{ name = "tcp", port = 19000, target_port = 9000 }]
selector = { app = "echo-server-2" }

[workload.echo-server]
labels = { app = "echo-server", version = "prod" }
addresses = ["10.0.0.11"]

[workload.echo-server-2]
labels = { app = "echo-server-2" }
addresses = ["10.0.0.12"]

[workload.telnet-client]
labels = { app = "telnet-client" }
addresses = ["10.0.1.1"]

[workload.telnet-client-2]
labels = { app = "telnet-client-2" }
addresses = ["10.0.1.2"]

[workload."foo/telnet-client-foo"]
labels = { app = "telnet-client-foo" }
addresses = ["10.0.2.1"]
"#;

/// Two services without virtual addresses, for cases about the order of rules alone.
const A_AND_B: &str = r#"
[gateway.mesh]
listen = ["127.0.0.1:15001"]
[service.a]
endpoints = ["10.8.0.1:1"]
[service.b]
endpoints = ["10.8.0.2:1"]
"#;

/// The subsets of case 6 of the documents.
const PROD_AND_GRAY: &str = r#"
[workload.echo-server-gray]
labels = { app = "echo-server", version = "gray" }
addresses = ["10.0.0.13"]
[service.echo-server.subset.prod]
labels = { version = "prod" }
[service.echo-server.subset.gray]
labels = { version = "gray" }
"#;

const TELNET_CLIENT: &str = "10.0.1.1";
const TELNET_CLIENT_2: &str = "10.0.1.2";
const TELNET_CLIENT_FOO: &str = "10.0.2.1";
const STRANGER: &str = "10.9.9.9";
const VIP: &str = "192.168.10.10:19000";

fn load(toml: &str) -> Result<Compiled, Vec<Problem>> {
    let sources = Sources(vec![Source::new("weir.toml", toml)]);
    compile(&parse(&sources, &|_| Err(std::env::VarError::NotPresent))?, &Resolved::default())
}

fn good(id: &str, toml: &str) -> Compiled {
    load(toml).unwrap_or_else(|problems| panic!("{id} does not load: {problems:#?}"))
}

fn gateway(table: &Table, name: &str) -> GatewayId {
    let at = table
        .parts()
        .gateways
        .iter()
        .position(|gateway| &*gateway.name == name)
        .expect("a gateway of this name");
    GatewayId(at as u32)
}

fn arrival(table: &Table, at: &str, source: &str, destination: &str) -> Arrival {
    let source: IpAddr = source.parse().expect("an address");
    Arrival::new(
        gateway(table, at),
        SocketAddr::new(source, 40_000),
        destination.parse().expect("an address"),
    )
}

fn spelled(table: &Table, destination: &Destination) -> String {
    let service = &table.parts().services[destination.service.index()];
    match destination.subset {
        None => service.name.to_string(),
        Some(subset) => format!("{}/{}", service.name, service.subsets[subset.index()].name),
    }
}

/// A decision in words: who took it, and where it leads: "route echo-server-2", "unmatched reject".
fn decided(table: &Table, arrival: &Arrival) -> String {
    let decision = table.matched(arrival, &FirstBytes::UNKNOWN);
    let via = serde_json::to_value(decision.via).expect("a word");
    let via = via.as_str().expect("a word").to_owned();
    match decision.action {
        Action::Refuse(_) => format!("{via} reject"),
        Action::Needs(part) => format!("{via} needs {part:?}"),
        Action::Forward(split) => {
            let mut names = vec![via];
            for share in table.parts().splits[split.index()].shares.iter().filter(|share| share.weight > 0) {
                names.push(spelled(table, &table.parts().destinations[share.destination.index()]));
            }
            names.join(" ")
        }
    }
}

#[track_caller]
fn check(id: &str, toml: &str, (at, source, destination): (&str, &str, &str), expected: &str) {
    let compiled = good(id, toml);
    let arrival = arrival(&compiled.table, at, source, destination);
    assert_eq!(decided(&compiled.table, &arrival), expected, "{id}: {at} {source} -> {destination}");
}

/// A route with this `match` (or none) and this destination.
fn route(condition: &str, to: &str) -> String {
    let condition = if condition.is_empty() { String::new() } else { format!("match = [{condition}]\n") };
    format!("\n[[route]]\n{condition}to = [{to}]\n")
}

fn to(service: &str) -> String {
    format!("{{ service = \"{service}\" }}")
}

#[test]
fn the_documents_routing_cases_hold() {
    let two = to("echo-server-2");
    let on = |condition: &str| format!("{FIXTURE}{}", route(condition, &two));
    let (subnets, port) = (on("{ destination_subnets = [\"192.168.0.0/16\"] }"), on("{ ports = [19000] }"));
    let labels = on("{ source_labels = { app = \"telnet-client\" } }");
    let namespace = format!("{}{}", on("{ source_namespaces = [\"foo\"] }"), route("", &to("echo-server")));
    let moved = subnets.replace("192.168.10.10", "172.16.5.5").replace("10.0.0.11", "192.168.3.3");
    let more_ports = port.replacen(
        "target_port = 9000 }]",
        "target_port = 9000 }, { name = \"other\", port = 19001, target_port = 9001 }]",
        1,
    );
    for (id, toml, source, destination, expected) in [
        ("R01", &subnets, TELNET_CLIENT, VIP, "route echo-server-2"),
        ("R02", &moved, TELNET_CLIENT, "172.16.5.5:19000", "service echo-server"),
        ("R03", &port, TELNET_CLIENT, VIP, "route echo-server-2"),
        ("R04", &more_ports, TELNET_CLIENT, "192.168.10.10:19001", "service echo-server"),
        ("R06", &labels, TELNET_CLIENT, VIP, "route echo-server-2"),
        ("R07", &labels, TELNET_CLIENT_2, VIP, "service echo-server"),
        ("R08", &labels, STRANGER, VIP, "service echo-server"),
        ("R13", &namespace, TELNET_CLIENT_FOO, VIP, "route echo-server-2"),
        ("R14", &namespace, TELNET_CLIENT, VIP, "route echo-server"),
        ("R15", &namespace, STRANGER, VIP, "route echo-server"),
    ] {
        check(id, toml, ("mesh", source, destination), expected);
    }
}

#[test]
fn gateways_narrow_rules() {
    let toml = format!(
        r#"{FIXTURE}
[gateway.ingressgateway-1]
listen = ["127.0.0.1:19001"]
[gateway.ingressgateway-2]
listen = ["127.0.0.1:19002"]

[[route]]
gateways = ["ingressgateway-2"]
to = [{{ service = "echo-server-2" }}]

[[route]]
gateways = ["ingressgateway-1", "ingressgateway-2"]
to = [{{ service = "echo-server" }}]
"#
    );
    for (id, at, destination, expected) in [
        ("R09", "ingressgateway-1", "127.0.0.1:19001", "route echo-server"),
        ("R10", "ingressgateway-2", "127.0.0.1:19002", "route echo-server-2"),
        ("R12", "mesh", VIP, "service echo-server"),
    ] {
        check(id, &toml, (at, TELNET_CLIENT, destination), expected);
    }
}

/// How many of `draws` go to the first destination.
fn drawn(id: &str, toml: &str, arrival_at: (&str, &str, &str), draws: u32) -> u32 {
    let compiled = good(id, toml);
    let table = &compiled.table;
    let (at, source, destination) = arrival_at;
    let arrival = arrival(table, at, source, destination);
    let Action::Forward(split) = table.matched(&arrival, &FirstBytes::UNKNOWN).action else {
        panic!("{id}: not forwarded")
    };
    let first = table.parts().splits[split.index()].shares[0].destination;
    let seed = fastrand::u64(..);
    eprintln!("{id}: seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut draw = || match table.decide(&arrival, &FirstBytes::UNKNOWN, &mut rng) {
        Verdict::Forward { destination, .. } => destination,
        verdict => panic!("{id}: {verdict:?}"),
    };
    (0..draws).filter(|_| draw() == first).count() as u32
}

#[test]
fn weights_are_drawn_within_four_sigma() {
    let split = |first: &str, second: &str| {
        let to = format!(
            "{{ service = \"echo-server\", subset = \"prod\"{first} }}, {{ service = \"echo-server\", subset = \"gray\"{second} }}"
        );
        format!("{FIXTURE}{PROD_AND_GRAY}{}", route("", &to))
    };
    let mesh = ("mesh", TELNET_CLIENT, VIP);
    for (id, toml, wanted) in [
        ("R16", split(", weight = 80", ", weight = 20"), 1528..=1672),
        ("R20", split(", weight = 20", ", weight = 80"), 328..=472),
        ("R34", split(", weight = 100", ", weight = 0"), 2000..=2000),
    ] {
        let first = drawn(id, &toml, mesh, 2000);
        assert!(wanted.contains(&first), "{id}: {first} of 2000, wanted {wanted:?}");
    }
}

#[test]
fn the_tcp_echo_gateway_takes_its_port_only() {
    let toml = r#"
[gateway.tcp-echo-gateway]
listen = ["127.0.0.1:31400-31401"]

[[route]]
match = [{ ports = [31400] }]
to = [{ service = "tcp-echo", port = 9000 }]

[service.tcp-echo]
ports = [{ port = 9000 }]
endpoints = ["127.0.0.1", "127.0.0.2"]
"#;
    let at = "tcp-echo-gateway";
    check("R19", toml, (at, STRANGER, "127.0.0.1:31400"), "route tcp-echo");
    // In the document nothing listens on 31401; here the gateway does, and no rule takes it.
    check("R22", toml, (at, STRANGER, "127.0.0.1:31401"), "unmatched reject");
}

#[test]
fn rules_are_ordered_and_subnets_masked() {
    let on = |rules: &[(&str, &str)]| {
        let rules: String = rules.iter().map(|(condition, service)| route(condition, &to(service))).collect();
        format!("{A_AND_B}{rules}")
    };
    let wide_then_narrow = on(&[
        ("{ destination_subnets = [\"10.0.0.0/8\"] }", "a"),
        ("{ destination_subnets = [\"10.1.0.0/16\"] }", "b"),
    ]);
    let all_then_narrow = on(&[("", "a"), ("{ destination_subnets = [\"10.1.0.0/16\"] }", "b")]);
    let two_blocks =
        on(&[("{ destination_subnets = [\"10.0.0.0/8\"] }, { ports = [19000] }", "a"), ("", "b")]);
    let host_bits = on(&[("{ destination_subnets = [\"10.1.2.3/16\"] }", "a")]);
    let same_twice = on(&[
        ("{ destination_subnets = [\"10.1.0.0/16\"] }", "a"),
        ("{ destination_subnets = [\"10.1.5.5/16\"] }", "b"),
    ]);
    let six = on(&[("{ destination_subnets = [\"2001:db8::/32\"] }", "a")]);
    let elsewhere = on(&[("{ destination_subnets = [\"203.0.113.0/24\"] }", "a")]);
    for (id, toml, destination, expected) in [
        // Istio: B, by the longest prefix.
        ("R23", &wide_then_narrow, "10.1.2.3:1", "route a"),
        ("R25", &all_then_narrow, "10.1.2.3:1", "route a"),
        ("R26", &two_blocks, "172.16.0.1:19000", "route a"),
        ("R26", &two_blocks, "172.16.0.1:19001", "route b"),
        ("R28", &host_bits, "10.1.99.9:1", "route a"),
        // Istio: refuses the whole listener.
        ("R29", &same_twice, "10.1.5.5:1", "route a"),
        ("R31", &six, "[2001:db8::1]:1", "route a"),
        ("R31", &six, "10.1.2.3:1", "unmatched reject"),
        // Istio: A, because a gateway there ignores the condition.
        ("R32", &elsewhere, "198.51.100.1:1", "unmatched reject"),
        // Istio's REGISTRY_ONLY.
        ("R38", &on(&[]), "198.18.0.1:443", "unmatched reject"),
    ] {
        check(id, toml, ("mesh", STRANGER, destination), expected);
    }
    for (id, toml) in [("R23", &wide_then_narrow), ("R25", &all_then_narrow), ("R29", &same_twice)] {
        let warnings = good(id, toml).warnings;
        let never = warnings
            .iter()
            .any(|warning| warning.code == "never-matches" && text(warning).contains("route-2"));
        assert!(never, "{id}: no warning that rule 2 never matches in {warnings:#?}");
    }
}

/// All the words of a problem.
fn text(problem: &Problem) -> String {
    let mut parts = vec![problem.message.as_str()];
    parts.extend([&problem.found, &problem.wanted, &problem.help].into_iter().flatten().map(String::as_str));
    parts.extend(problem.related.iter().map(|related| related.message.as_str()));
    parts.join("\n")
}

#[track_caller]
fn refused(id: &str, toml: &str, words: &[&str]) {
    let problems = match load(toml) {
        Ok(_) => panic!("{id} loads"),
        Err(problems) => problems,
    };
    let has = |problem: &Problem| {
        problem.severity == Severity::Error && words.iter().all(|word| text(problem).contains(word))
    };
    assert!(problems.iter().any(has), "{id}: no problem with {words:?} in {problems:#?}");
}

#[test]
fn references_to_nothing_are_problems_at_load() {
    let gray = PROD_AND_GRAY.replace("subset.prod", "subset.other");
    let split = "{ service = \"echo-server\", subset = \"prod\", weight = 80 }, { service = \"echo-server\", subset = \"gray\", weight = 20 }";
    refused("R18", &format!("{FIXTURE}{gray}{}", route("", split)), &["prod", "echo-server"]);
    // Istio: a lone destination of weight 0 is routed.
    refused(
        "R35",
        &format!("{A_AND_B}{}", route("", "{ service = \"a\", weight = 0 }")),
        &["total destination weight = 0"],
    );
    let foo = "namespace = \"foo\"\n[gateway.mesh]\nlisten = [\"127.0.0.1:15001\"]\n";
    let sources = Sources(vec![
        Source::new("a.toml", A_AND_B.replace("gateway.mesh", "gateway.other").replace("15001", "15002")),
        Source::new("b.toml", format!("{foo}{}", route("", &to("a")))),
    ]);
    let problems = parse(&sources, &|_| Err(std::env::VarError::NotPresent))
        .and_then(|config| compile(&config, &Resolved::default()).map(|_| ()))
        .expect_err("R40: a short name means the namespace of its file");
    let named = problems.iter().any(|problem| text(problem).contains("foo/a"));
    assert!(named, "R40: no problem that names foo/a in {problems:#?}");
}

#[test]
fn configurations_that_istio_refuses_are_refused_in_its_words() {
    let rule = |condition: &str| format!("{A_AND_B}{}", route(condition, &to("a")));
    let weights = |first: i64, second: i64| {
        let to = format!("{{ service = \"a\", weight = {first} }}, {{ service = \"b\", weight = {second} }}");
        format!("{A_AND_B}{}", route("", &to))
    };
    let policy = |line: &str| format!("{A_AND_B}{}\n[service.a.policy]\n{line}\n", route("", &to("a")));
    for (id, toml, words) in [
        (
            "V03",
            rule("{ destination_subnets = [\"192.168.0.0/33\"] }"),
            &["192.168.0.0/33 is not a valid CIDR block"][..],
        ),
        ("V04", rule("{ destination_subnets = [\"1.1.A.1\"] }"), &["1.1.A.1 is not a valid IP"]),
        ("V05", rule("{ ports = [70000] }"), &["port number 70000 must be in the range 1..65535"]),
        ("V05", rule("{ ports = [65536] }"), &["port number 65536 must be in the range 1..65535"]),
        ("V07", rule("{ source_labels = { app = \"-x\" } }"), &["invalid tag value: \"-x\""]),
        ("V10", weights(0, 0), &["total destination weight = 0"]),
        ("V11", weights(5, -1), &["weight -1 < 0"]),
        (
            "V15",
            format!("{A_AND_B}\n[service.a.subset._v1]\nlabels = {{ version = \"v1\" }}\n"),
            &["subset name is invalid: _v1"],
        ),
        (
            "V16",
            format!(
                "{A_AND_B}\n[service.a.subset.v1]\nlabels = {{ v = \"1\" }}\n[service.a.subset.v1]\nlabels = {{ v = \"2\" }}\n"
            ),
            &["duplicate subset names: v1"],
        ),
        ("V18", policy("connect_timeout = \"500us\""), &["duration must be greater than 1ms"]),
        ("V18", policy("connect_timeout = \"1500us\""), &["only durations to ms precision are supported"]),
        ("V31", rule("{ source_label = { app = \"x\" } }"), &["source_label", "source_labels"]),
    ] {
        refused(id, &toml, words);
    }
    for (id, toml) in [
        ("V12", weights(550, 500)),
        ("V12", weights(49, 50)),
        ("V12", weights(100, 0)),
        ("V18", policy("connect_timeout = \"1ms\"")),
        ("V19", policy("idle_timeout = \"0s\"")),
    ] {
        good(id, &toml);
    }
    let lone = format!("{A_AND_B}{}", route("", "{ service = \"a\", weight = 0 }"));
    refused("V12", &lone, &["total destination weight = 0"]);
}
