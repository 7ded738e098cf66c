//! Temporary.
use std::sync::Arc;
use std::time::Duration;
use weir_routing::split::Share;
use weir_routing::table::*;
use weir_routing::*;
fn main() {
    let place = Place { file: 0, start: 0, end: 0 };
    let ep: std::net::SocketAddr = std::env::args().nth(1).unwrap().parse().unwrap();
    let shards: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let relay = match std::env::args().nth(3).as_deref() {
        Some("copy") => compile::RelayMode::Copy,
        Some("splice") => compile::RelayMode::Splice,
        _ => compile::RelayMode::Auto,
    };
    let s = |s| Some(Duration::from_secs(s));
    let policy = Policy {
        balance: Balance::LeastConnections,
        timeouts: Timeouts {
            connect: s(2),
            connect_deadline: s(10),
            idle: s(3600),
            half_close: s(600),
            flush: s(5),
            max_duration: None,
        },
        connect_attempts: 3,
        max_connections: None,
        keepalive: Some(weir::listener::INHERITED_KEEPALIVE),
        user_timeout: None,
        origins: Arc::default(),
    };
    let parts = Parts {
        gateways: vec![Gateway {
            name: "edge".into(),
            listen: vec![Listen { address: "127.0.0.1".parse().unwrap(), ports: 31400..=31400, place }],
            default: Some(Split::new(vec![Share { destination: DestinationId(0), weight: 1, place }], None)),
            place,
        }],
        services: vec![Service {
            name: "db".into(),
            vips: vec![],
            ports: vec![],
            subsets: vec![],
            max_connections: None,
            by_port: vec![],
            place,
        }],
        destinations: vec![Destination {
            name: "db".into(),
            service: ServiceId(0),
            subset: None,
            port: None,
            by_client_port: vec![],
            endpoints: vec![EndpointId(0)],
            policy,
        }],
        endpoints: vec![Endpoint {
            service: ServiceId(0),
            address: ep,
            weight: 1,
            priority: 0,
            locality: "".into(),
            labels: Default::default(),
            host: None,
            place,
        }],
        ..Parts::default()
    };
    let table = Table::build(parts);
    let settings = Settings {
        cores: compile::Cores::All,
        cores_place: None,
        shards: 0,
        admin: None,
        admin_place: None,
        watch: true,
        drain_delay: Duration::ZERO,
        drain_timeout: s(25),
        resolve_interval: s(10),
        max_connections: None,
        busy_poll: Duration::ZERO,
        relay,
        log_level: compile::LogLevel::Info,
    };
    let cores: Vec<usize> = (0..shards).collect();
    let mut fleet = weir::fleet::Fleet::start(&settings, &cores).unwrap();
    println!("{:?}", fleet.apply(&table, &settings, 1).unwrap());
    loop {
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line).unwrap() == 0 {
            break;
        }
        let mut out = String::new();
        fleet.metrics().render(&mut out);
        for l in out.lines().filter(|l| !l.starts_with('#')) {
            println!("{l}");
        }
        println!("active {}", fleet.active());
    }
    fleet.stop_accepting();
    fleet.reset_all(Duration::ZERO);
    fleet.stop();
}
