//! Step 1 of the walk: TOML text -> the configuration as written, and every problem of its shape.
//!
//! The structs of `written.rs` are close to the text: a field is what stands in the file, with its place, or nothing. The
//! meaning of the strings (durations, networks, names of other things) is left to [`mod@crate::compile`]. Keys that a later
//! version of Weir reads are listed in `later.rs`, so that they are never taken for misspelt ones.

mod advice;
mod duplicates;
mod later;
mod read;
mod scalars;
pub(crate) mod spelling;
mod syntax;
mod variables;
mod written;

pub(crate) use advice::for_word;
pub(crate) use later::not_in_this_version;
pub use read::parse;
pub use variables::Environment;
pub use written::Config;
pub(crate) use written::{
    Endpoint, EndpointTable, Expect, Gateway, Item, Keepalive, Labels, List, Match, Number, Policy, Ports,
    Proxy, Route, Scalar, Service, ServicePort, Test, Text, To, Workload, as_key, place_of,
};
