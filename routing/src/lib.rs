//! Weir's routing: TOML text -> checked -> compiled -> decision.
//!
//! Pure: no sockets, files, clocks, threads or unsafe. Time and chance come in as arguments, so that everything this crate
//! decides can be replayed. Its callers read the files ([`Sources`]), resolve the host names ([`Resolved`]), keep the counts
//! that balancing looks at ([`Loads`]) and print the problems ([`Problem`]).
//!
//! The walk: [`parse`] reads text into the configuration as written; [`compile()`] checks it and makes the frozen [`Table`] of
//! its [`Parts`]; [`Table::decide`] matches an [`Arrival`], draws a destination and finds its port; [`Table::pick`] picks its
//! endpoint. [`mod@explain`] shows the same walk, through the same code; a [`ConfigTest`] compares the decision with a `[[test]]`.

mod arrival;
mod balance;
mod classify;
mod compile;
mod config;
mod config_test;
pub mod explain;
mod first_bytes;
mod hash;
mod ids;
mod parts;
mod policy;
mod problem;
mod settings;
mod split;
mod table;

pub use arrival::Arrival;
pub use balance::{Attempt, Loads};
pub use compile::{Compiled, Resolved, compile};
pub use config::{Config, Environment, KEY_TABLES, Key, KeyTable, Kind, LeftOut, Same, Status, parse};
pub use config_test::ConfigTest;
pub use first_bytes::{FirstBytes, FirstPart, Known};
pub use ids::{DestinationId, EndpointId, GatewayId, RouteId, ServiceId, SplitId, SubsetId, WorkloadId};
pub use parts::{
    Block, CLIENTS_PORT, Destination, Endpoint, Gateway, GatewayLimits, Listen, OffRoute, Parts, Route,
    RouteAction, Service, ServicePort, Share, Split, Subset, Weightless, Workload, dialled, endpoint_name,
};
pub use policy::{Balance, Keepalive, Origin, Policy, Timeouts};
pub use problem::{Line, Place, Position, Problem, Related, Severity, Source, Sources};
pub use settings::{Cores, LogLevel, RelayMode, Settings};
pub use split::shard_rng;
pub use table::{Action, Draw, Match, Refusal, Table, Verdict, Via};
