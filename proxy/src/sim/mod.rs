//! The simulated kernel, for tests: sockets with peers, pipes and buffers, driven by a seed. `relay::sim` runs relays on it,
//! `shard::sim` whole sessions. Neither the ring's completions nor any program of ours is in here.

pub(crate) mod bytes;
pub(crate) mod net;
pub(crate) mod pools;
pub(crate) mod shape;

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: wanted a number")))
}

/// The seeds of a run: `WEIR_SIM_SEED` alone, or as many as `WEIR_SIM_SEEDS` says.
pub(crate) fn seeds(otherwise: u64) -> std::ops::Range<u64> {
    match number("WEIR_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WEIR_SIM_SEEDS").unwrap_or(otherwise),
    }
}
