//! The one list of keys: those that this version reads, and those of later versions. A feature that arrives turns its keys from
//! `later` ones into others.

use super::key::Kind::{
    Duration, Flag, Labels, Number, Numbers, Ports, Table, Tables, TablesAndTexts, TablesOrAny, Text, Texts,
};
use super::key::LeftOut::{Otherwise, Required, Value};
use super::key::Same::{Disabled, EmptyList, False, Never, Word, Zero};
use super::key::{Key, KeyTable, LeftOut, Status};

/// The version in which a key came.
const FIRST: &str = "0.1.0";

const TAKE_OUT: &str = "take it out";
/// Without one of its conditions a route would take more connections than it should.
const ROUTE: &str =
    "take the whole route out, or write `enabled = false` in it: without this it would do something else";
const TEST: &str = "take the whole test out: without this it would claim something else";
const NO_CONNECTIONS: &str = "`weight = 0` keeps new connections from it";
const NO_LOG: &str =
    "take it out: this version writes no access log, and `/metrics` counts every end by its reason";
const ADDRESSES: &str = "list the addresses or host names, with their ports";
const NEXT_ENDPOINT: &str =
    "take it out: a failed connect goes on to another endpoint, within `connect_attempts`";

const DESCRIPTION: &str = "A note for readers of the file; Weir does nothing with it.";

/// A row for each key: `name: type / unit, default, since, sentence`, or `name: later, accepted value, advice`.
macro_rules! keys {
    ($($name:literal: $kind:tt $(/ $unit:literal)?, $($rest:expr),*;)*) => {
        &[$(Key { name: $name, status: keys!(@ $kind [$($unit)?] $($rest),*) }),*]
    };
    (@ later [] $same:expr, $instead:expr) => {
        Status::Later { same: $same, instead: $instead }
    };
    (@ $kind:tt [$($unit:literal)?] $default:expr, $since:expr, $about:expr) => {
        Status::Read { kind: $kind, unit: concat!($($unit)?), default: $default, since: $since, about: $about }
    };
}

const NONE: LeftOut = Otherwise("none");
const UNLIMITED: LeftOut = Value("\"0s\"");

/// Every table that has keys of its own.
pub const TABLES: &[KeyTable] = &[
    KeyTable {
        header: "top of a file",
        paths: &[""],
        keys: keys! {
            "namespace": Text, Value("\"default\""), FIRST, "The namespace of all that the file declares and of its references; it stands before the first header.";
            "proxy": Table, NONE, FIRST, "Settings of the process: `[proxy]`, in one file only.";
            "log": Table, NONE, FIRST, "The process log: `[log]`, in one file only.";
            "gateway": Table, Required, FIRST, "Where connections come in: `[gateway.NAME]`.";
            "route": Tables, NONE, FIRST, "Which connections go where: `[[route]]`.";
            "service": Table, NONE, FIRST, "Where connections go: `[service.NAME]`.";
            "policy": Table, NONE, FIRST, "Timeouts, limits and balancing under a name: `[policy.NAME]`.";
            "workload": Table, NONE, FIRST, "Who owns an address: `[workload.NAME]`.";
            "test": Tables, NONE, FIRST, "Expected decisions for single connections: `[[test]]`.";
            "lane_group": later, Never, TAKE_OUT;
            "lane": later, Never, TAKE_OUT;
        },
    },
    KeyTable {
        header: "[proxy]",
        paths: &["proxy"],
        keys: keys! {
            "cores": Text, Value("\"all\""), FIRST, "The cores that shards run on: `\"all\"` that the process may use (affinity and cgroup quota), or a list as taskset writes it, `\"0-3,8\"`.";
            "shards": Number / "shards", Value("0"), FIRST, "How many shards run, at most 1024; 0 is one for each core.";
            "locality": Text, NONE, FIRST, "Where this proxy runs, as `\"region/zone/subzone\"`; checked, and nothing is decided by it yet.";
            "admin": Text, Value("\"127.0.0.1:9347\""), FIRST, "The loopback address that serves `/live`, `/ready`, `/metrics` and `/config`, or `\"off\"`.";
            "watch": Flag, Value("true"), FIRST, "Changed files are read without being asked; with `false` only on HUP.";
            "drain_delay": Duration / "ms", Value("\"0s\""), FIRST, "After TERM, `/ready` fails at once and new connections are still accepted for this long.";
            "drain_timeout": Duration / "ms", Value("\"25s\""), FIRST, "Then sessions have this long to finish; those that remain are reset, spread over its last fifth. `\"0s\"` waits without end.";
            "resolve_interval": Duration / "ms", Value("\"10s\""), FIRST, "Host names are resolved again after this long, or earlier if their TTL is over; `\"0s\"` is never.";
            "max_connections": Number / "connections", Value("0"), FIRST, "Connections of the whole process at one time; 0 takes as many as the descriptor limit allows.";
            "busy_poll": Duration / "us", Value("\"0s\""), FIRST, "A shard spins this long, at most `\"1s\"`, before it sleeps: lower latency for more CPU.";
            "relay": Text, Value("\"auto\""), FIRST, "How bytes are moved: `\"auto\"` copies and splices where it pays, `\"copy\"` and `\"splice\"` do only that.";
            "admin_token_file": later, Never, "take it out: in this version `admin` answers on loopback addresses only";
            "control": later, Word("off"), TAKE_OUT;
            "state": later, Word("off"), TAKE_OUT;
            "metrics": later, Word("off"), "take it out: `admin` serves /metrics";
            "handover_timeout": later, Never, TAKE_OUT;
            "trusted_peers": later, EmptyList, TAKE_OUT;
        },
    },
    KeyTable {
        header: "[log]",
        paths: &["log"],
        keys: keys! {
            "level": Text, Value("\"info\""), FIRST, "The level of the process log on stderr: `\"error\"`, `\"warn\"`, `\"info\"`, `\"debug\"` or `\"trace\"`.";
            "access": later, Word("off"), NO_LOG;
            "sample": later, Never, NO_LOG;
            "null": later, False, NO_LOG;
            "format": later, Never, NO_LOG;
            "to": later, Never, NO_LOG;
            "while_open": later, Zero, NO_LOG;
        },
    },
    KeyTable {
        header: "[gateway.NAME]",
        paths: &["gateway.*"],
        keys: keys! {
            "description": Text, NONE, FIRST, DESCRIPTION;
            "listen": Texts, Required, FIRST, "Addresses with a port or a range of ports: `\"0.0.0.0:5432\"`, `\"[::]:6000-6099\"`; port 0 is a free one, and `[::]` takes IPv6 only.";
            "to": Tables, NONE, FIRST, "Where connections go that no route and no service took; one destination is drawn by weight.";
            "unmatched": Text, Value("\"reject\""), FIRST, "Without `to`: connections that nothing took are reset.";
            "max_connections": Number / "connections", Value("0"), FIRST, "Connections of this gateway at one time; one more is reset at once. 0 is no limit. A reload changes the limit, and counts those that are open.";
            "max_connections_per_source": Number / "connections", Value("0"), FIRST, "The same for one client address; for IPv6 a /64 counts as one. Connections that were open before any limit of sources was set are not counted.";
            "max_connection_rate": Number / "connections a second", Value("0"), FIRST, "Connections that this gateway accepts in a second, at most 1000000, those that a route then rejects included; after a rest one second's worth at once, beyond it one is reset. 0 is no limit.";
            "max_connection_rate_per_source": Number / "connections a second", Value("0"), FIRST, "The same for one client address; connections over it take nothing of the gateway's rate.";
            "interception": later, Word("none"), TAKE_OUT;
            "proxy_protocol": later, Word("off"), TAKE_OUT;
            "inspect_timeout": later, Never, TAKE_OUT;
            "inspect_bytes": later, Never, TAKE_OUT;
            "on_inspect_timeout": later, Never, TAKE_OUT;
            "interface": later, Word(""), TAKE_OUT;
            "freebind": later, False, TAKE_OUT;
            "trusted_peers": later, EmptyList, TAKE_OUT;
        },
    },
    KeyTable {
        header: "[[route]]",
        paths: &["route.*"],
        keys: keys! {
            "description": Text, NONE, FIRST, DESCRIPTION;
            "name": Text, Otherwise("\"route-N\", N its place among the unnamed"), FIRST, "Its name in logs, metrics and `explain`; `sticky` draws by it, too.";
            "gateways": Texts, Otherwise("required with several gateways"), FIRST, "The gateways it holds on; `\"*\"` stands for all.";
            "order": Number, Value("0"), FIRST, "Routes are tried by `order`, lower first, then in order of reading.";
            "match": Tables, Otherwise("everything"), FIRST, "Blocks of conditions: one block must hold, and in it every condition.";
            "to": Tables, Otherwise("required without `reject`"), FIRST, "Where its connections go; one destination is drawn by weight for each connection.";
            "sticky": Text, NONE, FIRST, "`\"source\"` draws by a hash of the source address instead of at random: the same source gets the same destination on every host.";
            "reject": Flag, Value("false"), FIRST, "With `true`, instead of `to`: its connections are reset.";
            "enabled": Flag, Value("true"), FIRST, "With `false` the route is checked and not used.";
            "lane": later, Never, ROUTE;
        },
    },
    KeyTable {
        header: "a block of `match`",
        paths: &["route.*.match.*"],
        keys: keys! {
            "ports": Ports, Otherwise("every port"), FIRST, "Ports of the original destination, and ranges of them: `[5432, \"6000-6099\"]`.";
            "destination_subnets": Texts, Otherwise("every address"), FIRST, "Networks of the original destination.";
            "source_subnets": Texts, Otherwise("every address"), FIRST, "Networks of the client.";
            "source_labels": Labels, Otherwise("every client"), FIRST, "Labels that the client's workload has, all of them with these values.";
            "source_namespaces": Texts, Otherwise("every client"), FIRST, "Namespaces, of which one is that of the client's workload.";
            "destination_services": Texts, Otherwise("every destination"), FIRST, "Services, of which one has the original destination as a VIP and port.";
            "sni": later, Never, ROUTE;
            "alpn": later, Never, ROUTE;
            "http": later, Never, ROUTE;
        },
    },
    KeyTable {
        header: "a destination in `to`",
        paths: &["gateway.*.to.*", "route.*.to.*"],
        keys: keys! {
            "service": Text, Required, FIRST, "The service.";
            "subset": Text, Otherwise("all endpoints"), FIRST, "A subset of it.";
            "port": Number, Otherwise("the only port, else the one that the client dialled"), FIRST, "The port of the service that is used.";
            "weight": Number, Value("1"), FIRST, "Its part of the connections, 0 to 1,000,000, on all destinations or on none; 0 gets nothing.";
        },
    },
    KeyTable {
        header: "[service.NAME]",
        paths: &["service.*"],
        keys: keys! {
            "description": Text, NONE, FIRST, DESCRIPTION;
            "vips": Texts, NONE, FIRST, "Virtual addresses, or networks, that clients dial instead of an endpoint.";
            "ports": TablesOrAny, NONE, FIRST, "Its ports, or `\"any\"`: every port, and an endpoint without one is dialled on the port that the client dialled.";
            "selector": Labels, NONE, FIRST, "Workloads of its namespace with all of these labels are endpoints; an empty one selects nothing.";
            "endpoints": TablesAndTexts, NONE, FIRST, "Its addresses; a string is enough for an address alone.";
            "policy": Table, NONE, FIRST, "Its policy: `[service.NAME.policy]`.";
            "subset": Table, NONE, FIRST, "Its subsets: `[service.NAME.subset.NAME]`.";
        },
    },
    KeyTable {
        header: "an element of `ports`",
        paths: &["service.*.ports.*"],
        keys: keys! {
            "name": Text, NONE, FIRST, "A name, by which a workload can give its own port.";
            "port": Number, Required, FIRST, "The port that clients dial.";
            "target_port": Number, Otherwise("`port`"), FIRST, "The port that is dialled at endpoints without a port of their own.";
        },
    },
    KeyTable {
        header: "[service.NAME.subset.NAME]",
        paths: &["service.*.subset.*"],
        keys: keys! {
            "description": Text, NONE, FIRST, DESCRIPTION;
            "labels": Labels, Otherwise("every endpoint"), FIRST, "Labels that its endpoints have, all of them with these values.";
            "policy": Table, NONE, FIRST, "Keys that differ from the policy of the service: `[service.NAME.subset.NAME.policy]`.";
        },
    },
    KeyTable {
        header: "an element of `endpoints`",
        paths: &["service.*.endpoints.*"],
        keys: keys! {
            "address": Text, Required, FIRST, "An address or a host name, with or without a port; a host name stands for all its addresses.";
            "labels": Labels, NONE, FIRST, "Labels, by which subsets choose.";
            "locality": Text, NONE, FIRST, "Where it runs, as `\"region/zone/subzone\"`; shown, and nothing is decided by it yet.";
            "weight": Number, Value("1"), FIRST, "Its part of the connections among its priority, 0 to 1,000,000; 0 gets no new one.";
            "priority": Number, Value("0"), FIRST, "0 to 127; a higher one is used only while none of a lower one can be.";
            "state": later, Word("ready"), NO_CONNECTIONS;
            "max_connections": later, Zero, "take it out: `max_connections` in the policy limits the service";
            "srv": later, Never, ADDRESSES;
        },
    },
    KeyTable {
        header: "[policy]",
        paths: &["policy"],
        keys: keys! { "passthrough": later, Never, TAKE_OUT; },
    },
    KeyTable {
        header: "a policy",
        paths: &["policy.*", "service.*.policy", "service.*.subset.*.policy"],
        keys: keys! {
            "description": Text, NONE, FIRST, DESCRIPTION;
            "use": Text, NONE, FIRST, "A named policy beneath this one: keys that this one leaves out come from there.";
            "balance": Text, Value("\"least_connections\""), FIRST, "How an endpoint is chosen: `\"least_connections\"`, `\"round_robin\"`, `\"random\"` or `\"source_ip\"` (Maglev).";
            "connect_timeout": Duration / "ms", Value("\"2s\""), FIRST, "One connect attempt; `\"0s\"` leaves it to the kernel.";
            "connect_attempts": Number / "attempts", Value("3"), FIRST, "1 to 100, each on another endpoint; with only one, on the same after a second.";
            "connect_deadline": Duration / "ms", Value("\"10s\""), FIRST, "All connect attempts together.";
            "idle_timeout": Duration / "ms", Value("\"1h\""), FIRST, "A session ends when no byte has moved in either direction for this long.";
            "half_close_timeout": Duration / "ms", Value("\"10m\""), FIRST, "The same after one side has sent a FIN, instead of `idle_timeout`.";
            "flush_timeout": Duration / "ms", Value("\"5s\""), FIRST, "How long an ending waits for received bytes to leave, counted from the last byte that left.";
            "max_duration": Duration / "ms", UNLIMITED, FIRST, "A session ends this long after it was accepted.";
            "max_connections": Number / "connections", Value("0"), FIRST, "Connections of this service, or subset, in this process, those that are dialled included; one more is reset at once. 0 is no limit.";
            "keepalive": Table, Otherwise("as below"), FIRST, "TCP keepalive of both sides.";
            "user_timeout": Duration / "ms", UNLIMITED, FIRST, "TCP_USER_TIMEOUT of both sides: how long sent bytes may stay unacknowledged; `\"0s\"` is the kernel's.";
            "max_connections_per_endpoint": later, Zero, TAKE_OUT;
            "source": later, Word("auto"), TAKE_OUT;
            "mark": later, Zero, TAKE_OUT;
            "interface": later, Word(""), TAKE_OUT;
            "proxy_protocol": later, Word("off"), TAKE_OUT;
            "on_unhealthy": later, Word("keep"), TAKE_OUT;
            "on_recovered": later, Word("keep"), TAKE_OUT;
            "on_removed": later, Word("keep"), TAKE_OUT;
            "warmup": later, Never, TAKE_OUT;
            "health_check": later, Never, NEXT_ENDPOINT;
            "outlier": later, Disabled, NEXT_ENDPOINT;
            "locality": later, Never, "take it out: `priority` of endpoints decides which are used first";
        },
    },
    KeyTable {
        header: "`keepalive` of a policy",
        paths: &["policy.*.keepalive", "service.*.policy.keepalive", "service.*.subset.*.policy.keepalive"],
        keys: keys! {
            "time": Duration / "s", Value("\"60s\""), FIRST, "Idle time before the first probe; `\"0s\"` turns keepalive off.";
            "interval": Duration / "s", Value("\"15s\""), FIRST, "Time between probes, at least `\"1s\"`.";
            "probes": Number / "probes", Value("4"), FIRST, "1 to 127 probes without an answer, after which the peer counts as gone.";
        },
    },
    KeyTable {
        header: "[workload.NAME]",
        paths: &["workload.*"],
        keys: keys! {
            "description": Text, NONE, FIRST, DESCRIPTION;
            "labels": Labels, NONE, FIRST, "Labels, by which routes and selectors choose.";
            "locality": Text, NONE, FIRST, "Where it runs, as `\"region/zone/subzone\"`; shown, and nothing is decided by it yet.";
            "addresses": Texts, NONE, FIRST, "Addresses and networks that it owns: the longest prefix of all workloads wins, and the first single address is its endpoint.";
            "ports": Numbers, NONE, FIRST, "Its own port, by the name of a service port, instead of `target_port`: `{ http = 8080 }`.";
            "weight": Number, Value("1"), FIRST, "As of an endpoint.";
            "state": later, Word("ready"), NO_CONNECTIONS;
        },
    },
    KeyTable {
        header: "[[test]]",
        paths: &["test.*"],
        keys: keys! {
            "description": Text, NONE, FIRST, DESCRIPTION;
            "name": Text, Otherwise("\"test-N\", N its place"), FIRST, "Its name in messages.";
            "source": Text, Required, FIRST, "The client's address, with or without a port.";
            "destination": Text, Required, FIRST, "The address and port that the client dials.";
            "gateway": Text, Otherwise("the one that listens there"), FIRST, "The gateway at which the connection arrives.";
            "expect": Table, Required, FIRST, "The decision; only the keys that it has are compared.";
            "sni": later, Never, TEST;
            "alpn": later, Never, TEST;
            "host": later, Never, TEST;
            "path": later, Never, TEST;
            "headers": later, Never, TEST;
            "lane": later, Never, TEST;
        },
    },
    KeyTable {
        header: "`expect` of a test",
        paths: &["test.*.expect"],
        keys: keys! {
            "route": Text, Otherwise("not compared"), FIRST, "The route that takes the connection; `\"\"` is none.";
            "service": Text, Otherwise("not compared"), FIRST, "The one service of all destinations that may be drawn.";
            "subsets": Texts, Otherwise("not compared"), FIRST, "All subsets that may be drawn; `\"\"` is a destination without one.";
            "endpoints": Texts, Otherwise("not compared"), FIRST, "All addresses that may be dialled.";
            "reject": Flag, Otherwise("`false`, where another key expects a destination"), FIRST, "Whether every connection is refused.";
            "passthrough": later, False, TEST;
            "lane": later, Word(""), TEST;
        },
    },
];
