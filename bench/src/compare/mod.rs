//! Several proxies, the same work, in turn.

pub mod account;
pub mod children;
pub mod layout;
pub mod result;
pub mod statistics;
