//! The counters board: one block a shard, written only by it with relaxed stores, summed by whoever reads.
//!
//! A connection is counted in one [`Series`], by where it came in and where it went. Opened and closed stand side by side
//! there, and active is their difference, so that at every moment opened = closed + active in whatever a scrape sees.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::limits::{Limit, Seats};
use crate::metrics_text::{Kind, family, sample, single};
use crate::outcome::Reason;
use crate::pools::tail_bytes_max;

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

/// Where connections came in and went: the labels of a [`Series`]. Names, so that they live across reloads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// The gateway.
    pub gateway: Arc<str>,
    /// The route; "" where none took it.
    pub route: Arc<str>,
    /// The service; "" where it got none.
    pub service: Arc<str>,
    /// "service/subset", or "".
    pub subset: Arc<str>,
}

/// The connections of one shard with the same labels.
#[derive(Debug)]
pub struct Series {
    /// Connections whose route was decided, or that ended without one.
    pub opened: Counter,
    closed: [Counter; Reason::ALL.len()],
    /// Bytes sent to upstreams.
    pub bytes_up: Counter,
    /// Bytes sent to clients.
    pub bytes_down: Counter,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            opened: Counter::default(),
            closed: std::array::from_fn(|_| Counter::default()),
            bytes_up: Counter::default(),
            bytes_down: Counter::default(),
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
        let closed: Vec<u64> = self.closed.iter().map(Counter::get).collect();
        std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
        let opened = self.opened.get().max(closed.iter().sum());
        Reading { opened, closed, bytes_up: self.bytes_up.get(), bytes_down: self.bytes_down.get() }
    }
}

/// One shard's block. A cache line of its own: shards write it all the time.
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
    /// Connections from sources that no workload owns, by gateway; and failed accepts, by errno. Rarely touched.
    rare: Mutex<Rare>,
    series: Mutex<HashMap<SeriesKey, Arc<Series>>>,
}

#[derive(Debug, Default)]
struct Rare {
    accept_errors: BTreeMap<String, u64>,
    unknown_sources: BTreeMap<Arc<str>, Arc<Counter>>,
}

impl ShardCounters {
    /// The series with these labels; takes a lock, so a shard asks once a table and destination.
    pub fn series(&self, key: SeriesKey) -> Arc<Series> {
        Arc::clone(self.series.lock().expect("no one panics with it").entry(key).or_default())
    }

    /// The counter of unknown sources of a gateway; asked once a table.
    pub fn unknown_sources(&self, gateway: &Arc<str>) -> Arc<Counter> {
        let mut rare = self.rare.lock().expect("no one panics with it");
        Arc::clone(rare.unknown_sources.entry(Arc::clone(gateway)).or_default())
    }

    /// Counts an accept that failed.
    pub fn accept_failed(&self, error: &std::io::Error) {
        let name = match error.raw_os_error() {
            Some(libc::EMFILE) => "EMFILE".to_owned(),
            Some(libc::ENFILE) => "ENFILE".to_owned(),
            Some(libc::ENOMEM) => "ENOMEM".to_owned(),
            Some(libc::ENOBUFS) => "ENOBUFS".to_owned(),
            Some(libc::ECONNABORTED) => "ECONNABORTED".to_owned(),
            Some(other) => other.to_string(),
            None => "unknown".to_owned(),
        };
        *self.rare.lock().expect("no one panics with it").accept_errors.entry(name).or_default() += 1;
    }
}

/// What one series, or several with the same labels, came to.
#[derive(Clone, Debug, Default)]
struct Reading {
    opened: u64,
    closed: Vec<u64>,
    bytes_up: u64,
    bytes_down: u64,
}

impl Reading {
    fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.closed.resize(Reason::ALL.len(), 0);
        self.closed.iter_mut().zip(&other.closed).for_each(|(sum, n)| *sum += n);
        self.bytes_up += other.bytes_up;
        self.bytes_down += other.bytes_down;
    }

    fn active(&self) -> u64 {
        self.opened - self.closed.iter().sum::<u64>()
    }
}

/// Sums of readings with the same labels.
fn grouped<'a, const N: usize>(
    readings: &'a BTreeMap<SeriesKey, Reading>,
    labels: impl Fn(&'a SeriesKey) -> [&'a str; N],
) -> BTreeMap<[&'a str; N], Reading> {
    let mut sums: BTreeMap<_, Reading> = BTreeMap::new();
    for (key, reading) in readings {
        sums.entry(labels(key)).or_default().add(reading);
    }
    sums
}

/// All blocks, for whoever reads.
#[derive(Debug)]
pub struct Metrics {
    shards: Vec<Arc<ShardCounters>>,
    seats: Seats,
    pipes_max: u64,
    process: Arc<Limit>,
}

impl Metrics {
    /// Over these shards.
    pub fn new(shards: Vec<Arc<ShardCounters>>, seats: Seats, pipes_max: u64, process: Arc<Limit>) -> Self {
        Self { shards, seats, pipes_max, process }
    }

    /// The lowest generation that a shard routes by.
    pub fn generation(&self) -> u64 {
        self.shards.iter().map(|shard| shard.generation.get()).min().unwrap_or(0)
    }

    /// Listening sockets that are open, those that are being emptied included.
    pub fn listeners(&self) -> u64 {
        self.shards.iter().map(|shard| shard.listeners.get()).sum()
    }

    /// Forgets series that `is_alive` denies and of which nothing is active.
    pub fn prune(&self, is_alive: impl Fn(&SeriesKey) -> bool) {
        for shard in &self.shards {
            shard.series.lock().expect("no one panics with it").retain(|key, series| {
                // A session, or the table of a shard that has not changed yet, may hold it.
                is_alive(key) || Arc::strong_count(series) > 1 || series.read().active() > 0
            });
        }
    }

    /// Everything of the shards, in Prometheus' text format 0.0.4.
    pub fn render(&self, out: &mut String) {
        let mut readings: BTreeMap<SeriesKey, Reading> = BTreeMap::new();
        for shard in &self.shards {
            for (key, series) in shard.series.lock().expect("no one panics with it").iter() {
                readings.entry(key.clone()).or_default().add(&series.read());
            }
        }
        self.render_connections(&readings, out);
        self.render_shards(out);
    }

    fn render_connections(&self, readings: &BTreeMap<SeriesKey, Reading>, out: &mut String) {
        family(
            out,
            "weir_connections_opened_total",
            Kind::Counter,
            "Connections whose route was decided, or that ended without one.",
        );
        for ([gateway, route], sum) in grouped(readings, |key| [&*key.gateway, &*key.route]) {
            sample(
                out,
                "weir_connections_opened_total",
                &[("gateway", gateway), ("route", route)],
                sum.opened,
            );
        }
        let places = grouped(readings, |key| [&*key.gateway, &*key.service, &*key.subset]);
        family(out, "weir_connections_closed_total", Kind::Counter, "Connections that ended, by reason.");
        for ([gateway, service, subset], sum) in &places {
            for (reason, &count) in Reason::ALL.iter().zip(&sum.closed).filter(|&(_, &count)| count > 0) {
                let place = [("gateway", *gateway), ("service", service), ("subset", subset)];
                let why = [("reason", reason.as_str()), ("fault", reason.fault().as_str())];
                sample(out, "weir_connections_closed_total", &[place.as_slice(), &why].concat(), count);
            }
        }
        family(out, "weir_connections_active", Kind::Gauge, "Connections that are open or being dialled.");
        for ([gateway, service, subset], sum) in &places {
            let place = [("gateway", *gateway), ("service", service), ("subset", subset)];
            sample(out, "weir_connections_active", &place, sum.active());
        }
        family(out, "weir_bytes_total", Kind::Counter, "Bytes delivered: up to upstreams, down to clients.");
        for ([service, subset], sum) in grouped(readings, |key| [&*key.service, &*key.subset]) {
            for (direction, bytes) in [("up", sum.bytes_up), ("down", sum.bytes_down)] {
                let labels = [("service", service), ("subset", subset), ("direction", direction)];
                sample(out, "weir_bytes_total", &labels, bytes);
            }
        }
    }

    fn render_shards(&self, out: &mut String) {
        family(
            out,
            "weir_shard_connections_active",
            Kind::Gauge,
            "Connections that a shard has, with what was handed to it.",
        );
        for shard in 0..self.shards.len() {
            sample(
                out,
                "weir_shard_connections_active",
                &[("shard", &shard.to_string())],
                self.seats.taken(shard),
            );
        }
        let mut sum = |name: &str, kind: Kind, help: &str, value: fn(&ShardCounters) -> u64| {
            single(out, name, kind, help, self.shards.iter().map(|shard| value(shard)).sum::<u64>());
        };
        sum(
            "weir_handovers_total",
            Kind::Counter,
            "Sockets that one shard accepted and another serves.",
            |shard| shard.handed_over.get(),
        );
        sum("weir_spliced_bytes_total", Kind::Counter, "Bytes moved without copying.", |shard| {
            shard.spliced_bytes.get()
        });
        sum("weir_copied_bytes_total", Kind::Counter, "Bytes moved through a buffer.", |shard| {
            shard.copied_bytes.get()
        });
        sum("weir_pipes_in_use", Kind::Gauge, "Pipes that sessions hold.", |shard| shard.pipes_in_use.get());
        sum(
            "weir_tails_in_use",
            Kind::Gauge,
            "Buffers with bytes that a reader has not taken yet.",
            |shard| shard.tails_in_use.get(),
        );
        sum("weir_tail_bytes", Kind::Gauge, "Memory of these buffers.", |shard| shard.tail_bytes.get());
        sum(
            "weir_stale_completions_total",
            Kind::Counter,
            "Completions for a slot's earlier life, dropped.",
            |shard| shard.stale_completions.get(),
        );
        sum(
            "weir_source_ports_exhausted_total",
            Kind::Counter,
            "Dials that found no free source port.",
            |shard| shard.source_ports_exhausted.get(),
        );
        single(out, "weir_pipes_max", Kind::Gauge, "Pipes that sessions may hold.", self.pipes_max);
        let tail_bytes_max = tail_bytes_max(self.shards.len());
        let help = "Memory that these buffers may take; past half of it sessions read less at a time.";
        single(out, "weir_tail_bytes_max", Kind::Gauge, help, tail_bytes_max);
        family(out, "weir_limit_used", Kind::Gauge, "Connections that count against a limit.");
        sample(out, "weir_limit_used", &[("scope", "process"), ("name", "")], self.process.used());
        self.render_rare(out);
    }

    fn render_rare(&self, out: &mut String) {
        let mut errors: BTreeMap<String, u64> = BTreeMap::new();
        let mut unknown: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for shard in &self.shards {
            let rare = shard.rare.lock().expect("no one panics with it");
            rare.accept_errors.iter().for_each(|(errno, n)| *errors.entry(errno.clone()).or_default() += n);
            rare.unknown_sources
                .iter()
                .for_each(|(gateway, n)| *unknown.entry(Arc::clone(gateway)).or_default() += n.get());
        }
        family(out, "weir_accept_errors_total", Kind::Counter, "Accepts that failed.");
        for (errno, value) in errors {
            sample(out, "weir_accept_errors_total", &[("errno", &errno)], value);
        }
        family(
            out,
            "weir_unknown_source_total",
            Kind::Counter,
            "Connections from sources that no workload owns.",
        );
        for (gateway, value) in unknown {
            sample(out, "weir_unknown_source_total", &[("gateway", &gateway)], value);
        }
    }
}
