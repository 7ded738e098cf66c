//! `weir check`: every problem at once with its place, codes that scripts can rely on, and the examples that people copy.

use serde_json::Value;
use weir_tests::{busy, program};

/// The output of `check` for one file.
fn check_text(toml: &str, arguments: &[&str]) -> program::Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weir.toml");
    std::fs::write(&file, toml).unwrap();
    let mut all = vec!["check", "-c", file.to_str().unwrap()];
    all.extend(arguments);
    program::run("weir", &all)
}

fn smallest() -> String {
    fixture("smallest.toml")
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(program::workspace().join("tests/fixtures").join(name)).expect("a fixture")
}

#[test]
fn every_fixture_passes() {
    let _turn = busy();
    let directory = program::workspace().join("tests/fixtures");
    let mut checked = 0;
    for entry in std::fs::read_dir(directory).expect("fixtures") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let output = program::run("weir", &["check", "-c", path.to_str().unwrap()]);
            assert_eq!(output.code, 0, "{}:\n{}", path.display(), output.stderr);
            checked += 1;
        }
    }
    assert!(checked >= 3, "only {checked} fixtures");
}

#[test]
fn a_name_that_was_not_resolved_is_no_problem_of_the_file() {
    let _turn = busy();
    let by_name = smallest().replace("10.0.0.11:5432", "db.example.com:5432");
    for (toml, code) in [(by_name.clone(), 0), (by_name.replace("\"db\"", "\"dp\""), 1)] {
        let output = check_text(&toml, &["--strict"]);
        assert_eq!(output.code, code, "{}", output.stderr);
        assert!(!output.stderr.contains("no address"), "{}", output.stderr);
    }
}

#[test]
fn a_good_file_passes_and_binds_nothing() {
    let _turn = busy();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = check_text(&smallest().replace("0.0.0.0:5432", &address), &[]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        output.stderr.lines().last().is_some_and(|line| line.contains("0 problems")),
        "{}",
        output.stderr
    );
}

#[test]
fn all_problems_come_at_once_with_place_line_and_caret() {
    let _turn = busy();
    let toml = "[gateway.edge]\nlisten = [\"0.0.0.0:70000\"]\nto = [{ service = \"bd\" }]\nlissten = 3\n\n\
                [service.db]\nendpoints = [\"10.0.0.11:5432\", \"10.0.0.300:1\"]\npolicy = { idle_timeout = 30 }\n";
    let output = check_text(toml, &[]);
    assert_eq!(output.code, 1);
    for (line, words) in [
        (2, &["70000", "1..65535"][..]),
        (3, &["bd", "did you mean", "db"][..]),
        (4, &["lissten", "listen"][..]),
        (7, &["10.0.0.300"][..]),
        (8, &["unit", "ms", "HAProxy", "nginx"][..]),
    ] {
        let place = format!("weir.toml:{line}:");
        assert!(output.stderr.contains(&place), "no {place} in\n{}", output.stderr);
        for word in words {
            assert!(output.stderr.contains(word), "no {word:?} in\n{}", output.stderr);
        }
    }
    assert!(output.stderr.contains('^'), "no caret in\n{}", output.stderr);
    let places: Vec<_> =
        (2..=8).filter_map(|line| output.stderr.find(&format!("weir.toml:{line}:"))).collect();
    assert!(places.is_sorted(), "not sorted by place:\n{}", output.stderr);
    let last = output.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("5 problems, 0 warnings"), "{last}");
}

#[test]
fn json_has_the_shape_that_was_promised() {
    let _turn = busy();
    let output = check_text("[gateway.edge]\nlisten = [\"é\", \"0.0.0.0:70000\"]\n", &["--json"]);
    assert_eq!(output.code, 1);
    let problems: Value = serde_json::from_str(&output.stdout).expect("JSON on stdout");
    let problems = problems.as_array().expect("a list");
    assert!(!problems.is_empty());
    for problem in problems {
        let keys: Vec<&str> = problem.as_object().expect("an object").keys().map(String::as_str).collect();
        for key in [
            "severity",
            "code",
            "message",
            "file",
            "line",
            "column",
            "end_column",
            "found",
            "wanted",
            "help",
            "related",
        ] {
            assert!(keys.contains(&key), "no {key} in {problem}");
        }
    }
    let port =
        problems.iter().find(|problem| problem["found"].to_string().contains("70000")).expect("the port");
    assert_eq!((&port["severity"], &port["line"]), (&Value::from("error"), &Value::from(2)));
    assert_eq!((&port["column"], &port["end_column"]), (&Value::from(16), &Value::from(31)), "in characters");
}

#[test]
fn warnings_fail_only_when_asked_to() {
    let _turn = busy();
    let masked = format!(
        "{}\n[[route]]\nmatch = [{{ source_subnets = [\"10.1.2.3/16\"] }}]\nto = [{{ service = \"db\" }}]\n",
        smallest()
    );
    let output = check_text(&masked, &[]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stderr.contains("10.1.0.0/16"), "{}", output.stderr);
    assert_eq!(check_text(&masked, &["--strict"]).code, 1);
    assert_eq!(check_text(&smallest(), &["--strict"]).code, 0);
}

#[test]
fn exit_codes_separate_failure_from_misuse() {
    let _turn = busy();
    for (arguments, code) in [
        (&["check", "-c", "/nonexistent/weir.toml"][..], 1),
        (&["check", "--no-such-flag"][..], 2),
        (&["no-such-command"][..], 2),
        (&["--version"][..], 0),
        (&["--help"][..], 0),
    ] {
        let output = program::run("weir", arguments);
        assert_eq!(output.code, code, "{arguments:?}: {}", output.stderr);
    }
    assert_eq!(program::run("weirctl", &["no-such-command"]).code, 2);
    assert!(program::run("weir", &["--version"]).stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_failing_test_of_the_file_refuses_it_and_explains() {
    let _turn = busy();
    let broken = fixture("tcp_echo.toml").replace("subsets = [\"v1\", \"v2\"]", "subsets = [\"v1\"]");
    let output = check_text(&broken, &[]);
    assert_eq!(output.code, 1);
    for words in ["everybody comes to the echo", "subsets", "MATCH"] {
        assert!(output.stderr.contains(words), "no {words:?} in\n{}", output.stderr);
    }
}

#[test]
fn a_directory_is_one_document_and_names_both_places_of_a_duplicate() {
    let _turn = busy();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let path = directory.path().to_str().unwrap();
    write("a.toml", "[gateway.edge]\nlisten = [\"0.0.0.0:5432\"]\nto = [{ service = \"db\" }]\n");
    write("b.toml", "[service.db]\nendpoints = [\"10.0.0.11:5432\"]\n");
    write(".c.toml", "broken [");
    write("d.txt", "broken [");
    let output = program::run("weir", &["check", "-c", path]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    write("c.toml", "\n[service.db]\nendpoints = [\"10.0.0.12:5432\"]\n");
    let output = program::run("weir", &["check", "-c", path]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("b.toml:1:") && output.stderr.contains("c.toml:2:"), "{}", output.stderr);
}

#[test]
fn the_environment_fills_values_in() {
    let _turn = busy();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("weir.toml");
    std::fs::write(&file, smallest().replace("10.0.0.11:5432", "${DB_ONE}:${DB_PORT:-5432}")).unwrap();
    let mut command = std::process::Command::new(program::path("weir"));
    command.args(["check", "-c"]).arg(&file).env_remove("DB_ONE");
    let output = program::run_command(&mut command);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("DB_ONE"), "{}", output.stderr);
    assert_eq!(program::run_command(command.env("DB_ONE", "10.0.0.11")).code, 0);
}

#[test]
fn keys_of_later_versions_are_refused_by_name() {
    let _turn = busy();
    let gateway = |line: &str| smallest().replace("[gateway.edge]\n", &format!("[gateway.edge]\n{line}\n"));
    let policy = |line: &str| format!("{}\n[service.db.policy]\n{line}\n", smallest());
    let route = |condition: &str| {
        format!("{}\n[[route]]\nmatch = [{{ {condition} }}]\nto = [{{ service = \"db\" }}]\n", smallest())
    };
    for (key, toml) in [
        ("control", format!("{}\n[proxy]\ncontrol = \"/run/weir/control.sock\"\n", smallest())),
        ("metrics", format!("{}\n[proxy]\nmetrics = \"127.0.0.1:0\"\n", smallest())),
        ("handover_timeout", format!("{}\n[proxy]\nhandover_timeout = \"1h\"\n", smallest())),
        ("trusted_peers", format!("{}\n[proxy]\ntrusted_peers = [\"10.0.0.0/8\"]\n", smallest())),
        ("access", format!("{}\n[log]\naccess = \"errors\"\n", smallest())),
        ("interception", gateway("interception = \"redirect\"")),
        ("proxy_protocol", gateway("proxy_protocol = \"required\"")),
        ("inspect_timeout", gateway("inspect_timeout = \"3s\"")),
        ("trusted_peers", gateway("trusted_peers = [\"10.0.0.0/8\"]")),
        ("freebind", gateway("freebind = true")),
        ("sni", route("sni = [\"*.example.com\"]")),
        ("alpn", route("alpn = [\"h2\"]")),
        ("http", route("http = { hosts = [\"*\"] }")),
        ("outlier", policy("outlier = { enabled = true }")),
        ("health_check", policy("health_check = { interval = \"2s\" }")),
        ("locality", policy("locality = { spill = \"capacity\" }")),
        ("warmup", policy("warmup = { duration = \"30s\" }")),
        ("source", policy("source = \"client\"")),
        ("on_unhealthy", policy("on_unhealthy = \"reset\"")),
        ("max_connections_per_endpoint", policy("max_connections_per_endpoint = 5")),
        (
            "lane_group",
            format!("{}\n[lane_group.mock]\ngateways = [\"edge\"]\nservices = [\"db\"]\n", smallest()),
        ),
        ("lane", format!("{}\n[[lane]]\ngroup = \"mock\"\nname = \"v1\"\n", smallest())),
    ] {
        let output = check_text(&toml, &[]);
        let words = format!("`{key}` is not in this version of Weir");
        assert_eq!(output.code, 1, "{key} is taken");
        assert!(output.stderr.contains(&words), "no {words:?} in\n{}", output.stderr);
    }
    // A key whose value asks for the present behaviour is accepted.
    for toml in [
        format!("{}\n[proxy]\nmetrics = \"off\"\ntrusted_peers = []\n", smallest()),
        gateway("interception = \"none\"\nproxy_protocol = \"off\"\nfreebind = false"),
        policy("source = \"auto\"\noutlier = { enabled = false }\nmax_connections_per_endpoint = 0"),
    ] {
        let output = check_text(&toml, &[]);
        assert_eq!(output.code, 0, "{toml}\n{}", output.stderr);
    }
}
