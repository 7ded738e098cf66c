//! Several texts that are one configuration.

use super::check_files;

#[test]
fn texts_are_one_configuration() {
    check_files(
        &[
            r#"[proxy]
shards = 1
[gateway.edge]
listen = ["0.0.0.0:5432"]
"#,
            r#"[proxy]
shards = 2
"#,
        ],
        &[r#"b.toml:1:2 declared-twice `[proxy]` stands in more than one file"#],
    );
    check_files(
        &[
            r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
"#,
            r#"[gateway.edge]
listen = ["0.0.0.0:5433"]
"#,
        ],
        &[r#"b.toml:1:10 declared-twice gateway `edge` is declared twice"#],
    );
    check_files(
        &[
            r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
to = [{ service = "db" }]
[service.db]
endpoints = ["10.0.0.1:1"]
"#,
            r#"namespace = "foo"
[gateway.edge]
listen = ["0.0.0.0:5433"]
to = [{ service = "db" }]
[service.db]
endpoints = ["10.0.0.1:1"]
"#,
        ],
        &[],
    );
    check_files(
        &[
            r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
[service.db]
endpoints = ["10.0.0.1:1"]
"#,
            r#"namespace = "foo"
[[route]]
gateways = ["edge"]
to = [{ service = "db" }]
"#,
        ],
        &[r#"b.toml:4:19 unknown-reference unknown service `foo/db`"#],
    );
    check_files(
        &[
            r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
[service.db]
endpoints = ["10.0.0.1:1"]
"#,
            r#"namespace = "foo"
[[route]]
gateways = ["edge"]
to = [{ service = "default/db" }]
"#,
        ],
        &[],
    );
    check_files(
        &[
            r#"[gateway.edge]
listen = ["0.0.0.0:5432"]
[service.db]
endpoints = ["10.0.0.1:1"]
[[route]]
to = [{ service = "db" }]
"#,
            r#"[[route]]
match = [{ ports = [5432] }]
to = [{ service = "db" }]
"#,
        ],
        &[
            r#"b.toml:1:1 never-matches route `route-2` can never match: not used (route without matches defined before)"#,
        ],
    );
    check_files(&[r#""#], &[r#"- no-gateway no file declares a gateway: nothing would be listened on"#]);
    check_files(
        &[r#"[service.db]
endpoints = ["10.0.0.1:1"]
"#],
        &[r#"- no-gateway no file declares a gateway: nothing would be listened on"#],
    );
    check_files(
        &[
            r#"[proxy]
x = 1
"#,
            r#"[proxy
"#,
        ],
        &[r#"b.toml:1:7 syntax not TOML: the header is not closed"#],
    );
}
