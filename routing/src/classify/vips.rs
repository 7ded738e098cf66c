//! The service that has a port, by VIP. A VIP belongs to its port: of the services that have the port, the one with the longest
//! VIP prefix takes it. So the list of a VIP holds its own ports and, worked out when the table is built, those that it
//! inherits from the VIPs around it; the longest prefix alone then answers.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::ranges::NO_OWNER;
use crate::ids::ServiceId;
use crate::parts::Parts;

/// A longer list is not copied into the VIPs inside it, but looked up after theirs: copies of it would take more memory than the
/// second look-up is worth.
const COPIED_MAX: usize = 64;

/// The ports of all VIPs, and where look-ups go on. VIPs are numbered, wider ones before those inside them.
#[derive(Clone, Debug, Default)]
pub(super) struct Vips {
    vips: Vec<Vip>,
    /// Sorted within a VIP, each port once.
    ports: Vec<(u16, ServiceId)>,
}

#[derive(Clone, Copy, Debug)]
struct Vip {
    /// One past its last port; the first is where the VIP before ends.
    end: u32,
    rest: Rest,
}

/// The owner of the ports that a VIP does not list.
#[derive(Clone, Copy, Debug)]
enum Rest {
    Nothing,
    /// A service with `ports = "any"`.
    Service(ServiceId),
    /// A wider VIP, whose list is too long to be copied.
    Wider(u32),
}

/// The ports of one VIP as they are declared.
#[derive(Clone, Debug, Default)]
struct Declared {
    ports: Vec<(u16, ServiceId)>,
    any_port: Option<ServiceId>,
}

impl Vips {
    /// Numbers the distinct VIPs of all services.
    pub(super) fn build(parts: &Parts) -> (Self, Vec<(IpNet, u32)>) {
        let mut by_vip: BTreeMap<IpNet, Declared> = BTreeMap::new();
        for (service, id) in parts.services.iter().zip((0..).map(ServiceId)) {
            for vip in &service.vips {
                let declared = by_vip.entry(vip.trunc()).or_default();
                declared.ports.extend(service.by_port.iter().map(|(port, _)| (*port, id)));
                if service.at_any_port.is_some() {
                    declared.any_port.get_or_insert(id);
                }
            }
        }
        let mut vips = Self::default();
        let mut numbers = Vec::with_capacity(by_vip.len());
        // In the order of the map a network comes before those inside it.
        let mut around: Vec<(IpNet, u32)> = Vec::new();
        for (number, (vip, declared)) in (0..).zip(by_vip) {
            while around.pop_if(|(outer, _)| !outer.contains(&vip)).is_some() {}
            vips.push(declared, around.last().map(|(_, number)| *number));
            around.push((vip, number));
            numbers.push((vip, number));
        }
        vips.vips.shrink_to_fit();
        vips.ports.shrink_to_fit();
        (vips, numbers)
    }

    /// The next VIP, inside the VIP `around`.
    fn push(&mut self, Declared { mut ports, any_port }: Declared, around: Option<u32>) {
        ports.sort_unstable();
        let rest = match (any_port, around) {
            (Some(service), _) => Rest::Service(service),
            (None, None) => Rest::Nothing,
            (None, Some(around)) if self.list(around).len() > COPIED_MAX => Rest::Wider(around),
            (None, Some(around)) => {
                ports.extend_from_slice(self.list(around));
                self.vips[around as usize].rest
            }
        };
        // Stable: the VIP's own port stays before the one that it would inherit.
        ports.sort_by_key(|(port, _)| *port);
        ports.dedup_by_key(|(port, _)| *port);
        self.ports.append(&mut ports);
        self.vips.push(Vip { end: self.ports.len() as u32, rest });
    }

    /// The service that has a port at an address whose longest VIP is `vip`, or [`NO_OWNER`].
    pub(super) fn service(&self, mut vip: u32, port: u16) -> Option<ServiceId> {
        while vip != NO_OWNER {
            let ports = self.list(vip);
            if let Ok(at) = ports.binary_search_by_key(&port, |(port, _)| *port) {
                return Some(ports[at].1);
            }
            vip = match self.vips[vip as usize].rest {
                Rest::Wider(wider) => wider,
                Rest::Service(service) => return Some(service),
                Rest::Nothing => return None,
            };
        }
        None
    }

    /// All services that have a port at such an address; `explain` names them.
    pub(super) fn services(&self, mut vip: u32) -> BTreeSet<ServiceId> {
        let mut services = BTreeSet::new();
        while vip != NO_OWNER {
            services.extend(self.list(vip).iter().map(|(_, id)| *id));
            vip = match self.vips[vip as usize].rest {
                Rest::Wider(wider) => wider,
                Rest::Service(_) | Rest::Nothing => NO_OWNER,
            };
        }
        services
    }

    fn list(&self, vip: u32) -> &[(u16, ServiceId)] {
        let vip = vip as usize;
        let start = vip.checked_sub(1).map_or(0, |before| self.vips[before].end);
        &self.ports[start as usize..self.vips[vip].end as usize]
    }

    /// Memory it holds.
    pub(super) fn bytes(&self) -> usize {
        self.vips.capacity() * size_of::<Vip>() + self.ports.capacity() * size_of::<(u16, ServiceId)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// VIPs inside one another, whose lists are short and long in turn.
    #[test]
    fn a_port_is_found_in_the_innermost_vip_that_has_it() {
        let long = COPIED_MAX as u16 + 1;
        let listed = |ports: &mut dyn Iterator<Item = u16>, of| Declared {
            ports: ports.map(|port| (port, ServiceId(of))).collect(),
            any_port: None,
        };
        let mut twice = listed(&mut [1, 6, 6].into_iter(), 5);
        twice.ports[1].1 = ServiceId(6);
        let nested = [
            listed(&mut [1, 2].into_iter(), 0),
            listed(&mut (2..10 * long), 1),
            listed(&mut [3].into_iter(), 2),
            listed(&mut (4..10 * long).step_by(2), 3),
            listed(&mut [7].into_iter(), 4),
            twice,
            Declared { ports: vec![(8, ServiceId(7))], any_port: Some(ServiceId(8)) },
            listed(&mut [9].into_iter(), 9),
        ];
        let mut vips = Vips::default();
        for (number, declared) in (0_u32..).zip(&nested) {
            vips.push(declared.clone(), number.checked_sub(1));
        }
        for innermost in 0..nested.len() {
            for port in 0..20 * long {
                let has = |declared: &Declared| {
                    let of = declared.ports.iter().filter(|(other, _)| *other == port).map(|(_, id)| *id);
                    of.min().or(declared.any_port)
                };
                let wanted = nested[..=innermost].iter().rev().find_map(has);
                assert_eq!(vips.service(innermost as u32, port), wanted, "port {port} at VIP {innermost}");
            }
        }
        assert_eq!(vips.service(NO_OWNER, 1), None);
        let most: usize = nested.iter().map(|declared| declared.ports.len() + COPIED_MAX).sum();
        assert!(vips.ports.len() <= most, "long lists are copied: {} ports", vips.ports.len());
    }
}
