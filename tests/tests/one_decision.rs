//! `weir check`, `[[test]]`, `/ready`, `weirctl explain` and a connection give one answer about one arrival.

use std::net::SocketAddr;

use serde_json::Value;
use weir_tests::client::{End, ask_once, connect_to_end};
use weir_tests::weir_process::free_admin;
use weir_tests::{Backend, Weir, busy, program};

/// A gateway whose `to` leaves the port to the client, and a service that has two ports.
fn config(listens: &[SocketAddr], port: u16, backend: &Backend, tests: &str) -> String {
    let target = backend.address.port();
    let listens: Vec<String> = listens.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        r#"[gateway.edge]
listen = [{}]
to = [{{ service = "tcp-echo" }}]
[service.tcp-echo]
ports = [{{ port = {port}, target_port = {target} }}, {{ port = 1, target_port = {target} }}]
endpoints = ["127.0.0.1"]
{tests}
"#,
        listens.join(", ")
    )
}

fn test(destination: SocketAddr, expect: &str) -> String {
    format!(
        "[[test]]\nsource = \"10.0.0.1\"\ndestination = \"{destination}\"\ngateway = \"edge\"\nexpect = {{ {expect} }}\n"
    )
}

fn check(toml: &str) -> program::Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weir.toml");
    std::fs::write(&file, toml).unwrap();
    program::run("weir", &["check", "-c", file.to_str().unwrap()])
}

/// "forward" or "reject".
fn explained(weir: &Weir, destination: SocketAddr) -> String {
    let (config, destination) = (weir.config(), destination.to_string());
    let output = program::run(
        "weirctl",
        &[
            "explain",
            "-c",
            config.to_str().unwrap(),
            "--source",
            "10.0.0.1",
            "--destination",
            &destination,
            "--gateway",
            "edge",
            "--json",
        ],
    );
    let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
    answer["decision"].as_str().expect("a word").to_owned()
}

#[test]
fn a_port_that_the_service_lacks_is_refused_by_each_of_them() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let (served, other) = (free_admin(), free_admin());
    let toml = |tests: &str| config(&[served, other], served.port(), &backend, tests);
    for (destination, expect, passes) in [
        (served, "service = \"tcp-echo\"", true),
        (served, "reject = true", false),
        (other, "service = \"tcp-echo\"", false),
        (other, "reject = true", true),
    ] {
        let output = check(&toml(&test(destination, expect)));
        assert_eq!(output.code, if passes { 0 } else { 1 }, "{destination} {expect}:\n{}", output.stderr);
        assert!(output.stderr.contains("port-not-served"), "{}", output.stderr);
    }
    let weir = Weir::start(&toml(""));
    assert_eq!(weir.get("/ready?gateway=edge").status, 200);
    assert_eq!(explained(&weir, served), "forward");
    assert_eq!(explained(&weir, other), "reject");
    assert_eq!(ask_once(served, "hello").expect("an answer"), "one hello");
    assert_eq!(connect_to_end(other), End::Reset);
    weir.expect_closed("no_endpoint", 1);
    weir.clean();
}

#[test]
fn a_gateway_whose_ports_the_service_lacks_is_refused_or_not_ready() {
    let _turn = busy();
    let backend = Backend::lines("one");
    let other = free_admin();
    let output = check(&config(&[other], 2, &backend, &test(other, "service = \"tcp-echo\"")));
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(output.stderr.contains("nothing can be forwarded to `tcp-echo`"), "{}", output.stderr);
    // The number of a free port is known only once it is bound.
    let any = "127.0.0.1:0".parse().unwrap();
    let mut weir = Weir::start(&config(&[any], 2, &backend, ""));
    let address = weir.address("edge");
    assert_eq!(weir.get("/ready?gateway=edge").status, 503);
    assert_eq!(explained(&weir, address), "reject");
    assert_eq!(connect_to_end(address), End::Reset);
    weir.expect_closed("no_endpoint", 1);
    assert_eq!(backend.accepted(), 0);
    weir.clean();
}
