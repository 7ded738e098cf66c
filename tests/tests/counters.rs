//! Counters over reloads: names come, go and are brought back; no counter that is shown goes back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;
use weir_tests::client::{ask, connect_from};
use weir_tests::metrics::Metrics;
use weir_tests::{Backend, Weir, busy, wait_for};

const RELOADS: usize = 200;

/// Connections that are held over reloads.
const HELD: usize = 8;

const ROUTES: usize = 4;
const SUBSETS: [&str; 2] = ["v1", "v2"];

/// Which names a configuration has.
#[derive(Clone, Debug, Default)]
struct Names {
    gateways: BTreeSet<String>,
    /// By the last byte of the source that it takes.
    routes: BTreeMap<usize, String>,
    services: BTreeSet<String>,
}

impl Names {
    /// Some of all names. The next time the same name may stand for another part.
    fn some(rng: &mut fastrand::Rng) -> Self {
        let mut some = |prefix: &str| -> BTreeSet<String> {
            let all = (0..3).map(|index| format!("{prefix}{index}"));
            let mut names: BTreeSet<String> = all.filter(|_| rng.bool()).collect();
            if names.is_empty() {
                names.insert(format!("{prefix}{}", rng.usize(..3)));
            }
            names
        };
        let (gateways, services) = (some("gateway"), some("service"));
        let routes = (0..ROUTES).filter(|_| rng.bool()).map(|index| (index, format!("route{index}")));
        Self { gateways, routes: routes.collect(), services }
    }

    fn toml(&self, backends: &[SocketAddr], rng: &mut fastrand::Rng) -> String {
        let services: Vec<&String> = self.services.iter().collect();
        let mut to = || {
            let service = services[rng.usize(..services.len())];
            match rng.usize(..3) {
                2 => format!("to = [{{ service = \"{service}\" }}]\n"),
                subset => format!("to = [{{ service = \"{service}\", subset = \"{}\" }}]\n", SUBSETS[subset]),
            }
        };
        let mut toml = String::new();
        for gateway in &self.gateways {
            toml += &format!("[gateway.{gateway}]\nlisten = [\"127.0.0.1:0\"]\n{}", to());
        }
        for (source, route) in &self.routes {
            toml += &format!(
                "[[route]]\nname = \"{route}\"\ngateways = [\"*\"]\nmatch = [{{ source_subnets = [\"127.0.0.{}/32\"] }}]\n{}",
                source + 1,
                to()
            );
        }
        for service in &self.services {
            toml += &format!("[service.{service}]\nendpoints = [\n");
            for (backend, subset) in backends.iter().zip(SUBSETS) {
                toml += &format!(" {{ address = \"{backend}\", labels = {{ version = \"{subset}\" }} }},\n");
            }
            toml += "]\n";
            for subset in SUBSETS {
                toml +=
                    &format!("[service.{service}.subset.{subset}]\nlabels = {{ version = \"{subset}\" }}\n");
            }
        }
        toml
    }

    /// Whether a label's value is one of these names, or none.
    fn have(&self, label: &str, value: &str) -> bool {
        let is_of = |names: &BTreeSet<String>, name: &str| names.contains(name);
        value.is_empty()
            || match label {
                "gateway" => is_of(&self.gateways, value),
                "route" => self.routes.values().any(|route| route == value),
                "service" => is_of(&self.services, value),
                "subset" => value.split_once('/').is_some_and(|(service, _)| is_of(&self.services, service)),
                _ => true,
            }
    }
}

/// Every scrape is compared with the one before.
struct Watcher {
    weir: Weir,
    last: BTreeMap<(String, BTreeMap<String, String>), f64>,
    scrapes: usize,
}

impl Watcher {
    #[track_caller]
    fn scrape(&mut self) -> Metrics {
        let metrics = self.weir.metrics();
        let counters = metrics.ending_in("_total");
        for (series, before) in &self.last {
            if let Some(now) = counters.get(series) {
                assert!(before <= now, "scrape {}: {series:?} went from {before} to {now}", self.scrapes);
            }
        }
        let sum = |name: &str| metrics.sum(&format!("weir_connections_{name}"), &[]);
        let (opened, closed, active) = (sum("opened_total"), sum("closed_total"), sum("active"));
        assert_eq!(opened, closed + active, "scrape {}: opened, and closed + active", self.scrapes);
        self.last = counters;
        self.scrapes += 1;
        metrics
    }

    #[track_caller]
    fn reload(&mut self, toml: &str) {
        let generation = |metrics: &Metrics| metrics.sum("weir_config_generation", &[]);
        let before = generation(&self.scrape());
        self.weir.write(toml);
        self.weir.signal(Signal::HUP);
        let in_force = wait_for(Duration::from_secs(10), || generation(&self.scrape()) > before);
        assert!(in_force, "no new table:\n{}", self.weir.output());
    }

    /// Where the gateways listen now.
    fn addresses(&self) -> Vec<SocketAddr> {
        let config: serde_json::Value = serde_json::from_str(&self.weir.get("/config").body).expect("JSON");
        let gateways = config["gateways"].as_object().expect("gateways").values();
        gateways
            .map(|gateway| gateway["listening"][0].as_str().expect("one").parse().expect("an address"))
            .collect()
    }
}

#[test]
fn no_counter_goes_back_over_200_reloads_and_names_that_are_gone_leave() {
    let _turn = busy();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let backends = SUBSETS.map(|_| Backend::lines("one"));
    let addresses = [backends[0].address, backends[1].address];
    let mut names = Names::some(&mut rng);
    // A change of the file alone would be taken between writing it and the signal.
    let quiet = |names: &Names, rng: &mut fastrand::Rng| {
        format!("[proxy]\nwatch = false\n{}", names.toml(&addresses, rng))
    };
    let weir = Weir::start(&quiet(&names, &mut rng));
    let mut watcher = Watcher { weir, last: BTreeMap::new(), scrapes: 0 };
    let mut held: Vec<TcpStream> = Vec::new();
    for _ in 0..RELOADS {
        let addresses = watcher.addresses();
        for _ in 0..4 {
            let source = IpAddr::from([127, 0, 0, rng.usize(..=ROUTES) as u8 + 1]);
            let client = connect_from(source, addresses[rng.usize(..addresses.len())]).expect("it listens");
            assert_eq!(ask(&client, "hello"), "one hello");
            held.push(client);
        }
        while held.len() > HELD {
            held.swap_remove(rng.usize(..held.len()));
        }
        names = Names::some(&mut rng);
        watcher.reload(&quiet(&names, &mut rng));
    }
    held.clear();
    let mut strange = Vec::new();
    let gone = wait_for(Duration::from_secs(2), || {
        let metrics = watcher.scrape();
        let all = metrics.ending_in("_total").into_keys().chain(metrics.ending_in("_active").into_keys());
        strange =
            all.filter(|(_, labels)| labels.iter().any(|(label, value)| !names.have(label, value))).collect();
        strange.is_empty()
    });
    assert!(gone, "shown although they are gone: {strange:#?}");
    println!("{} scrapes", watcher.scrapes);
}
