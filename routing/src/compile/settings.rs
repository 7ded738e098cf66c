//! `[proxy]` and `[log]`: the settings of the process.

use std::net::SocketAddr;
use std::time::Duration;

use super::report::Report;
use super::values::{Precision, count, duration, locality, word};
use crate::config::{Config, Proxy, Text, place_of};
use crate::problem::Problem;
use crate::settings::{Cores, LogLevel, RelayMode, Settings};

/// More shards than this help no machine there is.
const MAX_SHARDS: u64 = 1024;

/// More cores than this Linux does not number.
const MAX_CORES: usize = 8192;

/// Longer than this a shard would not sleep at all.
const MAX_BUSY_POLL: Duration = Duration::from_secs(1);

/// The settings. The locality of this proxy is checked, and nothing goes by it yet.
pub(super) fn settings(report: &mut Report, config: &Config) -> Settings {
    let none = Proxy::default();
    let (file, proxy) = config.proxy.first().map_or((0, &none), |item| (item.file, &item.value));
    let log_level = config.log.first().and_then(|item| {
        let level = item.value.level.as_ref()?;
        word(report, item.file, "level", level, &LEVELS, &[])
    });
    let mut time = |key: &Option<toml::Spanned<_>>, precision, default: Duration| {
        key.as_ref().and_then(|written| duration(report, file, written, precision)).unwrap_or(default)
    };
    let drain_delay = time(&proxy.drain_delay, Precision::Milliseconds, Duration::ZERO);
    let drain_timeout = time(&proxy.drain_timeout, Precision::Milliseconds, Duration::from_secs(25));
    let resolve_interval = time(&proxy.resolve_interval, Precision::Milliseconds, Duration::from_secs(10));
    let busy_poll = time(&proxy.busy_poll, Precision::Microseconds, Duration::ZERO);
    if let Some(written) = proxy.busy_poll.as_ref().filter(|_| busy_poll > MAX_BUSY_POLL) {
        let message = "`busy_poll` must be at most 1s: longer, a shard would never sleep";
        report.push(
            Problem::error("out-of-range", place_of(file, written), message).wanted("\"0s\" to \"1s\""),
        );
    }
    locality(report, file, proxy.locality.as_ref());
    Settings {
        cores: proxy.cores.as_ref().and_then(|written| cores(report, file, written)).unwrap_or_default(),
        cores_place: proxy.cores.as_ref().map(|written| place_of(file, written)),
        shards: proxy
            .shards
            .as_ref()
            .and_then(|written| count(report, file, "shards", written, 0..=MAX_SHARDS))
            .map_or(0, |shards| shards as usize),
        admin: match &proxy.admin {
            Some(written) => admin(report, file, written),
            None => Some(SocketAddr::from(([127, 0, 0, 1], 9347))),
        },
        admin_place: proxy.admin.as_ref().map(|written| place_of(file, written)),
        watch: proxy.watch.as_ref().is_none_or(|written| *written.get_ref()),
        drain_delay,
        drain_timeout: Some(drain_timeout).filter(|time| !time.is_zero()),
        resolve_interval: Some(resolve_interval).filter(|time| !time.is_zero()),
        max_connections: proxy
            .max_connections
            .as_ref()
            .and_then(|written| count(report, file, "max_connections", written, 0..=u64::from(u32::MAX)))
            .filter(|limit| *limit > 0),
        busy_poll,
        relay: proxy
            .relay
            .as_ref()
            .and_then(|written| word(report, file, "relay", written, &RELAYS, &[]))
            .unwrap_or_default(),
        log_level: log_level.unwrap_or_default(),
    }
}

const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

const RELAYS: [(&str, RelayMode); 3] =
    [("auto", RelayMode::Auto), ("copy", RelayMode::Copy), ("splice", RelayMode::Splice)];

/// "all", or a list as taskset writes it: "0-3,8".
fn cores(report: &mut Report, file: u32, written: &Text) -> Option<Cores> {
    let text = written.get_ref();
    if text == "all" {
        return Some(Cores::All);
    }
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            (Ok(first), Ok(last)) if first <= last && last < MAX_CORES => list.extend(first..=last),
            _ => {
                let message = format!("`{text}` is not a list of cores");
                let problem = Problem::error("bad-cores", place_of(file, written), message).found(text);
                report.push(problem.wanted("\"all\", or cores as taskset writes them: \"0-3,8\""));
                return None;
            }
        }
    }
    list.sort_unstable();
    list.dedup();
    Some(Cores::List(list))
}

/// An address, or `None` for "off".
fn admin(report: &mut Report, file: u32, written: &Text) -> Option<SocketAddr> {
    if written.get_ref() == "off" {
        return None;
    }
    let address = super::addresses::socket(report, file, written)?;
    if !address.ip().is_loopback() {
        let message =
            format!("`admin` on {address} needs `admin_token_file`, which is not in this version of Weir");
        let problem = Problem::error("admin-not-loopback", place_of(file, written), message);
        report.push(
            problem
                .found(address.to_string())
                .wanted("a loopback address such as 127.0.0.1:9347, or \"off\""),
        );
        return None;
    }
    Some(address)
}
