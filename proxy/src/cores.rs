//! Which cores shards run on: what the configuration asks for, within what this process may use.

use std::fs;
use std::path::Path;

use weir_routing::Cores;

/// The cores of this process's affinity mask, ascending.
pub(crate) fn usable() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// One core a shard. `shards` 0 is one a core; more shards than cores take them in turn.
/// `quota` is how many cores' worth of time a cgroup grants; it shortens "all" only, since a list is intended as it is.
pub(crate) fn plan(cores: &Cores, shards: usize, usable: &[usize], quota: Option<usize>) -> Vec<usize> {
    let cores = match cores {
        Cores::All => &usable[..quota.unwrap_or(usable.len()).clamp(1.min(usable.len()), usable.len())],
        Cores::List(list) => &list[..],
    };
    let shards = if shards == 0 { cores.len() } else { shards };
    cores.iter().copied().cycle().take(shards).collect()
}

/// How many cores' worth of time the cgroups (version 2) of this process grant, rounded up; none: no quota.
pub(crate) fn quota() -> Option<usize> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    let root = Path::new("/sys/fs/cgroup");
    let leaf = root.join(group.trim_start_matches('/'));
    // Each group on the way up may have a quota, and the smallest holds.
    let groups = leaf.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(|group| cores_of(&fs::read_to_string(group.join("cpu.max")).ok()?)).min()
}

/// "150000 100000" is two cores; "max 100000" is no quota.
fn cores_of(cpu_max: &str) -> Option<usize> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    let (quota, period): (usize, usize) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_take_the_cores_in_turn() {
        #[track_caller]
        fn check(cores: Cores, shards: usize, quota: Option<usize>, expected: &[usize]) {
            assert_eq!(plan(&cores, shards, &[0, 2, 3], quota), expected);
        }
        check(Cores::All, 0, None, &[0, 2, 3]);
        check(Cores::All, 0, Some(2), &[0, 2]);
        check(Cores::All, 0, Some(8), &[0, 2, 3]);
        check(Cores::All, 5, None, &[0, 2, 3, 0, 2]);
        check(Cores::All, 2, Some(1), &[0, 0]);
        check(Cores::List(vec![3, 0]), 0, Some(1), &[3, 0]);
        check(Cores::List(vec![3]), 2, None, &[3, 3]);
    }

    #[test]
    fn a_quota_is_rounded_up() {
        #[track_caller]
        fn check(cpu_max: &str, expected: Option<usize>) {
            assert_eq!(cores_of(cpu_max), expected, "{cpu_max}");
        }
        check("max 100000\n", None);
        check("100000 100000\n", Some(1));
        check("150000 100000\n", Some(2));
        check("1000 100000\n", Some(1));
        check("", None);
        check("100000 0", None);
    }
}
