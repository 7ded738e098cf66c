//! Durations, `[proxy]`, `[log]` and policies.

use super::{check, check_whole};

#[test]
fn durations_have_units() {
    check(
        r#"[policy.x]
idle_timeout = 30
"#,
        &[r#"a.toml:2:16 no-unit 30 of what? A duration has a unit"#],
    );
    check(
        r#"[policy.x]
idle_timeout = "30"
"#,
        &[r#"a.toml:2:16 no-unit 30 of what? A duration has a unit"#],
    );
    check(
        r#"[policy.x]
idle_timeout = "0s"
flush_timeout = 0
max_duration = "0"
"#,
        &[],
    );
    check(
        r#"[policy.x]
connect_timeout = "500us"
"#,
        &[r#"a.toml:2:19 bad-duration duration must be greater than 1ms"#],
    );
    check(
        r#"[policy.x]
connect_timeout = "1ms"
"#,
        &[],
    );
    check(
        r#"[policy.x]
connect_timeout = "1500us"
"#,
        &[r#"a.toml:2:19 bad-duration only durations to ms precision are supported"#],
    );
    check(
        r#"[policy.x]
idle_timeout = "30m1h"
"#,
        &[r#"a.toml:2:16 bad-duration `30m1h` is not a duration"#],
    );
    check(
        r#"[policy.x]
idle_timeout = "400d"
"#,
        &[r#"a.toml:2:16 bad-duration a duration must be at most 366 days"#],
    );
    check(
        r#"[proxy]
busy_poll = "50us"
"#,
        &[],
    );
    check(
        r#"[proxy]
busy_poll = "2s"
"#,
        &[r#"a.toml:2:13 out-of-range `busy_poll` must be at most 1s: longer, a shard would never sleep"#],
    );
    check(
        r#"[policy.x]
keepalive = { time = "1500ms", interval = "0s" }
"#,
        &[
            r#"a.toml:2:22 bad-duration the kernel takes whole seconds here"#,
            r#"a.toml:2:43 out-of-range `keepalive.interval` must be at least 1s"#,
        ],
    );
    check(
        r#"[policy.x]
keepalive = { time = "10h", probes = 128 }
"#,
        &[
            r#"a.toml:2:22 out-of-range `keepalive.time` must be at most 9h6m7s: the kernel takes no more"#,
            r#"a.toml:2:38 out-of-range `keepalive.probes` must be a whole number from 1 to 127"#,
        ],
    );
    check(
        r#"[policy.x]
user_timeout = "30d"
"#,
        &[
            r#"a.toml:2:16 out-of-range `user_timeout` must be at most 24d20h31m23s647ms: the kernel takes no more"#,
        ],
    );
}

#[test]
fn settings_are_checked() {
    check(
        r#"[proxy]
cores = "3-1"
"#,
        &[r#"a.toml:2:9 bad-cores `3-1` is not a list of cores"#],
    );
    check(
        r#"[proxy]
cores = "0-3,8"
"#,
        &[],
    );
    check(
        r#"[proxy]
admin = "0.0.0.0:9347"
"#,
        &[
            r#"a.toml:2:9 admin-not-loopback `admin` on 0.0.0.0:9347 needs `admin_token_file`, which is not in this version of Weir"#,
        ],
    );
    check(
        r#"[proxy]
admin = "off"
"#,
        &[],
    );
    check(
        r#"[proxy]
admin = "127.0.0.1"
"#,
        &[r#"a.toml:2:9 bad-address `127.0.0.1` is not an address with a port"#],
    );
    check(
        r#"[proxy]
admin = "127.0.0.1:5432"
"#,
        &[r#"a.toml:2:9 listen-twice `admin` and a gateway both want 127.0.0.1:5432"#],
    );
    check(
        r#"[proxy]
relay = "splcie"
"#,
        &[r#"a.toml:2:9 unknown-value `relay` cannot be "splcie""#],
    );
    check(
        r#"[proxy]
shards = -1
max_connections = -5
"#,
        &[
            r#"a.toml:2:10 out-of-range `shards` must be a whole number from 0 to 1024"#,
            r#"a.toml:3:19 out-of-range `max_connections` must be a whole number from 0 to 4294967295"#,
        ],
    );
    check(
        r#"[proxy]
locality = "a/b/c/d"
"#,
        &[r#"a.toml:2:12 bad-locality `a/b/c/d` is not a locality"#],
    );
    check("[proxy]\nlocality = \"münchen/b_1-c.d/e\"\n", &[]);
    for locality in ["a b", "a\\u202eb", "a\\nb", "a/*"] {
        let text = format!("[proxy]\nlocality = \"{locality}\"\n");
        let sources = crate::sources(&[&text]);
        let codes: Vec<&str> = crate::problems_of(&sources).iter().map(|problem| problem.code).collect();
        assert!(codes.contains(&"bad-locality"), "{locality}: {codes:?}");
    }
    check(
        r#"[log]
level = "inof"
"#,
        &[r#"a.toml:2:9 unknown-value `level` cannot be "inof""#],
    );
}

#[test]
fn policies_are_checked() {
    check(
        r#"[policy.a]
use = "b"
[policy.b]
use = "a"
[policy.c]
use = "a"
"#,
        &[r#"a.toml:2:7 policy-cycle policy `a` uses itself: a -> b -> a"#],
    );
    check(
        r#"[policy.a]
use = "a"
"#,
        &[r#"a.toml:2:7 policy-cycle policy `a` uses itself: a -> a"#],
    );
    check(
        r#"[policy.a]
balance = "leastconnections"
"#,
        &[r#"a.toml:2:11 unknown-value `balance` cannot be "leastconnections""#],
    );
    check(
        r#"[policy.a]
balance = "passthrough"
"#,
        &[r#"a.toml:2:11 not-in-this-version `balance = "passthrough"` is not in this version of Weir"#],
    );
    check(
        r#"[policy.a]
connect_attempts = 0
max_connections = -1
"#,
        &[
            r#"a.toml:2:20 out-of-range `connect_attempts` must be a whole number from 1 to 100"#,
            r#"a.toml:3:19 out-of-range `max_connections` must be a whole number from 0 to 4294967295"#,
        ],
    );
    check(
        r#"[policy.passthrough]
idle_timeout = "0s"
"#,
        &[r#"a.toml:1:9 not-in-this-version `policy.passthrough` is not in this version of Weir"#],
    );
}

#[test]
fn a_circle_of_policies_is_reported_once() {
    check_whole(
        r#"[policy.d]
use = "c"
[policy.c]
use = "b"
[policy.b]
use = "e"
[policy.e]
use = "c"
"#,
        &[
            "a.toml:6:7 policy-cycle policy `b` uses itself: b -> e -> c -> b",
            "  help: take one `use` of the circle out",
            "  a.toml:7:9: through this one",
            "  a.toml:3:9: through this one",
        ],
    );
}
