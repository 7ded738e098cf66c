//! What each shard counts beside its connections, and all counters as Prometheus reads them. A block of counters is written by
//! its shard alone with relaxed stores, and summed by whoever reads. Connections are counted in `boards::counters`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::boards::counters::{Counter, Reading, Registry, SeriesKey};
use crate::limits::{Limit, Seats};
use crate::metrics_text::{Kind, family, sample, single};
use crate::pools::tail_bytes_max;
use crate::reason::Reason;

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
    accept_errors: AcceptErrors,
}

/// The highest errno of Linux, EHWPOISON.
const MAX_ERRNO: usize = 133;

/// Accepts that failed, by errno.
#[derive(Debug)]
struct AcceptErrors([Counter; MAX_ERRNO + 1]);

impl Default for AcceptErrors {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

/// The label: the words of what accepting usually fails with, else the number.
fn errno_label(errno: i32) -> String {
    match errno {
        libc::EMFILE => "EMFILE".to_owned(),
        libc::ENFILE => "ENFILE".to_owned(),
        libc::ENOMEM => "ENOMEM".to_owned(),
        libc::ENOBUFS => "ENOBUFS".to_owned(),
        libc::ECONNABORTED => "ECONNABORTED".to_owned(),
        0 => "unknown".to_owned(),
        other => other.to_string(),
    }
}

impl ShardCounters {
    /// Counts an accept that failed.
    pub fn accept_failed(&self, error: &std::io::Error) {
        let errno = error.raw_os_error().map_or(0, |errno| errno as usize);
        self.accept_errors.0[errno.min(MAX_ERRNO)].add(1);
    }
}

/// One set of labels and what was counted under it.
type Labelled<'a> = (&'a SeriesKey, &'a Reading);

/// Sums of readings with the same labels.
fn grouped<'a, const N: usize>(
    readings: impl IntoIterator<Item = Labelled<'a>>,
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
    registry: Arc<Registry>,
}

impl Metrics {
    /// Over these shards.
    pub fn new(
        shards: Vec<Arc<ShardCounters>>,
        seats: Seats,
        pipes_max: u64,
        process: Arc<Limit>,
        registry: Arc<Registry>,
    ) -> Self {
        Self { shards, seats, pipes_max, process, registry }
    }

    /// The lowest generation that a shard routes by.
    pub fn generation(&self) -> u64 {
        self.shards.iter().map(|shard| shard.generation.get()).min().unwrap_or(0)
    }

    /// Listening sockets that are open, those that are being emptied included.
    pub fn listeners(&self) -> u64 {
        self.shards.iter().map(|shard| shard.listeners.get()).sum()
    }

    /// Everything of the shards, in Prometheus' text format 0.0.4.
    pub fn render(&self, out: &mut String) {
        let readings = self.registry.readings();
        // Of a gateway that is gone only the bytes of services that are still there are shown.
        let (gone, shown): (Vec<_>, Vec<_>) = readings.iter().partition(|(key, _)| key.gateway.is_empty());
        render_connections(&shown, out);
        render_bytes(shown.iter().chain(&gone).copied(), out);
        self.render_unknown_sources(&shown, out);
        self.render_shards(out);
    }

    fn render_unknown_sources(&self, readings: &[Labelled<'_>], out: &mut String) {
        const NAME: &str = "weir_unknown_source_total";
        let gateways = self.registry.gateways();
        let mut counts: BTreeMap<&str, u64> = gateways.iter().map(|gateway| (&**gateway, 0)).collect();
        for (key, reading) in readings {
            *counts.entry(&key.gateway).or_default() += reading.unknown_sources;
        }
        family(out, NAME, Kind::Counter, "Connections from sources that no workload owns.");
        for (gateway, count) in counts {
            sample(out, NAME, &[("gateway", gateway)], count);
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
        family(out, "weir_accept_errors_total", Kind::Counter, "Accepts that failed.");
        for errno in 0..=MAX_ERRNO {
            let count: u64 = self.shards.iter().map(|shard| shard.accept_errors.0[errno].get()).sum();
            if count > 0 {
                sample(out, "weir_accept_errors_total", &[("errno", &errno_label(errno as i32))], count);
            }
        }
    }
}

/// Connections by route, and by where they went.
fn render_connections(readings: &[Labelled<'_>], out: &mut String) {
    family(
        out,
        "weir_connections_opened_total",
        Kind::Counter,
        "Connections whose route was decided, or that ended without one; those of routes that are gone count under route \"\".",
    );
    for ([gateway, route], sum) in grouped(readings.iter().copied(), |key| [&*key.gateway, &*key.route]) {
        sample(out, "weir_connections_opened_total", &[("gateway", gateway), ("route", route)], sum.opened);
    }
    let places = grouped(readings.iter().copied(), |key| [&*key.gateway, &*key.service, &*key.subset]);
    family(
        out,
        "weir_connections_closed_total",
        Kind::Counter,
        "Connections that ended, by reason; those of services that are gone count under service \"\".",
    );
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
}

/// Bytes by service and subset.
fn render_bytes<'a>(readings: impl IntoIterator<Item = Labelled<'a>>, out: &mut String) {
    family(out, "weir_bytes_total", Kind::Counter, "Bytes delivered: up to upstreams, down to clients.");
    for ([service, subset], sum) in grouped(readings, |key| [&*key.service, &*key.subset]) {
        for (direction, bytes) in [("up", sum.bytes_up), ("down", sum.bytes_down)] {
            let labels = [("service", service), ("subset", subset), ("direction", direction)];
            sample(out, "weir_bytes_total", &labels, bytes);
        }
    }
}
