//! What shards share with each other and with whoever reads: counters that one shard writes and anyone sums up.

pub mod counters;
