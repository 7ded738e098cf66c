//! The results of good configurations: destinations, endpoints, policies, settings, `[[test]]`s.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_routing::{Compiled, Resolved, compile, parse};
use weir_routing::{Cores, LogLevel};

use crate::{env, line, load, sources};

fn compiled(texts: &[&str]) -> Compiled {
    let texts = sources(texts);
    load(&texts).unwrap_or_else(|problems| {
        panic!("{:?}", problems.iter().map(|problem| line(&texts, problem)).collect::<Vec<_>>())
    })
}

/// "name: endpoints" of each destination.
fn destinations(compiled: &Compiled) -> Vec<String> {
    let table = &compiled.table;
    let endpoints = |destination: &weir_routing::Destination| {
        let addresses =
            destination.endpoints.iter().map(|id| table.parts().endpoints[id.index()].address.to_string());
        addresses.collect::<Vec<_>>().join(" ")
    };
    table.parts().destinations.iter().map(|each| format!("{}: {}", each.name, endpoints(each))).collect()
}

#[test]
fn an_endpoint_without_a_port_is_dialled_on_the_target_of_the_port_in_use() {
    let cases: [(&str, &[&str]); 6] = [
        // The only port of the service; without target_port, itself.
        (r#"ports = [{ port = 80, target_port = 8080 }]"#, &["db:80: 10.0.0.1:8080 10.0.0.2:8080"]),
        (r#"ports = [{ port = 80 }]"#, &["db:80: 10.0.0.1:80 10.0.0.2:80"]),
        // A workload's port by the name of the service's.
        (r#"ports = [{ name = "tcp", port = 80 }]"#, &["db:80: 10.0.0.1:80 10.0.0.2:9001"]),
        // The client's port decides among several.
        (
            "ports = [{ name = \"tcp\", port = 80 }, { port = 81, target_port = 8081 }]",
            &["db:80: 10.0.0.1:80 10.0.0.2:9001", "db:81: 10.0.0.1:8081 10.0.0.2:8081", "db: "],
        ),
        // A VIP leads to each port.
        (
            "vips = [\"10.9.9.9\"]\nports = [{ port = 80, target_port = 8080 }]",
            &["db:80: 10.0.0.1:8080 10.0.0.2:8080"],
        ),
        // A subset that nothing leads to is no destination.
        ("ports = [{ port = 80 }]\nsubset.v1.labels = {}", &["db:80: 10.0.0.1:80 10.0.0.2:80"]),
    ];
    for (keys, wanted) in cases {
        let text = format!(
            r#"
            [gateway.edge]
            listen = ["0.0.0.0:80-81"]
            to = [{{ service = "db" }}]
            [workload.db-2]
            labels = {{ app = "db" }}
            addresses = ["10.1.0.0/16", "10.0.0.2", "10.0.0.3"]
            ports = {{ tcp = 9001 }}
            [service.db]
            selector = {{ app = "db" }}
            endpoints = ["10.0.0.1", {{ address = "10.0.0.9", weight = 0 }}]
            {keys}
            "#
        );
        let mut found = destinations(&compiled(&[&text]));
        found.sort_by_key(|line| line.ends_with(": "));
        assert_eq!(found, wanted, "{keys}");
    }
}

#[test]
fn a_destination_is_made_once_and_its_endpoints_stand_by_priority() {
    let compiled = compiled(&[r#"
        [gateway.edge]
        listen = ["0.0.0.0:1"]
        to = [{ service = "db" }]
        [[route]]
        match = [{ ports = [1] }]
        to = [{ service = "db", weight = 1 }, { service = "db", subset = "v1", weight = 0 }]
        [service.db]
        endpoints = [
          { address = "10.0.0.1:1", priority = 1 },
          { address = "10.0.0.3:1", labels = { version = "v1" } },
          "10.0.0.2:1",
        ]
        [service.db.subset.v1]
        labels = { version = "v1" }
    "#]);
    assert_eq!(destinations(&compiled), ["db: 10.0.0.2:1 10.0.0.3:1 10.0.0.1:1", "db/v1: 10.0.0.3:1"]);
}

#[test]
fn a_host_name_stands_for_all_its_addresses() {
    let texts = sources(&[
        "[gateway.edge]\nlisten = [\"0.0.0.0:1\"]\nto = [{ service = \"db\" }]\n[service.db]\nendpoints = [\"DB.example.com:5\", \"a.example.com:6\"]\n",
    ]);
    let config = parse(&texts, &env).expect("its shape");
    let addresses: Vec<IpAddr> = ["10.0.0.2", "10.0.0.1", "::ffff:10.0.0.3", "127.0.0.1"]
        .iter()
        .map(|ip| ip.parse().expect("an address"))
        .collect();
    let resolved = Resolved::from([(Arc::from("db.example.com"), addresses)]);
    let compiled = compile(&config, &resolved).expect("its meaning");
    assert_eq!(destinations(&compiled), ["db: 10.0.0.1:5 10.0.0.2:5 10.0.0.3:5 127.0.0.1:5"]);
    assert_eq!(compiled.host_names, [Arc::from("a.example.com"), Arc::from("db.example.com")]);
    assert_eq!(compiled.table.parts().endpoints[0].host.as_deref(), Some("db.example.com"));
    let codes: Vec<&str> = compiled.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(codes, ["not-resolved"]);
}

#[test]
fn a_policy_is_layered_key_by_key_and_keeps_the_place_of_each_value() {
    let text = r#"
[gateway.edge]
listen = ["0.0.0.0:1"]
to = [{ service = "db", subset = "v1" }, { service = "db" }]
[policy.default]
idle_timeout = "4h"
connect_timeout = "1s"
[policy.slow]
use = "slower"
connect_timeout = "5s"
keepalive = { time = "30s" }
[policy.slower]
connect_timeout = "9s"
flush_timeout = "0s"
[service.db]
endpoints = ["10.0.0.1:1"]
policy = { use = "slow", max_connections = 100, balance = "source_ip" }
[service.db.subset.v1.policy]
max_connections = 7
keepalive = { probes = 2 }
"#;
    let compiled = compiled(&[text]);
    let texts = sources(&[text]);
    let destination = &compiled.table.parts().destinations[0];
    let found: Vec<String> = destination
        .origins
        .iter()
        .map(|origin| {
            let at =
                origin.place.map_or("built in".to_owned(), |place| texts.position(place).line.to_string());
            format!("{} {} ({at})", origin.key, origin.value)
        })
        .collect();
    assert_eq!(
        found,
        [
            "balance source_ip (17)",
            "connect_timeout 5s (10)",
            "connect_attempts 3 (built in)",
            "connect_deadline 10s (built in)",
            "idle_timeout 4h (6)",
            "half_close_timeout 10m (built in)",
            "flush_timeout 0s (14)",
            "max_duration 0s (built in)",
            "max_connections 7 (19)",
            "keepalive.time 30s (11)",
            "keepalive.interval 15s (built in)",
            "keepalive.probes 2 (20)",
            "user_timeout 0s (built in)",
        ]
    );
    assert_eq!(destination.policy.timeouts.connect, Some(Duration::from_secs(5)));
    assert_eq!(destination.policy.timeouts.flush, None);
    let limits = |at: usize| compiled.table.parts().destinations[at].policy.max_connections;
    assert_eq!((limits(0), limits(1)), (Some(7), Some(100)));
    let service = &compiled.table.parts().services[0];
    assert_eq!((service.max_connections, service.subsets[0].max_connections), (Some(100), Some(7)));
}

#[test]
fn names_are_printed_with_their_namespace_outside_default() {
    let compiled = compiled(&[
        "[gateway.edge]\nlisten = [\"0.0.0.0:1\"]\n[service.db]\nendpoints = [\"10.0.0.1:1\"]\n[[route]]\nmatch = [{ ports = [1] }]\nto = [{ service = \"foo/db\" }]\n",
        "namespace = \"foo\"\n[service.db]\nendpoints = [\"10.0.0.1:1\"]\n[[route]]\nto = [{ service = \"db\" }]\n[[route]]\nname = \"first\"\norder = -5\nmatch = [{ source_subnets = [\"10.0.0.0/8\"] }]\nto = [{ service = \"default/db\" }]\n[workload.w]\n",
    ]);
    let table = &compiled.table;
    let services: Vec<&str> = table.parts().services.iter().map(|service| &*service.name).collect();
    let routes: Vec<&str> = table.parts().routes.iter().map(|route| &*route.name).collect();
    assert_eq!(services, ["db", "foo/db"]);
    assert_eq!(routes, ["foo/first", "route-1", "foo/route-2"]);
    assert_eq!(&*table.parts().workloads[0].name, "foo/w");
}

#[test]
fn settings_have_their_defaults_and_what_is_written() {
    let plain = compiled(&["[gateway.edge]\nlisten = [\"0.0.0.0:1\"]\n"]).settings;
    assert_eq!(plain.cores, Cores::All);
    assert_eq!(plain.admin.map(|admin| admin.to_string()).as_deref(), Some("127.0.0.1:9347"));
    assert_eq!((plain.drain_timeout, plain.drain_delay), (Some(Duration::from_secs(25)), Duration::ZERO));
    assert!(plain.watch);
    let written = compiled(&[
        "[gateway.edge]\nlisten = [\"0.0.0.0:1\"]\n[proxy]\ncores = \"8,0-2,1\"\nadmin = \"off\"\ndrain_timeout = \"0s\"\nbusy_poll = \"50us\"\nwatch = false\n[log]\nlevel = \"debug\"\n",
    ])
    .settings;
    assert_eq!(written.cores, Cores::List(vec![0, 1, 2, 8]));
    assert_eq!((written.admin, written.drain_timeout), (None, None));
    assert_eq!((written.busy_poll, written.log_level), (Duration::from_micros(50), LogLevel::Debug));
    assert!(!written.watch);
}

#[test]
fn a_failing_test_reports_both_the_wanted_and_the_found() {
    let cases = [
        (r#"{ route = "a" }"#, Some((r#"route "a""#, r#"route """#))),
        (r#"{ route = "", service = "db" }"#, None),
        (r#"{ reject = true }"#, Some(("reject true", "reject false"))),
        (r#"{ subsets = ["v1"] }"#, Some((r#"subsets ["v1"]"#, r#"subsets [""]"#))),
        (
            r#"{ endpoints = ["10.0.0.2:1"], reject = false }"#,
            Some(("endpoints [10.0.0.2:1]", "endpoints [10.0.0.1:1]")),
        ),
    ];
    for (expect, wanted) in cases {
        let text = format!(
            r#"
            [gateway.edge]
            listen = ["0.0.0.0:1"]
            to = [{{ service = "db" }}]
            [[route]]
            name = "a"
            match = [{{ source_subnets = ["10.0.0.0/8"] }}]
            reject = true
            [service.db]
            endpoints = ["10.0.0.1:1"]
            [[test]]
            source = "11.0.0.1"
            destination = "192.0.2.1:1"
            expect = {expect}
            "#
        );
        let compiled = compiled(&[&text]);
        let found = compiled.config_tests[0].check(&compiled.table).err();
        let found = found.as_ref().map(|problem| {
            assert_eq!(problem.code, "test-failed");
            (problem.wanted.as_deref().unwrap_or(""), problem.found.as_deref().unwrap_or(""))
        });
        assert_eq!(found, wanted, "{expect}");
    }
}

#[test]
fn problems_name_the_next_step() {
    let cases = [
        ("lisen = []", "did you mean `listen`?"),
        ("colour = 1", "take it out"),
        ("listen = [\"::1:80\"]", "write \"[::1]:80\""),
        ("listen = [\"0.0.0.0:1\"]\nto = [{ service = \"bd\" }]", "did you mean `db`?"),
        (
            "listen = [\"0.0.0.0:1\"]\nto = [{ service = \"there\" }]",
            "there is one in another namespace: write \"foo/there\"",
        ),
        ("listen = [\"0.0.0.0:1\"]\nto = [{ service = \"db\", subset = \"v2\" }]", "did you mean `v1`?"),
        ("listen = [\"0.0.0.0:1\"]\n[log]\nlevel = \"inof\"", "did you mean \"info\"?"),
        (
            "listen = [\"0.0.0.0:1\"]\n[proxy]\ndrain_timeout = 25",
            "HAProxy reads a bare 25 as milliseconds (\"25ms\"), nginx as seconds (\"25s\"): write which you mean",
        ),
        (
            "listen = [\"0.0.0.0:1\"]\n[policy.default]\nkeepalive = { time = 60 }",
            "write \"60s\": the kernel takes whole seconds here",
        ),
    ];
    for (keys, wanted) in cases {
        let rest = "[service.db]\nendpoints = [\"10.0.0.1:1\"]\nsubset.v1.labels = {}\n[service.\"foo/there\"]\nendpoints = [\"10.0.0.1:1\"]\n";
        let texts = sources(&[&format!("[gateway.edge]\n{keys}\n{rest}")]);
        let problems = load(&texts).expect_err("a problem");
        assert_eq!(problems[0].help.as_deref(), Some(wanted), "{keys}");
    }
}
