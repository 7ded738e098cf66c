//! The operating system, as safe functions: all unsafe code of the program stands here, and nothing here knows of sessions.

pub mod ring;
pub mod sys;
