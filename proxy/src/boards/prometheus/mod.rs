//! The counters of shards and connections, in Prometheus' text format. `families` lists what there is, `text` writes the format;
//! [`super::counters`] counts.

pub(crate) mod families;
#[cfg(test)]
mod page;
pub(crate) mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::text::Family;
use crate::boards::counters::{MAX_ERRNO, Reading, ShardCounters};
use crate::boards::labels::SeriesKey;
use crate::boards::limits::{LimitsBoard, ShardLoad};
use crate::boards::registry::Registry;
use crate::reason::Reason;

/// The label: the name of a usual error of accepting, else the number.
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

/// One set of labels and its values.
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
pub(crate) struct Metrics {
    shards: Vec<Arc<ShardCounters>>,
    shard_load: ShardLoad,
    pipes_max: u64,
    tail_bytes_max: u64,
    limits: Arc<LimitsBoard>,
    registry: Arc<Registry>,
}

impl Metrics {
    /// Of these shards; `pipes_max` and `tail_bytes_max` are limits of all of them together.
    pub(crate) fn new(
        shards: Vec<Arc<ShardCounters>>,
        shard_load: ShardLoad,
        pipes_max: u64,
        tail_bytes_max: u64,
        limits: Arc<LimitsBoard>,
        registry: Arc<Registry>,
    ) -> Self {
        Self { shards, shard_load, pipes_max, tail_bytes_max, limits, registry }
    }

    /// The lowest generation that a shard routes by.
    pub(crate) fn generation(&self) -> u64 {
        self.shards.iter().map(|shard| shard.generation.get()).min().unwrap_or(0)
    }

    /// Listening sockets that are open, those that are being emptied included.
    pub(crate) fn listeners(&self) -> u64 {
        self.shards.iter().map(|shard| shard.listeners.get()).sum()
    }

    /// Everything of the shards, in Prometheus' text format 0.0.4.
    pub(crate) fn render(&self, out: &mut String) {
        let readings = self.registry.readings();
        // Of a gateway that is gone only the bytes of services that are still there are shown.
        let (gone, shown): (Vec<_>, Vec<_>) = readings.iter().partition(|(key, _)| key.gateway.is_empty());
        render_connections(&shown, out);
        render_bytes(shown.iter().chain(&gone).copied(), out);
        self.render_unknown_sources(&shown, out);
        self.render_shards(out);
        self.render_limits(out);
    }

    fn render_limits(&self, out: &mut String) {
        let limits = self.limits.shown();
        families::LIMIT.head(out);
        for limit in &limits {
            if let Some(maximum) = limit.maximum {
                families::LIMIT.sample(out, &[limit.scope, &limit.name], maximum);
            }
        }
        families::LIMIT_USED.head(out);
        for limit in &limits {
            families::LIMIT_USED.sample(out, &[limit.scope, &limit.name], limit.used);
        }
        families::LIMITED_SOURCES.head(out);
        for (gateway, kept) in self.limits.limited_sources() {
            families::LIMITED_SOURCES.sample(out, &[&gateway], kept);
        }
    }

    fn render_unknown_sources(&self, readings: &[Labelled<'_>], out: &mut String) {
        let gateways = self.registry.gateways();
        let mut counts: BTreeMap<&str, u64> = gateways.iter().map(|gateway| (&**gateway, 0)).collect();
        for (key, reading) in readings {
            *counts.entry(&key.gateway).or_default() += reading.unknown_sources;
        }
        families::UNKNOWN_SOURCE.head(out);
        for (gateway, count) in counts {
            families::UNKNOWN_SOURCE.sample(out, &[gateway], count);
        }
    }

    fn render_shards(&self, out: &mut String) {
        families::SHARD_ACTIVE.head(out);
        for shard in 0..self.shards.len() {
            let active = self.shard_load.sessions(shard);
            families::SHARD_ACTIVE.sample(out, &[&shard.to_string()], active);
        }
        let mut sum = |family: Family, value: fn(&ShardCounters) -> u64| {
            family.single(out, self.shards.iter().map(|shard| value(shard)).sum::<u64>());
        };
        sum(families::HANDOVERS, |shard| shard.handed_over.get());
        sum(families::SPLICED_BYTES, |shard| shard.spliced_bytes.get());
        sum(families::COPIED_BYTES, |shard| shard.copied_bytes.get());
        sum(families::PIPES_IN_USE, |shard| shard.pipes_in_use.get());
        sum(families::TAILS_IN_USE, |shard| shard.tails_in_use.get());
        sum(families::TAIL_BYTES, |shard| shard.tail_bytes.get());
        sum(families::STALE_COMPLETIONS, |shard| shard.stale_completions.get());
        sum(families::SOURCE_PORTS_EXHAUSTED, |shard| shard.source_ports_exhausted.get());
        families::PIPES_MAX.single(out, self.pipes_max);
        families::TAIL_BYTES_MAX.single(out, self.tail_bytes_max);
        families::ACCEPT_ERRORS.head(out);
        for errno in 0..=MAX_ERRNO {
            let count: u64 = self.shards.iter().map(|shard| shard.accepts_failed(errno)).sum();
            if count > 0 {
                families::ACCEPT_ERRORS.sample(out, &[&errno_label(errno as i32)], count);
            }
        }
    }
}

/// Connections by route, and by where they went.
fn render_connections(readings: &[Labelled<'_>], out: &mut String) {
    families::CONNECTIONS_OPENED.head(out);
    for ([gateway, route], sum) in grouped(readings.iter().copied(), |key| [&*key.gateway, &*key.route]) {
        families::CONNECTIONS_OPENED.sample(out, &[gateway, route], sum.opened);
    }
    let places = grouped(readings.iter().copied(), |key| [&*key.gateway, &*key.service, &*key.subset]);
    families::CONNECTIONS_CLOSED.head(out);
    for ([gateway, service, subset], sum) in &places {
        for (reason, &count) in Reason::ALL.iter().zip(&sum.closed).filter(|&(_, &count)| count > 0) {
            let labels = [gateway, service, subset, reason.as_str(), reason.fault().as_str()];
            families::CONNECTIONS_CLOSED.sample(out, &labels, count);
        }
    }
    families::CONNECTIONS_ACTIVE.head(out);
    for (place, sum) in &places {
        families::CONNECTIONS_ACTIVE.sample(out, place, sum.active());
    }
}

/// Bytes by service and subset.
fn render_bytes<'a>(readings: impl IntoIterator<Item = Labelled<'a>>, out: &mut String) {
    families::BYTES.head(out);
    for ([service, subset], sum) in grouped(readings, |key| [&*key.service, &*key.subset]) {
        families::BYTES.sample(out, &[service, subset, "up"], sum.bytes_up);
        families::BYTES.sample(out, &[service, subset, "down"], sum.bytes_down);
    }
}
