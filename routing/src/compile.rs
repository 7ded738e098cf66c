//! Step 2 of the walk: checks a configuration as written and makes the table of it, or returns all problems at once.
//!
//! Each file of this folder checks one kind of thing and gives it as run; a thing that is wrong is reported and left out, so that
//! the rest is still checked. A thing that lost a part when it was read is checked like all others, but the missing part is not
//! reported: see `Report::lack`. Freezing the parts and answering from them is left to [`crate::table`].

mod addresses;
mod arrivals;
mod checked;
mod conditions;
mod config_tests;
mod contradictions;
mod coverage;
mod destinations;
mod gateways;
mod members;
mod names;
mod other_services;
mod policies;
mod report;
mod routes;
mod services;
mod settings;
mod values;
mod workloads;

use std::sync::Arc;

use crate::config::{Config, Gateway as WrittenGateway};
use crate::config_test::ConfigTest;
use crate::parts::{Gateway, Listen, Parts};
use crate::problem::Problem;
use crate::settings::Settings;
use crate::table::Table;

pub use checked::Resolved;
use checked::{Known, Scene, Surroundings, Targets};
use destinations::Destinations;
use gateways::OwnAddresses;
use names::{Lookup, Registry};
use policies::Policies;
use report::Report;
use workloads::Workloads;

/// The result of a good configuration.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The table that shards route by.
    pub table: Table,
    /// The settings of the process.
    pub settings: Settings,
    /// Host names among the endpoints, sorted, each once; to be resolved.
    pub host_names: Vec<Arc<str>>,
    /// The `[[test]]`s, ready to run.
    pub config_tests: Vec<ConfigTest>,
    /// Warnings.
    pub warnings: Vec<Problem>,
}

/// Checks and compiles.
/// Errors: every problem of the configuration, errors and warnings, sorted by place.
pub fn compile(config: &Config, resolved: &Resolved) -> Result<Compiled, Vec<Problem>> {
    let mut report = Report::new(config);
    let report = &mut report;
    report.namespaces = names::namespaces(report, config);
    let namespaces = report.namespaces.clone();
    let gateways = Registry::new(report, "gateway", Lookup::ThenDefault, &config.gateways, &namespaces);
    let services = Registry::new(report, "service", Lookup::Namespace, &config.services, &namespaces);
    let policies = Registry::new(report, "policy", Lookup::ThenDefault, &config.policies, &namespaces);
    let workloads = Registry::new(report, "workload", Lookup::Namespace, &config.workloads, &namespaces);

    let settings = settings::settings(report, config);
    let listens = gateways::listens(report, &gateways);
    let own = own_addresses(report, config, &settings, &listens);
    let workloads = Workloads::new(report, &workloads);
    let policies = Policies::new(report, policies);
    let around = Surroundings { policies: &policies, workloads: &workloads, own: &own, resolved };
    let (checked, host_names) = services::services(report, &services, &around);

    let mut destinations = Destinations::new(&services, &checked);
    let services_as_run = destinations.services();
    let known = Known { gateways: &gateways, registry: &services, services: &checked };
    let routes = routes::routes(report, config, &known, &mut destinations);
    let gateways_as_run = gateways_as_run(report, &gateways, listens, &mut destinations);
    let config_tests = config_tests::config_tests(report, config, &known, &gateways_as_run, &routes);
    let scene = Scene {
        known: &known,
        gateways: &gateways_as_run,
        routes: &routes,
        services: &services_as_run,
        workloads: &workloads,
    };
    let targets = Targets {
        splits: &destinations.splits,
        destinations: &destinations.list,
        endpoints: &destinations.endpoints,
        own: &own,
    };
    check_together(report, &scene, &targets);

    let parts = Parts {
        gateways: gateways_as_run,
        routes: routes.used,
        off_routes: routes.off,
        services: services_as_run,
        splits: destinations.splits,
        destinations: destinations.list,
        endpoints: destinations.endpoints,
        workloads: workloads.list,
        sources: config.sources.clone(),
    };
    let good = report.errors == 0;
    let problems = std::mem::take(report).sorted();
    if !good {
        return Err(problems);
    }
    Ok(Compiled { table: Table::build(parts), settings, host_names, config_tests, warnings: problems })
}

/// The addresses that this process listens on, `admin` included.
fn own_addresses(
    report: &mut Report,
    config: &Config,
    settings: &Settings,
    listens: &[Vec<Listen>],
) -> OwnAddresses {
    // Where `admin` was cut out, the address that is built in is not the one that was meant.
    let meant = settings.admin_place.is_some() || config.proxy.iter().all(|proxy| !proxy.damaged);
    let admin = settings.admin.filter(|_| meant);
    let own = OwnAddresses::new(listens, admin);
    if let Some((admin, listen)) = admin.and_then(|admin| Some((admin, own.holds(admin)?))) {
        let message = format!("`admin` and a gateway both want {admin}");
        let problem = Problem::error("listen-twice", settings.admin_place.unwrap_or(listen), message);
        report.push(problem.related(listen, "listened on here").help("give `admin` another port"));
    }
    own
}

/// The gateways as run: each with its listeners and its `to`.
fn gateways_as_run(
    report: &mut Report,
    gateways: &Registry<'_, WrittenGateway>,
    listens: Vec<Vec<Listen>>,
    destinations: &mut Destinations<'_, '_>,
) -> Vec<Gateway> {
    let as_run = gateways.list.iter().zip(listens).map(|(declared, listen)| {
        report.turn_to(declared.damaged);
        let to = declared.written.to.as_ref();
        let default = to.and_then(|to| destinations.split(report, declared.file, to, None));
        let limits = gateways::limits(report, declared);
        Gateway { name: declared.printed.clone(), listen, default, limits, place: declared.place }
    });
    as_run.collect()
}

/// The checks for which all things have to be known.
fn check_together(report: &mut Report, scene: &Scene<'_>, targets: &Targets<'_>) {
    conditions::check(report, scene);
    contradictions::check(report, scene);
    arrivals::check(report, scene, targets);
    other_services::check(report, scene, targets);
    coverage::check(report, &scene.routes.used);
}
