//! The counters of connections. Each [`Series`] belongs to one shard and to one way through one table (gateway, route,
//! destination), is written by that shard alone with relaxed stores, and is summed by whoever reads.
//!
//! Opened and closed stand side by side in a series, and active is their difference, so that opened = closed + active in
//! whatever a scrape sees.
//!
//! A table comes with its [`Labels`], the names behind its ids, made by the loader. A shard finds a series by ids. It makes one
//! when the first connection takes that way, and passes it on through a lock-free queue: all ways of a table would be gateways
//! times routes times destinations, millions where nobody names gateways in routes.
//!
//! The [`Registry`] gives series their labels, and keeps what they counted when neither a table nor a session holds them any
//! more. A name that no table in use and no session has leaves the labels, and what was counted under it is added to what the
//! other labels of the series still show: no counter that is shown goes back.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, fence};
use std::sync::{Arc, Mutex, PoisonError};

use concurrent_queue::ConcurrentQueue;
use weir_routing::{DestinationId, GatewayId, RouteId, Table};

use crate::reason::Reason;

/// A counter with one writer: no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// By the owning shard only.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// By the owning shard only.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// By anyone.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one shard counts beside its connections. It has cache lines of its own, for its shard writes it all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardCounters {
    /// Sockets this shard accepted and gave to another.
    pub handed_over: Counter,
    /// Bytes moved by splice.
    pub spliced_bytes: Counter,
    /// Bytes moved through the buffer.
    pub copied_bytes: Counter,
    /// Pipes that sessions hold.
    pub pipes_in_use: Counter,
    /// Tails (unsent rests of reads) that sessions hold.
    pub tails_in_use: Counter,
    /// The memory of these.
    pub tail_bytes: Counter,
    /// Completions for a slot's earlier life, dropped.
    pub stale_completions: Counter,
    /// Dials that found no source port.
    pub source_ports_exhausted: Counter,
    /// Listeners that are open, those that are being emptied included.
    pub listeners: Counter,
    /// The table this shard routes by.
    pub generation: Counter,
    accept_errors: AcceptErrors,
}

/// The highest errno of Linux, EHWPOISON.
pub const MAX_ERRNO: usize = 133;

/// Accepts that failed, by errno.
#[derive(Debug)]
struct AcceptErrors([Counter; MAX_ERRNO + 1]);

impl Default for AcceptErrors {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl ShardCounters {
    /// Counts an accept that failed.
    pub fn accept_failed(&self, error: &std::io::Error) {
        let errno = error.raw_os_error().map_or(0, |errno| errno as usize);
        self.accept_errors.0[errno.min(MAX_ERRNO)].add(1);
    }

    /// Accepts that failed with this errno, at most [`MAX_ERRNO`].
    pub fn accepts_failed(&self, errno: usize) -> u64 {
        self.accept_errors.0[errno].get()
    }
}

/// The connections of one shard that took the same way.
#[derive(Debug)]
pub struct Series {
    /// Connections whose route was decided, or that ended without one.
    pub opened: Counter,
    closed: [Counter; Reason::ALL.len()],
    /// Bytes sent to upstreams.
    pub bytes_up: Counter,
    /// Bytes sent to clients.
    pub bytes_down: Counter,
    /// Connections from sources that no workload owns.
    pub unknown_sources: Counter,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            opened: Counter::default(),
            closed: std::array::from_fn(|_| Counter::default()),
            bytes_up: Counter::default(),
            bytes_down: Counter::default(),
            unknown_sources: Counter::default(),
        }
    }
}

impl Series {
    /// Counts an end.
    pub fn close(&self, reason: Reason) {
        self.closed[reason as usize].add(1);
    }

    fn read(&self) -> Reading {
        // Ends first: an end that is seen belongs to a beginning that is seen as well.
        let closed = std::array::from_fn(|reason| self.closed[reason].get());
        fence(Acquire);
        Reading {
            opened: self.opened.get().max(closed.iter().sum()),
            closed,
            bytes_up: self.bytes_up.get(),
            bytes_down: self.bytes_down.get(),
            unknown_sources: self.unknown_sources.get(),
        }
    }
}

/// A way through one table, by its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Way {
    /// The gateway that took the connection.
    pub gateway: GatewayId,
    /// The route that matched.
    pub route: Option<RouteId>,
    /// The destination that was drawn.
    pub destination: Option<DestinationId>,
}

/// The names behind the ids of one table, made with it. Tables that are the same but for their shard share one.
#[derive(Debug)]
pub struct Labels {
    gateways: Vec<Arc<str>>,
    routes: Vec<Arc<str>>,
    /// Service, and "service/subset" or "".
    destinations: Vec<(Arc<str>, Arc<str>)>,
    none: Arc<str>,
    names: Names,
}

impl Labels {
    /// Of this table.
    pub fn new(table: &Table) -> Self {
        let none: Arc<str> = Arc::from("");
        let subsets: Vec<Vec<Arc<str>>> = table
            .parts()
            .services
            .iter()
            .map(|service| {
                let full = |name: &str| Arc::from(format!("{}/{name}", service.name));
                service.subsets.iter().map(|subset| full(&subset.name)).collect()
            })
            .collect();
        let gateways: Vec<_> =
            table.parts().gateways.iter().map(|gateway| Arc::clone(&gateway.name)).collect();
        let routes: Vec<_> = table.parts().routes.iter().map(|route| Arc::clone(&route.name)).collect();
        let destinations = table.parts().destinations.iter().map(|destination| {
            let service = destination.service.index();
            let subset = destination.subset.map(|subset| Arc::clone(&subsets[service][subset.index()]));
            (Arc::clone(&table.parts().services[service].name), subset.unwrap_or_else(|| Arc::clone(&none)))
        });
        let destinations = destinations.collect();
        let names = Names {
            gateways: gateways.iter().cloned().collect(),
            routes: routes.iter().cloned().collect(),
            services: table.parts().services.iter().map(|service| Arc::clone(&service.name)).collect(),
            subsets: subsets.into_iter().flatten().collect(),
        };
        Self { gateways, routes, destinations, none, names }
    }

    fn key(&self, way: Way) -> SeriesKey {
        let (service, subset) = match way.destination {
            Some(id) => self.destinations[id.index()].clone(),
            None => (Arc::clone(&self.none), Arc::clone(&self.none)),
        };
        SeriesKey {
            gateway: Arc::clone(&self.gateways[way.gateway.index()]),
            route: Arc::clone(way.route.map_or(&self.none, |id| &self.routes[id.index()])),
            service,
            subset,
        }
    }
}

/// Names of tables or of series, by what they name.
#[derive(Debug, Default)]
struct Names {
    gateways: HashSet<Arc<str>>,
    routes: HashSet<Arc<str>>,
    services: HashSet<Arc<str>>,
    /// "service/subset".
    subsets: HashSet<Arc<str>>,
}

impl Names {
    fn insert(&mut self, key: &SeriesKey) {
        let SeriesKey { gateway, route, service, subset } = key;
        for (names, name) in [
            (&mut self.gateways, gateway),
            (&mut self.routes, route),
            (&mut self.services, service),
            (&mut self.subsets, subset),
        ] {
            if !names.contains(name) {
                names.insert(Arc::clone(name));
            }
        }
    }

    fn have(&self, key: &SeriesKey) -> bool {
        let has = |names: &HashSet<Arc<str>>, name: &Arc<str>| name.is_empty() || names.contains(name);
        has(&self.gateways, &key.gateway)
            && has(&self.routes, &key.route)
            && has(&self.services, &key.service)
            && has(&self.subsets, &key.subset)
    }
}

/// The series of one shard, by the ways through the table that it routes by.
#[derive(Debug)]
pub struct Ledger {
    /// Of the table whose series are kept here; none before the first.
    labels: Option<Arc<Labels>>,
    series: HashMap<Way, Arc<Series>>,
    registry: Arc<Registry>,
}

impl Ledger {
    /// An empty one, whose series are given to `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { labels: None, series: HashMap::new(), registry }
    }

    /// From now on series of the table with these labels are kept. Those of the last one live on in their sessions.
    pub fn follow(&mut self, labels: &Arc<Labels>) {
        self.labels = Some(Arc::clone(labels));
        self.series.clear();
    }

    /// The series of a way through the table with these labels. Where this is not the table that is followed (a listener that
    /// is closing belongs to an older one) the series is made for this connection alone: kept, it would hold its names.
    pub fn series(&mut self, labels: &Arc<Labels>, way: Way) -> Arc<Series> {
        if !self.labels.as_ref().is_some_and(|followed| Arc::ptr_eq(followed, labels)) {
            return self.registry.open(labels, way);
        }
        match self.series.entry(way) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(new) => Arc::clone(new.insert(self.registry.open(labels, way))),
        }
    }
}

/// Where connections came in and went, by name. "" where there is none, and in place of names that are gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// The gateway. "": one that is gone, of which only the bytes of services are shown.
    pub gateway: Arc<str>,
    /// The route; "" where none took it.
    pub route: Arc<str>,
    /// The service; "" where it got none.
    pub service: Arc<str>,
    /// "service/subset", or "".
    pub subset: Arc<str>,
}

/// What one series, or several with the same labels, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Connections that were opened.
    pub opened: u64,
    /// Those that ended, by reason.
    pub closed: [u64; Reason::ALL.len()],
    /// Bytes sent to upstreams.
    pub bytes_up: u64,
    /// Bytes sent to clients.
    pub bytes_down: u64,
    /// Connections from sources that no workload owns.
    pub unknown_sources: u64,
}

impl Reading {
    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.closed.iter_mut().zip(&other.closed).for_each(|(sum, n)| *sum += n);
        self.bytes_up += other.bytes_up;
        self.bytes_down += other.bytes_down;
        self.unknown_sources += other.unknown_sources;
    }

    /// Connections that have not ended.
    pub fn active(&self) -> u64 {
        self.opened - self.closed.iter().sum::<u64>()
    }
}

/// All series of all shards.
#[derive(Debug)]
pub struct Registry {
    /// What shards have made since somebody looked. Unbounded, so that a shard never waits; emptied at each scrape and with
    /// each table, and one table's ways are as many as there are.
    new: ConcurrentQueue<Opened>,
    /// For readers and the loader. Never taken by a shard.
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Opened {
    labels: Arc<Labels>,
    way: Way,
    series: Arc<Series>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { new: ConcurrentQueue::unbounded(), books: Mutex::default() }
    }
}

impl Registry {
    fn open(&self, labels: &Arc<Labels>, way: Way) -> Arc<Series> {
        let series = Arc::default();
        let opened = Opened { labels: Arc::clone(labels), way, series: Arc::clone(&series) };
        self.new.push(opened).expect("it has no bound and is never closed");
        series
    }

    /// Learns of a table before any shard gets it.
    pub fn enter(&self, labels: &Arc<Labels>) {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.tables.push(Arc::clone(labels));
        books.settle(&self.new);
        if books.past.len() > MOST_UNREAD {
            books.fold();
        }
    }

    /// What was counted under each set of labels.
    pub fn readings(&self) -> BTreeMap<SeriesKey, Reading> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.settle(&self.new);
        books.fold();
        let mut sums = books.past.clone();
        for (key, series) in &books.live {
            sums.entry(key.clone()).or_default().add(&series.read());
        }
        sums
    }

    /// The gateways of the newest table.
    pub fn gateways(&self) -> Vec<Arc<str>> {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.tables.last().map(|labels| labels.gateways.clone()).unwrap_or_default()
    }
}

/// Labels that are kept for the next reading. Where nobody reads, names that are gone would otherwise pile up.
const MOST_UNREAD: usize = 100_000;

#[derive(Debug, Default)]
struct Books {
    /// The newest table, and those that some shard, listener or dial still goes by.
    tables: Vec<Arc<Labels>>,
    /// Series that are still counted in.
    live: Vec<(SeriesKey, Arc<Series>)>,
    /// What the others came to.
    past: BTreeMap<SeriesKey, Reading>,
}

impl Books {
    /// Takes in what is new, and closes the series that nobody holds.
    fn settle(&mut self, new: &ConcurrentQueue<Opened>) {
        while let Ok(Opened { labels, way, series }) = new.pop() {
            self.live.push((labels.key(way), series));
        }
        let past = &mut self.past;
        self.live.retain_mut(|(key, series)| {
            let is_over = Arc::get_mut(series).is_some();
            if is_over {
                past.entry(key.clone()).or_default().add(&series.read());
            }
            !is_over
        });
        let newest = self.tables.last().cloned();
        // Whoever goes by a table holds its labels. The newest may not have reached anybody yet.
        self.tables.retain(|labels| Arc::strong_count(labels) > 1);
        drop(newest);
    }

    /// Adds what was counted under names that are gone to what is shown without them. Done when somebody reads: a name that was
    /// gone and is back between two readings has never left, and must go on from where it was.
    fn fold(&mut self) {
        let is_named = |key: &SeriesKey| self.tables.iter().any(|labels| labels.names.have(key));
        let gone: Vec<SeriesKey> = self.past.keys().filter(|key| !is_named(key)).cloned().collect();
        if gone.is_empty() {
            return;
        }
        let mut held = Names::default();
        self.live.iter().for_each(|(key, _)| held.insert(key));
        let tables: Vec<&Names> = self.tables.iter().map(|labels| &labels.names).chain([&held]).collect();
        let stays = |names: fn(&Names) -> &HashSet<Arc<str>>, name: &Arc<str>| {
            tables.iter().any(|table| names(table).contains(name))
        };
        for key in gone {
            let Some(reading) = self.past.remove(&key) else { continue };
            let none: Arc<str> = Arc::from("");
            let mut folded = key;
            if !stays(|names| &names.gateways, &folded.gateway) {
                folded.gateway = Arc::clone(&none);
                folded.route = Arc::clone(&none);
            }
            if !stays(|names| &names.routes, &folded.route) {
                folded.route = Arc::clone(&none);
            }
            if !stays(|names| &names.services, &folded.service) {
                folded.service = Arc::clone(&none);
            }
            if !stays(|names| &names.subsets, &folded.subset) {
                folded.subset = none;
            }
            self.past.entry(folded).or_default().add(&reading);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAYS: [&str; 3] = ["edge", "mesh", "side"];
    const ROUTES: [&str; 4] = ["canary", "rest", "old", "new"];
    const PLACES: [(&str, &str); 4] = [("db", ""), ("db", "db/v1"), ("db", "db/v2"), ("web", "web/v1")];

    /// Labels of a table with these names; every service and subset of a destination exists.
    fn table(gateways: &[&str], routes: &[&str], destinations: &[(&str, &str)]) -> Arc<Labels> {
        let list = |names: &[&str]| names.iter().map(|&name| Arc::from(name)).collect::<Vec<Arc<str>>>();
        let (gateways, routes) = (list(gateways), list(routes));
        let destinations: Vec<(Arc<str>, Arc<str>)> =
            destinations.iter().map(|&(service, subset)| (Arc::from(service), Arc::from(subset))).collect();
        let names = Names {
            gateways: gateways.iter().cloned().collect(),
            routes: routes.iter().cloned().collect(),
            services: destinations.iter().map(|(service, _)| Arc::clone(service)).collect(),
            subsets: destinations.iter().map(|(_, subset)| Arc::clone(subset)).collect(),
        };
        Arc::new(Labels { gateways, routes, destinations, none: Arc::from(""), names })
    }

    /// A table with some of the names above, and at least one gateway.
    fn some(rng: &mut fastrand::Rng) -> Arc<Labels> {
        let first = rng.usize(..GATEWAYS.len());
        let gateways: Vec<&str> = GATEWAYS[first..].to_vec();
        let routes: Vec<&str> = ROUTES.into_iter().filter(|_| rng.bool()).collect();
        let places: Vec<(&str, &str)> = PLACES.into_iter().filter(|_| rng.bool()).collect();
        table(&gateways, &routes, &places)
    }

    fn some_way(labels: &Labels, rng: &mut fastrand::Rng) -> Way {
        let mut some = |count: usize| (count > 0 && rng.bool()).then(|| rng.usize(..count) as u32);
        Way {
            route: some(labels.routes.len()).map(RouteId),
            destination: some(labels.destinations.len()).map(DestinationId),
            gateway: GatewayId(rng.usize(..labels.gateways.len()) as u32),
        }
    }

    /// Everything that is shown, as family and labels, and whether it is a counter.
    fn shown(readings: &BTreeMap<SeriesKey, Reading>) -> BTreeMap<(&'static str, String), u64> {
        let mut all = BTreeMap::new();
        for (SeriesKey { gateway, route, service, subset }, reading) in readings {
            let mut add = |family, labels, n| *all.entry((family, labels)).or_default() += n;
            if !gateway.is_empty() {
                add("opened", format!("{gateway} {route}"), reading.opened);
                add("unknown", gateway.to_string(), reading.unknown_sources);
                add("active", format!("{gateway} {service} {subset}"), reading.active());
                for (reason, &count) in Reason::ALL.iter().zip(&reading.closed).filter(|&(_, &n)| n > 0) {
                    add("closed", format!("{gateway} {service} {subset} {}", reason.as_str()), count);
                }
            }
            add("bytes", format!("{service} {subset}"), reading.bytes_up);
        }
        all
    }

    fn sum_of(shown: &BTreeMap<(&'static str, String), u64>, family: &str) -> u64 {
        shown.iter().filter(|((name, _), _)| *name == family).map(|(_, n)| n).sum()
    }

    /// Sessions, tables that change under them on two shards at different moments, and scrapes in between.
    fn one_life(seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let registry: Arc<Registry> = Arc::default();
        let mut shards: Vec<(Arc<Labels>, Ledger)> = Vec::new();
        let mut newest = some(&mut rng);
        registry.enter(&newest);
        for _ in 0..2 {
            let mut ledger = Ledger::new(Arc::clone(&registry));
            ledger.follow(&newest);
            shards.push((Arc::clone(&newest), ledger));
        }
        let mut sessions: Vec<Arc<Series>> = Vec::new();
        let mut last = BTreeMap::new();
        for step in 0..400 {
            match rng.u8(..10) {
                0 => {
                    newest = some(&mut rng);
                    registry.enter(&newest);
                }
                1 => {
                    let shard = rng.usize(..shards.len());
                    shards[shard].1.follow(&newest);
                }
                // Until then its closing listeners go by the table before.
                2 => {
                    let shard = rng.usize(..shards.len());
                    shards[shard].0 = Arc::clone(&newest);
                }
                3..=6 => {
                    let shard = rng.usize(..shards.len());
                    let (labels, ledger) = &mut shards[shard];
                    let series = ledger.series(labels, some_way(labels, &mut rng));
                    series.opened.add(1);
                    series.unknown_sources.add(1);
                    series.bytes_up.add(rng.u64(..100));
                    sessions.push(series);
                }
                _ if sessions.is_empty() => {}
                _ => {
                    let series = sessions.swap_remove(rng.usize(..sessions.len()));
                    series.close(Reason::ALL[rng.usize(..3)]);
                }
            }
            if rng.u8(..4) > 0 {
                continue;
            }
            let readings = registry.readings();
            let now = shown(&readings);
            let context = || format!("seed {seed}, step {step}");
            for (labels, before) in last.iter().filter(|((family, _), _)| *family != "active") {
                let after = now.get(labels).copied().unwrap_or(u64::MAX);
                assert!(*before <= after, "{}: {labels:?} went from {before} to {after}", context());
            }
            let [opened, closed, active] = ["opened", "closed", "active"].map(|family| sum_of(&now, family));
            assert_eq!(opened, closed + active, "{}", context());
            assert_eq!(active, sessions.len() as u64, "{}", context());
            last = now;
        }
        // When all shards have the newest table and no session is left, no other name is shown.
        sessions.drain(..).for_each(|series| series.close(Reason::Done));
        for (labels, ledger) in &mut shards {
            ledger.follow(&newest);
            *labels = Arc::clone(&newest);
        }
        for key in registry.readings().keys() {
            assert!(newest.names.have(key), "seed {seed}: {key:?} is gone and shown");
        }
    }

    #[test]
    fn no_counter_goes_back_and_names_that_are_gone_leave_whatever_happens_to_tables() {
        (0..300).for_each(one_life);
    }

    #[test]
    fn what_leaves_is_added_to_the_labels_that_stay() {
        // One connection through edge, canary, db/v1, and then a table without some of these names.
        #[track_caller]
        fn check(next: &Arc<Labels>, expected: [&str; 4]) {
            let key = |names: [&str; 4]| {
                let [gateway, route, service, subset] = names.map(Arc::from);
                SeriesKey { gateway, route, service, subset }
            };
            let registry: Arc<Registry> = Arc::default();
            let mut ledger = Ledger::new(Arc::clone(&registry));
            let first = table(&["edge"], &["canary"], &[("db", "db/v1")]);
            registry.enter(&first);
            ledger.follow(&first);
            let way =
                Way { gateway: GatewayId(0), route: Some(RouteId(0)), destination: Some(DestinationId(0)) };
            let series = ledger.series(&first, way);
            series.opened.add(1);
            drop(first);
            registry.enter(next);
            ledger.follow(next);
            let held = registry.readings();
            let wanted = Reading { opened: 1, ..Reading::default() };
            assert_eq!(
                held,
                BTreeMap::from([(key(["edge", "canary", "db", "db/v1"]), wanted)]),
                "a session has it"
            );
            series.close(Reason::Done);
            drop(series);
            let left = registry.readings();
            assert_eq!(left.keys().collect::<Vec<_>>(), [&key(expected)]);
            assert!(left.values().all(|reading| reading.opened == 1 && reading.active() == 0));
        }
        check(&table(&["edge"], &["canary"], &[("db", "db/v1")]), ["edge", "canary", "db", "db/v1"]);
        check(&table(&["edge"], &["rest"], &[("db", "db/v1")]), ["edge", "", "db", "db/v1"]);
        check(&table(&["edge"], &["canary"], &[("db", "")]), ["edge", "canary", "db", ""]);
        check(&table(&["edge"], &["canary"], &[("web", "web/v1")]), ["edge", "canary", "", ""]);
        check(&table(&["mesh"], &["canary"], &[("db", "db/v1")]), ["", "", "db", "db/v1"]);
        check(&table(&["mesh"], &[], &[]), ["", "", "", ""]);
    }
}
