//! The boards: all that shards share with each other and with readers. Limits, endpoints, counters; a table bound to its rows
//! of them (`in_force`); and their text for Prometheus.

pub(crate) mod counters;
pub(crate) mod health;
pub(crate) mod in_force;
pub(crate) mod labels;
pub(crate) mod limits;
pub(crate) mod prometheus;
pub(crate) mod rate;
pub(crate) mod registry;
pub(crate) mod sources;
