//! The boards: all that shards share with each other and with readers. Limits, endpoints, counters; a table bound to its rows
//! of them (`in_force`); and their text for Prometheus.

pub mod counters;
pub mod health;
pub mod in_force;
pub mod labels;
pub mod limits;
pub mod prometheus;
pub mod registry;
