//! Words of HAProxy, nginx, Envoy and Istio, and what Weir has for them.

use super::check_whole;

#[test]
fn tables_and_keys_of_others_are_led_to_ours() {
    check_whole(
        r#"[frontend.x]
"#,
        &[
            "a.toml:1:2 unknown-key unknown key `frontend`",
            "  found: frontend",
            "  wanted: namespace, proxy, log, gateway, route, service, policy, workload, test",
            "  help: where connections come in is a gateway: [gateway.NAME]",
        ],
    );
    check_whole(
        r#"[backend.x]
server = "10.0.0.1:1"
"#,
        &[
            "a.toml:1:2 unknown-key unknown key `backend`",
            "  found: backend",
            "  wanted: namespace, proxy, log, gateway, route, service, policy, workload, test",
            "  help: where connections go is a service: [service.NAME]",
        ],
    );
    check_whole(
        r#"[proxy]
nbthread = 4
maxconn = 5
Shards = 3
"#,
        &[
            "a.toml:2:1 unknown-key unknown key `nbthread`",
            "  found: nbthread",
            "  wanted: cores, shards, locality, admin, watch, drain_delay, drain_timeout, resolve_interval, max_connections, busy_poll, relay",
            "  help: one shard runs on each core: `cores` selects the cores, `shards` their number",
            "a.toml:3:1 unknown-key unknown key `maxconn`",
            "  found: maxconn",
            "  wanted: cores, shards, locality, admin, watch, drain_delay, drain_timeout, resolve_interval, max_connections, busy_poll, relay",
            "  help: write `max_connections`: in [proxy] of the process, in a gateway of that, in a policy of a service",
            "a.toml:4:1 unknown-key unknown key `Shards`",
            "  found: Shards",
            "  wanted: cores, shards, locality, admin, watch, drain_delay, drain_timeout, resolve_interval, max_connections, busy_poll, relay",
            "  help: did you mean `shards`?",
        ],
    );
    check_whole(
        r#"[service.x.policy]
max_connection_rate = 4
[gateway.other]
rate_limit = 5
"#,
        &[
            "a.toml:2:1 unknown-key unknown key `max_connection_rate`",
            "  found: max_connection_rate",
            "  wanted: description, use, balance, connect_timeout, connect_attempts, connect_deadline, idle_timeout, half_close_timeout, flush_timeout, max_duration, max_connections, keepalive, user_timeout",
            "  help: rates, and limits for each source, belong to a gateway: [gateway.NAME]",
            "a.toml:4:1 unknown-key unknown key `rate_limit`",
            "  found: rate_limit",
            "  wanted: description, listen, to, unmatched, max_connections, max_connections_per_source, max_connection_rate, max_connection_rate_per_source",
            "  help: write `max_connection_rate`, or `max_connection_rate_per_source`",
        ],
    );
    check_whole(
        r#"[service.x]
servers = ["10.0.0.1:1"]
lb_policy = "ROUND_ROBIN"
port = 80
[gateway.other]
bind = "*:80"
default_backend = "db"
tls = true
"#,
        &[
            "a.toml:2:1 unknown-key unknown key `servers`",
            "  found: servers",
            "  wanted: description, vips, ports, selector, endpoints, policy, subset",
            r#"  help: the addresses of a service are its `endpoints`: endpoints = ["10.0.0.11:5432"]"#,
            "a.toml:3:1 unknown-key unknown key `lb_policy`",
            "  found: lb_policy",
            "  wanted: description, vips, ports, selector, endpoints, policy, subset",
            r#"  help: `balance` of the policy decides which endpoint is picked: "least_connections", "round_robin", "random" or "source_ip""#,
            "a.toml:4:1 unknown-key unknown key `port`",
            "  found: port",
            "  wanted: description, vips, ports, selector, endpoints, policy, subset",
            "  help: ports is a list: ports = [{ port = 5432 }]",
            "a.toml:6:1 unknown-key unknown key `bind`",
            "  found: bind",
            "  wanted: description, listen, to, unmatched, max_connections, max_connections_per_source, max_connection_rate, max_connection_rate_per_source",
            r#"  help: a gateway listens on addresses: listen = ["0.0.0.0:5432"]"#,
            "a.toml:7:1 unknown-key unknown key `default_backend`",
            "  found: default_backend",
            "  wanted: description, listen, to, unmatched, max_connections, max_connections_per_source, max_connection_rate, max_connection_rate_per_source",
            r#"  help: a gateway leads to services: to = [{ service = "NAME" }]"#,
            "a.toml:8:1 unknown-key unknown key `tls`",
            "  found: tls",
            "  wanted: description, listen, to, unmatched, max_connections, max_connections_per_source, max_connection_rate, max_connection_rate_per_source",
            "  help: Weir relays bytes as they are: TLS ends at the endpoints",
        ],
    );
}

#[test]
fn durations_and_balances_of_others_are_written_out() {
    check_whole(
        r#"[policy.x]
idle_timeout = "5min"
connect_timeout = "1.5s"
flush_timeout = "soon"
balance = "leastconn"
"#,
        &[
            "a.toml:2:16 bad-duration `5min` is not a duration",
            r#"  found: "5min""#,
            r#"  wanted: a whole number and a unit (d, h, m, s, ms), or several of them, largest first: "1h30m""#,
            r#"  help: write "5m""#,
            "a.toml:3:19 bad-duration `1.5s` is not a duration",
            r#"  found: "1.5s""#,
            r#"  wanted: a whole number and a unit (d, h, m, s, ms), or several of them, largest first: "1h30m""#,
            r#"  help: write "1s500ms""#,
            "a.toml:4:17 bad-duration `soon` is not a duration",
            r#"  found: "soon""#,
            r#"  wanted: a whole number and a unit (d, h, m, s, ms), or several of them, largest first: "1h30m""#,
            r#"a.toml:5:11 unknown-value `balance` cannot be "leastconn""#,
            r#"  found: "leastconn""#,
            r#"  wanted: "least_connections" or "round_robin" or "random" or "source_ip""#,
            r#"  help: did you mean "least_connections"?"#,
        ],
    );
}
