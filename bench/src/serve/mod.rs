//! Back ends: the other end of a path under test.
