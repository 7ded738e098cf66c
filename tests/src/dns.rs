//! A name server on port 53 of a loopback address of its own, which answers as a test sets it, and the prefix that makes a process ask
//! this one: a mount namespace with a resolv.conf and a hosts file of its own.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::host;

/// Which addresses are asked for, as a question's type spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// IPv4 addresses.
    A = 1,
    /// IPv6 addresses.
    Aaaa = 28,
}

/// The server's reply to a question.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These addresses, with this TTL in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// The name is there and has none.
    NoAddress,
    /// NXDOMAIN, the reply to every name that a test has not set.
    NoName,
    /// SERVFAIL.
    Failure,
    /// Nothing.
    Silence,
}

type Question = (String, u16);

#[derive(Debug, Default)]
struct State {
    replies: HashMap<Question, Reply>,
    asked: HashMap<Question, Vec<Instant>>,
}

/// The server.
#[derive(Debug)]
pub struct NameServer {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    files: TempDir,
}

impl NameServer {
    /// Starts one; none where the host does not let it.
    pub fn start() -> Option<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        if !(host::has(&["unshare", "mount", "sh"]) && host::is_root()) {
            return None;
        }
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 100 + NEXT.fetch_add(1, Ordering::Relaxed) % 100, high, low.max(1));
        let socket = UdpSocket::bind((address, 53)).expect("port 53 of a loopback address of its own");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket takes a timeout");
        let (state, stop, files) =
            (Arc::default(), Arc::default(), tempfile::tempdir().expect("a directory"));
        let server = Self { state, stop, files };
        std::fs::write(server.resolv_conf(), format!("nameserver {address}\n")).expect("a file");
        std::fs::write(server.hosts(), "127.0.0.1 localhost\n").expect("a file");
        let (state, stop) = (server.state.clone(), server.stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = serve(&socket, &state);
            }
        });
        Some(server)
    }

    /// The hosts file that is seen under it.
    pub fn hosts(&self) -> PathBuf {
        self.files.path().join("hosts")
    }

    /// The resolv.conf that is seen under it.
    pub fn resolv_conf(&self) -> PathBuf {
        self.files.path().join("resolv.conf")
    }

    /// The prefix of a command that is to ask this server.
    pub fn under(&self) -> Vec<String> {
        let bind = |from: &Path, to: &str| format!("mount --bind {} {to}", from.display());
        let hosts = bind(&self.hosts(), "/etc/hosts");
        let resolv_conf = bind(&self.resolv_conf(), "/etc/resolv.conf");
        let script = format!("{hosts} && {resolv_conf} && exec \"$@\"");
        ["unshare", "-m", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }

    /// From now on.
    pub fn reply(&self, name: &str, asked: Asked, reply: Reply) {
        self.lock().replies.insert((name.to_owned(), asked as u16), reply);
    }

    /// When a question has come, each time.
    pub fn asked(&self, name: &str, asked: Asked) -> Vec<Instant> {
        self.lock().asked.get(&(name.to_owned(), asked as u16)).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Answers one question.
fn serve(socket: &UdpSocket, state: &Mutex<State>) -> io::Result<()> {
    let mut packet = [0; 512];
    let (length, client) = socket.recv_from(&mut packet)?;
    let Some((question, end)) = parse(&packet[..length]) else { return Ok(()) };
    let reply = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.entry(question.clone()).or_default().push(Instant::now());
        state.replies.get(&question).cloned().unwrap_or(Reply::NoName)
    };
    let (code, addresses, ttl) = match reply {
        Reply::Silence => return Ok(()),
        Reply::Addresses(addresses, ttl) => (0, addresses, ttl),
        Reply::NoAddress => (0, Vec::new(), 0),
        Reply::Failure => (2, Vec::new(), 0),
        Reply::NoName => (3, Vec::new(), 0),
    };
    let mut answer = packet[..end].to_vec();
    // A response to a recursive question; one question, no record but answers.
    answer[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
    for address in addresses {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        // The name is that of the question, at offset 12.
        answer.extend([0xc0, 12]);
        answer.extend(question.1.to_be_bytes());
        answer.extend([0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend((bytes.len() as u16).to_be_bytes());
        answer.extend(bytes);
    }
    socket.send_to(&answer, client)?;
    Ok(())
}

/// The question of a packet, and where it ends.
fn parse(packet: &[u8]) -> Option<(Question, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?);
    packet.get(at + 2..at + 4)?;
    Some(((labels.join("."), kind), at + 4))
}
