//! The situations that simulated sessions got into, counted, and those that they must get into.

use std::collections::BTreeMap;

use crate::reason::Reason;

/// What a simulation came by, and how often: one that never gets into a situation proves nothing about it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(pub(super) BTreeMap<String, u64>);

impl Seen {
    pub(super) fn count(&mut self, what: &str) {
        *self.0.entry(what.to_owned()).or_default() += 1;
    }

    pub(super) fn count_if(&mut self, happened: bool, what: &str) {
        if happened {
            self.count(what);
        }
    }

    pub(super) fn reason(&mut self, reason: Reason) {
        self.count(&format!("reason {}", reason.as_str()));
    }
}

/// Reasons that sessions end with here. Of the others four belong to admission, and the last one is a defect.
pub(super) const REASONS: [Reason; 17] = [
    Reason::Done,
    Reason::ClientReset,
    Reason::ClientGone,
    Reason::ClientTimeout,
    Reason::UpstreamReset,
    Reason::UpstreamTimeout,
    Reason::ConnectRefused,
    Reason::ConnectTimeout,
    Reason::ConnectError,
    Reason::NoEndpoint,
    Reason::IdleTimeout,
    Reason::HalfCloseTimeout,
    Reason::MaxDuration,
    Reason::Drain,
    Reason::NoSourcePort,
    Reason::Loop,
    Reason::LimitProcess,
];

/// Situations that worlds must get into.
pub(super) const SITUATIONS: [&str; 24] = [
    "a cancelled connect had been answered",
    "a cancelled connect succeeded",
    "a client hung up during the dial",
    "a completion came for nothing",
    "a completion came twice",
    "a dial led back to us",
    "a dial was refused from outside",
    "a drain",
    "a poll ended by itself",
    "a poll's last completion came after the end",
    "a session was relayed after a failed attempt",
    "a slot was reused",
    "accepting had to pause",
    "all was done for a client that sent data and hung up during the dial",
    "all was done for a client that sent nothing and hung up during the dial",
    "an answer came after the cancel's completion",
    "an answer came after the session's end",
    "an attempt failed",
    "an attempt failed at once",
    "an end cut off an attempt that had its time",
    "an end cut off an attempt that had time left",
    "an old completion met a new session",
    "an upstream was the socket itself",
    "the kernel took a request later",
];
