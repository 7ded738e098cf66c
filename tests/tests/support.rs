//! Configurations that more than one subject uses.

use std::net::SocketAddr;

/// Gateway `edge` on a free port, all of it to one service with these endpoints and this policy (lines of TOML).
pub(crate) fn edge(endpoints: &[SocketAddr], policy: &str) -> String {
    edge_with("", endpoints, policy)
}

/// The same, with lines of `[proxy]`.
pub(crate) fn edge_with(proxy: &str, endpoints: &[SocketAddr], policy: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        r#"[proxy]
{proxy}
[gateway.edge]
listen = ["127.0.0.1:0"]
to = [{{ service = "db" }}]

[service.db]
endpoints = [{}]

[service.db.policy]
{policy}
"#,
        endpoints.join(", ")
    )
}
