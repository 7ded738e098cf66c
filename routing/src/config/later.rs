//! What Weir's configuration has and this version of the program does not: refused by name, also with its default value,
//! and never taken for a misspelt key. A feature that arrives leaves this list.

use crate::problem::{Place, Problem};

/// Keys, by the path to them. `*` stands for any name and for any element of a list, `POLICY` for each of the three places
/// where a policy may stand.
const LATER: &[&str] = &[
    "lane_group",
    "lane",
    "proxy.admin_token_file",
    "proxy.control",
    "proxy.metrics",
    "proxy.handover_timeout",
    "proxy.trusted_peers",
    "log.access",
    "log.sample",
    "log.format",
    "log.to",
    "log.while_open",
    "gateway.*.interception",
    "gateway.*.proxy_protocol",
    "gateway.*.inspect_timeout",
    "gateway.*.inspect_bytes",
    "gateway.*.on_inspect_timeout",
    "gateway.*.interface",
    "gateway.*.freebind",
    "gateway.*.max_connections",
    "gateway.*.max_connections_per_source",
    "gateway.*.max_connection_rate",
    "gateway.*.max_connection_rate_per_source",
    "gateway.*.trusted_peers",
    "route.*.match.*.sni",
    "route.*.match.*.alpn",
    "route.*.match.*.http",
    "service.*.endpoints.*.state",
    "policy.passthrough",
    "POLICY.max_connections_per_endpoint",
    "POLICY.source",
    "POLICY.mark",
    "POLICY.interface",
    "POLICY.proxy_protocol",
    "POLICY.on_unhealthy",
    "POLICY.on_removed",
    "POLICY.warmup",
    "POLICY.health_check",
    "POLICY.outlier",
    "POLICY.locality",
    "test.*.sni",
    "test.*.host",
    "test.*.path",
    "test.*.headers",
    "test.*.expect.passthrough",
    "test.*.expect.lane",
];

const POLICIES: [&str; 3] = ["policy.*", "service.*.policy", "service.*.subset.*.policy"];

/// Whether the key at `path` is one that only a later version reads.
pub(crate) fn is_later(path: &[String]) -> bool {
    LATER.iter().any(|pattern| match pattern.strip_prefix("POLICY.") {
        Some(key) => POLICIES.iter().any(|policy| holds(&format!("{policy}.{key}"), path)),
        None => holds(pattern, path),
    })
}

fn holds(pattern: &str, path: &[String]) -> bool {
    let mut wanted = pattern.split('.');
    path.iter().all(|key| wanted.next().is_some_and(|want| want == "*" || want == key))
        && wanted.next().is_none()
}

/// The problem for a key (`outlier`), or for a value with its key (`unmatched = "passthrough"`).
pub(crate) fn not_in_this_version(what: &str, place: Place) -> Problem {
    Problem::error("not-in-this-version", place, format!("`{what}` is not in this version of Weir"))
        .found(what)
        .help("take it out, also if it says what is the default")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_keys_are_known_by_their_path() {
        let cases = [
            ("lane", true),
            ("service.db.policy.outlier", true),
            ("service.db.subset.v1.policy.outlier", true),
            ("policy.slow.outlier", true),
            ("policy.passthrough", true),
            ("service.db.outlier", false),
            ("service.passthrough", false),
            ("test.#.sni", true),
            ("route.#.sni", false),
            ("proxy", false),
        ];
        for (path, wanted) in cases {
            let keys: Vec<String> = path.split('.').map(str::to_owned).collect();
            assert_eq!(is_later(&keys), wanted, "{path}");
        }
    }
}
