//! Why a connection ended: one [`Reason`] each, which is the metric label and the word in the log, and whose fault it was.

/// Whose fault an end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
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
    pub fn as_str(self) -> &'static str {
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
    ($($(#[$doc:meta])* $name:ident = $word:literal, $fault:ident;)*) => {
        /// Why a connection ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// All of them; a reason's index here is `reason as usize`.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The metric label and log word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// Whose fault it was.
            pub fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* }
            }
        }
    };
}

reasons! {
    /// Both sides ended with a FIN and everything was delivered.
    Done = "done", Ok;
    /// The client reset the connection.
    ClientReset = "client_reset", Client;
    /// The client reset before the upstream answered.
    ClientGone = "client_gone", Client;
    /// The client stopped acknowledging (keepalive, TCP_USER_TIMEOUT).
    ClientTimeout = "client_timeout", Client;
    /// The upstream reset the connection.
    UpstreamReset = "upstream_reset", Upstream;
    /// The upstream stopped acknowledging (keepalive, TCP_USER_TIMEOUT).
    UpstreamTimeout = "upstream_timeout", Upstream;
    /// Every attempt failed, the last one was refused.
    ConnectRefused = "connect_refused", Upstream;
    /// Every attempt failed, the last one timed out, or `connect_deadline` passed.
    ConnectTimeout = "connect_timeout", Upstream;
    /// Every attempt failed, the last one otherwise (unreachable, for one).
    ConnectError = "connect_error", Upstream;
    /// The destination that was drawn has no usable endpoint.
    NoEndpoint = "no_endpoint", Upstream;
    /// No rule, service or gateway default took it.
    NoRoute = "no_route", Policy;
    /// A route with `reject = true` took it.
    Rejected = "rejected", Policy;
    /// `[proxy] max_connections`, or descriptors ran out.
    LimitProcess = "limit_process", Policy;
    /// `max_connections` of the service or subset.
    LimitService = "limit_service", Policy;
    /// `idle_timeout`.
    IdleTimeout = "idle_timeout", Policy;
    /// `half_close_timeout`.
    HalfCloseTimeout = "half_close_timeout", Policy;
    /// `max_duration`.
    MaxDuration = "max_duration", Policy;
    /// Still open at `drain_timeout`.
    Drain = "drain", Policy;
    /// The host ran out of source ports towards the endpoint.
    NoSourcePort = "no_source_port", Weir;
    /// The endpoint is this proxy itself.
    Loop = "loop", Weir;
    /// A defect of ours: a connection that ended without a reason.
    Internal = "internal", Weir;
}
