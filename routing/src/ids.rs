//! Names as the table has them: indexes, each of a type of its own so that none is taken for another.

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// The index this id stands for.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// Index into [`Parts::gateways`](crate::Parts::gateways).
    GatewayId;
    /// Index into [`Parts::routes`](crate::Parts::routes), which stand in order of evaluation.
    RouteId;
    /// Index into [`Parts::services`](crate::Parts::services).
    ServiceId;
    /// Index into [`Service::subsets`](crate::Service::subsets).
    SubsetId;
    /// Index into [`Parts::splits`](crate::Parts::splits).
    SplitId;
    /// Index into [`Parts::destinations`](crate::Parts::destinations).
    DestinationId;
    /// Index into [`Parts::endpoints`](crate::Parts::endpoints).
    EndpointId;
    /// Index into [`Parts::workloads`](crate::Parts::workloads).
    WorkloadId;
}
