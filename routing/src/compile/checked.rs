//! A configuration that is checked and not yet as run: the types that the files of this folder share.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::gateways::OwnAddresses;
use super::names::{Name, Registry};
use super::policies::{Layer, Policies};
use super::workloads::Workloads;
use crate::config::{Gateway as WrittenGateway, Service as WrittenService};
use crate::parts::{
    Destination, Endpoint, Gateway, OffRoute, Route, Service as ServiceAsRun, ServicePort, Split,
};
use crate::problem::Place;

/// The addresses of host names, as last answered. A name that is not in it has none yet.
pub type Resolved = BTreeMap<Arc<str>, Vec<IpAddr>>;

/// A service, checked.
pub(super) struct Service {
    pub(super) printed: Arc<str>,
    pub(super) place: Place,
    /// Something was cut out of it when it was read: its ports, VIPs and subsets may not be all.
    pub(super) damaged: bool,
    pub(super) vips: Vec<(IpNet, Place)>,
    pub(super) ports: Vec<ServicePort>,
    /// `ports = "any"`: it has every port, and lists none.
    pub(super) any_port: bool,
    pub(super) members: Vec<Member>,
    pub(super) subsets: Vec<Subset>,
    pub(super) policy: Layer,
}

/// A subset, checked; in the order of names.
pub(super) struct Subset {
    pub(super) name: Arc<str>,
    pub(super) labels: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) place: Place,
    /// The policy in force.
    pub(super) policy: Layer,
    /// Its own connection limit, where its own policy sets one.
    pub(super) max_connections: Option<u64>,
}

/// The things that checks of services refer to.
pub(super) struct Surroundings<'a, 'c> {
    pub(super) policies: &'a Policies<'c>,
    pub(super) workloads: &'a Workloads,
    pub(super) own: &'a OwnAddresses,
    pub(super) resolved: &'a Resolved,
}

/// One address of a service. Which port is dialled depends on the service port in use.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) address: IpAddr,
    /// A port that serves whatever service port is in use.
    pub(super) port: Option<u16>,
    /// Ports by the service port's name.
    pub(super) named_ports: BTreeMap<Arc<str>, u16>,
    pub(super) labels: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) locality: Arc<str>,
    pub(super) weight: u32,
    pub(super) priority: u32,
    pub(super) host: Option<Arc<str>>,
    pub(super) place: Place,
}

impl Member {
    /// The address that is dialled when this port of the service is in use.
    /// `None`: there is none, or the client's port is dialled (`ports = "any"`).
    pub(super) fn dialled(&self, port: Option<&ServicePort>) -> Option<SocketAddr> {
        let named =
            port.and_then(|port| port.name.as_ref()).and_then(|name| self.named_ports.get(name).copied());
        let target = self.port.or(named).or(port.map(|port| port.target_port))?;
        Some(SocketAddr::new(self.address, target))
    }
}

/// The things that routes refer to.
pub(super) struct Known<'a, 'c> {
    pub(super) gateways: &'a Registry<'c, WrittenGateway>,
    pub(super) registry: &'a Registry<'c, WrittenService>,
    pub(super) services: &'a [Service],
}

/// All routes.
pub(super) struct Routes {
    /// Those that are used, in order of evaluation.
    pub(super) used: Vec<Route>,
    /// Those that are off, in the same order.
    pub(super) off: Vec<OffRoute>,
    /// The names of all, used or not, as they are printed.
    pub(super) names: HashMap<Name, Arc<str>>,
    /// There is one more at least, with something wrong in it.
    pub(super) left_out: bool,
    /// And the name of one may have been cut out.
    pub(super) nameless: bool,
}

/// All that the warnings look at.
pub(super) struct Scene<'a> {
    pub(super) known: &'a Known<'a, 'a>,
    pub(super) gateways: &'a [Gateway],
    pub(super) routes: &'a Routes,
    pub(super) services: &'a [ServiceAsRun],
    pub(super) workloads: &'a Workloads,
}

/// Where splits lead.
pub(super) struct Targets<'a> {
    pub(super) splits: &'a [Split],
    pub(super) destinations: &'a [Destination],
    pub(super) endpoints: &'a [Endpoint],
    pub(super) own: &'a OwnAddresses,
}
