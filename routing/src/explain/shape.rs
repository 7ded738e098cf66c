//! The shape of an explanation: the one description that its text, its JSON and every reader of either share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::problem::{Place, Sources};
use crate::table::Via;

/// How much of a walk is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Of more than 50 rules, shares or endpoints only those that a reader looks for, and how many others there
    /// are: the output has a bound, and the rest costs next to nothing.
    Near,
    /// Everything.
    Whole,
}

/// Up to this many rules, shares and endpoints are all shown: as many as a person reads through.
pub(super) const SHOWN_MAX: usize = 50;

/// The walk of one arrival. Serialises as `weirctl explain --json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Version of this shape.
    pub schema: u32,
    /// The arrival.
    pub arrival: ArrivalShown,
    /// The rules, in order.
    pub rules: Vec<Rule>,
    /// How many of them are not shown.
    #[serde(skip)]
    pub rules_left_out: RulesLeftOut,
    /// Which step took it.
    pub via: Via,
    /// The decision.
    pub decision: Decision,
    /// Where it may go.
    pub split: Vec<ShareShown>,
    /// How many further shares are not shown.
    #[serde(skip)]
    pub shares_left_out: usize,
    /// With `sticky`: the destination of the split that this source always gets.
    pub sticky: Option<Arc<str>>,
}

/// An arrival, and the workload of its source.
#[derive(Clone, Debug, Serialize)]
pub struct ArrivalShown {
    /// The client.
    pub source: SocketAddr,
    /// The original destination.
    pub destination: SocketAddr,
    /// The gateway's name.
    pub gateway: Arc<str>,
    /// The workload that owns the source.
    pub workload: Option<Arc<str>>,
    /// Its labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// The decision on an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// To one of the split.
    Forward,
    /// Reset, whatever is drawn.
    Reject,
}

/// One rule.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    /// Its place in the order, from 1.
    #[serde(skip)]
    pub number: usize,
    /// The route's name.
    pub route: Arc<str>,
    /// Where it is declared.
    #[serde(flatten)]
    pub at: At,
    /// Whether it holds, as far as it was asked.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Rules that are not shown, by their outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RulesLeftOut {
    /// None of their conditions held.
    pub far: usize,
    /// A condition held, and others are nearer to a match.
    pub farther: usize,
    /// They stand after the one that matched.
    pub not_reached: usize,
    /// They have `enabled = false`.
    pub off: usize,
}

/// A place as people read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct At {
    /// The file's name.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
}

/// The outcome of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Outcome {
    /// It takes the arrival.
    Matched {
        /// Number of the block that holds, from 1.
        block: usize,
        /// The conditions of the block: "destination_subnets 192.168.0.0/16".
        wanted: String,
        /// Line of its first condition, or of the block.
        matched_line: usize,
    },
    /// None of its blocks holds.
    Failed {
        /// Number of the block that got furthest, from 1.
        block: usize,
        /// Its first condition that does not hold.
        failed: Failed,
    },
    /// A rule before it took the arrival.
    NotReached,
    /// It has `enabled = false`.
    Off,
}

/// A condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Its key.
    pub condition: &'static str,
    /// As it is written.
    pub wanted: String,
    /// The value that the arrival has.
    pub found: String,
    /// Line of the condition, in the rule's file.
    pub line: usize,
}

/// A share of a split.
#[derive(Clone, Debug, Serialize)]
pub struct ShareShown {
    /// The service.
    pub service: Arc<str>,
    /// Its subset.
    pub subset: Option<Arc<str>>,
    /// The service port in use.
    pub port: Option<u16>,
    /// The weight.
    pub weight: u32,
    /// The part of connections it gets, from 0 to 1.
    pub share: f64,
    /// Where it may be dialled.
    pub endpoints: Vec<EndpointShown>,
    /// How many further endpoints are not shown.
    #[serde(skip)]
    pub endpoints_left_out: usize,
    /// With `balance = "source_ip"`: the endpoint that this source always gets while all of them are usable.
    pub source_ip: Option<SocketAddr>,
    /// Key by key, in the order of the documentation; in JSON an object.
    #[serde(serialize_with = "by_key")]
    pub policy: Vec<PolicyShown>,
    /// The sum of all weights of the split.
    #[serde(skip)]
    pub total: u64,
    /// Where the share is written.
    #[serde(skip)]
    pub at: At,
    /// The destination's name.
    #[serde(skip)]
    pub name: Arc<str>,
    /// Whether the service lacks the port that was dialled.
    #[serde(skip)]
    pub lacks_port: bool,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointShown {
    /// The address that is dialled.
    pub address: SocketAddr,
    /// Its weight; with 0 it gets no new connection.
    pub weight: u32,
    /// Its priority.
    pub priority: u32,
    /// Its part of the weight of the first priority, from 0 to 1; 0 for those behind it.
    pub share: f64,
    /// "region/zone/subzone", or empty.
    pub locality: Arc<str>,
}

/// A value of the policy in force.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyShown {
    /// The key.
    #[serde(skip)]
    pub key: &'static str,
    /// As it would be written.
    pub value: String,
    /// Where it was set; none: built in.
    #[serde(flatten)]
    pub at: Option<At>,
}

fn by_key<S: Serializer>(policy: &[PolicyShown], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(policy.iter().map(|value| (value.key, value)))
}

impl At {
    pub(super) fn new(sources: &Sources, place: Place) -> Self {
        Self { file: Arc::clone(&sources.source(place).name), line: sources.position(place).line }
    }
}

impl Explanation {
    /// Leaves out shares and endpoints, all of the split's together, beyond the first.
    pub(super) fn shorten_split(&mut self) {
        self.shares_left_out = self.split.len().saturating_sub(SHOWN_MAX);
        self.split.truncate(SHOWN_MAX);
        let mut left = SHOWN_MAX;
        for share in &mut self.split {
            share.endpoints_left_out = share.endpoints.len().saturating_sub(left);
            share.endpoints.truncate(left);
            left -= share.endpoints.len();
        }
    }
}
