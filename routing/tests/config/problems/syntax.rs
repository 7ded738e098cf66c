//! Text that is not TOML: each fault once, with advice.

use super::{check_whole, check_whole_alone};

#[test]
fn an_open_bracket_is_reported_once_and_the_next_table_is_still_read() {
    check_whole(
        r#"[gateway.other]
listen = ["0.0.0.0:1"
to = [{ service = "db" }]
[proxy]
shards = 
"#,
        &[
            "a.toml:2:10 syntax not TOML: `[` is not closed",
            "  help: close it with `]`; the rest of this table cannot be read before",
            "a.toml:5:10 syntax not TOML: a value is missing",
            "  wanted: KEY = VALUE",
        ],
    );
    check_whole(
        r#"[[route]]
match = [{ ports = [1 }]
to = [{ service = "db" }]
"#,
        &[
            "a.toml:2:20 syntax not TOML: `[` is not closed",
            "  help: close it with `]`; the rest of this table cannot be read before",
        ],
    );
    check_whole(
        r#"[[route]]
to = [{ service = "db"
"#,
        &[
            "a.toml:2:6 syntax not TOML: `[` is not closed",
            "  help: close it with `]`; the rest of this table cannot be read before",
        ],
    );
    check_whole(
        r#"[service.x]
endpoints = ["10.0.0.1:1", "10.0.0.2:1]
policy = { balance = random }
"#,
        &[
            "a.toml:2:40 syntax not TOML: the string is not closed",
            r#"  help: close it with `"` on the same line"#,
        ],
    );
    check_whole(
        r#"[gateway.edge2
listen = ["0.0.0.0:1"]
"#,
        &["a.toml:1:15 syntax not TOML: the header is not closed", "  wanted: [KIND.NAME] or [[route]]"],
    );
}

#[test]
fn other_errors_are_reported_once_a_line() {
    check_whole(
        r#"[proxy]
relay = "auto
watch = maybe
"#,
        &[
            "a.toml:2:14 syntax not TOML: the string is not closed",
            r#"  help: close it with `"` on the same line"#,
            "a.toml:3:9 syntax not TOML: an unquoted word is no value",
            "  found: maybe",
            r#"  help: write "maybe""#,
        ],
    );
    check_whole(
        r#"[proxy]
shards = 0777
relay = auto
watch = yes
admin = 127.0.0.1:9347
drain_delay = 30s
cores = 0-3
"#,
        &[
            "a.toml:2:10 syntax not TOML: a number does not begin with 0",
            "  found: 0777",
            "a.toml:3:9 syntax not TOML: an unquoted word is no value",
            "  found: auto",
            r#"  help: write "auto""#,
            "a.toml:4:9 syntax not TOML: an unquoted word is no value",
            "  found: yes",
            "  help: write true",
            "a.toml:5:9 syntax not TOML: an unquoted word is no value",
            "  found: 127.0.0.1:9347",
            r#"  help: write "127.0.0.1:9347""#,
            "a.toml:6:15 syntax not TOML: an unquoted word is no value",
            "  found: 30s",
            r#"  help: write "30s""#,
            "a.toml:7:9 syntax not TOML: an unquoted word is no value",
            "  found: 0-3",
            r#"  help: write "0-3""#,
        ],
    );
    check_whole(
        r#"[proxy] shards = 1
"#,
        &[
            "a.toml:1:9 syntax not TOML: nothing may stand behind a value or a header",
            "  found: shards = 1",
            "  help: begin a new line for each key; a comment begins with `#`",
        ],
    );
    check_whole(
        r#"[proxy]
shards = 1; # x
watch = true // x
relay = "auto" cores = "all"
"#,
        &[
            "a.toml:2:10 syntax not TOML: a line does not end with `;`",
            "  found: 1;",
            "  help: take the `;` out",
            "a.toml:3:9 syntax not TOML: nothing may stand behind a value or a header",
            "  found: true // x",
            "  help: begin a new line for each key; a comment begins with `#`",
            "a.toml:4:16 syntax not TOML: nothing may stand behind a value or a header",
            r#"  found: cores = "all""#,
            "  help: begin a new line for each key; a comment begins with `#`",
        ],
    );
    check_whole(
        r#"[proxy]
cores: "all"
"#,
        &[
            "a.toml:2:1 syntax not TOML: a key is followed by `=`",
            "  found: cores:",
            "  help: write cores = ...",
        ],
    );
    check_whole(
        r#"[proxy]
locality = "a\qb"
"#,
        &[
            "a.toml:2:15 syntax not TOML: a backslash in a string begins an escape",
            "  help: write a backslash twice, or the string in single quotes",
        ],
    );
    check_whole(
        r#"[[route]]
to = [
  { service = "db", weight = 20 }
  { service = "db", weight = 80 }
]
"#,
        &[
            "a.toml:4:3 syntax not TOML: missing comma between array elements, expected `,`",
            r#"  found: { service = "db", weight = 80 }"#,
            "  help: separate elements with a comma",
        ],
    );
    check_whole(
        r#"[gateway.other]
listen = "0.0.0.0:1"]
"#,
        &[
            "a.toml:2:21 syntax not TOML: nothing may stand behind a value or a header",
            "  found: ]",
            "  help: take the bracket out, or open it before the value",
        ],
    );
    check_whole(
        r#"[proxy]
shards = 1
shards = 2
relay =
"#,
        &[
            "a.toml:3:1 declared-twice `shards` is declared twice",
            "  found: shards",
            "  help: keep one of them",
            "  a.toml:2:1: first declared here",
            "a.toml:4:8 syntax not TOML: a value is missing",
            "  wanted: KEY = VALUE",
        ],
    );
    check_whole(
        r#"[service.my db]
"#,
        &[
            "a.toml:1:12 syntax not TOML: the header is not closed",
            "  found: db]",
            "  wanted: [KIND.NAME] or [[route]]",
        ],
    );
}

#[test]
fn keys_that_have_to_be_quoted_are_written_out() {
    check_whole(
        r#"[service.x]
selector = { app.kubernetes.io/name = "x" }
"#,
        &[
            "a.toml:2:14 syntax not TOML: a key with such a character has to be quoted",
            "  found: app.kubernetes.io/name",
            r#"  help: write "app.kubernetes.io/name" = ..."#,
        ],
    );
    check_whole(
        r#"[workload.foo/client]
addresses = []
"#,
        &[
            "a.toml:1:11 syntax not TOML: a key with such a character has to be quoted",
            "  found: foo/client",
            r#"  help: write [workload."foo/client"]"#,
        ],
    );
    check_whole(
        r#"[service.x:80]
"#,
        &[
            "a.toml:1:10 syntax not TOML: a key with such a character has to be quoted",
            "  found: x:80",
            "  help: names are letters, digits, `-`, `_` and `.`: write [service.x-80]",
        ],
    );
    check_whole(
        r#"[service.x]
selector = { app.kubernetes.io = "x" }
ports = [{ port = 1 }]
"#,
        &[
            "a.toml:2:14 wrong-type `app` is not a string",
            "  found: a table",
            "  wanted: a string",
            r#"  help: quote a key with dots: "app.kubernetes.io" = ..."#,
        ],
    );
}

#[test]
fn a_file_in_another_language_is_one_problem() {
    check_whole(
        r#"frontend fe
  bind *:80
  default_backend be
"#,
        &[
            "a.toml:1:1 syntax not TOML: the file is in another language",
            r#"  wanted: TOML: headers such as [gateway.edge], and below them lines such as listen = ["0.0.0.0:5432"]"#,
            "  help: `weir demo --config-out FILE` writes a first file to begin with",
        ],
    );
    check_whole_alone(
        r#"apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: x
"#,
        &[
            "a.toml:1:1 syntax not TOML: the file is in another language",
            r#"  wanted: TOML: headers such as [gateway.edge], and below them lines such as listen = ["0.0.0.0:5432"]"#,
            "  help: Kubernetes and Istio objects are not read as they are, and `weirctl import` is not in this version of Weir; `weir demo --config-out FILE` writes a first file to begin with",
        ],
    );
    check_whole_alone(
        r#"{ "gateway": { "edge": {} } }
"#,
        &[
            "a.toml:1:1 syntax not TOML: the file is in another language",
            r#"  wanted: TOML: headers such as [gateway.edge], and below them lines such as listen = ["0.0.0.0:5432"]"#,
            "  help: `weir demo --config-out FILE` writes a first file to begin with",
        ],
    );
}

/// Editors of other systems begin a file with a byte order mark: it is no part of any line.
#[test]
fn a_byte_order_mark_moves_no_column() {
    check_whole(
        "\u{feff}colour = 1\n",
        &[
            "a.toml:1:1 unknown-key unknown key `colour`",
            "  found: colour",
            "  wanted: namespace, proxy, log, gateway, route, service, policy, workload, test",
            "  help: take it out",
        ],
    );
    check_whole("\u{feff}[proxy]\nshards = 1\n", &[]);
    check_whole(
        "\u{feff}x = \n",
        &["a.toml:1:5 syntax not TOML: a value is missing", "  wanted: KEY = VALUE"],
    );
}
