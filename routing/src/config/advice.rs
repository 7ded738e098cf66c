//! Advice for keys and words that Weir does not have: those of HAProxy, nginx, Envoy and Istio, and its own keys where they do not
//! belong. Misspelt ones are left to `spelling.rs`.

use toml::de::{DeTable, DeValue};

use super::keys;
use super::written::as_key;

/// Conditions of HTTP proxies.
const OF_HTTP: [&str; 15] = [
    "host",
    "hosts",
    "hostname",
    "domain",
    "domains",
    "server_name",
    "authority",
    "uri",
    "url",
    "path",
    "prefix",
    "method",
    "headers",
    "query_params",
    "sni_hosts",
];

const POLICY: &str = "it belongs to the policy";
const ENDPOINTS: &str = "the addresses of a service are its `endpoints`: endpoints = [\"10.0.0.11:5432\"]";
const LISTEN: &str = "a gateway listens on addresses: listen = [\"0.0.0.0:5432\"]";
const TO: &str = "a gateway leads to services: to = [{ service = \"NAME\" }]";
const BALANCE: &str = "`balance` of the policy decides which endpoint is picked: \"least_connections\", \"round_robin\", \"random\" or \"source_ip\"";
const LIMITS: &str = "rates, and limits for each source, belong to a gateway: [gateway.NAME]";
const NO_TLS: &str = "Weir relays bytes as they are: TLS ends at the endpoints";

/// (where, keys, advice). `*` is everywhere.
const FOREIGN: &[(&str, &[&str], &str)] = &[
    (
        "",
        &["frontend", "listener", "listeners", "listen", "server", "bind"],
        "where connections come in is a gateway: [gateway.NAME]",
    ),
    (
        "",
        &[
            "backend",
            "backends",
            "upstream",
            "upstreams",
            "cluster",
            "clusters",
            "pool",
            "serviceentry",
            "service_entry",
        ],
        "where connections go is a service: [service.NAME]",
    ),
    (
        "",
        &["rule", "rules", "virtualservice", "virtual_service", "filter_chains", "match"],
        "a route sends connections to services: [[route]]",
    ),
    (
        "",
        &["destinationrule", "destination_rule", "defaults", "default", "policies"],
        "timeouts, limits and balancing are policies: [policy.NAME]; [policy.default] lies beneath all services",
    ),
    ("", &["global", "main", "settings", "daemon"], "settings of the process are in [proxy] and [log]"),
    ("gateway", &["bind", "port", "ports", "address", "addresses", "listener", "listeners"], LISTEN),
    (
        "gateway",
        &[
            "default_backend",
            "use_backend",
            "backend",
            "proxy_pass",
            "upstream",
            "service",
            "services",
            "cluster",
            "route",
        ],
        TO,
    ),
    (
        "service",
        &[
            "server",
            "servers",
            "backend",
            "backends",
            "target",
            "targets",
            "members",
            "host",
            "hosts",
            "address",
            "addresses",
            "upstream",
        ],
        ENDPOINTS,
    ),
    ("service", &["port"], "ports is a list: ports = [{ port = 5432 }]"),
    ("service", &["weight"], "weights stand on endpoints, and on the destinations in `to`"),
    ("service", &["subsets"], "each subset has a header: [service.NAME.subset.NAME]"),
    (
        "service",
        &["labels"],
        "labels stand on endpoints, workloads and subsets; `selector` selects workloads by theirs",
    ),
    (
        "to",
        &["host", "destination", "backend", "cluster", "name"],
        "a destination is a service: { service = \"NAME\" }",
    ),
    ("to", &["version"], "a part of a service is a subset of it: { service = \"NAME\", subset = \"NAME\" }"),
    (
        "endpoint",
        &["host", "ip", "addr", "server", "name"],
        "an endpoint has an address: { address = \"10.0.0.11:5432\" }",
    ),
    ("endpoint", &["port"], "the port stands in the address: { address = \"10.0.0.11:5432\" }"),
    ("endpoint", &["backup"], "`priority = 1` makes an endpoint wait until none of priority 0 can be used"),
    (
        "endpoint",
        &["region", "zone", "subzone"],
        "`locality` holds all of it: locality = \"region/zone/subzone\"",
    ),
    ("endpoint", &["disabled", "down", "enabled", "drain"], "`weight = 0` keeps new connections from it"),
    (
        "workload",
        &["region", "zone", "subzone"],
        "`locality` holds all of it: locality = \"region/zone/subzone\"",
    ),
    ("workload", &["address", "ip", "endpoints"], "a workload owns `addresses`: addresses = [\"10.0.1.1\"]"),
    (
        "policy",
        &["timeout"],
        "there are `connect_timeout`, for connecting, and `idle_timeout`, for connections on which no byte moves",
    ),
    ("policy", &["timeout_connect"], "write `connect_timeout`"),
    (
        "policy",
        &["timeout_client", "timeout_server", "timeout_tunnel", "proxy_timeout", "tcp_idle_timeout"],
        "write `idle_timeout`: no byte in either direction for that long",
    ),
    (
        "policy",
        &["retries", "attempts", "max_connect_attempts"],
        "write `connect_attempts`: how many endpoints are tried",
    ),
    (
        "policy",
        &["tcp_keepalive"],
        "write `keepalive`: keepalive = { time = \"60s\", interval = \"15s\", probes = 4 }",
    ),
    (
        "proxy",
        &["nbthread", "threads", "workers", "worker_processes", "concurrency"],
        "one shard runs on each core: `cores` selects the cores, `shards` their number",
    ),
    (
        "proxy",
        &["stats", "admin_address", "prometheus"],
        "write `admin`: an address that answers /live, /ready and /metrics",
    ),
    (
        "proxy",
        &["user", "group", "pidfile", "daemon", "chroot"],
        "whatever starts Weir decides this: in a systemd unit, User= and the like",
    ),
    ("proxy", &["log_level", "level"], "it is `level` of [log]"),
    (
        "log",
        &["loglevel", "log_level", "verbosity"],
        "it is `level`: \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
    ),
    ("test", &["src", "from", "client"], "where the connection comes from is `source`"),
    ("test", &["dst", "to", "server"], "the address that the client dials is `destination`"),
    (
        "policy",
        &[
            "max_connection_rate",
            "max_connection_rate_per_source",
            "max_connections_per_source",
            "limit_conn",
            "rate_limit",
        ],
        LIMITS,
    ),
    (
        "service",
        &["max_connection_rate", "max_connection_rate_per_source", "max_connections_per_source"],
        LIMITS,
    ),
    (
        "proxy",
        &["max_connection_rate", "max_connection_rate_per_source", "max_connections_per_source"],
        LIMITS,
    ),
    ("gateway", &["limit_conn", "src_conn_cur"], "write `max_connections`, or `max_connections_per_source`"),
    (
        "gateway",
        &["rate_limit", "rate_limit_sessions", "src_conn_rate", "limit_rate", "local_rate_limit"],
        "write `max_connection_rate`, or `max_connection_rate_per_source`",
    ),
    (
        "*",
        &["maxconn"],
        "write `max_connections`: in [proxy] of the process, in a gateway of that, in a policy of a service",
    ),
    ("*", &["lb", "lb_policy", "lb_algorithm", "algorithm", "load_balancer", "load_balancing"], BALANCE),
    ("*", &["tls", "ssl", "ssl_certificate", "certificate", "cert", "key"], NO_TLS),
    ("*", &["mode", "protocol"], "Weir relays TCP; there is nothing to choose"),
];

/// Advice for a key that is not known where `path` leads; `None` where there is none but a guess at the spelling.
pub(super) fn for_key(path: &[String]) -> Option<String> {
    let (key, parents) = path.split_last()?;
    let place = place(parents);
    if key == "namespace" {
        return Some("`namespace` stands once, before the first header of a file; a single thing has its own in its name: \"NAMESPACE/NAME\"".to_owned());
    }
    let belongs_to = |path: &[&str]| keys::keys(path).any(|known| known.name == *key && key != "description");
    if let Some(header) = policy_header(parents).filter(|_| belongs_to(&["policy", "NAME"])) {
        return Some(format!("{POLICY}: {header}"));
    }
    if place == "route" && belongs_to(&["route", "#", "match", "#"]) {
        return Some(format!("conditions stand in `match`: match = [{{ {key} = ... }}]"));
    }
    if place == "match" && belongs_to(&["route", "#"]) {
        return Some(format!("`{key}` belongs to the route, beside its `match`"));
    }
    if matches!(place, "match" | "route") && OF_HTTP.contains(&&**key) {
        let help = "TCP has no such thing: the address that a client dialled is matched by `destination_subnets`, `destination_services` and `ports`, the client by `source_subnets`, `source_labels` and `source_namespaces`";
        return Some(help.to_owned());
    }
    let folded = key.to_ascii_lowercase().replace('-', "_");
    let known =
        |(at, keys, _): &&(&str, &[&str], &str)| (*at == place || *at == "*") && keys.contains(&&*folded);
    FOREIGN.iter().find(known).map(|(_, _, help)| (*help).to_owned())
}

/// Advice for an unknown key that is not misspelt either.
pub(super) fn otherwise(path: &[String], value: Option<&DeValue<'_>>) -> String {
    let (key, parents) = match path.split_last() {
        Some((key, parents)) => (key.as_str(), parents),
        None => ("", path),
    };
    let named = matches!(place(parents), "service" | "policy" | "gateway" | "workload");
    match value {
        Some(DeValue::Table(_)) if named && parents.len() == 2 => {
            format!("a name with a dot is quoted: [{}.\"{}.{key}\"]", parents[0], parents[1])
        }
        _ if place(parents) == "match" => {
            "correct it, or take the whole route out: without the condition it would match more".to_owned()
        }
        _ => "take it out".to_owned(),
    }
}

/// Advice where a label has an unquoted key with dots, each of which TOML reads as a table in a table.
pub(super) fn for_label(path: &[String], value: Option<&DeValue<'_>>) -> Option<String> {
    let (key, parents) = path.split_last()?;
    let labels = matches!(parents.last()?.as_str(), "labels" | "selector" | "source_labels");
    let mut dotted = key.clone();
    let mut value = value.filter(|_| labels)?;
    while let DeValue::Table(table) = value {
        let (key, inner) = table.iter().next()?;
        dotted = format!("{dotted}.{}", key.get_ref());
        value = inner.get_ref();
    }
    (dotted != *key).then(|| format!("quote a key with dots: \"{dotted}\" = ..."))
}

/// How the value that stands there could be written in the type that is wanted. `name` is the key, and whether the value is an
/// element of the key's list.
pub(super) fn for_type(
    (name, element): (&str, bool),
    wanted: &str,
    value: &DeValue<'_>,
    written: &str,
) -> Option<String> {
    let key = if element { String::new() } else { format!("{name} = ") };
    let one_line = !written.contains('\n');
    Some(match (wanted, value) {
        (_, DeValue::String(text)) if text != written.trim_matches(['"', '\'']) && wanted != "a list" => {
            format!("a variable gives a string; `{name}` is {wanted}")
        }
        ("a list", DeValue::String(text)) if name == "to" => {
            format!("write {key}[{{ service = \"{text}\" }}]")
        }
        ("a table", DeValue::String(text)) if name == "to" && element => {
            format!("write {{ service = \"{text}\" }}")
        }
        ("a table", DeValue::Integer(port)) if name == "ports" && element => {
            format!("write {{ port = {port} }}")
        }
        ("a list", DeValue::Table(_)) if one_line && written.starts_with('{') => {
            format!("write {key}[{written}]")
        }
        ("a list", DeValue::Table(_)) => format!("write [[{name}]]"),
        ("a list", DeValue::String(_) | DeValue::Integer(_)) => format!("write {key}[{written}]"),
        ("a string", DeValue::Integer(_) | DeValue::Boolean(_) | DeValue::Float(_)) => {
            format!("write {key}\"{written}\"")
        }
        ("a whole number", DeValue::String(text)) if text.parse::<i64>().is_ok() => {
            format!("write {key}{text}")
        }
        ("true or false", DeValue::String(text)) => match &*text.to_lowercase() {
            "true" | "yes" | "on" | "1" => format!("write {key}true"),
            "false" | "no" | "off" | "0" => format!("write {key}false"),
            _ => return None,
        },
        ("a string or a whole number", DeValue::Float(_)) if !element => {
            "a duration is a string with a unit, in whole numbers: \"1500ms\"".to_owned()
        }
        ("true or false", DeValue::Integer(number)) if matches!(number.as_str(), "0" | "1") => {
            format!("write {key}{}", number.as_str() == "1")
        }
        _ => return None,
    })
}

/// Whether a table of `kind` has no name in its header: keys of such a thing stand in it.
pub(super) fn is_unnamed(kind: &str, table: &DeTable<'_>) -> bool {
    let own = keys::names(&[kind, "NAME"]);
    let is_own = |key: &str, value: &DeValue<'_>| own.contains(&key) && !matches!(value, DeValue::Table(_));
    table.iter().any(|(key, value)| is_own(key.get_ref(), value.get_ref()))
}

/// Where keys stand, in a word.
fn place(parents: &[String]) -> &str {
    let keys: Vec<&str> = parents.iter().map(String::as_str).collect();
    match keys[..] {
        [] => "",
        ["route", _, "match", ..] => "match",
        [.., "to", "#"] => "to",
        ["service", _, "endpoints", ..] => "endpoint",
        [.., "policy"] => "policy",
        ["service", _] => "service",
        [kind] | [kind, _] => kind,
        [.., last] => last,
    }
}

/// The header of the policy that a key of a service or subset belongs to.
fn policy_header(parents: &[String]) -> Option<String> {
    let keys: Vec<&str> = parents.iter().map(String::as_str).collect();
    match keys[..] {
        ["service", service] => Some(format!("[service.{}.policy]", as_key(service))),
        ["service", service, "subset", subset] => {
            Some(format!("[service.{}.subset.{}.policy]", as_key(service), as_key(subset)))
        }
        ["gateway", _] | ["proxy"] | ["route", _] => {
            Some("[policy.default] for all services, [service.NAME.policy] for one".to_owned())
        }
        _ => None,
    }
}

/// A word of another proxy for one of `key`.
pub(crate) fn for_word(key: &str, word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    Some(match (key, &*word) {
        ("balance", "leastconn" | "least_conn" | "least_request") => "least_connections",
        ("balance", "rr" | "static-rr" | "wrr") => "round_robin",
        ("balance", "source" | "hash" | "ip_hash" | "consistent_hash" | "ring_hash" | "maglev") => {
            "source_ip"
        }
        ("level", "warning" | "notice") => "warn",
        ("level", "err" | "crit" | "critical" | "emerg" | "alert") => "error",
        ("unmatched", "drop" | "deny" | "reset" | "close") => "reject",
        _ => return None,
    })
}
