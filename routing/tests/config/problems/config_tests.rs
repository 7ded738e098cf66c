//! `[[test]]`s.

use super::{BASE, check, check_files, check_whole};
use crate::{line, load, position, sources};

#[test]
fn tests_are_checked() {
    check(
        r#"[[test]]
"#,
        &[
            r#"a.toml:1:1 missing-key test `test-1` needs `source`"#,
            r#"a.toml:1:1 missing-key test `test-1` needs `destination`"#,
            r#"a.toml:1:1 missing-key test `test-1` needs `expect`"#,
        ],
    );
    check(
        r#"[[test]]
source = "10.0.0.1"
destination = "10.0.0.2"
expect = { reject = true }
"#,
        &[r#"a.toml:3:15 bad-address `10.0.0.2` is not an address with a port"#],
    );
    check(
        r#"[[test]]
source = "10.0.0.1"
destination = "10.0.0.2:1"
expect = { reject = true }
"#,
        &[r#"a.toml:3:15 which-gateway no gateway listens on 10.0.0.2:1: the test names no gateway"#],
    );
    check(
        r#"[[test]]
source = "10.0.0.1:99"
destination = "10.0.0.2:5432"
expect = {}
"#,
        &[r#"a.toml:4:10 empty-expect `expect` is empty, so the test could not fail"#],
    );
    check(
        r#"[gateway.other]
listen = ["10.0.0.1:1", "10.0.0.2:7"]
[gateway.third]
listen = ["10.0.0.3:1", "0.0.0.0:7"]
[[route]]
gateways = ["other", "third"]
reject = true
[[test]]
source = "10.0.0.1"
destination = "10.0.0.2:7"
expect = { reject = true }
"#,
        &[],
    );
}

#[test]
fn two_tests_of_one_name_are_a_problem() {
    let test = "[[test]]\nname = \"t\"\nsource = \"10.0.0.1\"\ndestination = \"10.0.0.1:5432\"\nexpect = { service = \"db\" }\n";
    check_whole(
        &format!("{test}{test}"),
        &[
            "a.toml:7:8 declared-twice test `t` is declared twice",
            "  found: t",
            "  help: give each a name of its own",
            "  a.toml:2:8: first declared here",
        ],
    );
    let elsewhere = format!("namespace = \"foo\"\n{}", test.replace("\"db\"", "\"default/db\""));
    check_files(&[&format!("{test}{BASE}"), &elsewhere], &[]);
}

#[test]
fn a_failing_test_is_reported_under_the_key_that_fails() {
    let text = format!(
        r#"[[test]]
name = "t"
source = "10.0.0.1"
destination = "10.0.0.1:5432"
[test.expect]
service = "db"
subsets = [""]
reject = true
route = "r"
[[route]]
name = "r"
match = [{{ ports = [1] }}]
to = [{{ service = "db" }}]
{BASE}"#
    );
    let sources = sources(&[&text]);
    let compiled = load(&sources).expect("a good configuration");
    let problem = compiled.config_tests[0].check(&compiled.table).expect_err("it fails");
    assert_eq!(line(&sources, &problem), "a.toml:8:10 test-failed test `t` fails");
    assert_eq!(problem.wanted.as_deref(), Some("reject true, route \"r\""));
    assert_eq!(problem.found.as_deref(), Some("reject false, route \"\""));
    let related: Vec<String> = problem.related.iter().map(|other| position(&sources, other.place)).collect();
    assert_eq!(related, ["a.toml:2:8"]);
}
