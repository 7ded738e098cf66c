//! The service that has a port, by VIP. A VIP belongs to its port: of the services that have the port, the one with the longest
//! VIP prefix takes it. So the list of a VIP holds its own ports and, worked out when the table is built, those that it
//! inherits from the VIPs around it; the longest prefix alone then answers.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::ranges::NOBODY;
use crate::table::{Parts, ServiceId};

/// A longer list is not copied into the VIPs inside it, but looked up after theirs: copies of it would take more memory than the
/// second look-up is worth.
const COPIED_MAX: usize = 64;

/// The ports of all VIPs. VIPs are numbered, wider ones before those inside them.
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
    /// The VIP to look in for a port that is not listed, or [`NOBODY`].
    wider: u32,
}

impl Vips {
    /// Numbers the distinct VIPs of all services.
    pub(super) fn build(parts: &Parts) -> (Self, Vec<(IpNet, u32)>) {
        let mut by_vip: BTreeMap<IpNet, Vec<(u16, ServiceId)>> = BTreeMap::new();
        for (service, id) in parts.services.iter().zip((0..).map(ServiceId)) {
            for vip in &service.vips {
                let ports = service.by_port.iter().map(|(port, _)| (*port, id));
                by_vip.entry(vip.trunc()).or_default().extend(ports);
            }
        }
        let mut vips = Self::default();
        let mut numbers = Vec::with_capacity(by_vip.len());
        // In the order of the map a network comes before those inside it.
        let mut around: Vec<(IpNet, u32)> = Vec::new();
        for (number, (vip, ports)) in (0..).zip(by_vip) {
            while around.pop_if(|(outer, _)| !outer.contains(&vip)).is_some() {}
            vips.push(ports, around.last().map_or(NOBODY, |(_, number)| *number));
            around.push((vip, number));
            numbers.push((vip, number));
        }
        vips.vips.shrink_to_fit();
        vips.ports.shrink_to_fit();
        (vips, numbers)
    }

    fn push(&mut self, mut ports: Vec<(u16, ServiceId)>, around: u32) {
        ports.sort_unstable();
        let mut wider = around;
        if around != NOBODY && self.list(around).len() <= COPIED_MAX {
            ports.extend_from_slice(self.list(around));
            wider = self.vips[around as usize].wider;
        }
        // Stable: the VIP's own port stays before the one that it would inherit.
        ports.sort_by_key(|(port, _)| *port);
        ports.dedup_by_key(|(port, _)| *port);
        self.ports.append(&mut ports);
        self.vips.push(Vip { end: self.ports.len() as u32, wider });
    }

    /// The service that has a port at an address whose longest VIP is `vip`, or [`NOBODY`].
    pub(super) fn service(&self, mut vip: u32, port: u16) -> Option<ServiceId> {
        while vip != NOBODY {
            let ports = self.list(vip);
            if let Ok(at) = ports.binary_search_by_key(&port, |(port, _)| *port) {
                return Some(ports[at].1);
            }
            vip = self.vips[vip as usize].wider;
        }
        None
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
        let id = ServiceId;
        let every = |from: u16, step: usize, of| {
            (from..from + 10 * long).step_by(step).map(move |port| (port, id(of)))
        };
        let lists: [Vec<(u16, ServiceId)>; 5] = [
            vec![(1, id(0)), (2, id(0))],
            every(2, 1, 1).collect(),
            vec![(3, id(2))],
            every(4, 2, 3).collect(),
            vec![(1, id(4)), (6, id(4)), (6, id(5))],
        ];
        let mut vips = Vips::default();
        for (number, list) in (0..).zip(&lists) {
            vips.push(list.clone(), if number == 0 { NOBODY } else { number - 1 });
        }
        for innermost in 0..lists.len() {
            for port in 0..20 * long {
                let wanted = lists[..=innermost]
                    .iter()
                    .rev()
                    .find_map(|list| list.iter().find(|(other, _)| *other == port));
                let found = vips.service(innermost as u32, port);
                assert_eq!(found, wanted.map(|(_, id)| *id), "port {port} at VIP {innermost}");
            }
        }
        assert_eq!(vips.service(NOBODY, 1), None);
        let held: usize = lists.iter().map(|list| list.len() + COPIED_MAX).sum();
        assert!(vips.ports.len() <= held, "long lists are copied: {} ports", vips.ports.len());
    }
}
