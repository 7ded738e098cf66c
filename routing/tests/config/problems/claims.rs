//! `[[test]]`s.

use super::check;

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
        &[
            r#"a.toml:3:15 which-gateway no gateway listens on 10.0.0.2:1: the test does not say at which it arrives"#,
        ],
    );
    check(
        r#"[[test]]
source = "10.0.0.1:99"
destination = "10.0.0.2:5432"
expect = {}
"#,
        &[r#"a.toml:4:10 empty-expect `expect` says nothing, so the test could not fail"#],
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
