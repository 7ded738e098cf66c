//! Where everything runs: which cores, and on loopback or across two network namespaces.
//!
//! The peers' files are written for loopback: proxies listen at 127.0.0.1, back ends at 127.0.0.2. Across namespaces these two addresses
//! are replaced by the addresses of the two ends of a veth pair. Both namespaces are anonymous: each lives as long as the
//! process that holds it, and the pair goes with them, so nothing can be left behind.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::children::{Child, Program, answer, wait_until};

const LOOPBACK_PROXIES: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const LOOPBACK_ENDS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
// Of the block that is set aside for measuring (RFC 2544).
const VETH_PROXIES: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const VETH_ENDS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// A proxy that ends connections by FIN leaves its ports in TIME_WAIT, and the search for one that is free then costs every other
/// proxy of the namespace milliseconds a connection. On loopback the kernel reuses them by itself. The range leaves out our listeners.
const PORTS: &str =
    "echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse && echo 30000 65535 >/proc/sys/net/ipv4/ip_local_port_range";

/// How long a namespace may take to be there.
const NAMESPACE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where proxies, client and back ends are.
#[derive(Debug)]
pub struct Layout {
    /// The core of whichever proxy is measured.
    pub proxy_core: usize,
    /// The core of client and back ends.
    pub load_core: usize,
    proxies: Ipv4Addr,
    ends: Ipv4Addr,
    /// The holders of the proxies' namespace and of ours.
    namespaces: Option<[Child; 2]>,
}

impl Layout {
    /// All on loopback.
    pub fn loopback(proxy_core: usize, load_core: usize) -> Self {
        Self { proxy_core, load_core, proxies: LOOPBACK_PROXIES, ends: LOOPBACK_ENDS, namespaces: None }
    }

    /// Proxies in one new namespace, client and back ends in another, a veth pair between them. The calling thread moves into the
    /// second for good, with all threads and children that it makes from then on.
    ///
    /// # Errors
    ///
    /// When the host refuses: it wants root, or CAP_SYS_ADMIN and CAP_NET_ADMIN.
    pub fn namespaces(proxy_core: usize, load_core: usize, scratch: &Path) -> anyhow::Result<Self> {
        let holders = [holder("namespace-of-proxies", scratch)?, holder("namespace-of-load", scratch)?];
        let [proxies, ends] = holders.each_ref().map(Child::pid);
        inside(
            proxies,
            &[
                "ip",
                "link",
                "add",
                "weir0",
                "type",
                "veth",
                "peer",
                "name",
                "weir0",
                "netns",
                &ends.to_string(),
            ],
        )?;
        for (pid, address) in [(proxies, VETH_PROXIES), (ends, VETH_ENDS)] {
            inside(pid, &["ip", "address", "add", &format!("{address}/30"), "dev", "weir0"])?;
            inside(pid, &["ip", "link", "set", "weir0", "up"])?;
            inside(pid, &["ip", "link", "set", "lo", "up"])?;
            inside(pid, &["sh", "-c", PORTS])?;
        }
        let ours = File::open(namespace(ends))?;
        move_into_link_name_space(ours.as_fd(), Some(LinkNameSpaceType::Network))
            .context("moving into a network namespace")?;
        Ok(Self { proxy_core, load_core, proxies: VETH_PROXIES, ends: VETH_ENDS, namespaces: Some(holders) })
    }

    /// A peer's file as it is for this layout.
    pub fn rewrite(&self, configuration: &str) -> String {
        configuration
            .replace(&LOOPBACK_PROXIES.to_string(), &self.proxies.to_string())
            .replace(&LOOPBACK_ENDS.to_string(), &self.ends.to_string())
    }

    /// Where a proxy listens.
    pub fn proxy(&self, port: u16) -> SocketAddr {
        (self.proxies, port).into()
    }

    /// Where a back end listens.
    pub fn end(&self, port: u16) -> SocketAddr {
        (self.ends, port).into()
    }

    /// Addresses the client may connect from, so that one's ports do not run out; none across namespaces.
    pub fn sources(&self) -> Vec<IpAddr> {
        match self.namespaces {
            None => (1..=4).map(|last| Ipv4Addr::new(127, 0, 1, last).into()).collect(),
            Some(_) => Vec::new(),
        }
    }

    /// The process in whose network namespace proxies run; none: ours.
    pub fn network_of_proxies(&self) -> Option<u32> {
        self.namespaces.as_ref().map(|[proxies, _]| proxies.pid())
    }

    /// For the report.
    pub fn describe(&self) -> String {
        let path = if self.namespaces.is_some() {
            "two network namespaces, a veth pair between them"
        } else {
            "loopback"
        };
        format!("proxy on core {}, client and back ends on core {}, {path}", self.proxy_core, self.load_core)
    }
}

fn namespace(pid: u32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

/// A process that only holds a new network namespace.
fn holder(name: &str, scratch: &Path) -> anyhow::Result<Child> {
    let program = Program {
        name: name.to_owned(),
        executable: "unshare".into(),
        arguments: ["--net", "sleep", "infinity"].map(Into::into).to_vec(),
        core: None,
        network_of: None,
    };
    let mut child = Child::start(&program, scratch)?;
    let ours = std::fs::read_link("/proc/thread-self/ns/net")?;
    let pid = child.pid();
    let apart = wait_until(NAMESPACE_TIMEOUT, || {
        child.still_runs()?;
        Ok(std::fs::read_link(namespace(pid)).is_ok_and(|its| its != ours))
    })?;
    anyhow::ensure!(apart, "{name}: no network namespace after {NAMESPACE_TIMEOUT:?}");
    Ok(child)
}

/// Runs a command in the network namespace of this process.
fn inside(pid: u32, words: &[&str]) -> anyhow::Result<()> {
    let network = format!("--net={}", namespace(pid).display());
    let words: Vec<&str> = std::iter::once(network.as_str()).chain(words.iter().copied()).collect();
    answer(Path::new("nsenter"), &words).map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn on_loopback_a_file_stays_as_it_is_and_across_namespaces_both_addresses_change() {
        fn check(layout: &Layout, expected: &str) {
            assert_eq!(layout.rewrite("bind 127.0.0.1:27001 to 127.0.0.2:27101"), expected);
        }
        let loopback = Layout::loopback(0, 1);
        check(&loopback, "bind 127.0.0.1:27001 to 127.0.0.2:27101");
        let apart = Layout { proxies: VETH_PROXIES, ends: VETH_ENDS, ..loopback };
        check(&apart, "bind 198.18.0.1:27001 to 198.18.0.2:27101");
    }

    /// Whether this process may make namespaces; when it may not and CI wants nothing skipped, that is a failure.
    fn may_make_namespaces() -> bool {
        let may = rustix::process::geteuid().is_root()
            && answer(Path::new("unshare"), &["--net", "ip", "link"]).is_ok();
        assert!(may || std::env::var_os("CI").is_none(), "CI must be able to make network namespaces");
        if !may {
            eprintln!("skipped: no network namespaces without root and iproute2");
        }
        may
    }

    #[test]
    fn namespaces_reach_each_other_and_are_gone_at_the_end() {
        if !may_make_namespaces() {
            return;
        }
        // In a thread of its own, for it stays in its namespace.
        let apart = std::thread::spawn(|| {
            let scratch = tempfile::tempdir().unwrap();
            let layout = Layout::namespaces(0, 1, scratch.path()).unwrap();
            let network = layout.network_of_proxies().unwrap();
            let listener = TcpListener::bind(layout.end(0)).unwrap();
            let port = listener.local_addr().unwrap().port().to_string();
            // It ends when it is closed, which is at once.
            let from = std::thread::spawn(move || listener.accept().map(|(_, from)| from));
            inside(network, &["sh", "-c", &format!("echo hello | nc -w 5 198.18.0.2 {port}")]).unwrap();
            assert_eq!(from.join().unwrap().unwrap().ip(), IpAddr::from(VETH_PROXIES));
            drop(layout);
            assert!(
                wait_until(NAMESPACE_TIMEOUT, || Ok(
                    answer(Path::new("ip"), &["link", "show", "weir0"]).is_err()
                ))
                .unwrap()
            );
            assert!(TcpStream::connect_timeout(&(VETH_PROXIES, 9).into(), NAMESPACE_TIMEOUT).is_err());
        });
        apart.join().unwrap();
    }
}
