//! The limits board: how many connections there may be, of the process, a service, a subset, and how many each shard has.
//!
//! A place is reserved before the step that needs it and given back by dropping the reservation, which the session owns. So
//! counts cannot drift, never exceed the limit by one, and never go negative.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

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

/// A service, or one of its subsets, by name.
type LimitKey = (Arc<str>, Option<Arc<str>>);

/// The limits of services and subsets by name. Only the control thread looks here, once a table.
#[derive(Debug, Default)]
pub(crate) struct LimitsBoard(Mutex<HashMap<LimitKey, Arc<Limit>>>);

impl LimitsBoard {
    /// The limit of a service or subset, with its maximum as of now. One that was there keeps its count.
    pub(crate) fn limit(
        &self,
        service: &Arc<str>,
        subset: Option<&Arc<str>>,
        maximum: Option<u64>,
    ) -> Arc<Limit> {
        let mut limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit =
            limits.entry((Arc::clone(service), subset.cloned())).or_insert_with(|| Limit::new(maximum));
        limit.set_maximum(maximum);
        Arc::clone(limit)
    }

    /// Forgets those that no table and no session holds.
    pub(crate) fn prune(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, limit| Arc::strong_count(limit) > 1);
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
