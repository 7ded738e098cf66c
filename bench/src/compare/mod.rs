//! Several proxies, the same work, in turn.

pub mod result;
