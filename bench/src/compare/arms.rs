//! The arms of a comparison: each one's program, its committed configuration, and the ports it listens at.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::layout::Layout;

/// One way from the client to the back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arm {
    /// No proxy at all
    Direct,
    /// `weir-bench serve relay`: one thread that receives and sends and does nothing else, about the least that a relay can cost
    Floor,
    /// Weir
    Weir,
    /// A second process of the same Weir: any difference between the two is noise
    WeirAgain,
    /// Another build of Weir, given by --before: the difference is the effect of the change between the two builds
    WeirBefore,
    /// Weir that spins before it sleeps: CPU for time; unless it is named, only for work with one connection
    WeirBusyPoll,
    /// HAProxy through its buffers
    HaproxyCopy,
    /// HAProxy by splice(2)
    HaproxySplice,
    /// nginx's stream module
    Nginx,
    /// Envoy
    Envoy,
}

/// A back end, and by its number the port of each proxy that leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Answers framed requests.
    Rr,
    /// Reads.
    Sink,
    /// Writes.
    Source,
    /// Speaks first.
    Banner,
}

impl End {
    /// All, in the order of their ports.
    pub const ALL: [End; 4] = [End::Rr, End::Sink, End::Source, End::Banner];

    /// Its mode of `weir-bench serve`.
    pub fn mode(self) -> &'static str {
        match self {
            End::Rr => "rr",
            End::Sink => "sink",
            End::Source => "source",
            End::Banner => "banner",
        }
    }

    /// Where it listens itself. As all ports here below those that the kernel gives to connections, or one of these could have it.
    pub fn port(self) -> u16 {
        27101 + self as u16
    }
}

impl Arm {
    /// All, in the order of tables.
    pub const ALL: [Arm; 10] = [
        Arm::Direct,
        Arm::Floor,
        Arm::Weir,
        Arm::WeirAgain,
        Arm::WeirBefore,
        Arm::WeirBusyPoll,
        Arm::HaproxySplice,
        Arm::HaproxyCopy,
        Arm::Nginx,
        Arm::Envoy,
    ];

    /// Its name, which is also that of its configuration, where it has one.
    pub fn name(self) -> &'static str {
        match self {
            Arm::Direct => "direct",
            Arm::Floor => "floor",
            Arm::Weir => "weir",
            Arm::WeirAgain => "weir-again",
            Arm::WeirBefore => "weir-before",
            Arm::WeirBusyPoll => "weir-busy-poll",
            Arm::HaproxyCopy => "haproxy-copy",
            Arm::HaproxySplice => "haproxy-splice",
            Arm::Nginx => "nginx",
            Arm::Envoy => "envoy",
        }
    }

    /// Whether it is Weir.
    pub fn is_weir(self) -> bool {
        matches!(self, Arm::Weir | Arm::WeirAgain | Arm::WeirBefore | Arm::WeirBusyPoll)
    }

    /// Its place in tables, by its name; an unknown one stands last.
    pub fn place(name: &str) -> usize {
        Self::ALL.iter().position(|arm| arm.name() == name).unwrap_or(Self::ALL.len())
    }

    /// The port that leads to this back end, as its configuration or its arguments have it.
    pub fn port(self, end: End) -> u16 {
        let first = match self {
            Arm::Direct => return end.port(),
            Arm::HaproxySplice => 27001,
            Arm::HaproxyCopy => 27011,
            Arm::Nginx => 27021,
            Arm::Envoy => 27031,
            Arm::Weir => 27041,
            Arm::WeirAgain => 27051,
            Arm::WeirBusyPoll => 27061,
            Arm::WeirBefore => 27071,
            Arm::Floor => 27081,
        };
        first + end as u16
    }

    /// Its program, as it is looked for: `weir` is this build of Weir, `before` the other one, where there is one. None for
    /// [`Arm::Direct`], and for [`Arm::WeirBefore`] without another build.
    pub fn program(self, weir: &Path, before: Option<&Path>) -> Option<PathBuf> {
        match self {
            Arm::Direct => None,
            Arm::Floor => Some(std::env::current_exe().unwrap_or_else(|_| "weir-bench".into())),
            Arm::Weir | Arm::WeirAgain | Arm::WeirBusyPoll => Some(weir.to_owned()),
            Arm::WeirBefore => before.map(Path::to_owned),
            Arm::HaproxyCopy | Arm::HaproxySplice => Some("haproxy".into()),
            Arm::Nginx => Some("nginx".into()),
            Arm::Envoy => Some("envoy".into()),
        }
    }

    /// Its configuration in the directory of the peers. The floor has none: see [`Arm::floor_arguments`].
    pub fn configuration(self) -> Option<&'static str> {
        match self {
            Arm::Direct | Arm::Floor => None,
            Arm::Weir => Some("weir.toml"),
            Arm::WeirAgain => Some("weir-again.toml"),
            Arm::WeirBefore => Some("weir-before.toml"),
            Arm::WeirBusyPoll => Some("weir-busy-poll.toml"),
            Arm::HaproxyCopy => Some("haproxy-copy.cfg"),
            Arm::HaproxySplice => Some("haproxy-splice.cfg"),
            Arm::Nginx => Some("nginx.conf"),
            Arm::Envoy => Some("envoy.yaml"),
        }
    }

    /// The floor's arguments: for each back end where it listens, and where that back end is.
    pub fn floor_arguments(layout: &Layout) -> Vec<OsString> {
        let route = |end: End| [layout.proxy(Arm::Floor.port(end)), layout.end(end.port())];
        let routes = End::ALL.into_iter().flat_map(route).map(|address| address.to_string().into());
        ["serve".into(), "relay".into()].into_iter().chain(routes).collect()
    }

    /// Its arguments, with a configuration at this path. The files that it writes go to `scratch`.
    pub fn arguments(self, configuration: &Path, scratch: &Path) -> Vec<OsString> {
        let file = configuration.as_os_str().to_owned();
        match self {
            Arm::Direct | Arm::Floor => Vec::new(),
            Arm::Weir | Arm::WeirAgain | Arm::WeirBefore | Arm::WeirBusyPoll => {
                vec!["run".into(), "-c".into(), file]
            }
            Arm::HaproxyCopy | Arm::HaproxySplice => vec!["-f".into(), file],
            // Before it has read its file it would log to the host's.
            Arm::Nginx => {
                let pid = format!("pid {};", scratch.join("nginx.pid").display());
                vec!["-e".into(), "stderr".into(), "-g".into(), pid.into(), "-c".into(), file]
            }
            // Hot restarts are by a socket whose name all Envoys of a host share.
            Arm::Envoy => {
                let rest = ["--concurrency", "1", "--log-level", "warn", "--disable-hot-restart"];
                ["-c".into(), file].into_iter().chain(rest.map(OsString::from)).collect()
            }
        }
    }

    /// The argument that makes it print its version.
    pub fn version_argument(self) -> &'static str {
        match self {
            Arm::HaproxyCopy | Arm::HaproxySplice | Arm::Nginx => "-v",
            _ => "--version",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The committed configurations.
    const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

    #[test]
    fn every_configuration_has_the_ports_it_is_asked_at_and_no_other() {
        let configured = |arm: Arm| Some((arm, arm.configuration()?));
        for (arm, configuration) in Arm::ALL.into_iter().filter_map(configured) {
            let file = Path::new(PEERS).join(configuration);
            let text = std::fs::read_to_string(&file).unwrap();
            // Envoy's has the port as a field of its own.
            let text = text.replace(", port_value: ", ":");
            for end in End::ALL {
                for wanted in [format!("127.0.0.1:{}", arm.port(end)), format!("127.0.0.2:{}", end.port())] {
                    assert_eq!(text.matches(&wanted).count(), 1, "{wanted} in {}", file.display());
                }
            }
            assert_eq!(text.matches("127.0.0.").count(), 2 * End::ALL.len(), "{}", file.display());
        }
    }

    #[test]
    fn the_floor_leads_from_each_of_its_ports_to_that_back_end() {
        let arguments = Arm::floor_arguments(&Layout::loopback(0, 1));
        let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
        let expected = "serve relay 127.0.0.1:27081 127.0.0.2:27101 127.0.0.1:27082 127.0.0.2:27102 \
            127.0.0.1:27083 127.0.0.2:27103 127.0.0.1:27084 127.0.0.2:27104";
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn no_two_listen_at_the_same_port() {
        let mut ports: Vec<u16> = Arm::ALL.iter().flat_map(|arm| End::ALL.map(|end| arm.port(end))).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), Arm::ALL.len() * End::ALL.len());
    }
}
