//! Text that cannot be read: syntax, unknown keys, wrong types, variables.

use super::check;

#[test]
fn unknown_keys_are_refused_everywhere_with_the_nearest_known_one() {
    check(
        r#"[gateway.other]
lisen = ["0.0.0.0:1"]
"#,
        &[r#"a.toml:2:1 unknown-key unknown key `lisen`"#],
    );
    check(
        r#"[[route]]
match = [{ source_label = { app = "a" } }]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:12 unknown-key unknown key `source_label`"#],
    );
    check(
        r#"[[route]]
to = [{ service = "db", wieght = 1 }]
"#,
        &[r#"a.toml:2:25 unknown-key unknown key `wieght`"#],
    );
    check(
        r#"[servce.x]
"#,
        &[r#"a.toml:1:2 unknown-key unknown key `servce`"#],
    );
    check(
        r#"[proxy]
colour = "red"
"#,
        &[r#"a.toml:2:1 unknown-key unknown key `colour`"#],
    );
    check(
        r#"[service.x]
endpoints = [{ addres = "10.0.0.1:1" }]
"#,
        &[r#"a.toml:2:16 unknown-key unknown key `addres`"#],
    );
    check(
        r#"[service.x.subset.v1]
label = {}
"#,
        &[r#"a.toml:2:1 unknown-key unknown key `label`"#],
    );
    check(
        r#"[policy.x]
keepalive = { tiem = "1s" }
"#,
        &[r#"a.toml:2:15 unknown-key unknown key `tiem`"#],
    );
    check(
        r#"[[test]]
expect = { services = "db" }
"#,
        &[r#"a.toml:2:12 unknown-key unknown key `services`"#],
    );
}

#[test]
fn several_problems_of_shape_are_reported_at_once() {
    check(
        r#"[proxy]
shards = "two"
watch = "yes"
workers = 2
[gateway.other]
listen = "0.0.0.0:1"
[[route]]
to = [{ service = 5 }, "db"]
match = [{ ports = [true] }]
[service.x]
endpoints = [5]
[log]
level = 1.5
"#,
        &[
            r#"a.toml:2:10 wrong-type `shards` is not a whole number"#,
            r#"a.toml:3:9 wrong-type `watch` is not true or false"#,
            r#"a.toml:4:1 unknown-key unknown key `workers`"#,
            r#"a.toml:6:10 wrong-type `listen` is not a list"#,
            r#"a.toml:8:19 wrong-type `service` is not a string"#,
            r#"a.toml:8:24 wrong-type `to` is not a table"#,
            r#"a.toml:9:21 wrong-type `ports` is not a string or a whole number"#,
            r#"a.toml:11:14 wrong-type `endpoints` is not an address such as "10.0.0.1:5432", or a table with `address`"#,
            r#"a.toml:13:9 wrong-type `level` is not a string"#,
        ],
    );
}

/// A list is never taken for the fields of a table, in order.
#[test]
fn a_list_is_no_table() {
    let cases = [
        ("proxy = [\"all\"]\n", "a.toml:1:9 wrong-type `proxy` is not a table"),
        ("[policy]\nx = [\"slow\"]\n", "a.toml:2:5 wrong-type `x` is not a table"),
        ("[policy.x]\nkeepalive = [\"1s\"]\n", "a.toml:2:13 wrong-type `keepalive` is not a table"),
        ("[[route]]\nto = [[\"db\", \"x\"]]\n", "a.toml:2:7 wrong-type `to` is not a table"),
        (
            "[[route]]\nto = [{ service = \"db\" }]\nmatch = [[[1]]]\n",
            "a.toml:3:10 wrong-type `match` is not a table",
        ),
        (
            "[service.x]\nendpoints = [[\"10.0.0.1:1\"]]\n",
            "a.toml:2:14 wrong-type `endpoints` is not an address such as \"10.0.0.1:5432\", or a table with `address`",
        ),
        (
            "[service.x]\nports = [[\"a\", 1]]\nendpoints = [\"10.0.0.1:1\"]\n",
            "a.toml:2:10 wrong-type `ports` is not a table",
        ),
        (
            "[service.x]\npolicy = [\"p\"]\nendpoints = [\"10.0.0.1:1\"]\n",
            "a.toml:2:10 wrong-type `policy` is not a table",
        ),
        (
            "[service.x]\nsubset.v1 = [\"v1\"]\nendpoints = [\"10.0.0.1:1\"]\n",
            "a.toml:2:13 wrong-type `v1` is not a table",
        ),
        ("[workload]\nx = [\"w\"]\n", "a.toml:2:5 wrong-type `x` is not a table"),
        ("[gateway]\nx = [\"g\", [\"127.0.0.1:1\"]]\n", "a.toml:2:5 wrong-type `x` is not a table"),
        (
            "[[test]]\nsource = \"10.0.0.1\"\ndestination = \"10.0.0.2:5432\"\nexpect = [\"r\"]\n",
            "a.toml:4:10 wrong-type `expect` is not a table",
        ),
    ];
    for (text, wanted) in cases {
        check(text, &[wanted]);
    }
}

#[test]
fn the_environment_fills_strings() {
    check(
        r#"[service.x]
endpoints = ["${HOST}:1", "${NONE:-10.0.0.2}:1"]
"#,
        &[],
    );
    check(
        r#"[service.x]
endpoints = ["${NONE}:1", "${1}:1", "${HOST"]
"#,
        &[
            r#"a.toml:2:14 variable-not-set the environment variable `NONE` is not set"#,
            r#"a.toml:2:27 bad-variable `1` is not the name of a variable"#,
            r#"a.toml:2:37 bad-variable `${` without its `}`"#,
        ],
    );
}
