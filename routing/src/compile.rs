//! Step 2 of the walk: checks a configuration as written and makes the table of it, or says all problems at once.
//!
//! Each file of this folder checks one kind of thing and gives it as run; a thing that is wrong is told to the `Report` and
//! left out, so that the rest is still checked. What lost a part when it was read is checked like all else, but nobody is told
//! that the part is missing: see `Report::lack`. Freezing the parts and answering from them is left to [`crate::table`].

mod addresses;
mod arrivals;
mod claims;
mod conditions;
mod contradictions;
mod coverage;
mod destinations;
mod gateways;
mod members;
mod names;
mod other_services;
mod policies;
mod routes;
mod services;
mod settings;
mod values;
mod workloads;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::claim::Claim;
use crate::config::Config;
use crate::problem::{Place, Problem, Severity};
use crate::table::{Gateway, Parts, Table};

use destinations::Destinations;
use gateways::OwnAddresses;
use names::{Lookup, Registry};
use policies::Policies;
use services::Surroundings;
use workloads::Workloads;

/// The addresses of host names, as last answered. A name that is not in it has none yet.
pub type Resolved = BTreeMap<Arc<str>, Vec<IpAddr>>;

/// What a good configuration becomes.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What shards route by.
    pub table: Table,
    /// What the process is told.
    pub settings: Settings,
    /// Host names among the endpoints, sorted, each once; to be resolved.
    pub host_names: Vec<Arc<str>>,
    /// The `[[test]]`s, ready to run.
    pub claims: Vec<Claim>,
    /// Warnings.
    pub warnings: Vec<Problem>,
}

/// How data is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RelayMode {
    /// Copy, splice where it pays.
    #[default]
    Auto,
    /// Always through the buffer.
    Copy,
    /// Always through a pipe.
    Splice,
}

/// Which cores shards run on.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Cores {
    /// Those this process may use (affinity, cgroup quota).
    #[default]
    All,
    /// These.
    List(Vec<usize>),
}

/// The level of the process log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Only what fails.
    Error,
    /// And what may be wrong.
    Warn,
    /// And what happens.
    #[default]
    Info,
    /// And why.
    Debug,
    /// And everything.
    Trace,
}

/// `[proxy]` and `[log]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Cores, and where they are written.
    pub cores: Cores,
    /// Where `cores` is written, if it is.
    pub cores_place: Option<Place>,
    /// 0: one a core.
    pub shards: usize,
    /// None: off.
    pub admin: Option<SocketAddr>,
    /// Where `admin` is written, if it is.
    pub admin_place: Option<Place>,
    /// Take changed files by themselves.
    pub watch: bool,
    /// On TERM: go on accepting this long.
    pub drain_delay: Duration,
    /// Then wait this long; `None`: without end.
    pub drain_timeout: Option<Duration>,
    /// Host names are asked again; `None`: never again.
    pub resolve_interval: Option<Duration>,
    /// The whole process; `None`: from the descriptor limit.
    pub max_connections: Option<u64>,
    /// Spin this long before a shard sleeps.
    pub busy_poll: Duration,
    /// How data is moved.
    pub relay: RelayMode,
    /// The level of the process log.
    pub log_level: LogLevel,
}

/// What is found on the way.
#[derive(Default)]
struct Report {
    /// The namespace of each text.
    namespaces: Vec<Arc<str>>,
    problems: Vec<Problem>,
    /// How many errors there are, those included that are not told because they follow from others.
    errors: usize,
    /// What is being checked lost a part when it was read.
    damaged: bool,
    /// So did the configuration as a whole: what a name stands for may be written all the same.
    incomplete: bool,
}

impl Report {
    /// Begins with the problems of shape.
    fn new(config: &Config) -> Self {
        Self {
            problems: config.problems.clone(),
            errors: config.problems.len(),
            incomplete: config.incomplete,
            ..Self::default()
        }
    }

    /// Turns to the next thing. What was cut out of it was told, and is an error of it.
    fn turn_to(&mut self, damaged: bool) {
        self.damaged = damaged;
        self.errors += usize::from(damaged);
    }

    /// Tells what is missing, or seems wrong because something is, in the thing that is being checked.
    fn lack(&mut self, problem: Problem) {
        self.push_unless(self.damaged, problem);
    }

    /// Tells it unless it only follows from what was cut out elsewhere; what it is about is not good all the same.
    fn push_unless(&mut self, follows: bool, problem: Problem) {
        if follows {
            self.errors += 1;
        } else {
            self.push(problem);
        }
    }

    fn push(&mut self, problem: Problem) {
        self.errors += usize::from(problem.severity == Severity::Error);
        self.problems.push(problem);
    }

    /// All of them, by place; those without a place first.
    fn sorted(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.place);
        self.problems
    }
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

    let (settings, locality) = settings::settings(report, config);
    let listens = gateways::listens(report, &gateways);
    // Where `admin` was cut out, the address that is built in is nobody's wish.
    let meant = settings.admin_place.is_some() || config.proxy.iter().all(|proxy| !proxy.damaged);
    let admin = settings.admin.filter(|_| meant);
    let own = OwnAddresses::new(&listens, admin);
    if let Some((admin, listen)) = admin.and_then(|admin| Some((admin, own.holds(admin)?))) {
        let message = format!("`admin` and a gateway both want {admin}");
        let problem = Problem::error("listen-twice", settings.admin_place.unwrap_or(listen), message);
        report.push(problem.related(listen, "listened on here").help("give `admin` another port"));
    }
    let workloads = Workloads::new(report, &workloads);
    let policies = Policies::new(report, policies);
    let around = Surroundings { policies: &policies, workloads: &workloads, own: &own, resolved };
    let (checked, host_names) = services::services(report, &services, &around);

    let mut destinations = Destinations::new(&services, &checked);
    let services_as_run = destinations.services();
    let known = routes::Known { gateways: &gateways, registry: &services, services: &checked };
    let routes = routes::routes(report, config, &known, &mut destinations);
    let mut gateways_as_run = Vec::new();
    for (declared, listen) in gateways.list.iter().zip(listens) {
        report.turn_to(declared.damaged);
        let to = declared.written.to.as_ref();
        let default = to.and_then(|to| destinations.split(report, declared.file, to, None));
        gateways_as_run.push(Gateway {
            name: declared.printed.clone(),
            listen,
            default,
            place: declared.place,
        });
    }
    let claims = claims::claims(report, config, &known, &gateways_as_run, &routes);
    let scene = conditions::Scene {
        known: &known,
        gateways: &gateways_as_run,
        routes: &routes,
        services: &services_as_run,
        workloads: &workloads,
    };
    conditions::check(report, &scene);
    contradictions::check(report, &scene);
    let targets =
        arrivals::Targets { destinations: &destinations.list, endpoints: &destinations.endpoints, own: &own };
    arrivals::check(report, &scene, &targets);
    other_services::check(report, &scene, &destinations.list);
    coverage::check(report, &routes.used);

    let parts = Parts {
        gateways: gateways_as_run,
        routes: routes.used,
        off_routes: routes.off,
        services: services_as_run,
        destinations: destinations.list,
        endpoints: destinations.endpoints,
        workloads: workloads.list,
        locality,
        sources: Arc::new(config.sources.clone()),
    };
    let good = report.errors == 0;
    let problems = std::mem::take(report).sorted();
    if !good {
        return Err(problems);
    }
    Ok(Compiled { table: Table::build(parts), settings, host_names, claims, warnings: problems })
}
