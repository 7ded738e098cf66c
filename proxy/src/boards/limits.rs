//! The limits board: how many connections there may be, of the process, a gateway, a source, a service, a subset, and how many
//! each shard has.
//!
//! A place is reserved before the step that needs it and given back by dropping the reservation, which the session owns. So
//! counts cannot drift, never exceed the limit by one, and never go negative.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_routing::GatewayLimits;

use super::rate::Rate;
use super::sources::{SourceLimits, SourcePlace, Sources};
use crate::reason::Reason;

/// One limit, shared by all shards. It outlives tables: a reload changes its maximum, never its count.
#[derive(Debug)]
pub(crate) struct Limit {
    maximum: AtomicU64,
    used: AtomicU64,
}

/// No limit.
const UNLIMITED: u64 = u64::MAX;

impl Limit {
    /// A limit without reservations; `None`: it only counts.
    pub(crate) fn new(maximum: Option<u64>) -> Arc<Self> {
        Arc::new(Self { maximum: AtomicU64::new(maximum.unwrap_or(UNLIMITED)), used: AtomicU64::new(0) })
    }

    /// Changes the maximum; reservations stay.
    pub(crate) fn set_maximum(&self, maximum: Option<u64>) {
        self.maximum.store(maximum.unwrap_or(UNLIMITED), Relaxed);
    }

    /// Reserves a place; `None`: the limit is reached. Compare-and-swap, never read, then add.
    pub(crate) fn reserve(self: &Arc<Self>) -> Option<Reservation> {
        let maximum = self.maximum.load(Relaxed);
        self.used
            .fetch_update(Relaxed, Relaxed, |used| (used < maximum).then(|| used + 1))
            .is_ok()
            .then(|| Reservation(Arc::clone(self)))
    }

    /// The maximum; `None`: no limit.
    fn maximum(&self) -> Option<u64> {
        Some(self.maximum.load(Relaxed)).filter(|&maximum| maximum != UNLIMITED)
    }

    /// Places reserved now.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }
}

/// A place under a limit, given back by dropping it.
#[derive(Debug)]
pub(crate) struct Reservation(Arc<Limit>);

impl Drop for Reservation {
    fn drop(&mut self) {
        let before = self.0.used.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "a reservation was given back twice");
    }
}

/// The limits by name. No shard looks here: names are looked up once a table.
#[derive(Debug)]
pub(crate) struct LimitsBoard {
    /// Of the process.
    pub(crate) process: Arc<Limit>,
    /// Of the sources of all gateways.
    pub(crate) sources: Arc<Sources>,
    destinations: Mutex<HashMap<DestinationKey, Arc<Limit>>>,
    gateways: Mutex<Gateways>,
}

/// A service, or one of its subsets, by name.
type DestinationKey = (Arc<str>, Option<Arc<str>>);

/// Gateways by name.
#[derive(Debug, Default)]
struct Gateways {
    last_number: u32,
    by_name: HashMap<Arc<str>, (u32, Arc<Limit>, Arc<Rate>)>,
}

/// A limit as `/metrics` shows it.
#[derive(Debug)]
pub(crate) struct Shown {
    /// "process", "gateway", "service" or "subset".
    pub(crate) scope: &'static str,
    /// The gateway, the service, or "service/subset".
    pub(crate) name: String,
    /// `None`: no limit.
    pub(crate) maximum: Option<u64>,
    /// Connections that count against it.
    pub(crate) used: u64,
}

impl LimitsBoard {
    /// The limits of a process that may have this many connections.
    pub(crate) fn new(process: Option<u64>) -> Self {
        Self {
            process: Limit::new(process),
            sources: Arc::default(),
            destinations: Mutex::default(),
            gateways: Mutex::default(),
        }
    }

    /// The limit of a service or subset, with its maximum as of now. One that was there keeps its count.
    pub(crate) fn limit(
        &self,
        service: &Arc<str>,
        subset: Option<&Arc<str>>,
        maximum: Option<u64>,
    ) -> Arc<Limit> {
        let mut limits = lock(&self.destinations);
        let limit =
            limits.entry((Arc::clone(service), subset.cloned())).or_insert_with(|| Limit::new(maximum));
        limit.set_maximum(maximum);
        Arc::clone(limit)
    }

    /// The limits of a gateway, with their maxima as of now. Those that were there keep their counts.
    pub(crate) fn gateway(&self, name: &Arc<str>, limits: GatewayLimits) -> GatewayRow {
        let mut gateways = lock(&self.gateways);
        let Gateways { last_number, by_name } = &mut *gateways;
        let (number, connections, rate) = by_name.entry(Arc::clone(name)).or_insert_with(|| {
            *last_number += 1;
            (*last_number, Limit::new(limits.connections), Arc::default())
        });
        connections.set_maximum(limits.connections);
        rate.set_maximum(limits.rate);
        GatewayRow {
            number: *number,
            connections: Arc::clone(connections),
            rate: Arc::clone(rate),
            per_source: SourceLimits {
                connections: limits.connections_per_source,
                per_second: limits.rate_per_source,
            },
            sources: Arc::clone(&self.sources),
        }
    }

    /// Forgets those that no table and no session holds.
    pub(crate) fn prune(&self) {
        lock(&self.destinations).retain(|_, limit| Arc::strong_count(limit) > 1);
        lock(&self.gateways).by_name.retain(|_, (_, connections, _)| Arc::strong_count(connections) > 1);
    }

    /// All limits of tables and sessions that are there, for readers.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        self.prune();
        let show = |scope, name: String, limit: &Limit| Shown {
            scope,
            name,
            maximum: limit.maximum(),
            used: limit.used(),
        };
        let mut all = vec![show("process", String::new(), &self.process)];
        for (name, (_, connections, _)) in &lock(&self.gateways).by_name {
            all.push(show("gateway", name.to_string(), connections));
        }
        for ((service, subset), limit) in &*lock(&self.destinations) {
            all.push(match subset {
                Some(subset) => show("subset", format!("{service}/{subset}"), limit),
                None => show("service", service.to_string(), limit),
            });
        }
        all.sort_by(|one, other| (one.scope, &one.name).cmp(&(other.scope, &other.name)));
        all
    }

    /// How many addresses are kept for each gateway, by name.
    pub(crate) fn limited_sources(&self) -> BTreeMap<Arc<str>, u64> {
        let kept = self.sources.kept();
        let gateways = lock(&self.gateways);
        let of = |number: &u32| kept.get(number).copied().unwrap_or_default();
        gateways.by_name.iter().map(|(name, (number, ..))| (Arc::clone(name), of(number))).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The limits of one gateway of a table.
#[derive(Clone, Debug)]
pub(crate) struct GatewayRow {
    number: u32,
    connections: Arc<Limit>,
    rate: Arc<Rate>,
    per_source: SourceLimits,
    sources: Arc<Sources>,
}

/// A connection's places at its gateway, given back by dropping them.
#[derive(Debug)]
pub(crate) struct GatewayPlaces {
    _gateway: Reservation,
    /// Few gateways limit sources, and a session is to be small.
    _source: Option<Box<SourcePlace>>,
}

impl GatewayRow {
    /// Reserves a connection's places: the source's first, so that connections which it may not make take nothing of the gateway's,
    /// and the gateway's rate last. `source` and `now` (nanoseconds of the monotonic clock) are asked for where a limit needs them.
    ///
    /// Errors: the limit that is reached, or that the source has gone.
    pub(crate) fn reserve(
        &self,
        source: impl FnOnce() -> io::Result<IpAddr>,
        now: impl Fn() -> u64,
    ) -> Result<GatewayPlaces, Reason> {
        let mut of_source = None;
        if self.per_source.is_any() {
            let source = source().map_err(|_| Reason::ClientGone)?;
            let place = self.sources.reserve(self.number, source, self.per_source, now());
            of_source = Some(Box::new(place.ok_or(Reason::LimitSource)?));
        }
        let gateway = self.connections.reserve().ok_or(Reason::LimitGateway)?;
        if self.rate.is_limited() && !self.rate.take(now()) {
            return Err(Reason::LimitGateway);
        }
        Ok(GatewayPlaces { _gateway: gateway, _source: of_source })
    }
}

/// Sessions a shard has, with what was handed to it and has not arrived.
#[derive(Clone, Debug)]
pub(crate) struct ShardLoad(Arc<[Arc<Limit>]>);

/// A session more than this is too little to move a socket for.
const CLEARLY_MORE: u64 = 2;

impl ShardLoad {
    /// One row a shard.
    pub(crate) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Limit::new(None)).collect())
    }

    /// Counts a session to a shard.
    pub(crate) fn add(&self, shard: usize) -> Reservation {
        self.0[shard].reserve().expect("a shard has no limit of sessions")
    }

    /// Sessions of a shard.
    pub(crate) fn sessions(&self, shard: usize) -> u64 {
        self.0[shard].used()
    }

    /// Sessions of all shards.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|sessions| sessions.used()).sum()
    }

    /// The shard that a new socket of `here` should go to: the least loaded, if `here` has at least two and a quarter more.
    pub(crate) fn less_loaded_than(&self, here: usize) -> Option<usize> {
        let (least, shard) =
            self.0.iter().enumerate().map(|(shard, sessions)| (sessions.used(), shard)).min()?;
        let mine = self.0[here].used();
        (mine >= least + CLEARLY_MORE && mine * 4 >= least * 5).then_some(shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_threads_never_exceed_a_limit_and_give_everything_back() {
        let limit = Limit::new(Some(7));
        let inside = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let (limit, inside) = (&limit, &inside);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed);
                    let mut held = Vec::new();
                    for _ in 0..100_000 {
                        if rng.bool() {
                            if let Some(reservation) = limit.reserve() {
                                assert!(inside.fetch_add(1, Relaxed) < 7);
                                held.push(reservation);
                            }
                        } else if let Some(reservation) = held.pop() {
                            inside.fetch_sub(1, Relaxed);
                            drop(reservation);
                        }
                    }
                    inside.fetch_sub(held.len() as u64, Relaxed);
                });
            }
        });
        assert_eq!(limit.used(), 0);
    }

    #[test]
    fn a_socket_moves_only_to_a_shard_with_clearly_fewer_sessions() {
        let check = |counts: &[u64], here: usize, wanted: Option<usize>| {
            let shard_load = ShardLoad::new(counts.len());
            let _held: Vec<_> = counts
                .iter()
                .enumerate()
                .flat_map(|(shard, &n)| (0..n).map(move |_| shard))
                .map(|shard| shard_load.add(shard))
                .collect();
            assert_eq!(shard_load.less_loaded_than(here), wanted, "{counts:?} from {here}");
        };
        check(&[0, 0], 0, None);
        check(&[1, 0], 0, None);
        check(&[2, 0], 0, Some(1));
        check(&[2, 0], 1, None);
        check(&[10, 8], 0, Some(1));
        check(&[100, 98], 0, None);
        check(&[125, 100], 0, Some(1));
        check(&[9, 7, 5], 0, Some(2));
    }
}
