//! Step 1 of the walk: TOML text -> the configuration as written, and every problem of its shape.
//!
//! The structs of `written.rs` are close to the text: a field is the value in the file, with its place, or nothing. The
//! meaning of the strings (durations, networks, names of other things) is left to [`mod@crate::compile`]. Every key
//! is in the list of `keys`, also those that only a later version of Weir reads: they are never taken for misspelt ones.

mod advice;
mod duplicates;
mod keys;
mod read;
mod scalars;
pub(crate) mod spelling;
mod syntax;
mod variables;
mod written;

pub(crate) use advice::for_word;
pub(crate) use keys::not_in_this_version;
pub use keys::{Key, KeyTable, Kind, LeftOut, Same, Status, TABLES as KEY_TABLES};
pub use read::parse;
pub use variables::Environment;
pub use written::Config;
pub(crate) use written::{
    Endpoint, EndpointTable, Expect, Gateway, Item, Keepalive, Labels, List, Match, Number, Policy, Ports,
    Proxy, Route, Scalar, Service, ServicePort, Test, Text, To, Workload, as_key, place_of,
};
