//! What Weir's configuration has and this version of the program does not: refused by name, never taken for a misspelt key,
//! and accepted where its value asks for what this version does anyway. A feature that arrives leaves this list.

use toml::de::DeValue;

use crate::problem::{Place, Problem};

/// A key that only a later version reads.
pub(super) struct Later {
    /// The path to it. `*` stands for any name and for any element of a list, `POLICY` for each of the three places where a
    /// policy may stand.
    path: &'static str,
    same: Same,
    instead: &'static str,
}

/// Which values ask for what is so without the key.
enum Same {
    Never,
    Word(&'static str),
    /// 0, or a duration of zero.
    Zero,
    False,
    EmptyList,
    /// A table with `enabled = false`.
    Disabled,
}

const TAKE_OUT: &str = "take it out";
/// Without one of its conditions a route would take more connections than it should.
const ROUTE: &str =
    "take the whole route out, or write `enabled = false` in it: without this it would do something else";
const TEST: &str = "take the whole test out: without this it would claim something else";
const NO_CONNECTIONS: &str = "`weight = 0` keeps new connections from it";
const NO_LOG: &str =
    "take it out: this version writes no access log, and `/metrics` counts every end by its reason";
const ADDRESSES: &str = "list the addresses or host names, with their ports";

macro_rules! later {
    ($($path:literal $same:expr, $instead:expr;)*) => {
        &[$(Later { path: $path, same: $same, instead: $instead }),*]
    };
}

use Same::{Disabled, EmptyList, False, Never, Word, Zero};

const LATER: &[Later] = later! {
    "lane_group" Never, TAKE_OUT;
    "lane" Never, TAKE_OUT;
    "proxy.admin_token_file" Never, "take it out: in this version `admin` answers on loopback addresses only";
    "proxy.control" Word("off"), TAKE_OUT;
    "proxy.state" Word("off"), TAKE_OUT;
    "proxy.metrics" Word("off"), "take it out: `admin` serves /metrics";
    "proxy.handover_timeout" Never, TAKE_OUT;
    "proxy.trusted_peers" EmptyList, TAKE_OUT;
    "log.access" Word("off"), NO_LOG;
    "log.sample" Never, NO_LOG;
    "log.null" False, NO_LOG;
    "log.format" Never, NO_LOG;
    "log.to" Never, NO_LOG;
    "log.while_open" Zero, NO_LOG;
    "gateway.*.interception" Word("none"), TAKE_OUT;
    "gateway.*.proxy_protocol" Word("off"), TAKE_OUT;
    "gateway.*.inspect_timeout" Never, TAKE_OUT;
    "gateway.*.inspect_bytes" Never, TAKE_OUT;
    "gateway.*.on_inspect_timeout" Never, TAKE_OUT;
    "gateway.*.interface" Word(""), TAKE_OUT;
    "gateway.*.freebind" False, TAKE_OUT;
    "gateway.*.max_connections" Zero, "take it out: `max_connections` limits the process in [proxy], a service in its policy";
    "gateway.*.max_connections_per_source" Zero, TAKE_OUT;
    "gateway.*.max_connection_rate" Zero, TAKE_OUT;
    "gateway.*.max_connection_rate_per_source" Zero, TAKE_OUT;
    "gateway.*.trusted_peers" EmptyList, TAKE_OUT;
    "route.*.lane" Never, ROUTE;
    "route.*.match.*.sni" Never, ROUTE;
    "route.*.match.*.alpn" Never, ROUTE;
    "route.*.match.*.http" Never, ROUTE;
    "service.*.endpoints.*.state" Word("ready"), NO_CONNECTIONS;
    "service.*.endpoints.*.max_connections" Zero, "take it out: `max_connections` in the policy limits the service";
    "service.*.endpoints.*.srv" Never, ADDRESSES;
    "workload.*.state" Word("ready"), NO_CONNECTIONS;
    "policy.passthrough" Never, TAKE_OUT;
    "POLICY.max_connections_per_endpoint" Zero, TAKE_OUT;
    "POLICY.source" Word("auto"), TAKE_OUT;
    "POLICY.mark" Zero, TAKE_OUT;
    "POLICY.interface" Word(""), TAKE_OUT;
    "POLICY.proxy_protocol" Word("off"), TAKE_OUT;
    "POLICY.on_unhealthy" Word("keep"), TAKE_OUT;
    "POLICY.on_recovered" Word("keep"), TAKE_OUT;
    "POLICY.on_removed" Word("keep"), TAKE_OUT;
    "POLICY.warmup" Never, TAKE_OUT;
    "POLICY.health_check" Never, "take it out: a failed connect goes on to another endpoint, within `connect_attempts`";
    "POLICY.outlier" Disabled, "take it out: a failed connect goes on to another endpoint, within `connect_attempts`";
    "POLICY.locality" Never, "take it out: `priority` of endpoints says which are used first";
    "test.*.sni" Never, TEST;
    "test.*.alpn" Never, TEST;
    "test.*.host" Never, TEST;
    "test.*.path" Never, TEST;
    "test.*.headers" Never, TEST;
    "test.*.lane" Never, TEST;
    "test.*.expect.passthrough" False, TEST;
    "test.*.expect.lane" Word(""), TEST;
};

const POLICIES: [&str; 3] = ["policy.*", "service.*.policy", "service.*.subset.*.policy"];

/// The key at `path`, if it is one that only a later version reads.
pub(super) fn later(path: &[String]) -> Option<&'static Later> {
    let last = path.last()?;
    let ends_so = |later: &&Later| later.path.rsplit('.').next() == Some(last);
    LATER.iter().filter(ends_so).find(|later| match later.path.strip_prefix("POLICY.") {
        Some(key) => POLICIES.iter().any(|policy| holds(&format!("{policy}.{key}"), path)),
        None => holds(later.path, path),
    })
}

fn holds(pattern: &str, path: &[String]) -> bool {
    let mut wanted = pattern.split('.');
    path.iter().all(|key| wanted.next().is_some_and(|want| want == "*" || want == key))
        && wanted.next().is_none()
}

impl Later {
    /// Whether the value asks for what is so without the key.
    pub(super) fn is_so_anyway(&self, value: &DeValue<'_>) -> bool {
        match (&self.same, value) {
            (Word(word), DeValue::String(text)) => text == word,
            (Zero, DeValue::Integer(number)) => number.as_str().bytes().all(|digit| digit == b'0'),
            (Zero, DeValue::String(text)) => matches!(&**text, "0" | "0s" | "0ms" | "0m" | "0h"),
            (False, DeValue::Boolean(flag)) => !flag,
            (EmptyList, DeValue::Array(list)) => list.is_empty(),
            (Disabled, DeValue::Table(table)) => {
                table.get("enabled").is_some_and(|flag| matches!(flag.get_ref(), DeValue::Boolean(false)))
            }
            _ => false,
        }
    }

    /// The problem for this key.
    pub(super) fn problem(&self, key: &str, place: Place) -> Problem {
        let problem = not_in_this_version(key, place);
        match self.same {
            Never => problem.help(self.instead),
            Word(word) => problem.wanted(format!("{key} = \"{word}\"")).help(self.instead),
            Zero => problem.wanted(format!("{key} = 0")).help(self.instead),
            False => problem.wanted(format!("{key} = false")).help(self.instead),
            EmptyList => problem.wanted(format!("{key} = []")).help(self.instead),
            Disabled => problem.wanted(format!("{key} = {{ enabled = false }}")).help(self.instead),
        }
    }
}

/// The problem for a key (`outlier`), or for a value with its key (`unmatched = "passthrough"`).
pub(crate) fn not_in_this_version(what: &str, place: Place) -> Problem {
    Problem::error("not-in-this-version", place, format!("`{what}` is not in this version of Weir"))
        .found(what)
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
            assert_eq!(later(&keys).is_some(), wanted, "{path}");
        }
    }
}
