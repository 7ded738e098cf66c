//! Why a connection ended: one [`Reason`] each, which is the metric label and the word in the log, and whose fault it was.

/// Whose fault an end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// An orderly end.
    Ok,
    /// The client's.
    Client,
    /// The upstream's, or the network's on the way to it.
    Upstream,
    /// The configuration asked for it.
    Policy,
    /// Ours.
    Weir,
}

impl Fault {
    /// The metric label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Policy => "policy",
            Self::Weir => "weir",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $about:literal])* $name:ident = $word:literal, $fault:ident;)*) => {
        /// Why a connection ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub(crate) enum Reason {
            $($(#[doc = $about])* $name,)*
        }

        impl Reason {
            /// All of them; a reason's index here is `reason as usize`.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The metric label and log word.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// Whose fault it was.
            pub(crate) fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* }
            }

            /// The text of `docs/metrics.md`, which is this enum's documentation.
            #[cfg(test)]
            pub(crate) fn about(self) -> &'static str {
                match self { $(Self::$name => concat!($($about),*).trim_ascii(),)* }
            }
        }
    };
}

reasons! {
    /// Both sides ended with a FIN and everything was delivered.
    Done = "done", Ok;
    /// The client reset the connection. Bytes that it had sent before were delivered, then the upstream was reset, too.
    ClientReset = "client_reset", Client;
    /// The client reset before an upstream had answered.
    ClientGone = "client_gone", Client;
    /// The client stopped acknowledging, with or without bytes under way: `keepalive` or `user_timeout`.
    ClientTimeout = "client_timeout", Client;
    /// The upstream reset the connection. Bytes that it had sent before were delivered, then the client was reset, too.
    UpstreamReset = "upstream_reset", Upstream;
    /// The upstream stopped acknowledging, with or without bytes under way: `keepalive` or `user_timeout`.
    UpstreamTimeout = "upstream_timeout", Upstream;
    /// Every attempt failed, and the last one was refused.
    ConnectRefused = "connect_refused", Upstream;
    /// Every attempt failed, and the last one had no answer within `connect_timeout`; or `connect_deadline` passed.
    ConnectTimeout = "connect_timeout", Upstream;
    /// Every attempt failed, and the last one otherwise: unreachable, for one.
    ConnectError = "connect_error", Upstream;
    /// The destination that was drawn has no endpoint, or none on the port that was dialled.
    NoEndpoint = "no_endpoint", Upstream;
    /// No route, service or `to` of the gateway took it.
    NoRoute = "no_route", Policy;
    /// A route with `reject = true` took it.
    Rejected = "rejected", Policy;
    /// `max_connections` of `[proxy]` is reached, or the process has no descriptor left. Closed at once, never queued.
    LimitProcess = "limit_process", Policy;
    /// `max_connections` or `max_connection_rate` of the gateway is reached. Closed at once, before anything is decided.
    LimitGateway = "limit_gateway", Policy;
    /// `max_connections_per_source` or `max_connection_rate_per_source` of the gateway is reached. Closed at once, before anything is
    /// decided.
    LimitSource = "limit_source", Policy;
    /// `max_connections` of the service or subset is reached. Closed at once, never queued.
    LimitService = "limit_service", Policy;
    /// No byte for `idle_timeout`. Both sides get what was received and a FIN, and a reset `flush_timeout` later.
    IdleTimeout = "idle_timeout", Policy;
    /// After one side's FIN no byte for `half_close_timeout`; it ends as `idle_timeout` does.
    HalfCloseTimeout = "half_close_timeout", Policy;
    /// Open for `max_duration`; it ends as `idle_timeout` does.
    MaxDuration = "max_duration", Policy;
    /// Still open at `drain_timeout`, and reset.
    Drain = "drain", Policy;
    /// The host has no free port towards the endpoint. `net.ipv4.tcp_tw_reuse=1` and a wider `ip_local_port_range` help.
    NoSourcePort = "no_source_port", Weir;
    /// The endpoint is one of Weir's own listeners, or a dial to a free local port connected to itself.
    Loop = "loop", Weir;
    /// A defect of Weir: a connection that ended without a reason.
    Internal = "internal", Weir;
}
