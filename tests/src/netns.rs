//! Network namespaces: hosts of their own, with a loopback device and whatever a test does to them. They need root.

use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::host;
use crate::program::run_command;

/// A network namespace. It lives as long as this, or as anything that was opened in it.
#[derive(Debug)]
pub struct Namespace {
    /// Holds it.
    keeper: Child,
}

impl Namespace {
    /// A new one, with its loopback device up; `None`, with a word on it, where this process may not make one.
    pub fn new() -> Option<Self> {
        if !(host::is_root() && host::has(&["unshare", "ip", "cat"])) {
            return None;
        }
        // It ends with its input: when this process does, however that ends.
        let keeper = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut keeper = keeper.expect("unshare starts");
        let mut ready = [0; 6];
        let output = keeper.stdout.as_mut().expect("a piped output");
        std::io::Read::read_exact(output, &mut ready).expect("a namespace with a loopback device");
        Some(Self { keeper })
    }

    /// Runs `work` in a thread of its own whose sockets, threads and child processes belong to this namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.keeper.id()));
        let namespace = namespace.expect("the namespace is there");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter it");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `ip` with these words in it.
    pub fn ip(&self, words: &str) {
        let done = self.run(|| run_command(Command::new("ip").args(words.split_whitespace())));
        assert_eq!(done.code, 0, "ip {words}: {}", done.stderr);
    }

    /// Connects this namespace and another one by a pair of devices, both called `name`, with these addresses ("10.0.0.1/24").
    pub fn connect(&self, other: &Self, name: &str, [ours, theirs]: [&str; 2]) {
        self.ip(&format!("link add {name} type veth peer name {name} netns {}", other.keeper.id()));
        for (namespace, address) in [(self, ours), (other, theirs)] {
            namespace.ip(&format!("address add {address} dev {name}"));
            namespace.ip(&format!("link set {name} up"));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended already; either way it is reaped.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
