//! The text and the JSON of an explanation, as the documentation prints them.

use std::net::SocketAddr;

use weir_routing::explain::{Extent, explain, text};
use weir_routing::{Block, FirstBytes, RouteAction, Split, Table, Verdict};

use super::support::{Builder, arrival, label_map, line, net, shares, split};

/// The rules of the documentation's sample.
fn sample() -> Table {
    let mut builder = Builder::new();
    let mesh = builder.gateway("mesh", None);
    let edge = builder.gateway("edge", None);
    builder.workload("foo/telnet-client", &[("app", "telnet-client")], &[net("10.0.1.1")]);
    let service = builder.service("tcp-echo", &[net("192.168.10.10")], &[9000]);
    let mut of = Vec::new();
    for (subset, port, weight) in [("v1", 9001, 20), ("v2", 9002, 80)] {
        let subset = builder.subset(service, subset);
        let endpoint = builder.endpoint(service, SocketAddr::from(([127, 0, 0, 1], port)), 1, 0);
        of.push((builder.destination(service, Some(subset), Some(9000), &[endpoint]), weight));
    }
    let canary = Block {
        source_namespaces: vec!["bar".into()],
        places: vec![("source_namespaces", line(14))],
        ..Block::default()
    };
    let to = builder.forward(split(&of));
    builder.route("canary", &[mesh], vec![canary], to).place = line(12);
    let first = Block { ports: vec![31400..=31400], places: vec![("ports", line(19))], ..Block::default() };
    let second = Block {
        destination_subnets: vec![net("192.168.0.0/16")],
        places: vec![("destination_subnets", line(20))],
        ..Block::default()
    };
    let to = builder.forward(split(&of));
    builder.route("tcp-echo-routing", &[mesh], vec![first, second], to).place = line(18);
    let labels = Block { source_labels: label_map(&[("app", "web")]), ..Block::default() };
    builder.route("rest", &[mesh, edge], vec![labels, Block::default()], RouteAction::Reject).place =
        line(27);
    Table::build(builder.parts)
}

fn check(arrival: &weir_routing::Arrival, wanted: &str) {
    let found = text(&sample(), arrival);
    assert_eq!(found.trim_end(), wanted.trim(), "\n{found}");
}

#[test]
fn text_is_laid_out_as_documented() {
    check(
        &arrival(0, "10.0.1.1", "192.168.10.10:9000"),
        "
arrival    10.0.1.1:40000 -> 192.168.10.10:9000   gateway mesh   workload foo/telnet-client {app=telnet-client}
rule  1    canary            a.toml:12   no     source_namespaces: wanted bar, found foo           a.toml:14
rule  2    tcp-echo-routing  a.toml:18   MATCH  block 2: destination_subnets 192.168.0.0/16        a.toml:20
rule  3    rest              a.toml:27   not reached
split      tcp-echo/v1:9000  20 of 100 = 20.0 %     tcp-echo/v2:9000  80 of 100 = 80.0 %           a.toml:22
endpoint   tcp-echo/v1       127.0.0.1:9001   weight 1   100.0 %   cn-hangzhou/h
endpoint   tcp-echo/v2       127.0.0.1:9002   weight 1   100.0 %   cn-hangzhou/h
policy     tcp-echo/v1       balance least_connections, connect 2s x 3 (built in), idle 4h (a.toml:40), user_timeout off (built in)
policy     tcp-echo/v2       balance least_connections, connect 2s x 3 (built in), idle 4h (a.toml:40), user_timeout off (built in)
decision   forward           via route
",
    );
}

#[test]
fn rules_of_other_gateways_fail_by_their_gateways() {
    check(
        &arrival(1, "10.9.9.9", "192.168.10.10:80"),
        "
arrival    10.9.9.9:40000 -> 192.168.10.10:80   gateway edge   workload unknown
rule  1    canary            a.toml:12   no     gateways: wanted mesh, found edge                  a.toml:12
rule  2    tcp-echo-routing  a.toml:18   no     gateways: wanted mesh, found edge                  a.toml:18
rule  3    rest              a.toml:27   MATCH  block 2: everything                                a.toml:27
decision   reject            via route
",
    );
}

#[test]
fn json_has_the_documented_shape() {
    let json = serde_json::to_value(explain(
        &sample(),
        &arrival(0, "10.0.1.1", "192.168.10.10:9000"),
        Extent::Whole,
    ))
    .unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["via"], "route");
    assert_eq!(json["decision"], "forward");
    assert_eq!(json["sticky"], serde_json::Value::Null);
    assert_eq!(json["arrival"]["workload"], "foo/telnet-client");
    assert_eq!(
        json["rules"][0],
        serde_json::json!({
            "route": "canary", "file": "a.toml", "line": 12, "verdict": "failed", "block": 1,
            "failed": { "condition": "source_namespaces", "wanted": "bar", "found": "foo", "line": 14 },
        })
    );
    assert_eq!(json["rules"][1]["verdict"], "matched");
    assert_eq!(json["rules"][1]["block"], 2);
    assert_eq!(json["rules"][2]["verdict"], "not_reached");
    let share = &json["split"][1];
    assert_eq!(
        (&share["service"], &share["subset"], &share["port"], &share["weight"], &share["share"]),
        (&"tcp-echo".into(), &"v2".into(), &9000.into(), &80.into(), &0.8.into())
    );
    assert_eq!(share["endpoints"][0]["address"], "127.0.0.1:9002");
    assert_eq!(
        share["policy"]["idle_timeout"],
        serde_json::json!({ "value": "4h", "file": "a.toml", "line": 40 })
    );
    assert_eq!(share["policy"]["balance"], serde_json::json!({ "value": "least_connections" }));
}

/// Every draw gives the destination that is shown.
#[test]
fn a_sticky_split_shows_the_destination_of_its_source() {
    let mut builder = Builder::new();
    let mesh = builder.gateway("mesh", None);
    let service = builder.service("tcp-echo", &[], &[9000]);
    let mut of = Vec::new();
    for subset in ["v1", "v2"] {
        let subset = builder.subset(service, subset);
        of.push((builder.destination(service, Some(subset), Some(9000), &[]), 50));
    }
    let to = builder.forward(Split { shares: shares(&of), sticky: Some("canary".into()) });
    builder.route("canary", &[mesh], vec![Block::default()], to);
    let table = Table::build(builder.parts);
    let mut seen = std::collections::BTreeSet::new();
    for last in 1..=20 {
        let arrival = arrival(0, &format!("10.0.0.{last}"), "10.9.9.9:9000");
        let mut rng = fastrand::Rng::with_seed(last);
        let verdict = table.decide(&arrival, &FirstBytes::UNKNOWN, &mut rng);
        let Verdict::Forward { destination, .. } = verdict else { panic!("{verdict:?}") };
        let name = &table.parts().destinations[destination.index()].name;
        let explanation = explain(&table, &arrival, Extent::Near);
        assert_eq!(explanation.sticky.as_ref(), Some(name), "{last}");
        assert_eq!(serde_json::to_value(&explanation).unwrap()["sticky"], **name);
        let line = format!("sticky     {name}  always, for source 10.0.0.{last}");
        assert!(explanation.to_text().lines().any(|other| other == line), "{line}");
        seen.insert(name.clone());
    }
    assert_eq!(seen.len(), 2, "20 sources go to both");
}

/// The kinds of rules among many: which of them are shown, and how the others are counted.
#[test]
fn of_many_rules_only_those_near_a_match_are_shown() {
    let [port, other_port] = [50, 51];
    let rules = |kinds: &[(usize, &str)]| {
        let mut builder = Builder::new();
        let here = builder.gateway("here", None);
        let elsewhere = builder.gateway("elsewhere", None);
        for (count, kind) in kinds {
            for n in 0..*count {
                let ports = |port: u16| vec![port..=port];
                let (gateway, block) = match *kind {
                    "match" => (here, Block { ports: ports(port), ..Block::default() }),
                    "far" => (here, Block { ports: ports(other_port), ..Block::default() }),
                    "near" => {
                        let namespaces = vec!["foo".into()];
                        (
                            here,
                            Block { ports: ports(port), source_namespaces: namespaces, ..Block::default() },
                        )
                    }
                    "farther" => {
                        let block = Block {
                            ports: ports(port),
                            source_namespaces: vec!["foo".into()],
                            source_subnets: vec![net("192.0.2.0/24")],
                            ..Block::default()
                        };
                        (here, block)
                    }
                    "elsewhere" => (elsewhere, Block { ports: ports(port), ..Block::default() }),
                    "only the gateway" => (elsewhere, Block::default()),
                    kind => panic!("{kind}"),
                };
                builder.route(&format!("{kind}-{n}"), &[gateway], vec![block], RouteAction::Reject);
            }
        }
        Table::build(builder.parts)
    };
    #[track_caller]
    fn check(table: &Table, shown: &[(usize, &str)], left_out: &str) {
        let arrival = arrival(0, "10.0.0.1", "10.0.0.2:50");
        let near = explain(table, &arrival, Extent::Near);
        let kind = |kind: &str| near.rules.iter().filter(|rule| rule.route.starts_with(kind)).count();
        for (count, of) in shown {
            assert_eq!(kind(of), *count, "{of} in\n{}", near.to_text());
        }
        assert_eq!(near.rules.len(), shown.iter().map(|(count, _)| count).sum::<usize>());
        assert!(near.rules.is_sorted_by_key(|rule| rule.number));
        let text = near.to_text();
        let rest = text.lines().find(|line| line.starts_with("rules")).unwrap_or("");
        let words = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words, left_out, "\n{text}");
        let whole = explain(table, &arrival, Extent::Whole);
        assert_eq!(whole.rules.len(), table.parts().routes.len());
        assert!(!whole.to_text().contains("--all"));
    }
    check(&rules(&[(50, "far")]), &[(50, "far")], "");
    check(&rules(&[(51, "far")]), &[], "rules 51 more 51 without a condition that held; --all shows them");
    check(
        &rules(&[
            (60, "far"),
            (2, "near"),
            (1, "elsewhere"),
            (30, "only the gateway"),
            (1, "match"),
            (9, "near"),
        ]),
        &[(2, "near"), (1, "elsewhere"), (1, "match")],
        "rules 99 more 90 without a condition that held, 9 not reached; --all shows them",
    );
    check(
        &rules(&[(80, "farther"), (10, "near"), (1, "match")]),
        &[(10, "near"), (40, "farther"), (1, "match")],
        "rules 40 more 40 farther from a match; --all shows them",
    );
}

/// A split or a service may be as long as a list of rules.
#[test]
fn of_many_shares_and_endpoints_the_first_are_shown() {
    let mut builder = Builder::new();
    let service = builder.service("db", &[], &[5432]);
    let endpoint = |builder: &mut Builder, n: u16| {
        builder.endpoint(service, SocketAddr::from(([10, 0, (n / 256) as u8, n as u8], 5432)), 1, 0)
    };
    let many: Vec<_> = (0..1000).map(|n| endpoint(&mut builder, n)).collect();
    let mut of = vec![(builder.destination(service, None, Some(5432), &many), 1)];
    for n in 0..70 {
        let subset = builder.subset(service, &format!("v{n}"));
        of.push((builder.destination(service, Some(subset), Some(5432), &many[..1]), 1));
    }
    builder.gateway("edge", Some(split(&of)));
    let table = Table::build(builder.parts);
    let lines = |extent| {
        let text = explain(&table, &arrival(0, "10.0.0.1", "10.0.0.2:50"), extent).to_text();
        let count = |head: &str| text.lines().filter(|line| line.starts_with(head)).count();
        let more: Vec<String> = text
            .lines()
            .filter(|line| line.contains("--all"))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        (count("endpoint"), count("policy"), more)
    };
    assert_eq!(lines(Extent::Whole), (1070, 71, Vec::new()));
    let (endpoints, policies, more) = lines(Extent::Near);
    assert_eq!(
        (endpoints, policies),
        (100, 50),
        "50 endpoints, and a line for each destination that has more"
    );
    assert_eq!(more[0], "split 21 more --all shows them");
    assert_eq!(more[1], "endpoint db 950 more: --all shows them");
    assert_eq!(more[2], "endpoint db/v0 1 more: --all shows them");
}
