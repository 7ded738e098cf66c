//! The only room with unsafe code: clocks of other processes.
