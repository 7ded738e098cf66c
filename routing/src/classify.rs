//! Skeleton.
/// Skeleton.
#[derive(Clone, Debug, Default)]
pub struct Classifier;
