//! The part of `weir` that other programs use: arguments, files to table, and problems as text. It is all that this crate makes
//! public beside the entry of its own program, imports nothing of the rest, and builds without the executor and io_uring.

mod configuration;
mod later;
pub mod load;
pub mod report;
mod visible;

pub use self::configuration::Configuration;
pub use self::later::Later;
