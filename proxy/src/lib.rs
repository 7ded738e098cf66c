//! Skeleton.

pub mod outcome;
pub mod relay;
