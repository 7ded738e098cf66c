//! The operating system, as safe functions: all unsafe code of the program stands here, and nothing here knows of sessions.

pub(crate) mod ring;
pub(crate) mod sys;
