//! Names, what is declared twice, and references to what is not there.

use super::{check, check_files, check_whole};

#[test]
fn a_thing_declared_twice_is_reported_with_both_places() {
    check(
        r#"[service.x.subset.v1]
labels = {}
[service.x.subset.v1]
labels = {}
"#,
        &[r#"a.toml:3:19 declared-twice duplicate subset names: v1"#],
    );
    check(
        r#"[proxy]
shards = 1
shards = 2
"#,
        &[r#"a.toml:3:1 declared-twice `shards` is declared twice"#],
    );
    check(
        r#"[gateway.other]
listen = ["0.0.0.0:1"]
[gateway."default/other"]
listen = ["0.0.0.0:2"]
"#,
        &[r#"a.toml:3:10 declared-twice gateway `other` is declared twice"#],
    );
    check(
        r#"[[route]]
name = "a"
match = [{ ports = [5432] }]
to = [{ service = "db" }]
[[route]]
name = "a"
to = [{ service = "db" }]
"#,
        &[r#"a.toml:6:8 declared-twice route `a` is declared twice"#],
    );
    check(
        r#"[[route]]
name = "route-1"
match = [{ ports = [5432] }]
to = [{ service = "db" }]
[[route]]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:5:1 declared-twice route `route-1` is declared twice"#],
    );
    check(
        r#"[service.x]
ports = [{ port = 1 }, { port = 1 }, { name = "a", port = 2 }, { name = "a", port = 3 }]
endpoints = ["10.0.0.1"]
"#,
        &[
            r#"a.toml:2:24 declared-twice port 1 is declared twice"#,
            r#"a.toml:2:64 declared-twice port name is declared twice"#,
        ],
    );
    check(
        r#"[service.x]
endpoints = ["10.0.0.1:1", "10.0.0.1:1"]
"#,
        &[r#"a.toml:2:28 declared-twice 10.0.0.1 is an endpoint of `x` twice"#],
    );
}

/// The lines that [`check_whole`] expects below each name that is not allowed.
const ALLOWED: &str =
    "  wanted: at most 253 letters, digits, `-`, `_` and `.`, beginning with a letter or digit";

#[test]
fn names_are_letters_digits_hyphens_underscores_and_dots_in_their_case() {
    let long = "n".repeat(253);
    let text = format!(
        r#"namespace = "Team_1.eu"
[gateway.Edge_1]
listen = ["0.0.0.0:1"]
to = [{{ service = "BE.db", subset = "V_1.2" }}]
[service."BE.db"]
policy.use = "default/{long}"
ports = [{{ name = "Main.tcp", port = 1 }}]
endpoints = [{{ address = "10.0.0.1", labels = {{ version = "1" }} }}]
[service."BE.db".subset."V_1.2"]
labels = {{ version = "1" }}
[policy."default/{long}"]
balance = "random"
[workload."Team_2/w_1"]
ports = {{ "Main.tcp" = 2 }}
[[route]]
name = "to.BE_db"
gateways = ["Edge_1", "default/edge"]
to = [{{ service = "Team_1.eu/BE.db" }}]
[[test]]
source = "10.0.0.1"
destination = "10.0.0.2:1"
expect = {{ route = "Team_1.eu/to.BE_db", service = "BE.db", subsets = [""] }}
[gateway."default/edge"]
listen = ["0.0.0.0:5432"]
to = [{{ service = "BE.db" }}]
"#
    );
    check_files(&[&text], &[]);
}

#[test]
fn where_a_name_is_declared_that_is_not_allowed_the_nearest_one_is_offered() {
    check_whole(
        "namespace = \"team a\"\n",
        &[
            "a.toml:1:13 bad-name namespace is invalid: team a",
            "  found: team a",
            ALLOWED,
            "  help: write \"team-a\"",
        ],
    );
    check_whole(
        "[gateway._edge]\nlisten = [\"0.0.0.0:1\"]\nto = [{ service = \"db\" }]\n",
        &[
            "a.toml:1:10 bad-name gateway name is invalid: _edge",
            "  found: _edge",
            ALLOWED,
            "  help: write \"edge\"",
        ],
    );
    check_whole(
        "[service.x]\nendpoints = [\"10.0.0.1:1\"]\n[service.x.subset.\"v:1\"]\n",
        &[
            "a.toml:3:19 bad-name subset name is invalid: v:1",
            "  found: v:1",
            ALLOWED,
            "  help: write \"v-1\"",
        ],
    );
    check_whole(
        "[service.\"a/b/c\"]\nendpoints = [\"10.0.0.1:1\"]\n",
        &[
            "a.toml:1:10 bad-name service name is invalid: b/c",
            "  found: b/c",
            ALLOWED,
            "  help: write \"b-c\"",
        ],
    );
    check_whole(
        "[policy.\"/x\"]\nbalance = \"random\"\n",
        &["a.toml:1:9 bad-name namespace is invalid: ", "  found: ", ALLOWED],
    );
    check_whole(
        "[[route]]\nname = \"a b\"\nto = [{ service = \"db\" }]\n",
        &["a.toml:2:8 bad-name route name is invalid: a b", "  found: a b", ALLOWED, "  help: write \"a-b\""],
    );
    check_whole(
        "[workload.a]\nports = { \"ü\" = 1 }\n",
        &["a.toml:2:11 bad-name port name is invalid: ü", "  found: ü", ALLOWED],
    );
    check_whole(
        "[service.x]\nports = [{ name = \"tcp/1\", port = 1 }]\nendpoints = [\"10.0.0.1\"]\n",
        &[
            "a.toml:2:19 bad-name port name is invalid: tcp/1",
            "  found: tcp/1",
            ALLOWED,
            "  help: write \"tcp-1\"",
        ],
    );
}

#[test]
fn where_a_name_is_referred_to_that_is_not_allowed_the_nearest_one_is_offered() {
    // Declared or not: it has to be changed in both places.
    check_whole(
        r#"[[route]]
to = [{ service = "b d", subset = "v:1" }, { service = "foo/b d" }]
[service."b d"]
endpoints = ["10.0.0.1:1"]
subset."v:1" = {}
"#,
        &[
            "a.toml:2:19 bad-name service name is invalid: b d",
            "  found: b d",
            ALLOWED,
            "  help: write \"b-d\"",
            "a.toml:2:35 bad-name subset name is invalid: v:1",
            "  found: v:1",
            ALLOWED,
            "  help: write \"v-1\"",
            "a.toml:2:56 bad-name service name is invalid: foo/b d",
            "  found: foo/b d",
            ALLOWED,
            "  help: write \"foo/b-d\"",
            "a.toml:3:10 bad-name service name is invalid: b d",
            "  found: b d",
            ALLOWED,
            "  help: write \"b-d\"",
            "a.toml:5:8 bad-name subset name is invalid: v:1",
            "  found: v:1",
            ALLOWED,
            "  help: write \"v-1\"",
        ],
    );
    check_whole(
        r#"[[route]]
gateways = ["edge "]
match = [{ source_namespaces = ["a:b"] }]
to = [{ service = "db", subset = "v 1" }]
[[test]]
source = "10.0.0.1"
destination = "10.0.0.2:5432"
expect = { route = "r 1", service = "db", subsets = ["v 1"] }
"#,
        &[
            "a.toml:2:13 bad-name gateway name is invalid: edge ",
            "  found: edge ",
            ALLOWED,
            "  help: write \"edge\"",
            "a.toml:3:33 bad-name namespace is invalid: a:b",
            "  found: a:b",
            ALLOWED,
            "  help: write \"a-b\"",
            "a.toml:4:34 bad-name subset name is invalid: v 1",
            "  found: v 1",
            ALLOWED,
            "  help: write \"v-1\"",
            "a.toml:8:20 bad-name route name is invalid: r 1",
            "  found: r 1",
            ALLOWED,
            "  help: write \"r-1\"",
        ],
    );
}

#[test]
fn a_guess_ignores_case_and_is_never_made_of_one_letter() {
    check_whole(
        "[[route]]\nto = [{ service = \"DB\" }]\n",
        &["a.toml:2:19 unknown-reference unknown service `DB`", "  found: DB", "  help: did you mean `db`?"],
    );
    check_whole(
        "[[route]]\nto = [{ service = \"y\" }]\n[service.x]\nendpoints = [\"10.0.0.1:1\"]\n",
        &[
            "a.toml:2:19 unknown-reference unknown service `y`",
            "  found: y",
            "  help: declare it, [service.y], or take the reference out: a service must exist when the file is read",
        ],
    );
}

#[test]
fn references_must_exist_and_slips_get_a_suggestion() {
    check(
        r#"[[route]]
to = [{ service = "bd" }]
"#,
        &[r#"a.toml:2:19 unknown-reference unknown service `bd`"#],
    );
    check(
        r#"[[route]]
to = [{ service = "nothing" }]
"#,
        &[r#"a.toml:2:19 unknown-reference unknown service `nothing`"#],
    );
    check(
        r#"[[route]]
to = [{ service = "foo/db" }]
"#,
        &[r#"a.toml:2:19 unknown-reference unknown service `foo/db`"#],
    );
    check(
        r#"[[route]]
to = [{ service = "db", subset = "v1" }]
"#,
        &[r#"a.toml:2:34 unknown-reference unknown subset `v1` of service `db`"#],
    );
    check(
        r#"[[route]]
gateways = ["egde"]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:13 unknown-reference unknown gateway `egde`"#],
    );
    check(
        r#"[policy.slow]
use = "slwo"
[service.x]
policy.use = "slwo"
endpoints = ["10.0.0.1:1"]
"#,
        &[
            r#"a.toml:2:7 unknown-reference unknown policy `slwo`"#,
            r#"a.toml:4:14 unknown-reference unknown policy `slwo`"#,
        ],
    );
    check(
        r#"[[route]]
match = [{ destination_services = ["bd"] }]
to = [{ service = "db" }]
"#,
        &[r#"a.toml:2:36 unknown-reference unknown service `bd`"#],
    );
    check(
        r#"[[test]]
source = "10.0.0.1"
destination = "10.0.0.2:5432"
expect = { route = "route-9", service = "bd" }
"#,
        &[
            r#"a.toml:4:20 unknown-reference unknown route `route-9`"#,
            r#"a.toml:4:41 unknown-reference unknown service `bd`"#,
        ],
    );
    check(
        r#"[[test]]
source = "10.0.0.1"
destination = "10.0.0.2:5432"
expect = { service = "db", subsets = ["v1"] }
"#,
        &[r#"a.toml:4:39 unknown-reference unknown subset `v1` of service `db`"#],
    );
}
