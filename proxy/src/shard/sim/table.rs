//! The configurations that simulated shards route by: small texts with random policies, compiled as the program compiles them.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use weir_routing::{Resolved, Source, Sources, Table, compile, parse};

use crate::boards::health::HealthBoard;
use crate::boards::in_force::InForce;
use crate::boards::labels::Labels;
use crate::boards::limits::LimitsBoard;

/// Where clients arrive.
pub(super) const LISTENS: &str = "127.0.0.1:7000";
/// An endpoint that is, unknown to the configuration, another listener of the process.
pub(super) const BACK_TO_US: &str = "127.0.0.1:8000";
/// An endpoint of this host on a port that the kernel also draws source ports from.
pub(super) const PERHAPS_ITSELF: &str = "127.0.0.1:40000";

/// Services and all endpoints that they ever have. An address belongs to one service.
pub(super) const SERVICES: [(&str, &[&str]); 4] = [
    ("many", &["192.0.2.1:5432", "192.0.2.2:5432", "192.0.2.3:5432", "192.0.2.4:5432"]),
    ("mixed", &["198.51.100.1:6379", PERHAPS_ITSELF]),
    ("back", &["198.51.100.9:80", BACK_TO_US]),
    ("none", &[]),
];

/// Configurations that worlds draw from: to compile one takes as long as to simulate a session.
const TABLES: u64 = 48;

static COMPILED: LazyLock<Vec<(Table, Arc<Labels>)>> = LazyLock::new(|| {
    (0..TABLES)
        .map(|seed| {
            let table = compiled(&text(&mut fastrand::Rng::with_seed(seed)));
            let labels = Arc::new(Labels::new(&table));
            (table, labels)
        })
        .collect()
});

/// One of the tables, bound to a world's boards.
pub(super) fn in_force(
    generation: u64,
    rng: &mut fastrand::Rng,
    health: &HealthBoard,
    limits: &LimitsBoard,
) -> Arc<InForce> {
    let (table, labels) = &COMPILED[rng.usize(0..COMPILED.len())];
    let bound = [LISTENS, BACK_TO_US].map(|address| address.parse::<SocketAddr>().expect("an address"));
    Arc::new(InForce::new(generation, table.clone(), Arc::clone(labels), health, limits, &bound))
}

fn compiled(text: &str) -> Table {
    let sources = Sources(vec![Source::new("sim.toml", text)]);
    let config = parse(&sources, &|_| Err(std::env::VarError::NotPresent));
    let config = config.unwrap_or_else(|problems| panic!("{problems:?} in\n{text}"));
    compile(&config, &Resolved::new()).unwrap_or_else(|problems| panic!("{problems:?} in\n{text}")).table
}

fn text(rng: &mut fastrand::Rng) -> String {
    let mut text = format!(
        "[gateway.edge]\nlisten = [\"{LISTENS}\"]\nto = [\n  {{ service = \"many\", weight = 8 }},\n  \
         {{ service = \"mixed\", weight = 5 }},\n  {{ service = \"back\", weight = 2 }},\n  \
         {{ service = \"none\", weight = 1 }},\n]\n"
    );
    for (name, endpoints) in SERVICES {
        let mut some: Vec<String> =
            endpoints.iter().filter(|_| rng.u8(..) < 180).map(|endpoint| format!("\"{endpoint}\"")).collect();
        if some.is_empty() {
            some.extend(endpoints.first().map(|endpoint| format!("\"{endpoint}\"")));
        }
        text += &format!(
            "[service.{name}]\nendpoints = [{}]\n[service.{name}.policy]\n{}",
            some.join(", "),
            policy(rng)
        );
    }
    text
}

fn policy(rng: &mut fastrand::Rng) -> String {
    let mut span = |never: u8, most: u64| if rng.u8(..) < never { 0 } else { rng.u64(20..most) };
    let spans = [
        ("connect_timeout", span(20, 1_500)),
        ("connect_deadline", span(40, 4_000)),
        ("idle_timeout", span(100, 3_000)),
        ("half_close_timeout", span(60, 3_000)),
        ("flush_timeout", span(10, 3_000)),
        ("max_duration", span(200, 3_000)),
    ];
    let mut text: String = spans.map(|(key, millis)| format!("{key} = \"{millis}ms\"\n")).concat();
    text += &format!("connect_attempts = {}\n", rng.u32(1..5));
    let balances = ["least_connections", "round_robin", "random", "source_ip"];
    text += &format!("balance = \"{}\"\n", balances[rng.usize(0..balances.len())]);
    if rng.u8(..) < 60 {
        text += &format!("max_connections = {}\n", rng.u32(1..4));
    }
    let keepalive = ["{ time = \"0s\" }", "{ time = \"1s\", interval = \"1s\", probes = 1 }"];
    text + &format!("keepalive = {}\n", keepalive[usize::from(rng.u8(..) < 200)])
}
