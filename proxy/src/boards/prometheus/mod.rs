//! The counters of shards and connections, in Prometheus' text format. `text` writes the format; [`super::counters`] counts.

pub mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::text::{Kind, family, sample, single};
use crate::boards::counters::{MAX_ERRNO, Reading, Registry, SeriesKey, ShardCounters};
use crate::boards::limits::{Limit, ShardLoad};
use crate::reason::Reason;

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

/// All that shards count.
#[derive(Debug)]
pub struct Metrics {
    shards: Vec<Arc<ShardCounters>>,
    shard_load: ShardLoad,
    pipes_max: u64,
    tail_bytes_max: u64,
    process: Arc<Limit>,
    registry: Arc<Registry>,
}

impl Metrics {
    /// Of these shards, with what their pipes and tails may take together.
    pub fn new(
        shards: Vec<Arc<ShardCounters>>,
        shard_load: ShardLoad,
        pipes_max: u64,
        tail_bytes_max: u64,
        process: Arc<Limit>,
        registry: Arc<Registry>,
    ) -> Self {
        Self { shards, shard_load, pipes_max, tail_bytes_max, process, registry }
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
                self.shard_load.sessions(shard),
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
        let help = "Memory that these buffers may take; past half of it sessions read less at a time.";
        single(out, "weir_tail_bytes_max", Kind::Gauge, help, self.tail_bytes_max);
        family(out, "weir_limit_used", Kind::Gauge, "Connections that count against a limit.");
        sample(out, "weir_limit_used", &[("scope", "process"), ("name", "")], self.process.used());
        family(out, "weir_accept_errors_total", Kind::Counter, "Accepts that failed.");
        for errno in 0..=MAX_ERRNO {
            let count: u64 = self.shards.iter().map(|shard| shard.accepts_failed(errno)).sum();
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
