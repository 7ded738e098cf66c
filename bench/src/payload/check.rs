//! Checks a stream as it comes, in pieces of any length.
