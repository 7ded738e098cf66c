//! Weir's routing: TOML text -> checked -> compiled -> decision.
//!
//! Pure: no sockets, files, clocks, threads or unsafe. Time and chance come in as arguments, so that everything this crate
//! decides can be replayed. Whoever calls it reads the files ([`Sources`]), resolves the host names ([`Resolved`]),
//! keeps the counts that balancing looks at ([`Loads`]) and prints the problems ([`Problem`]).
//!
//! The walk: [`config`] reads text into the configuration as written; [`mod@compile`] checks it and makes the frozen [`Table`];
//! [`Table::decide`] matches an [`Arrival`], draws a destination and finds its port; [`Table::pick`] picks its endpoint.
//! [`explain`] shows the same walk, through the same code; [`claim`] runs the `[[test]]`s of a file.

pub mod balance;
pub mod claim;
mod classify;
pub mod compile;
pub mod config;
pub mod explain;
mod hash;
pub mod policy;
pub mod problem;
pub mod split;
pub mod table;

pub use balance::{Attempt, Loads};
pub use compile::{Compiled, Resolved, Settings, compile};
pub use config::{Config, Environment, parse};
pub use policy::{Balance, Keepalive, Policy, Timeouts};
pub use problem::{Line, Place, Position, Problem, Related, Severity, Source, Sources};
pub use split::Split;
pub use table::{
    Action, Arrival, Destination, DestinationId, Draw, Endpoint, EndpointId, Gateway, GatewayId, Match,
    Refusal, Route, RouteId, Service, ServiceId, SubsetId, Table, Verdict, Via, WorkloadId,
};
