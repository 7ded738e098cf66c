//! What the control loop and the admin server share: the fleet, the table in force, and how the last reload went. Both are tasks
//! of one thread, so cells are enough.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_channel::Receiver;
use weir_routing::{DestinationId, Table};

use super::binding::{Bound, ReadyTable};
use super::pages::Pages;
use super::process::ProcessMetrics;
use super::resolve::Resolver;
use crate::boards::in_force::InForce;
use crate::boards::prometheus::text::{Kind, family, sample, single};
use crate::fleet::Fleet;
use crate::log::Log;
use crate::{panics, version};

/// The state of the process, as the admin server tells it.
pub(super) struct Status {
    /// None: stopped.
    fleet: RefCell<Option<Fleet>>,
    /// The table in force, shared with a shard.
    in_force: RefCell<Option<Arc<InForce>>>,
    listeners: RefCell<Vec<Bound>>,
    draining: Cell<bool>,
    reload_successful: Cell<bool>,
    reload_success: Cell<SystemTime>,
    reload_failures: Cell<u64>,
    restart_needed: Cell<bool>,
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
    pub(super) fn new(fleet: Fleet, resolver: Resolver, log: Log, pages: Pages) -> Self {
        Self {
            fleet: RefCell::new(Some(fleet)),
            in_force: RefCell::default(),
            listeners: RefCell::default(),
            draining: Cell::default(),
            reload_successful: Cell::new(true),
            reload_success: Cell::new(SystemTime::now()),
            reload_failures: Cell::default(),
            restart_needed: Cell::default(),
            resolver,
            log,
            process: Arc::new(ProcessMetrics::new()),
            pages,
        }
    }

    /// Hands a table out. Returns the listeners that it has and the last one had not.
    pub(super) fn hand_out(&self, ready: ReadyTable) -> Vec<Bound> {
        let mut fleet = self.fleet.borrow_mut();
        let Some(fleet) = fleet.as_mut() else { return Vec::new() };
        let in_force = ready.copies.first().map(|copy| Arc::clone(&copy.in_force));
        fleet.hand_out(ready.generation, ready.copies, ready.sockets);
        if let Some(old) = self.in_force.replace(in_force) {
            fleet.retire(old);
        }
        self.listeners.replace(ready.listeners);
        ready.opened
    }

    pub(super) fn stop_accepting(&self) {
        if let Some(fleet) = self.fleet.borrow_mut().as_mut() {
            fleet.stop_accepting();
        }
    }

    pub(super) fn active(&self) -> u64 {
        self.with_fleet(0, Fleet::active)
    }

    pub(super) fn is_accepting(&self) -> bool {
        self.with_fleet(false, Fleet::is_accepting)
    }

    pub(super) fn reset_all(&self, spread: Duration) {
        self.with_fleet((), |fleet| fleet.reset_all(spread));
    }

    /// Offers the shards what their mailboxes had no room for; whether nothing waits any more.
    pub(super) fn deliver(&self) -> bool {
        self.with_fleet(true, Fleet::deliver)
    }

    /// Orders the shards to end.
    pub(super) fn stop(&self) {
        self.with_fleet((), Fleet::stop);
    }

    /// Waits for the end of those that have taken the order.
    pub(super) fn join(&self) {
        let fleet = self.fleet.borrow_mut().take();
        if let Some(fleet) = fleet {
            fleet.join();
        }
    }

    fn with_fleet<T>(&self, stopped: T, ask: impl FnOnce(&Fleet) -> T) -> T {
        self.fleet.borrow().as_ref().map_or(stopped, ask)
    }

    pub(super) fn set_draining(&self) {
        self.draining.set(true);
    }

    pub(super) fn set_restart_needed(&self, needed: bool) {
        self.restart_needed.set(needed);
    }

    pub(super) fn reload_succeeded(&self) {
        self.reload_successful.set(true);
        self.reload_success.set(SystemTime::now());
    }

    pub(super) fn reload_failed(&self) {
        self.reload_successful.set(false);
        self.reload_failures.set(self.reload_failures.get() + 1);
    }

    /// Whether connections are welcome, of one gateway or at all.
    pub(super) fn ready(&self, gateway: Option<&str>) -> Ready {
        if self.draining.get() {
            return Ready::Draining;
        }
        let in_force = self.in_force.borrow();
        match (gateway, &*in_force) {
            (None, _) => Ready::Yes,
            (Some(name), Some(in_force)) => self.gateway_ready(&in_force.table, name),
            (Some(_), None) => Ready::UnknownGateway,
        }
    }

    /// Ready, unless no connection that the gateway's `to` takes can reach an endpoint, whichever of its ports was dialled.
    fn gateway_ready(&self, table: &Table, name: &str) -> Ready {
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
        let listeners = self.listeners.borrow();
        let mut of_it = listeners.iter().filter(|bound| bound.gateway == gateway.name);
        if of_it.any(|bound| leads_on(bound.address.port())) { Ready::Yes } else { Ready::NoEndpoint }
    }

    /// What is in force, as JSON: the generation, and each gateway with the addresses it has bound.
    pub(super) fn config(&self) -> Receiver<String> {
        let generation = self.with_fleet(0, Fleet::in_force);
        let in_force = self.in_force.borrow().clone();
        let listeners = self.listeners.borrow().clone();
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
        single(
            &mut out,
            "weir_panics_total",
            Kind::Counter,
            "Defects of Weir that were caught; the log describes each.",
            panics::total(),
        );
        single(
            &mut out,
            "weir_log_dropped_total",
            Kind::Counter,
            "Lines of the process log that were dropped because stderr was not read.",
            self.log.dropped(),
        );
        let boards = self.with_fleet(None, |fleet| Some((fleet.metrics(), fleet.health())));
        let (resolver, process) = (self.resolver.clone(), Arc::clone(&self.process));
        let render = move || {
            const FAILURES: &str = "weir_resolve_failures_total";
            family(&mut out, FAILURES, Kind::Counter, "Questions for a host name that had no answer.");
            for (host, failures) in resolver.failures() {
                sample(&mut out, FAILURES, &[("host", &host)], failures);
            }
            if let Some((metrics, health)) = boards {
                metrics.render(&mut out);
                health.render(&mut out);
            }
            process.render(&mut out);
            out
        };
        self.pages.render(render)
    }

    fn config_metrics(&self, out: &mut String) {
        let labels = [("version", version::VERSION), ("commit", version::COMMIT)];
        family(out, "weir_build_info", Kind::Gauge, "1, with what was built.");
        sample(out, "weir_build_info", &labels, 1);
        let success = self.reload_success.get().duration_since(UNIX_EPOCH).unwrap_or_default();
        single(
            out,
            "weir_config_generation",
            Kind::Gauge,
            "The table that every shard routes by; grows with each that comes into force.",
            self.with_fleet(0, Fleet::in_force),
        );
        single(
            out,
            "weir_config_last_reload_successful",
            Kind::Gauge,
            "0 if the last configuration that was read is not in force.",
            u8::from(self.reload_successful.get()),
        );
        single(
            out,
            "weir_config_last_reload_success_timestamp_seconds",
            Kind::Gauge,
            "When a configuration that was read last came into force.",
            format_args!("{:.3}", success.as_secs_f64()),
        );
        single(
            out,
            "weir_config_reload_failures_total",
            Kind::Counter,
            "Configurations that were read and refused.",
            self.reload_failures.get(),
        );
        single(
            out,
            "weir_config_restart_needed",
            Kind::Gauge,
            "1 if the configuration in force changes what only a restart can change.",
            u8::from(self.restart_needed.get()),
        );
        single(out, "weir_draining", Kind::Gauge, "1 while draining.", u8::from(self.draining.get()));
    }
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
