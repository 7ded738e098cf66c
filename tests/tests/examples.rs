//! `examples/` and `dist/`: the files that people start from pass `weir check` without a warning, and run as they are, with all their
//! addresses, on two hosts that have them (network namespaces).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use weir_tests::client::{connect_from, try_ask};
use weir_tests::dns::{Asked, NameServer, Reply};
use weir_tests::{Backend, Launch, Namespace, busy, host, program};

/// The default of `admin`.
const ADMIN: &str = "127.0.0.1:9347";

/// An example as it runs: back ends, and clients with the back ends that may answer them.
struct Example {
    file: &'static str,
    /// Address and name of each back end.
    backends: &'static [(&'static str, &'static str)],
    /// Client, the address that it dials, and who may answer; an empty list: a reset.
    clients: &'static [(&'static str, &'static str, &'static [&'static str])],
    /// Host names with their addresses.
    names: &'static [(&'static str, &'static str)],
}

const EXAMPLES: [Example; 9] = [
    Example {
        file: "single-service.toml",
        backends: &[("10.0.0.11:5432", "one"), ("10.0.0.12:5432", "two")],
        clients: &[("10.0.1.1", "10.0.0.1:5432", &["one", "two"])],
        names: &[],
    },
    Example {
        file: "canary.toml",
        backends: &[("10.0.0.11:9000", "v1"), ("10.0.0.12:9000", "v1"), ("10.0.0.21:9000", "v2")],
        clients: &[("10.0.1.1", "10.0.0.1:9000", &["v1", "v2"])],
        names: &[],
    },
    Example {
        file: "sources.toml",
        backends: &[("10.0.0.11:9000", "primary"), ("10.0.0.12:9000", "replica")],
        clients: &[
            ("10.0.7.1", "10.0.0.1:9000", &["replica"]),
            ("10.0.8.44", "10.0.0.1:9000", &["replica"]),
            ("10.0.9.9", "10.0.0.1:9000", &["primary"]),
            ("10.0.66.6", "10.0.0.1:9000", &[]),
            ("203.0.113.5", "10.0.0.1:9000", &[]),
        ],
        names: &[],
    },
    Example {
        file: "gateways-by-port.toml",
        backends: &[
            ("10.0.0.31:8443", "web"),
            ("10.0.0.32:8443", "web"),
            ("10.0.0.11:5432", "db"),
            ("10.0.0.21:6379", "cache"),
            ("10.0.0.41:20003", "game three"),
        ],
        clients: &[
            ("10.0.1.1", "10.0.0.1:8443", &["web"]),
            ("10.0.1.1", "10.0.0.1:5432", &["db"]),
            ("10.0.1.1", "10.0.0.1:6379", &["cache"]),
            ("10.0.1.1", "10.0.0.1:20003", &["game three"]),
            ("10.0.1.1", "10.0.0.1:20004", &[]),
        ],
        names: &[],
    },
    Example {
        file: "host-names.toml",
        backends: &[("10.0.0.31:443", "web"), ("10.0.0.32:443", "web"), ("10.0.0.99:443", "backup")],
        clients: &[("10.0.1.1", "10.0.0.1:443", &["web"])],
        names: &[
            ("web.example.com", "10.0.0.31"),
            ("web.example.com", "10.0.0.32"),
            ("web.backup.example.net", "10.0.0.99"),
        ],
    },
    Example {
        file: "policies.toml",
        backends: &[("10.0.0.11:9000", "v1"), ("10.0.0.12:9000", "v1"), ("10.0.0.21:9000", "v2")],
        clients: &[("10.0.1.1", "10.0.0.1:9000", &["v1"]), ("10.0.9.1", "10.0.0.1:9000", &["v2"])],
        names: &[],
    },
    Example {
        file: "limits-and-timeouts.toml",
        backends: &[("10.0.0.12:9000", "two")],
        clients: &[("10.0.1.1", "10.0.0.1:9000", &["two"])],
        names: &[],
    },
    Example {
        file: "postgres-and-redis.toml",
        backends: &[
            ("10.0.0.11:5432", "primary"),
            ("10.0.0.12:5432", "standby"),
            ("10.0.0.21:6379", "redis"),
        ],
        clients: &[("10.0.1.1", "10.0.0.1:5432", &["primary"]), ("10.0.1.1", "10.0.0.1:6379", &["redis"])],
        names: &[],
    },
    Example {
        file: "postgres-and-redis.toml",
        backends: &[("10.0.0.12:5432", "standby")],
        clients: &[("10.0.1.1", "10.0.0.1:5432", &["standby"]), ("10.0.1.1", "10.0.0.1:6379", &[])],
        names: &[],
    },
];

fn directory() -> PathBuf {
    program::workspace().join("examples")
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Two hosts: one for Weir, which has the addresses that clients dial and come from, and one with the addresses of all back ends.
fn hosts(example: &Example) -> Option<[Namespace; 2]> {
    let (near, far) = (Namespace::new()?, Namespace::new()?);
    near.connect(&far, "wire", ["10.0.0.1/24", "10.0.0.254/24"]);
    let clients = example.clients.iter().map(|(client, ..)| client.parse().expect("a client's address"));
    let backends = example.backends.iter().map(|(backend, _)| address(backend).ip());
    add_addresses(&near, clients.collect());
    add_addresses(&far, backends.collect());
    Some([near, far])
}

fn add_addresses(namespace: &Namespace, addresses: BTreeSet<IpAddr>) {
    addresses.iter().for_each(|ip| namespace.ip(&format!("address add {ip}/32 dev lo")));
}

/// A name server with the example's names; none where it has no names.
fn name_server(example: &Example) -> Option<NameServer> {
    if example.names.is_empty() {
        return None;
    }
    let server = NameServer::start().expect("root has a name server");
    for (name, _) in example.names {
        let of_it = example.names.iter().filter(|(other, _)| other == name);
        let addresses = of_it.map(|(_, ip)| ip.parse().expect("an address")).collect();
        server.reply(name, Asked::A, Reply::Addresses(addresses, 60));
        server.reply(name, Asked::Aaaa, Reply::NoAddress);
    }
    Some(server)
}

/// Runs Weir and its clients, in their namespace.
fn run(example: &Example) {
    let names = name_server(example);
    let under = names.as_ref().map(NameServer::under).unwrap_or_default();
    let under: Vec<&str> = under.iter().map(String::as_str).collect();
    let weir = Launch::new("").under(&under).start_in(
        tempfile::tempdir().expect("a temporary directory"),
        &directory().join(example.file),
        address(ADMIN),
    );
    for (client, dialled, wanted) in example.clients {
        for _ in 0..4 {
            let stream = connect_from(client.parse().expect("an address"), address(dialled));
            let answer = stream.and_then(|stream| try_ask(&stream, "hello"));
            let context = || format!("{}: {client} to {dialled}: {answer:?}", example.file);
            match &answer {
                Ok(line) => {
                    let name = line.strip_suffix(" hello").unwrap_or_else(|| panic!("{}", context()));
                    assert!(wanted.contains(&name), "{}, wanted {wanted:?}", context());
                }
                Err(error) => {
                    assert!(wanted.is_empty() && weir_tests::client::is_reset(error), "{}", context());
                }
            }
        }
    }
    weir.clean();
}

#[test]
fn every_example_passes_without_a_warning() {
    let _turn = busy();
    let mut found: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(directory()).expect("examples") {
        let path = entry.expect("an entry").path();
        let output = program::run("weir", &["check", "--strict", "-c", path.to_str().unwrap()]);
        assert_eq!(output.code, 0, "{}:\n{}", path.display(), output.stderr);
        found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    found.sort_unstable();
    let mut run: Vec<&str> = EXAMPLES.iter().map(|example| example.file).collect();
    run.sort_unstable();
    run.dedup();
    assert_eq!(found, run, "every example is run");
}

#[test]
fn every_example_runs_as_it_is() {
    let _turn = busy();
    for example in &EXAMPLES {
        let Some([near, far]) = hosts(example) else { return };
        let backends = || example.backends.iter().map(|(at, name)| Backend::lines_at(address(at), name));
        let _backends: Vec<Backend> = far.run(|| backends().collect());
        near.run(|| run(example));
    }
}

/// The unit as it would be installed, but for the path of the program.
#[test]
fn systemd_reads_the_unit_without_a_complaint() {
    if !host::has(&["systemd-analyze"]) {
        return;
    }
    let _turn = busy();
    let unit = std::fs::read_to_string(program::workspace().join("dist/weir.service")).expect("the unit");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let verify = |text: &str| {
        let file = scratch.path().join("weir.service");
        std::fs::write(&file, text).expect("the unit can be written");
        program::run_command(Command::new("systemd-analyze").arg("verify").arg(&file))
    };
    let path = program::path("weir");
    let built = Path::new(&path).to_str().expect("a path of text");
    let output = verify(&unit.replace("/usr/bin/weir", built));
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{}", output.stdout);
    let misspelt = unit.replace("LimitNOFILE", "LimitNoFile").replace("/usr/bin/weir", built);
    assert!(verify(&misspelt).stderr.contains("LimitNoFile"), "it complains of what is wrong");
}

#[test]
fn the_unit_waits_for_a_drain_and_allows_what_weir_needs() {
    let unit = std::fs::read_to_string(program::workspace().join("dist/weir.service")).expect("the unit");
    let value = |key: &str| {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let [stop] = &value("TimeoutStopSec")[..] else { panic!("one TimeoutStopSec") };
    // The default of `drain_timeout` is 25s.
    assert!(stop.parse::<u32>().is_ok_and(|seconds| seconds > 25), "{stop}");
    assert_eq!(value("RestartPreventExitStatus"), ["3"]);
    assert_eq!(value("ExecStartPre"), ["/usr/bin/weir check -c /etc/weir"]);
    assert!(value("ExecReload").iter().any(|line| line.contains("kill -HUP $MAINPID")));
    assert!(value("LimitNOFILE")[0].parse::<u64>().is_ok_and(|limit| limit >= 65_536));
}
