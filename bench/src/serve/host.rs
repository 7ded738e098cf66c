//! A server's requests to its host before it serves: descriptors, and a core.

use std::io::{self, Write as _};

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit of descriptors to its hard limit. Where that is too few, accepting fails later and reports it.
pub(super) fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        let _ = writeln!(io::stderr(), "weir-bench: the limit of open files cannot be raised: {error}");
    }
}

/// Pins the calling thread to a core, if one was asked for.
pub(super) fn pin(core: Option<usize>) {
    if let Some(core) = core
        && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
    {
        let _ = writeln!(
            io::stderr(),
            "weir-bench: not pinned to core {core}: this process may not run there; see `taskset -p $$`"
        );
    }
}
