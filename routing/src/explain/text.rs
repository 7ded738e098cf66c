//! An [`Explanation`] as people read it: one line a fact, in columns.

use std::fmt::Write;
use std::sync::Arc;

use super::shape::{
    At, Decision, EndpointShown, Explanation, Outcome, PolicyShown, Rule, RulesLeftOut, ShareShown,
};
use crate::table::Via;

/// Shares in a line.
const SHARES_A_LINE: usize = 2;

/// Where the places stand that close a line, unless a longer one pushes them on: the same from one arrival to the next.
const PLACE_COLUMN: usize = 99;

/// A line: its first word, a name, and the facts about it; the place that closes it.
struct Line {
    head: String,
    name: String,
    rest: String,
    place: Option<String>,
}

impl Line {
    fn new(head: impl Into<String>, name: impl Into<String>, rest: impl Into<String>) -> Self {
        Self { head: head.into(), name: name.into(), rest: rest.into(), place: None }
    }

    fn at(mut self, place: String) -> Self {
        self.place = Some(place);
        self
    }
}

impl Explanation {
    /// All of it as text, one line a fact.
    pub fn to_text(&self) -> String {
        let mut lines = self.rules();
        lines.extend(self.rules_left_out.line());
        lines.extend(self.split.chunks(SHARES_A_LINE).map(shares));
        lines.extend(more("split", self.shares_left_out));
        let source = self.arrival.source.ip();
        let always = |name: &Arc<str>| Line::new("sticky", &**name, format!("always, for source {source}"));
        lines.extend(self.sticky.as_ref().map(always));
        lines.extend(self.split.iter().flat_map(endpoints));
        let always = |share: &ShareShown| {
            let endpoint = share.source_ip?;
            Some(Line::new(
                "source_ip",
                name(share),
                format!("{endpoint}, for source {source} while it is usable"),
            ))
        };
        lines.extend(self.split.iter().filter_map(always));
        lines.extend(self.split.iter().filter(|share| !share.policy.is_empty()).map(policy));
        let decision = match self.decision {
            Decision::Forward => "forward",
            Decision::Reject => "reject",
        };
        let via = match self.via {
            Via::Route => "route",
            Via::Service => "service",
            Via::Gateway => "gateway",
            Via::Unmatched => "unmatched",
        };
        lines.push(Line::new("decision", decision, format!("via {via}")));
        let mut text = self.arrival_line();
        layout(&lines, &mut text);
        text
    }

    fn arrival_line(&self) -> String {
        let arrival = &self.arrival;
        let source = match arrival.source.port() {
            0 => arrival.source.ip().to_string(),
            _ => arrival.source.to_string(),
        };
        let workload = match &arrival.workload {
            Some(name) => {
                let labels: Vec<_> =
                    arrival.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("{name} {{{}}}", labels.join(", "))
            }
            None => "unknown".to_owned(),
        };
        let (destination, gateway) = (arrival.destination, &arrival.gateway);
        format!("arrival    {source} -> {destination}   gateway {gateway}   workload {workload}\n")
    }

    fn rules(&self) -> Vec<Line> {
        let last = self.rules.last().map_or(0, |rule| rule.number);
        let digits = last.to_string().len().max(2);
        let places = self.rules.iter().map(|rule| place(&rule.at).chars().count()).max().unwrap_or(0);
        let rules = self.rules.iter();
        rules.map(|rule| self::rule(&format!("rule {:digits$}", rule.number), rule, places)).collect()
    }
}

impl RulesLeftOut {
    /// "99 more: no condition held in 90, 9 were not reached".
    fn line(self) -> Option<Line> {
        let Self { far, farther, not_reached, off } = self;
        let total = far + farther + not_reached + off;
        let parts = [
            (far, "without a condition that held"),
            (farther, "farther from a match"),
            (not_reached, "not reached"),
            (off, "off"),
        ];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = parts.map(|(count, why)| format!("{count} {why}")).collect();
        let mut line = more("rules", total)?;
        line.rest = format!("{}; {}", parts.join(", "), line.rest);
        Some(line)
    }
}

/// How many lines of a kind are left out.
fn more(head: &str, count: usize) -> Option<Line> {
    (count > 0).then(|| Line::new(head, format!("{count} more"), "--all shows them"))
}

fn rule(head: &str, rule: &Rule, places: usize) -> Line {
    let declared = place(&rule.at);
    let line = |rest: String| Line::new(head, &*rule.route, format!("{declared:places$}   {rest}"));
    let in_file = |line: usize| place(&At { file: Arc::clone(&rule.at.file), line });
    match &rule.outcome {
        Outcome::Matched { block, wanted, matched_line } => {
            line(format!("MATCH  block {block}: {wanted}")).at(in_file(*matched_line))
        }
        Outcome::Failed { failed, .. } => {
            let (condition, wanted, found) = (failed.condition, &failed.wanted, &failed.found);
            line(format!("no     {condition}: wanted {wanted}, found {found}")).at(in_file(failed.line))
        }
        Outcome::NotReached => line("not reached".to_owned()),
        Outcome::Off => line("off".to_owned()),
    }
}

fn shares(shares: &[ShareShown]) -> Line {
    let weight =
        |share: &ShareShown| format!("{} of {} = {}", share.weight, share.total, percent(share.share));
    let further = shares[1..].iter().map(|share| format!("     {}  {}", share.name, weight(share)));
    let rest = weight(&shares[0]) + &further.collect::<String>();
    Line::new("split", &*shares[0].name, rest).at(place(&shares[0].at))
}

fn endpoints(share: &ShareShown) -> Vec<Line> {
    let name = name(share);
    if share.endpoints.is_empty() && share.endpoints_left_out == 0 {
        let why = if share.lacks_port {
            "none: the service does not have the port that was dialled"
        } else {
            "none"
        };
        return vec![Line::new("endpoint", name, why)];
    }
    let width = |show: fn(&EndpointShown) -> String| {
        share.endpoints.iter().map(|endpoint| show(endpoint).len()).max().unwrap_or(0)
    };
    let addresses = width(|endpoint| endpoint.address.to_string());
    let weights = width(|endpoint| endpoint.weight.to_string());
    let lines = share.endpoints.iter().map(|endpoint| {
        let EndpointShown { address, weight, share, priority, locality } = endpoint;
        let mut rest =
            format!("{:addresses$}   weight {weight:weights$}   {}", address.to_string(), percent(*share));
        if *priority > 0 {
            let _ = write!(rest, "   priority {priority}");
        }
        if !locality.is_empty() {
            let _ = write!(rest, "   {locality}");
        }
        Line::new("endpoint", &*name, rest)
    });
    let mut lines: Vec<Line> = lines.collect();
    let more =
        || Line::new("endpoint", &*name, format!("{} more: --all shows them", share.endpoints_left_out));
    lines.extend((share.endpoints_left_out > 0).then(more));
    lines
}

/// "20.0 %". A share just above nothing or just below all is not written as nothing or all.
fn percent(share: f64) -> String {
    const LEAST: f64 = 0.001;
    if share > 0.0 && share < LEAST {
        "< 0.1 %".to_owned()
    } else if share < 1.0 && share > 1.0 - LEAST {
        "> 99.9 %".to_owned()
    } else {
        format!("{:.1} %", share * 100.0)
    }
}

/// Values with the same origin stand together, and the origin after the last of them.
fn policy(share: &ShareShown) -> Line {
    let mut rest = String::new();
    for same in share.policy.chunk_by(|one, other| one.at == other.at) {
        let values: Vec<String> = values(same);
        let origin = same[0].at.as_ref().map_or_else(|| "built in".to_owned(), place);
        let comma = if rest.is_empty() { "" } else { ", " };
        let _ = write!(rest, "{comma}{} ({origin})", values.join(", "));
    }
    Line::new("policy", name(share), rest)
}

/// "connect 2s x 3, idle 1h, user_timeout off".
fn values(policy: &[PolicyShown]) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    let mut before = "";
    for PolicyShown { key, value, .. } in policy {
        let value = if value == "0s" { "off" } else { value };
        match (values.last_mut(), *key) {
            (Some(last), "connect_attempts") if before == "connect_timeout" => {
                *last = format!("{last} x {value}")
            }
            // Its first word alone would not be understood.
            (_, "user_timeout") => values.push(format!("{key} {value}")),
            _ => values.push(format!("{} {value}", key.strip_suffix("_timeout").unwrap_or(key))),
        }
        before = key;
    }
    values
}

/// Service and subset: endpoints and policy are the same at every port.
fn name(share: &ShareShown) -> String {
    match &share.subset {
        Some(subset) => format!("{}/{subset}", share.service),
        None => share.service.to_string(),
    }
}

fn place(at: &At) -> String {
    format!("{}:{}", at.file, at.line)
}

fn layout(lines: &[Line], text: &mut String) {
    let width =
        |show: fn(&Line) -> &str| lines.iter().map(|line| show(line).chars().count()).max().unwrap_or(0);
    let heads = width(|line| &line.head).max(9) + 2;
    let names = width(|line| &line.name) + 2;
    let placed = lines.iter().filter(|line| line.place.is_some());
    let longest = placed.map(|line| heads + names + line.rest.chars().count()).max().unwrap_or(0);
    let place_column = (longest + 3).max(PLACE_COLUMN);
    for Line { head, name, rest, place } in lines {
        let line = format!("{head:heads$}{name:names$}{rest}");
        let _ = match place {
            Some(place) => writeln!(text, "{line:place_column$}{place}"),
            None => writeln!(text, "{}", line.trim_end()),
        };
    }
}
