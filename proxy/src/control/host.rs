//! A configuration's demands on this host, and whether the host meets them. `preflight` looks at the host and words the findings.

use weir_routing::{Compiled, Problem, Settings};

use crate::cores;
use crate::descriptors::Standing;
use crate::preflight::{self, Finding, Host, Wanted};

/// The host, if it allows what the configuration wants of it.
///
/// Errors: everything that the host lacks.
pub(super) fn allowed(compiled: &Compiled) -> Result<Host, Vec<Finding>> {
    let host = Host::read();
    let standing = standing(compiled, planned_shards(&compiled.settings, &host.cores).len());
    let findings = preflight::findings(&host, &wanted(compiled, standing));
    if findings.is_empty() { Ok(host) } else { Err(findings) }
}

fn wanted(compiled: &Compiled, standing: Standing) -> Wanted {
    let settings = &compiled.settings;
    let gateways = compiled.table.parts().gateways.iter().flat_map(|gateway| {
        let who = format!("gateway {}", gateway.name);
        gateway.listen.iter().map(move |listen| (who.clone(), *listen.ports.start()))
    });
    let admin = settings.admin.map(|address| ("admin".to_owned(), address.port()));
    // Port 0 is a free one, and those are never privileged.
    let ports = gateways.chain(admin).filter(|&(_, port)| port != 0).collect();
    Wanted { ports, cores: settings.cores.clone(), standing }
}

fn standing(compiled: &Compiled, shards: usize) -> Standing {
    let listen = compiled.table.parts().gateways.iter().flat_map(|gateway| &gateway.listen);
    let listeners = listen.map(|listen| listen.ports.clone().count()).sum();
    Standing { listeners, shards }
}

/// The warning of `weir check` on a host whose descriptors are too few for `weir run`.
pub(crate) fn descriptors_warning(compiled: &Compiled) -> Option<Problem> {
    let shards = planned_shards(&compiled.settings, &cores::usable()).len();
    let finding = preflight::few_descriptors(preflight::descriptor_limit(), standing(compiled, shards))?;
    let problem =
        Problem::warning("few-descriptors", None, "`weir run` has too few descriptors on this host");
    Some(problem.found(finding.found).wanted(finding.wanted).help(finding.command))
}

/// The core of each shard.
pub(super) fn planned_shards(settings: &Settings, usable: &[usize]) -> Vec<usize> {
    cores::plan(&settings.cores, settings.shards, usable, cores::quota())
}
