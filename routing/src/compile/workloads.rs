//! Workloads: who owns which address, and which of them a selector selects.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::addresses::network;
use super::names::{Registry, check_name};
use super::report::Report;
use super::values::{labels, locality, port, weight};
use crate::config::{Workload as Written, place_of};
use crate::parts::Workload;
use crate::problem::{Place, Problem};

/// All workloads, and all that selectors and services ask of them.
pub(super) struct Workloads {
    /// As they stand in the table.
    pub(super) list: Vec<Workload>,
    /// The same, as members of services.
    pub(super) members: Vec<Membership>,
    /// Nothing was cut out of any, so that one that is not found is not there.
    pub(super) whole: bool,
    /// The workloads that have a label.
    index: HashMap<Label, Vec<u32>>,
}

/// A label as it is looked up: namespace of the workload, key, value.
type Label = (Arc<str>, Arc<str>, Arc<str>);

/// A workload as the services see it that select it.
pub(super) struct Membership {
    /// The first single address.
    pub(super) address: Option<(IpAddr, Place)>,
    /// Port by name of the service's port.
    pub(super) ports: BTreeMap<Arc<str>, u16>,
    pub(super) weight: u32,
    /// Where its weight is written, if it is 0.
    pub(super) weightless: Option<Place>,
    /// Its address or port may have been cut out.
    pub(super) damaged: bool,
}

impl Workloads {
    /// Checks all that are declared.
    pub(super) fn new(report: &mut Report, registry: &Registry<'_, Written>) -> Self {
        let whole = registry.is_whole(report);
        let mut workloads = Self { list: Vec::new(), members: Vec::new(), whole, index: HashMap::new() };
        let mut owners: HashMap<IpNet, Place> = HashMap::new();
        for (at, declared) in registry.list.iter().enumerate() {
            let (file, written) = (declared.file, declared.written);
            let mut addresses = Vec::new();
            let mut single = None;
            for text in written.addresses.iter().flat_map(|list| list.get_ref()) {
                let Some(net) = network(report, file, text) else { continue };
                let place = place_of(file, text);
                if let Some(first) = owners.insert(net, place) {
                    let message = format!("{} belongs to two workloads", text.get_ref());
                    let problem = Problem::error("owned-twice", place, message).found(text.get_ref());
                    report.push(
                        problem
                            .related(first, "first here")
                            .help("an address has one owner: keep one of them"),
                    );
                }
                if net.prefix_len() == net.max_prefix_len() {
                    single.get_or_insert((net.addr(), place));
                }
                addresses.push(net);
            }
            let mut ports = BTreeMap::new();
            for (name, number) in written.ports.iter().flatten() {
                check_name(report, place_of(file, name), "port name", name.get_ref());
                let number = port(report, place_of(file, number), *number.get_ref());
                ports.extend(number.map(|number| (Arc::from(name.get_ref().as_str()), number)));
            }
            let labels = labels(report, file, written.labels.as_ref());
            let namespace = &declared.name.namespace;
            for (key, value) in &labels {
                let label = (namespace.clone(), key.clone(), value.clone());
                workloads.index.entry(label).or_default().push(at as u32);
            }
            workloads.list.push(Workload {
                name: declared.printed.clone(),
                namespace: namespace.clone(),
                labels,
                addresses,
                locality: locality(report, file, written.locality.as_ref()),
                place: declared.place,
            });
            let weight =
                written.weight.as_ref().and_then(|written| weight(report, file, written)).unwrap_or(1);
            let damaged = declared.damaged;
            let weightless =
                written.weight.as_ref().filter(|_| weight == 0).map(|written| place_of(file, written));
            workloads.members.push(Membership { address: single, ports, weight, weightless, damaged });
        }
        workloads
    }

    /// The workloads of a namespace that have all of these labels; none where `labels` is empty.
    pub(super) fn with_labels<'a>(
        &'a self,
        namespace: &Arc<str>,
        labels: &'a BTreeMap<Arc<str>, Arc<str>>,
    ) -> impl Iterator<Item = usize> + use<'a> {
        let bucket = |(key, value): (&Arc<str>, &Arc<str>)| {
            let label = (namespace.clone(), key.clone(), value.clone());
            self.index.get(&label).map_or(&[][..], Vec::as_slice)
        };
        let rarest = labels.iter().map(bucket).min_by_key(|bucket| bucket.len()).unwrap_or(&[]);
        rarest.iter().map(|at| *at as usize).filter(|at| has_labels(&self.list[*at].labels, labels))
    }

    /// The namespaces that have a workload.
    pub(super) fn namespaces(&self) -> std::collections::BTreeSet<Arc<str>> {
        self.list.iter().map(|workload| workload.namespace.clone()).collect()
    }
}

/// Whether `labels` has all of `wanted`, with the same values.
pub(super) fn has_labels(
    labels: &BTreeMap<Arc<str>, Arc<str>>,
    wanted: &BTreeMap<Arc<str>, Arc<str>>,
) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}
