//! The labels of series: ids of one table, which a shard counts by, and the names behind them, which are shown.

use std::collections::HashSet;
use std::sync::Arc;

use weir_routing::{DestinationId, GatewayId, RouteId, Table};

/// The ids of one table that a series counts connections by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SeriesIds {
    /// The gateway that took the connection.
    pub gateway: GatewayId,
    /// The route that matched.
    pub route: Option<RouteId>,
    /// The destination that was drawn.
    pub destination: Option<DestinationId>,
}

/// The names of a series: where its connections came in and went. "" where there is none, and in place of names that are gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SeriesKey {
    /// The gateway. "": one that is gone, of which only the bytes of services are shown.
    pub gateway: Arc<str>,
    /// The route; "" where none took it.
    pub route: Arc<str>,
    /// The service; "" where it got none.
    pub service: Arc<str>,
    /// "service/subset", or "".
    pub subset: Arc<str>,
}

/// The names behind the ids of one table, made with it. Tables that are the same but for their shard share one.
#[derive(Debug)]
pub(crate) struct Labels {
    /// By id, as all of them.
    pub(super) gateways: Vec<Arc<str>>,
    pub(super) routes: Vec<Arc<str>>,
    /// Service, and "service/subset" or "".
    pub(super) destinations: Vec<(Arc<str>, Arc<str>)>,
    pub(super) none: Arc<str>,
    pub(super) names: Names,
}

impl Labels {
    /// Of this table.
    pub(crate) fn new(table: &Table) -> Self {
        let none: Arc<str> = Arc::from("");
        let subsets: Vec<Vec<Arc<str>>> = table
            .parts()
            .services
            .iter()
            .map(|service| {
                let full = |name: &str| Arc::from(format!("{}/{name}", service.name));
                service.subsets.iter().map(|subset| full(&subset.name)).collect()
            })
            .collect();
        let gateways: Vec<_> =
            table.parts().gateways.iter().map(|gateway| Arc::clone(&gateway.name)).collect();
        let routes: Vec<_> = table.parts().routes.iter().map(|route| Arc::clone(&route.name)).collect();
        let destinations = table.parts().destinations.iter().map(|destination| {
            let service = destination.service.index();
            let subset = destination.subset.map(|subset| Arc::clone(&subsets[service][subset.index()]));
            (Arc::clone(&table.parts().services[service].name), subset.unwrap_or_else(|| Arc::clone(&none)))
        });
        let destinations = destinations.collect();
        let names = Names {
            gateways: gateways.iter().cloned().collect(),
            routes: routes.iter().cloned().collect(),
            services: table.parts().services.iter().map(|service| Arc::clone(&service.name)).collect(),
            subsets: subsets.into_iter().flatten().collect(),
        };
        Self { gateways, routes, destinations, none, names }
    }

    /// The names behind ids.
    pub(crate) fn key(&self, ids: SeriesIds) -> SeriesKey {
        let (service, subset) = match ids.destination {
            Some(id) => self.destinations[id.index()].clone(),
            None => (Arc::clone(&self.none), Arc::clone(&self.none)),
        };
        SeriesKey {
            gateway: Arc::clone(&self.gateways[ids.gateway.index()]),
            route: Arc::clone(ids.route.map_or(&self.none, |id| &self.routes[id.index()])),
            service,
            subset,
        }
    }
}

/// Names of tables or of series, by kind.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) gateways: HashSet<Arc<str>>,
    pub(super) routes: HashSet<Arc<str>>,
    pub(super) services: HashSet<Arc<str>>,
    /// "service/subset".
    pub(super) subsets: HashSet<Arc<str>>,
}

impl Names {
    pub(super) fn insert(&mut self, key: &SeriesKey) {
        let SeriesKey { gateway, route, service, subset } = key;
        for (names, name) in [
            (&mut self.gateways, gateway),
            (&mut self.routes, route),
            (&mut self.services, service),
            (&mut self.subsets, subset),
        ] {
            if !names.contains(name) {
                names.insert(Arc::clone(name));
            }
        }
    }

    pub(super) fn have(&self, key: &SeriesKey) -> bool {
        let has = |names: &HashSet<Arc<str>>, name: &Arc<str>| name.is_empty() || names.contains(name);
        has(&self.gateways, &key.gateway)
            && has(&self.routes, &key.route)
            && has(&self.services, &key.service)
            && has(&self.subsets, &key.subset)
    }
}
