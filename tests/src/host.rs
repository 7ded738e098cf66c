//! A test's needs of the host. Where one is missing, the test prints that it is skipped; in CI it must run.

use std::path::PathBuf;

/// Whether this is CI, where nothing is skipped.
pub fn ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Whether all of these programs are there.
pub fn has(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|name| find(name).is_none()).collect();
    allow(missing.is_empty(), &format!("needs {}", missing.join(" and ")))
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    allow(rustix::process::geteuid().is_root(), "needs root")
}

/// Whether this many cores are there.
pub fn has_cores(cores: usize) -> bool {
    let found = std::thread::available_parallelism().map_or(1, usize::from);
    allow(found >= cores, &format!("needs {cores} cores"))
}

fn allow(holds: bool, need: &str) -> bool {
    assert!(holds || !ci(), "{need}, and in CI nothing is skipped");
    if !holds {
        eprintln!("skipped: {need}");
    }
    holds
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}
