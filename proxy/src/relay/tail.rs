//! The sizes of tails (the unsent rest of a read), and how reads shrink as the budget of tails fills.

use super::direction::HOT_BUFFER;

/// Bytes of the buffers that tails are kept in, in rising order: a reader that stalls over a small rest holds 4 KiB, not 64.
pub(crate) const TAIL_CLASSES: [usize; 3] = [4 << 10, 16 << 10, HOT_BUFFER];

/// The smallest class that holds so many bytes.
pub(crate) fn tail_class(bytes: usize) -> usize {
    TAIL_CLASSES.iter().position(|&size| bytes <= size).unwrap_or(TAIL_CLASSES.len() - 1)
}

/// Bytes that a read may take while tails hold `used` bytes of their budget: past half of it, and past three quarters, a smaller
/// class. So the last quarter alone has room for the tails of thousands of stalled readers. Even at the budget 4 KiB are read:
/// a session whose own reader keeps up must not wait for those of others.
pub(crate) fn read_limit(used: usize, budget: usize) -> usize {
    let [small, medium, large] = TAIL_CLASSES;
    if used <= budget / 2 {
        large
    } else if used <= budget / 4 * 3 {
        medium
    } else {
        small
    }
}
