//! The state of the process, as the admin server shows it: the facts that the control loop writes down, and the boards. Reads only.
//! The loop and the server are tasks of one thread, so a cell is enough.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_channel::Receiver;
use weir_routing::{DestinationId, Table};

use super::binding::Bound;
use super::pages::Pages;
use super::process::ProcessMetrics;
use super::resolve::Resolver;
use crate::boards::health::HealthBoard;
use crate::boards::in_force::InForce;
use crate::boards::prometheus::{Metrics, families};
use crate::fleet::Fleet;
use crate::log::Log;
use crate::{panics, version};

/// Facts that the control loop knows and the admin server shows. The loop alone writes them.
#[derive(Debug)]
pub(super) struct Facts {
    /// The table in force, shared with a shard.
    pub(super) in_force: Option<Arc<InForce>>,
    /// Its listeners.
    pub(super) listeners: Vec<Bound>,
    pub(super) is_draining: bool,
    /// The configuration in force changes what only a restart can change.
    pub(super) is_restart_needed: bool,
    last_reload_succeeded: bool,
    last_success: SystemTime,
    reload_failures: u64,
}

impl Default for Facts {
    /// Those of a process that has no table yet.
    fn default() -> Self {
        Self {
            in_force: None,
            listeners: Vec::new(),
            is_draining: false,
            is_restart_needed: false,
            last_reload_succeeded: true,
            last_success: SystemTime::now(),
            reload_failures: 0,
        }
    }
}

impl Facts {
    /// A configuration that was read is in force.
    pub(super) fn reload_succeeded(&mut self) {
        self.last_reload_succeeded = true;
        self.last_success = SystemTime::now();
    }

    /// A configuration that was read was refused.
    pub(super) fn reload_failed(&mut self) {
        self.last_reload_succeeded = false;
        self.reload_failures += 1;
    }
}

/// The state of the process, read only.
pub(super) struct Status {
    facts: Rc<RefCell<Facts>>,
    metrics: Arc<Metrics>,
    health: Arc<HealthBoard>,
    resolver: Resolver,
    log: Log,
    process: Arc<ProcessMetrics>,
    pages: Pages,
}

/// Whether connections are welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// They are.
    Yes,
    /// The process is about to end.
    Draining,
    /// The gateway's default has no endpoint.
    NoEndpoint,
    /// There is no such gateway.
    UnknownGateway,
}

impl Status {
    pub(super) fn new(
        facts: Rc<RefCell<Facts>>,
        fleet: &Fleet,
        resolver: Resolver,
        log: Log,
        pages: Pages,
    ) -> Self {
        let process = Arc::new(ProcessMetrics::new());
        Self { facts, metrics: fleet.metrics(), health: fleet.health(), resolver, log, process, pages }
    }

    /// Whether connections are welcome, of one gateway or at all.
    pub(super) fn ready(&self, gateway: Option<&str>) -> Ready {
        let facts = self.facts.borrow();
        match (gateway, &facts.in_force) {
            _ if facts.is_draining => Ready::Draining,
            (None, _) => Ready::Yes,
            (Some(name), Some(in_force)) => gateway_ready(&in_force.table, &facts.listeners, name),
            (Some(_), None) => Ready::UnknownGateway,
        }
    }

    /// The configuration in force, as JSON: the generation, and each gateway with the addresses it has bound.
    pub(super) fn config(&self) -> Receiver<String> {
        let generation = self.metrics.generation();
        let facts = self.facts.borrow();
        let (in_force, listeners) = (facts.in_force.clone(), facts.listeners.clone());
        let render = move || {
            let gateways = in_force.map(|in_force| gateways(&in_force.table, &listeners));
            format!("{:#}\n", serde_json::json!({ "generation": generation, "gateways": gateways }))
        };
        self.pages.render(render)
    }

    /// All series, in Prometheus' text format.
    pub(super) fn metrics(&self) -> Receiver<String> {
        let mut out = String::new();
        self.config_metrics(&mut out);
        families::PANICS.single(&mut out, panics::total());
        families::LOG_DROPPED.single(&mut out, self.log.dropped());
        let (metrics, health) = (Arc::clone(&self.metrics), Arc::clone(&self.health));
        let (resolver, process) = (self.resolver.clone(), Arc::clone(&self.process));
        let render = move || {
            families::RESOLVE_FAILURES.head(&mut out);
            for (host, failures) in resolver.failures() {
                families::RESOLVE_FAILURES.sample(&mut out, &[&host], failures);
            }
            metrics.render(&mut out);
            health.render(&mut out);
            process.render(&mut out);
            out
        };
        self.pages.render(render)
    }

    fn config_metrics(&self, out: &mut String) {
        let facts = self.facts.borrow();
        families::BUILD_INFO.head(out);
        families::BUILD_INFO.sample(out, &[version::VERSION, version::COMMIT], 1);
        let success = facts.last_success.duration_since(UNIX_EPOCH).unwrap_or_default();
        families::GENERATION.single(out, self.metrics.generation());
        families::RELOAD_SUCCESSFUL.single(out, u8::from(facts.last_reload_succeeded));
        families::RELOAD_SUCCESS.single(out, format_args!("{:.3}", success.as_secs_f64()));
        families::RELOAD_FAILURES.single(out, facts.reload_failures);
        families::RESTART_NEEDED.single(out, u8::from(facts.is_restart_needed));
        families::DRAINING.single(out, u8::from(facts.is_draining));
    }
}

/// Ready, unless no connection that the gateway's `to` takes can reach an endpoint, whichever of its ports was dialled.
fn gateway_ready(table: &Table, listeners: &[Bound], name: &str) -> Ready {
    let name = name.strip_prefix("default/").unwrap_or(name);
    let Some(gateway) = table.parts().gateways.iter().find(|gateway| &*gateway.name == name) else {
        return Ready::UnknownGateway;
    };
    let Some(split) = gateway.default else { return Ready::Yes };
    let has_endpoint = |id: DestinationId| !table.parts().destinations[id.index()].endpoints.is_empty();
    let leads_on = |port| {
        let mut drawn = table.draws(split, port).filter(|draw| draw.share.weight > 0);
        drawn.any(|draw| draw.end.is_ok_and(has_endpoint))
    };
    let mut of_it = listeners.iter().filter(|bound| bound.gateway == gateway.name);
    if of_it.any(|bound| leads_on(bound.address.port())) { Ready::Yes } else { Ready::NoEndpoint }
}

/// Each gateway with the addresses that it has bound.
fn gateways(table: &Table, listeners: &[Bound]) -> serde_json::Value {
    let mut addresses: HashMap<&str, Vec<String>> = HashMap::new();
    for listener in listeners {
        addresses.entry(&listener.gateway).or_default().push(listener.address.to_string());
    }
    let gateways = table.parts().gateways.iter().map(|gateway| {
        let addresses = addresses.remove(&*gateway.name).unwrap_or_default();
        (gateway.name.to_string(), serde_json::json!({ "listening": addresses }))
    });
    serde_json::Value::Object(gateways.collect())
}
