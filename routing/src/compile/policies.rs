//! Policies: layers of keys, one over the other, down to the policy in force for a destination.
//!
//! From the bottom: built in, `[policy.default]`, the policy that `use` names, the service's own keys, the policy that the subset's
//! `use` names, the subset's own keys. Each key keeps the place that set it.

use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::names::{Declared, Registry};
use super::report::Report;
use super::values::{Precision, count, duration, print_duration, word};
use crate::config::{Number, Policy as Written, Scalar, place_of};
use crate::policy::{Balance, Keepalive, Origin, Policy, Timeouts};
use crate::problem::{Place, Problem};

/// The kernel's limit for TCP_KEEPIDLE and TCP_KEEPINTVL.
const MAX_KEEPALIVE: Duration = Duration::from_secs(32_767);
/// The kernel's limit for TCP_KEEPCNT.
const MAX_PROBES: u64 = 127;
/// The kernel's limit for TCP_USER_TIMEOUT, in milliseconds.
const MAX_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);
/// More attempts than this only make an outage longer.
const MAX_ATTEMPTS: u64 = 100;

const BALANCES: [(&str, Balance); 4] = [
    ("least_connections", Balance::LeastConnections),
    ("round_robin", Balance::RoundRobin),
    ("random", Balance::Random),
    ("source_ip", Balance::SourceIp),
];

/// A value and where it was set.
type Set<T> = Option<(T, Place)>;

macro_rules! layer {
    ($($field:ident: $kind:ty,)*) => {
        /// The keys that one or several layers set. A duration of zero is "no limit".
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct Layer { $($field: Set<$kind>,)* }

        impl Layer {
            /// This layer, and over it another.
            pub(super) fn under(self, over: Self) -> Self {
                Self { $($field: over.$field.or(self.$field),)* }
            }
        }
    };
}

layer! {
    balance: Balance,
    connect_timeout: Duration,
    connect_attempts: u64,
    connect_deadline: Duration,
    idle_timeout: Duration,
    half_close_timeout: Duration,
    flush_timeout: Duration,
    max_duration: Duration,
    max_connections: u64,
    keepalive_time: Duration,
    keepalive_interval: Duration,
    keepalive_probes: u64,
    user_timeout: Duration,
}

impl Layer {
    /// The connection limit that this layer sets; `Some(None)` for "no limit".
    pub(super) fn max_connections(&self) -> Option<Option<u64>> {
        self.max_connections.map(|(limit, _)| Some(limit).filter(|limit| *limit > 0))
    }

    /// The policy that these layers come to, over the built-in values, and where each of its values was set, in the order of the
    /// documentation. `limit` is the destination's own.
    pub(super) fn policy(&self, limit: Option<u64>) -> (Policy, Arc<[Origin]>) {
        let mut origins = Vec::new();
        let mut time = |key, set: Set<Duration>, built_in| {
            let value = set.map_or(built_in, |(value, _)| value);
            origins.push(Origin { key, value: print_duration(value), place: set.map(|(_, place)| place) });
            value
        };
        let limited = |time: Duration| Some(time).filter(|time| !time.is_zero());
        let seconds = Duration::from_secs;
        let connect = limited(time("connect_timeout", self.connect_timeout, seconds(2)));
        let connect_deadline = limited(time("connect_deadline", self.connect_deadline, seconds(10)));
        let idle = limited(time("idle_timeout", self.idle_timeout, seconds(3600)));
        let half_close = limited(time("half_close_timeout", self.half_close_timeout, seconds(600)));
        let flush = limited(time("flush_timeout", self.flush_timeout, seconds(5)));
        let max_duration = limited(time("max_duration", self.max_duration, Duration::ZERO));
        let keepalive_time = time("keepalive.time", self.keepalive_time, seconds(60));
        let keepalive_interval = time("keepalive.interval", self.keepalive_interval, seconds(15));
        let user_timeout = limited(time("user_timeout", self.user_timeout, Duration::ZERO));
        let balance = self.balance.map_or(Balance::default(), |(balance, _)| balance);
        let attempts = self.connect_attempts.map_or(3, |(attempts, _)| attempts);
        let probes = self.keepalive_probes.map_or(4, |(probes, _)| probes);
        let mut other = |at, key, value: String, place| origins.insert(at, Origin { key, value, place });
        // At their places in the order in which they are documented.
        let named = BALANCES.iter().find(|(_, other)| *other == balance).map_or("", |(name, _)| name);
        other(0, "balance", named.to_owned(), self.balance.map(|set| set.1));
        other(2, "connect_attempts", attempts.to_string(), self.connect_attempts.map(|set| set.1));
        let connections = self.max_connections.map_or(0, |(limit, _)| limit);
        other(8, "max_connections", connections.to_string(), self.max_connections.map(|set| set.1));
        other(11, "keepalive.probes", probes.to_string(), self.keepalive_probes.map(|set| set.1));
        let policy = Policy {
            balance,
            timeouts: Timeouts { connect, connect_deadline, idle, half_close, flush, max_duration },
            connect_attempts: attempts as u32,
            max_connections: limit,
            keepalive: limited(keepalive_time).map(|time| Keepalive {
                time,
                interval: keepalive_interval,
                probes: probes as u32,
            }),
            user_timeout,
        };
        (policy, origins.into())
    }
}

/// The named policies, each over the one that it uses.
pub(super) struct Policies<'c> {
    registry: Registry<'c, Written>,
    layers: Vec<Layer>,
}

impl<'c> Policies<'c> {
    /// Checks them and follows their `use`.
    pub(super) fn new(report: &mut Report, registry: Registry<'c, Written>) -> Self {
        let own: Vec<Layer> =
            registry.list.iter().map(|policy| keys(report, policy.file, policy.written)).collect();
        let beneath: Vec<Option<usize>> = registry
            .list
            .iter()
            .map(|policy| {
                policy.written.beneath.as_ref().and_then(|name| registry.resolve(report, policy.file, name))
            })
            .collect();
        let layers = (0..own.len())
            .map(|at| {
                let chain = chain(at, &beneath);
                // Each policy of a circle sees it; the first one reports it.
                let again = chain[1..].iter().position(|other| *other == at);
                if again.is_some_and(|end| chain[..=end].iter().all(|other| *other >= at)) {
                    report.push(cycle(&registry.list, at, &beneath));
                }
                chain.iter().rev().take(own.len()).fold(Layer::default(), |layer, at| layer.under(own[*at]))
            })
            .collect();
        Self { registry, layers }
    }

    /// The layer beneath every service of a namespace: `[policy.default]`, its own or that of namespace default.
    pub(super) fn default_of(&self, namespace: &Arc<str>) -> Layer {
        self.registry.in_namespace(namespace, "default").map_or(Layer::default(), |at| self.layers[at])
    }

    /// A policy written in a service or a subset, over the one that it uses.
    pub(super) fn written(&self, report: &mut Report, file: u32, written: Option<&Written>) -> Layer {
        let Some(written) = written else { return Layer::default() };
        let beneath = written.beneath.as_ref().and_then(|name| self.registry.resolve(report, file, name));
        let beneath = beneath.map_or(Layer::default(), |at| self.layers[at]);
        beneath.under(keys(report, file, written))
    }
}

/// A policy and all that it uses, down to the lowest; one more than there are where it goes round.
fn chain(at: usize, beneath: &[Option<usize>]) -> Vec<usize> {
    let next = |at: &usize| beneath[*at];
    std::iter::successors(Some(at), next).take(beneath.len() + 1).collect()
}

fn cycle(list: &[Declared<'_, Written>], at: usize, beneath: &[Option<usize>]) -> Problem {
    let policy = &list[at];
    let place =
        policy.written.beneath.as_ref().map_or(policy.place, |written| place_of(policy.file, written));
    let mut names = vec![&*policy.printed];
    let mut problem_places = Vec::new();
    let mut next = beneath[at];
    while let Some(other) = next.filter(|_| names.len() <= beneath.len()) {
        names.push(&list[other].printed);
        problem_places.push(list[other].place);
        next = beneath[other].filter(|_| other != at);
    }
    let message = format!("policy `{}` uses itself: {}", policy.printed, names.join(" -> "));
    let problem = Problem::error("policy-cycle", place, message).help("take one `use` of the circle out");
    problem_places
        .into_iter()
        .filter(|place| *place != policy.place)
        .take(8)
        .fold(problem, |problem, place| problem.related(place, "through this one"))
}

/// The keys that a policy sets itself.
fn keys(report: &mut Report, file: u32, written: &Written) -> Layer {
    let mut time = |key: &str, written: &Option<Spanned<Scalar>>, precision, most: Duration| {
        let written = written.as_ref()?;
        let value = duration(report, file, written, precision)?;
        if value > most {
            let most = print_duration(most);
            let message = format!("`{key}` must be at most {most}: the kernel takes no more");
            let problem = Problem::error("out-of-range", place_of(file, written), message);
            report.push(problem.found(print_duration(value)).wanted(format!("at most \"{most}\"")));
        }
        Some((value, place_of(file, written)))
    };
    let millis = Precision::Milliseconds;
    let connect_timeout = time("connect_timeout", &written.connect_timeout, millis, Duration::MAX);
    let connect_deadline = time("connect_deadline", &written.connect_deadline, millis, Duration::MAX);
    let idle_timeout = time("idle_timeout", &written.idle_timeout, millis, Duration::MAX);
    let half_close_timeout = time("half_close_timeout", &written.half_close_timeout, millis, Duration::MAX);
    let flush_timeout = time("flush_timeout", &written.flush_timeout, millis, Duration::MAX);
    let max_duration = time("max_duration", &written.max_duration, millis, Duration::MAX);
    let user_timeout = time("user_timeout", &written.user_timeout, millis, MAX_USER_TIMEOUT);
    let none = crate::config::Keepalive::default();
    let keepalive = written.keepalive.as_ref().unwrap_or(&none);
    let keepalive_time = time("keepalive.time", &keepalive.time, Precision::Seconds, MAX_KEEPALIVE);
    let keepalive_interval =
        time("keepalive.interval", &keepalive.interval, Precision::Seconds, MAX_KEEPALIVE);
    if let Some((_, place)) = keepalive_interval.filter(|(value, _)| value.is_zero()) {
        let problem =
            Problem::error("out-of-range", place, "`keepalive.interval` must be at least 1s").found("0s");
        report.push(problem.help("`time = \"0s\"` turns keepalive off"));
    }
    let mut number = |key: &str, written: &Option<Number>, bounds| {
        let written = written.as_ref()?;
        Some((count(report, file, key, written, bounds)?, place_of(file, written)))
    };
    Layer {
        connect_attempts: number("connect_attempts", &written.connect_attempts, 1..=MAX_ATTEMPTS),
        max_connections: number("max_connections", &written.max_connections, 0..=u64::from(u32::MAX)),
        keepalive_probes: number("keepalive.probes", &keepalive.probes, 1..=MAX_PROBES),
        balance: written.balance.as_ref().and_then(|text| {
            let balance = word(report, file, "balance", text, &BALANCES, &["passthrough"])?;
            Some((balance, place_of(file, text)))
        }),
        connect_timeout,
        connect_deadline,
        idle_timeout,
        half_close_timeout,
        flush_timeout,
        max_duration,
        keepalive_time,
        keepalive_interval,
        user_timeout,
    }
}
