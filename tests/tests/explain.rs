//! `weirctl explain`: why a connection goes where it goes, for people and for scripts.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use weir_tests::process::Process;
use weir_tests::{busy, program};

const CONFIG: &str = r#"[gateway.mesh]
listen = ["127.0.0.1:15001"]

[[route]]
name = "canary"
match = [{ source_namespaces = ["bar"] }]
to = [{ service = "tcp-echo", subset = "v2" }]

[[route]]
name = "tcp-echo-routing"
match = [{ ports = [1] }, { destination_subnets = ["192.168.0.0/16"] }]
to = [{ service = "tcp-echo", subset = "v1", weight = 20 }, { service = "tcp-echo", subset = "v2", weight = 80 }]

[[route]]
name = "rest"
to = [{ service = "tcp-echo" }]

[service.tcp-echo]
endpoints = [
  { address = "127.0.0.1:9001", labels = { version = "v1" } },
  { address = "127.0.0.1:9002", labels = { version = "v2" } },
]
[service.tcp-echo.subset.v1]
labels = { version = "v1" }
[service.tcp-echo.subset.v2]
labels = { version = "v2" }
policy = { connect_timeout = "3s" }

[workload."foo/telnet-client"]
labels = { app = "telnet-client" }
addresses = ["10.0.1.1"]
"#;

fn explain(arguments: &[&str]) -> program::Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.toml");
    std::fs::write(&file, CONFIG).unwrap();
    let mut all = vec!["explain", "-c", file.to_str().unwrap()];
    all.extend(arguments);
    program::run("weirctl", &all)
}

/// The line of the configuration that holds these words, as `explain` spells it.
fn line_of(words: &str) -> String {
    let line = CONFIG.lines().position(|line| line.contains(words)).expect("words of the configuration") + 1;
    format!("a.toml:{line}")
}

#[test]
fn every_rule_is_shown_in_order_with_the_condition_that_failed() {
    let _turn = busy();
    let output =
        explain(&["--source", "10.0.1.1", "--destination", "192.168.10.10:9000", "--gateway", "mesh"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let lines: Vec<&str> = output.stdout.lines().collect();
    let find = |words: &[&str]| {
        let found = lines.iter().position(|line| words.iter().all(|word| line.contains(word)));
        found.unwrap_or_else(|| panic!("no line with {words:?} in\n{}", output.stdout))
    };
    let rows = [
        find(&["arrival", "10.0.1.1", "192.168.10.10:9000", "mesh", "foo/telnet-client"]),
        find(&["rule", "canary", "no", "source_namespaces", "wanted bar", "found foo", &line_of("\"bar\"")]),
        find(&["rule", "tcp-echo-routing", "MATCH", "block 2", "destination_subnets", "192.168.0.0/16"]),
        find(&["rule", "rest", "not reached"]),
        find(&["split", "20 of 100", "20.0 %", "80.0 %"]),
        find(&["endpoint", "127.0.0.1:9001"]),
        find(&["policy", "connect 3s"]),
        find(&["decision", "forward", "via route"]),
    ];
    assert!(rows.is_sorted(), "{rows:?} in\n{}", output.stdout);
}

#[test]
fn json_has_the_shape_that_was_promised() {
    let _turn = busy();
    let output = explain(&[
        "--source",
        "10.9.9.9:4000",
        "--destination",
        "10.10.10.10:9000",
        "--gateway",
        "mesh",
        "--json",
    ]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(answer["schema"], 1);
    assert_eq!(answer["via"], "route");
    assert_eq!(answer["decision"], "forward");
    let rules = answer["rules"].as_array().expect("rules");
    let verdicts: Vec<&str> = rules.iter().map(|rule| rule["verdict"].as_str().expect("a word")).collect();
    assert_eq!(verdicts, ["failed", "failed", "matched"]);
    for key in ["condition", "wanted", "found", "line"] {
        assert!(rules[0]["failed"].get(key).is_some(), "no {key} in {}", rules[0]);
    }
    let split = answer["split"].as_array().expect("a split");
    assert_eq!(split.len(), 1);
    for key in ["service", "subset", "port", "weight", "share", "endpoints", "policy"] {
        assert!(split[0].get(key).is_some(), "no {key} in {}", split[0]);
    }
}

#[test]
fn endpoints_by_name_are_said_to_be_left_out() {
    let _turn = busy();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weir.toml");
    let check = |endpoint: &str, noted: bool| {
        let text = format!(
            "[gateway.edge]\nlisten = [\"0.0.0.0:80\"]\nto = [{{ service = \"db\" }}]\n[service.db]\nendpoints = [\"{endpoint}\"]\n"
        );
        std::fs::write(&file, text).unwrap();
        let arguments =
            ["explain", "-c", file.to_str().unwrap(), "--source", "10.0.0.1", "--destination", "10.0.0.2:80"];
        let output = program::run("weirctl", &arguments);
        assert_eq!(output.code, 0, "{}", output.stderr);
        assert_eq!(output.stderr.contains("db.example.com"), noted, "{}", output.stderr);
    };
    check("db.example.com:5432", true);
    check("10.0.0.11:5432", false);
}

/// A script reads one shape, whichever command finds the problems.
#[test]
fn json_has_the_problems_of_a_broken_file_as_check_prints_them() {
    let _turn = busy();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weir.toml");
    let broken =
        CONFIG.replace("subset = \"v2\"", "subset = \"v3\"").replace("127.0.0.1:9002", "db.example.com:9002");
    std::fs::write(&file, broken).unwrap();
    let file = file.to_str().unwrap();
    let check = program::run("weir", &["check", "--json", "-c", file]);
    let arrival = ["--source", "10.0.1.1", "--destination", "192.168.10.10:9000"];
    let explain = program::run("weirctl", &[&["explain", "--json", "-c", file][..], &arrival].concat());
    assert_eq!((check.code, explain.code), (1, 1));
    assert_eq!(explain.stdout, check.stdout);
    assert_eq!(explain.stderr, "");
    let problems: Value = serde_json::from_str(&explain.stdout).expect("JSON");
    assert_eq!(problems[0]["code"], "unknown-reference", "{problems}");
}

#[test]
fn misuse_and_a_broken_file_have_exit_codes_of_their_own() {
    let _turn = busy();
    assert_eq!(explain(&["--source", "10.0.1.1"]).code, 2, "no destination");
    assert_eq!(explain(&["--source", "someone", "--destination", "192.168.10.10:9000"]).code, 2);
    let unknown =
        explain(&["--source", "10.0.1.1", "--destination", "192.168.10.10:9000", "--gateway", "mash"]);
    assert_ne!(unknown.code, 0);
    assert!(unknown.stderr.contains("mesh"), "{}", unknown.stderr);
    let missing = program::run(
        "weirctl",
        &["explain", "-c", "/nonexistent", "--source", "10.0.1.1", "--destination", "10.0.0.1:1"],
    );
    assert_eq!(missing.code, 1);
}

/// A file of 10,000 rules, and of so many tests that fail.
fn large(failing_tests: usize) -> String {
    let mut text = r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
to = [{ service = "db" }]
[service.db]
endpoints = ["10.0.0.11:5432"]
"#
    .to_owned();
    for n in 0..10_000 {
        let net = format!("10.{}.{}.0/24", n / 256, n % 256);
        write!(
            text,
            "[[route]]\nname = \"rule-{n}\"\nmatch = [{{ source_subnets = [\"{net}\"], ports = [5432] }}]\nto = [{{ service = \"db\" }}]\n"
        )
        .expect("a string");
    }
    for n in 0..failing_tests {
        write!(
            text,
            "[[test]]\nname = \"test-{n}\"\nsource = \"10.39.0.{n}\"\ndestination = \"192.0.2.1:5432\"\nexpect = {{ reject = true }}\n"
        )
        .expect("a string");
    }
    text
}

/// Exit code, processor time and output of a command.
fn cost(program: &str, arguments: &[&str], file: &Path) -> (i32, Duration, String) {
    let mut process =
        Process::spawn(Command::new(program::path(program)).args(arguments).arg("-c").arg(file));
    let deadline = Duration::from_secs(120);
    let cpu_time = process.cpu_time_to_end(deadline);
    (process.exit(deadline).code().unwrap_or(-1), cpu_time, process.output())
}

/// In a release build `explain` costs a few milliseconds more than `check`, and 100 failing tests cost as little. The bars
/// leave room for a debug build on a busy machine. They are missed by far if each rule's line is counted from the top of the
/// file, or if each of 10,000 rules is printed for each failing test.
#[test]
fn ten_thousand_rules_are_explained_at_the_cost_of_a_check() {
    let _turn = busy();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let (good, failing) = (write("good.toml", &large(0)), write("failing.toml", &large(100)));
    let (code, check, output) = cost("weir", &["check"], &good);
    assert_eq!(code, 0, "{output}");
    let explain = ["explain", "--source", "10.39.0.1", "--destination", "192.0.2.1:5432"];
    let more = Duration::from_secs(1);
    for (arguments, bytes) in [(&[][..], 20_000), (&["--all"], 3_000_000), (&["--json"], 6_000_000)] {
        let (code, cost, output) = cost("weirctl", &[&explain[..], arguments].concat(), &good);
        assert_eq!(code, 0, "{output}");
        assert!(output.contains("rule-9984"), "the match is shown");
        assert!(output.len() < bytes, "{arguments:?}: {} bytes", output.len());
        assert!(cost < check + more, "{arguments:?}: {cost:?}, a check {check:?}");
    }
    let (code, cost, output) = cost("weir", &["check"], &failing);
    assert_eq!(code, 1, "{output}");
    assert!(cost < check + more, "100 failing tests: {cost:?}, a check {check:?}");
    assert!(output.len() < 120_000, "{} bytes", output.len());
    assert_eq!(output.matches("arrival ").count(), 5, "the first five show their walk");
    let command = "`weirctl explain --source 10.39.0.99 --destination 192.0.2.1:5432 --gateway edge`";
    assert!(output.contains(command), "the others name the command that shows it");
}
