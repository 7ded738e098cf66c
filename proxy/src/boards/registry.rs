//! All series of counters: each shard finds its own by ids, and the registry gives them their names.
//!
//! A series belongs to one shard and to one set of ids of one table (gateway, route, destination). The shard makes it when the first
//! connection has these ids, and passes it on through a queue that it alone writes to, so it takes no lock and waits for no other
//! shard. Series for all ids of a table would be its gateways times its routes times their destinations: where routes name no
//! gateway, 100 gateways with 10,000 routes to two destinations each have two million, which at more than 200 bytes are over
//! 400 MB a shard, made anew by each reload and read by each scrape. Sums by fewer labels would be smaller, but then
//! opened = closed + active would not hold in every scrape.
//!
//! The [`Registry`] keeps the readings of series that neither a table nor a session holds any more. A name that no table in use and
//! no session has leaves the labels, and its readings are added to those of the labels that are left: no counter that is shown goes
//! back.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use concurrent_queue::ConcurrentQueue;

use super::counters::{Reading, Series};
use super::labels::{Labels, Names, SeriesIds, SeriesKey};

/// The series of one shard, by ids of the table that it routes by.
#[derive(Debug)]
pub(crate) struct ShardSeries {
    /// Of the table whose series are kept here; none before the first.
    labels: Option<Arc<Labels>>,
    series: HashMap<SeriesIds, Arc<Series>>,
    opened: Arc<ConcurrentQueue<Opened>>,
}

/// A series on its way from its shard to the registry.
#[derive(Debug)]
struct Opened {
    labels: Arc<Labels>,
    ids: SeriesIds,
    series: Arc<Series>,
}

impl ShardSeries {
    /// Those of a new shard; `registry` takes them over.
    pub(crate) fn new(registry: &Registry) -> Self {
        // Unbounded, so that the shard never waits. It is emptied at each scrape and with each table, and a table's series are no
        // more than its ids.
        let opened = Arc::new(ConcurrentQueue::unbounded());
        registry.lock().opened.push(Arc::clone(&opened));
        Self { labels: None, series: HashMap::new(), opened }
    }

    /// From now on series of the table with these labels are kept. Those of the last one live on in their sessions.
    pub(crate) fn follow(&mut self, labels: &Arc<Labels>) {
        self.labels = Some(Arc::clone(labels));
        self.series.clear();
    }

    /// The series of these ids of the table with these labels. Where this is not the table that is followed (a listener that
    /// is closing belongs to an older one) the series is made for this connection alone: kept, it would hold its names.
    pub(crate) fn of(&mut self, labels: &Arc<Labels>, ids: SeriesIds) -> Arc<Series> {
        if !self.labels.as_ref().is_some_and(|followed| Arc::ptr_eq(followed, labels)) {
            return open(&self.opened, labels, ids);
        }
        match self.series.entry(ids) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(new) => Arc::clone(new.insert(open(&self.opened, labels, ids))),
        }
    }
}

fn open(opened: &ConcurrentQueue<Opened>, labels: &Arc<Labels>, ids: SeriesIds) -> Arc<Series> {
    let series = Arc::default();
    let new = Opened { labels: Arc::clone(labels), ids, series: Arc::clone(&series) };
    opened.push(new).expect("it has no bound and is never closed");
    series
}

/// All series of all shards, for readers and the loader. A shard takes its lock once, at the start.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<Known>);

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the labels of a table, before any shard gets it.
    pub(crate) fn enter(&self, labels: &Arc<Labels>) {
        let mut known = self.lock();
        known.tables.push(Arc::clone(labels));
        known.settle();
        if known.past.len() > MOST_UNREAD {
            known.fold();
        }
    }

    /// The counters of each set of labels.
    pub(crate) fn readings(&self) -> BTreeMap<SeriesKey, Reading> {
        let mut known = self.lock();
        known.settle();
        known.fold();
        let mut sums = known.past.clone();
        for (key, series) in &known.live {
            sums.entry(key.clone()).or_default().add(&series.read());
        }
        sums
    }

    /// The gateways of the newest table.
    pub(crate) fn gateways(&self) -> Vec<Arc<str>> {
        self.lock().tables.last().map(|labels| labels.gateways.clone()).unwrap_or_default()
    }
}

/// Labels that are kept for the next reading. Without readers, names that are gone would otherwise pile up.
const MOST_UNREAD: usize = 100_000;

#[derive(Debug, Default)]
struct Known {
    /// The queue of each shard.
    opened: Vec<Arc<ConcurrentQueue<Opened>>>,
    /// The newest table, and those that some shard, listener or dial still routes by.
    tables: Vec<Arc<Labels>>,
    /// Series that still count.
    live: Vec<(SeriesKey, Arc<Series>)>,
    /// The last readings of the others.
    past: BTreeMap<SeriesKey, Reading>,
}

impl Known {
    /// Takes in new series, and closes those without a holder.
    fn settle(&mut self) {
        for Opened { labels, ids, series } in self.opened.iter().flat_map(|queue| queue.try_iter()) {
            self.live.push((labels.key(ids), series));
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
        // All that routes by a table holds its labels. The newest may not have reached a shard yet.
        self.tables.retain(|labels| Arc::strong_count(labels) > 1);
        drop(newest);
    }

    /// Adds the readings of names that are gone to those that are shown without them. This is done at a reading: a name that was
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
    use weir_routing::{DestinationId, GatewayId, RouteId};

    use super::*;
    use crate::reason::Reason;

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

    fn some_ids(labels: &Labels, rng: &mut fastrand::Rng) -> SeriesIds {
        let mut some = |count: usize| (count > 0 && rng.bool()).then(|| rng.usize(..count) as u32);
        SeriesIds {
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
        let registry = Registry::default();
        let mut shards: Vec<(Arc<Labels>, ShardSeries)> = Vec::new();
        let mut newest = some(&mut rng);
        registry.enter(&newest);
        for _ in 0..2 {
            let mut series = ShardSeries::new(&registry);
            series.follow(&newest);
            shards.push((Arc::clone(&newest), series));
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
                    let (labels, own) = &mut shards[shard];
                    let series = own.of(labels, some_ids(labels, &mut rng));
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
        for (labels, series) in &mut shards {
            series.follow(&newest);
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
    fn a_shard_takes_no_lock_for_a_series() {
        let registry = Registry::default();
        let mut shard = ShardSeries::new(&registry);
        let labels = table(&["edge"], &["rest"], &[("db", "")]);
        registry.enter(&labels);
        shard.follow(&labels);
        let ids = SeriesIds { gateway: GatewayId(0), route: Some(RouteId(0)), destination: None };
        let scrape = registry.lock();
        shard.of(&labels, ids).opened.add(1);
        shard.of(&labels, ids).opened.add(1);
        drop(scrape);
        assert_eq!(registry.readings().values().map(|reading| reading.opened).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn readings_of_names_that_leave_are_added_to_the_labels_that_stay() {
        // One connection through edge, canary, db/v1, and then a table without some of these names.
        #[track_caller]
        fn check(next: &Arc<Labels>, expected: [&str; 4]) {
            let key = |names: [&str; 4]| {
                let [gateway, route, service, subset] = names.map(Arc::from);
                SeriesKey { gateway, route, service, subset }
            };
            let registry = Registry::default();
            let mut shard = ShardSeries::new(&registry);
            let first = table(&["edge"], &["canary"], &[("db", "db/v1")]);
            registry.enter(&first);
            shard.follow(&first);
            let ids = SeriesIds {
                gateway: GatewayId(0),
                route: Some(RouteId(0)),
                destination: Some(DestinationId(0)),
            };
            let series = shard.of(&first, ids);
            series.opened.add(1);
            drop(first);
            registry.enter(next);
            shard.follow(next);
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
