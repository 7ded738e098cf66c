//! Where the port that the client dials decides: the ports that can arrive against those that the service has.

use weir_routing::Compiled;

use crate::problems::check_files;
use crate::{line, load, sources};

/// Gateway "edge" with these listeners; services `one` (port 80) and `many` (ports 80, 81 and 443).
fn text(listen: &str, rest: &str) -> String {
    format!(
        r#"[gateway.edge]
listen = [{listen}]
{rest}
[service.one]
vips = ["10.9.9.1"]
ports = [{{ port = 80 }}]
endpoints = ["10.0.0.1"]
[service.many]
vips = ["10.9.9.2"]
ports = [{{ port = 80 }}, {{ port = 81 }}, {{ port = 443 }}]
endpoints = ["10.0.0.2"]
subset.v1.labels = {{}}
"#
    )
}

const NONE: &str =
    "port-not-served nothing can be forwarded to `many`: it has the ports 80-81, 443, and clients dial";

#[test]
fn no_port_that_can_arrive_is_a_problem_and_some_that_cannot_be_served_a_warning() {
    let to = "to = [{ service = \"many\" }]";
    let named = "to = [{ service = \"many\", port = 443 }]";
    let route = |matches: &str, to: &str| format!("[[route]]\nmatch = [{matches}]\n{to}\n");
    let some = |place: &str, ports: &str, verb: &str| {
        format!(
            "{place} warning port-not-served connections to {ports} {verb} refused: `many` has only the ports 80-81, 443"
        )
    };
    let none = |place: &str, ports: &str| format!("{place} {NONE} {ports}");
    let past = "a.toml:1:10 warning vip-without-route gateway `edge` covers the VIP of `one`, `many`, which no route of it names: such connections go to the service itself".to_owned();
    let cases: Vec<(&str, String, Vec<String>)> = vec![
        // The gateway's `to`.
        ("\"10.0.0.9:31400\"", to.to_owned(), vec![none("a.toml:3:7", "31400")]),
        ("\"10.0.0.9:31400\"", named.to_owned(), vec![]),
        ("\"10.0.0.9:31400\"", "to = [{ service = \"one\" }]".to_owned(), vec![]),
        ("\"10.0.0.9:443\"", to.to_owned(), vec![]),
        ("\"10.0.0.9:80-81\", \"10.0.0.8:443\"", to.to_owned(), vec![]),
        ("\"10.0.0.9:79-90\"", to.to_owned(), vec![some("a.toml:3:7", "ports 79, 82-90", "are")]),
        ("\"10.0.0.9:0\"", to.to_owned(), vec![some("a.toml:3:7", "ports 1-79, 82-442, 444-65535", "are")]),
        // Told once for a service, at its first share.
        (
            "\"10.0.0.9:1\"",
            "to = [{ service = \"many\", subset = \"v1\" }, { service = \"many\" }, { service = \"one\" }]"
                .to_owned(),
            vec![none("a.toml:3:7", "1")],
        ),
        // A route's match narrows the ports of the listeners.
        ("\"10.0.0.9:79-90\"", route("{ ports = [80] }", to), vec![]),
        (
            "\"10.0.0.9:79-90\"",
            route("{ ports = [80] }, { ports = [79] }", to),
            vec![some("a.toml:5:7", "port 79", "are")],
        ),
        ("\"10.0.0.9:79-90\"", route("{ ports = [79] }", to), vec![none("a.toml:5:7", "79")]),
        (
            "\"10.0.0.9:79\", \"10.0.0.8:80\"",
            route("{ destination_subnets = [\"10.0.0.8/32\"] }", to),
            vec![],
        ),
        (
            "\"0.0.0.0:79\", \"0.0.0.0:80\", \"[::]:82\"",
            route("{ destination_services = [\"one\", \"many\"] }", to),
            vec![],
        ),
        // Connections that an earlier rule always takes arrive neither at a later one nor at the gateway's `to`.
        (
            "\"10.0.0.9:79\", \"10.0.0.9:80\"",
            format!("{to}\n{}", route("{ ports = [79] }", "reject = true")),
            vec![],
        ),
        (
            "\"10.0.0.9:79\", \"10.0.0.9:80\"",
            format!("{to}\n{}", route("{ ports = [80] }", "reject = true")),
            vec![none("a.toml:3:7", "79")],
        ),
        (
            "\"10.0.0.9:79\", \"10.0.0.9:80\"",
            format!(
                "{to}\n{}",
                route("{ ports = [79], source_subnets = [\"10.0.0.0/8\"] }", "reject = true")
            ),
            vec![some("a.toml:3:7", "port 79", "are")],
        ),
        (
            "\"10.0.0.9:79\", \"10.0.0.9:80\"",
            route("{ ports = [79] }", "reject = true") + &route("{ source_subnets = [\"10.0.0.0/8\"] }", to),
            vec![],
        ),
        // An arrival at the VIP is decided by the VIP's port.
        (
            "\"0.0.0.0:443\"",
            "to = [{ service = \"one\" }]".to_owned(),
            vec![past.replace("`one`, `many`", "`many`")],
        ),
    ];
    for (listen, rest, wanted) in cases {
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        check_files(&[&text(listen, &rest)], &wanted);
    }
}

#[test]
fn the_message_names_the_listener_the_service_and_the_way_out() {
    let texts = [&*text("\"10.0.0.9:80\", \"10.0.0.9:31400\"", "to = [{ service = \"many\" }]")];
    let sources = sources(&texts);
    let warnings = load(&sources).expect("a warning only").warnings;
    let lines: Vec<usize> = warnings[0].related.iter().map(|it| sources.position(it.place).line).collect();
    let columns: Vec<usize> =
        warnings[0].related.iter().map(|it| sources.position(it.place).column).collect();
    assert_eq!((lines, columns), (vec![2, 8], vec![26, 10]));
    assert_eq!(
        warnings[0].help.as_deref(),
        Some("name the port of the service that is meant: { service = \"many\", port = 80 }")
    );
}

fn compiled(text: &str) -> Compiled {
    let texts = sources(&[text]);
    load(&texts).unwrap_or_else(|problems| {
        panic!("{:?}", problems.iter().map(|problem| line(&texts, problem)).collect::<Vec<_>>())
    })
}

/// `to`, the port that is dialled, what the test expects, and the difference: wanted, found.
type Expectation<'a> = (&'a str, u16, &'a str, Option<(&'a str, String)>);

#[test]
fn a_test_expects_what_happens_to_the_port_that_is_dialled() {
    let all = "to = [{ service = \"many\" }]";
    let some = "to = [{ service = \"many\" }, { service = \"one\", port = 80 }, { service = \"many\", subset = \"v1\", weight = 0 }]"
        .replace("\"many\" }", "\"many\", weight = 1 }")
        .replace("80 }", "80, weight = 1 }");
    let lacks = "many lacks the port that was dialled";
    let cases: [Expectation<'_>; 11] = [
        (all, 80, "service = \"many\"", None),
        (all, 80, "reject = true", Some(("reject true", "reject false".into()))),
        (all, 82, "reject = true", None),
        (all, 82, "reject = false", Some(("reject false", format!("reject true: {lacks}")))),
        (all, 82, "route = \"\"", None),
        (
            all,
            82,
            "service = \"many\"",
            Some(("service \"many\", reject false", format!("service [], reject true: {lacks}"))),
        ),
        (all, 82, "endpoints = []", Some(("reject false", format!("reject true: {lacks}")))),
        (&some, 80, "endpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]", None),
        (
            &some,
            82,
            "reject = true",
            Some(("reject true", format!("reject true for some connections: {lacks}"))),
        ),
        (
            &some,
            82,
            "reject = false",
            Some(("reject false", format!("reject true for some connections: {lacks}"))),
        ),
        (
            &some,
            82,
            "service = \"one\"",
            Some(("reject false", format!("reject true for some connections: {lacks}"))),
        ),
    ];
    for (to, port, expect, wanted) in cases {
        let test = format!(
            "[[test]]\nsource = \"10.1.0.1\"\ndestination = \"10.0.0.9:{port}\"\nexpect = {{ {expect} }}"
        );
        let compiled = compiled(&text("\"10.0.0.9:80-90\"", &format!("{to}\n{test}")));
        let found = compiled.config_tests[0].check(&compiled.table).err();
        let found = found.as_ref().map(|problem| {
            (problem.wanted.as_deref().unwrap_or(""), problem.found.clone().unwrap_or_default())
        });
        assert_eq!(found, wanted, "{to} {port} {expect}");
    }
}

#[test]
fn a_vip_belongs_to_its_port() {
    let reject =
        "[[route]]\nname = \"not-wide\"\nmatch = [{ destination_services = [\"wide\"] }]\nreject = true\n";
    let cases = [
        ("", "10.3.0.1:443", "service = \"narrow\""),
        // The narrow VIP hides nothing that its service does not have.
        ("", "10.3.0.1:80", "service = \"wide\""),
        (reject, "10.3.0.1:80", "route = \"not-wide\", reject = true"),
        (reject, "10.3.0.1:443", "route = \"\", service = \"narrow\""),
        // Two services share a VIP, at different ports, and hide a port that both and a wider one have.
        ("", "10.3.0.1:5432", "service = \"shared\""),
        (reject, "10.3.0.1:5432", "route = \"\", service = \"shared\""),
        (reject, "10.3.0.2:5432", "route = \"not-wide\", reject = true"),
        ("", "10.3.0.2:443", "reject = true"),
        ("", "10.3.0.2:80", "service = \"wide\""),
    ];
    for (rest, destination, expect) in cases {
        let compiled = compiled(&format!(
            r#"[gateway.mesh]
listen = ["0.0.0.0:80", "0.0.0.0:443", "0.0.0.0:5432"]
[service.wide]
vips = ["10.0.0.0/8"]
ports = [{{ port = 80 }}, {{ port = 5432 }}]
endpoints = ["192.0.2.1"]
[service.narrow]
vips = ["10.3.0.1"]
ports = [{{ port = 443 }}]
endpoints = ["192.0.2.2"]
[service.shared]
vips = ["10.3.0.1"]
ports = [{{ port = 5432 }}]
endpoints = ["192.0.2.3"]
{rest}
[[test]]
source = "10.1.0.1"
destination = "{destination}"
expect = {{ {expect} }}
"#
        ));
        assert_eq!(compiled.config_tests[0].check(&compiled.table), Ok(()), "{rest} {destination}");
    }
}

#[test]
fn a_service_with_any_port_is_dialled_on_the_port_that_the_client_dialled() {
    let text = |expect: &str, destination: &str| {
        format!(
            r#"[gateway.edge]
listen = ["10.0.0.9:20000-29000", "10.0.0.9:80", "0.0.0.0:443"]
to = [{{ service = "realm" }}]
[service.realm]
ports = "any"
endpoints = ["10.0.0.5", {{ address = "10.0.0.6:80", labels = {{ version = "v1" }} }}]
selector = {{ app = "realm" }}
subset.v1.labels = {{ version = "v1" }}
[service.wide]
vips = ["10.9.0.0/16"]
ports = "any"
endpoints = ["10.0.0.7"]
[service.narrow]
vips = ["10.9.9.9"]
ports = [{{ port = 80 }}]
endpoints = ["10.0.0.8"]
[service.around]
vips = ["10.0.0.0/8"]
ports = [{{ port = 443 }}]
endpoints = ["10.0.0.8"]
[workload.realm-1]
labels = {{ app = "realm" }}
addresses = ["fd00::7"]
[[route]]
match = [{{ ports = [20009] }}]
to = [{{ service = "realm", subset = "v1" }}]
[[test]]
source = "10.1.0.1"
destination = "{destination}"
gateway = "edge"
expect = {{ {expect} }}
"#
        )
    };
    let cases = [
        (
            "10.0.0.9:20123",
            "service = \"realm\", endpoints = [\"10.0.0.5:20123\", \"10.0.0.6:80\", \"[fd00::7]:20123\"]",
        ),
        (
            "10.0.0.9:29000",
            "service = \"realm\", endpoints = [\"10.0.0.5:29000\", \"10.0.0.6:80\", \"[fd00::7]:29000\"]",
        ),
        ("10.0.0.9:20009", "subsets = [\"v1\"], endpoints = [\"10.0.0.6:80\"]"),
        ("10.9.1.1:443", "service = \"wide\", endpoints = [\"10.0.0.7:443\"]"),
        // A VIP with any port hides wider ones, and a narrower one has its own ports before it.
        ("10.9.9.9:443", "service = \"wide\", endpoints = [\"10.0.0.7:443\"]"),
        ("10.9.9.9:80", "service = \"narrow\""),
        ("10.8.1.1:443", "service = \"around\""),
    ];
    for (destination, expect) in cases {
        let compiled = compiled(&text(expect, destination));
        assert_eq!(compiled.config_tests[0].check(&compiled.table), Ok(()), "{destination}");
        let table = &compiled.table;
        let names: Vec<&str> =
            table.parts().destinations.iter().map(|destination| &*destination.name).collect();
        assert_eq!(names, ["around:443", "narrow:80", "wide", "realm/v1", "realm"], "one, whatever the port");
        let endpoints: Vec<String> = table
            .parts()
            .endpoints
            .iter()
            .map(|endpoint| weir_routing::endpoint_name(endpoint.address))
            .collect();
        assert_eq!(
            endpoints,
            ["10.0.0.8:443", "10.0.0.8:80", "10.0.0.7", "10.0.0.6:80", "10.0.0.5", "fd00::7"]
        );
    }
}

#[test]
fn settings_that_any_port_excludes_are_problems() {
    let edge = "[gateway.edge]\nlisten = [\"0.0.0.0:20000-20009\"]\n";
    let any = |rest: &str| {
        format!("{edge}to = [{{ service = \"realm\" }}]\n[service.realm]\nports = \"any\"\n{rest}")
    };
    let cases = [
        (any("endpoints = [\"10.0.0.5\", \"10.0.0.6:80\"]\n"), vec![]),
        (
            any("endpoints = [\"10.0.0.5\"]\n").replace("\"realm\" }", "\"realm\", port = 20000 }"),
            vec!["a.toml:3:35 unknown-port service `realm` has any port, so a destination cannot name one"],
        ),
        (
            any("endpoints = [\"10.0.0.5\"]\n").replace("\"any\"", "\"all\""),
            vec!["a.toml:5:9 wrong-type `ports` is not a list of ports or \"any\""],
        ),
        (
            any("endpoints = [\"10.0.0.5\"]\n").replace("\"any\"", "[{ port = 20000, prt = 1 }]"),
            vec!["a.toml:5:26 unknown-key unknown key `prt`"],
        ),
        // Our own listeners, at a port that can arrive there.
        (
            any("endpoints = [\"127.0.0.1\", \"127.0.0.1:9\", \"10.0.0.5\"]\n"),
            vec!["a.toml:6:14 loop 127.0.0.1:20000 is one of our own listeners: a connection to it would come back"],
        ),
        (any("endpoints = [\"127.0.0.1\"]\n").replace("0.0.0.0:", "10.0.0.9:"), vec![]),
        (
            any("endpoints = [\"127.0.0.1\"]\n[gateway.own]\nlisten = [\"127.0.0.1:19999\", \"127.0.0.1:20009\"]\nto = [{ service = \"realm\" }]\n")
                .replace("0.0.0.0:", "10.0.0.9:"),
            vec!["a.toml:6:14 loop 127.0.0.1:20009 is one of our own listeners: a connection to it would come back"],
        ),
        // A service with any port shares its VIP with no other.
        (
            any("endpoints = [\"10.0.0.5\"]\nvips = [\"10.9.9.9\"]\n[service.one]\nvips = [\"10.9.9.9\"]\nports = [{ port = 1 }]\nendpoints = [\"10.0.0.6\"]\n"),
            vec!["a.toml:1:10 warning vip-without-route gateway `edge` covers the VIP of `realm`, which no route of it names: such connections go to the service itself", "a.toml:7:9 shared-vip VIP 10.9.9.9/32 at any port is declared twice"],
        ),
        (
            any("endpoints = [\"10.0.0.5\"]\nvips = [\"10.9.9.9\"]\n[service.two]\nvips = [\"10.9.9.9\"]\nports = [{ port = 1 }]\nendpoints = [\"10.0.0.6\"]\n"),
            vec!["a.toml:1:10 warning vip-without-route gateway `edge` covers the VIP of `realm`, which no route of it names: such connections go to the service itself", "a.toml:9:9 shared-vip VIP 10.9.9.9/32 at port 1 is declared twice"],
        ),
        (
            any("endpoints = [\"10.0.0.5\"]\nvips = [\"10.9.9.9\"]\n[service.two]\nvips = [\"10.9.9.9\"]\nports = \"any\"\nendpoints = [\"10.0.0.6\"]\n"),
            vec!["a.toml:1:10 warning vip-without-route gateway `edge` covers the VIP of `realm`, `two`, which no route of it names: such connections go to the service itself", "a.toml:9:9 shared-vip VIP 10.9.9.9/32 at any port is declared twice"],
        ),
    ];
    for (text, wanted) in cases {
        check_files(&[&text], &wanted);
    }
}
