//! A proxy that relays connections and spoils the bytes of one direction of each, once, at a given place.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// A fault that is made in the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spoil {
    /// So many are left out.
    Drop(usize),
    /// So many come again.
    Repeat(usize),
    /// These bits of one byte are turned over.
    Flip(u8),
    /// So many, and then so many, change places.
    Swap(usize, usize),
    /// So many are replaced by those of the next connection at the same place of its stream, which itself is left as it is.
    Cross(usize),
    /// None: all is as it was.
    Nothing,
}

/// Which way the spoilt bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toward {
    Server,
    Client,
}

/// Relays connections to the address that it returns. The bytes of each connection are spoilt once, after `at` of them; but not
/// those of the first, with which a run only looks whether something listens.
pub(crate) fn start(upstream: SocketAddr, toward: Toward, at: usize, spoil: Spoil) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mut giver = Some(Role::Plain);
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            let Ok(server) = TcpStream::connect(upstream) else { return };
            let role = giver.take().unwrap_or_else(|| {
                let (give, take) = channel();
                giver = matches!(spoil, Spoil::Cross(_)).then_some(Role::Giver(give, at));
                Role::Spoilt(take, at, spoil)
            });
            let (up, down) = match toward {
                Toward::Server => (role, Role::Plain),
                Toward::Client => (Role::Plain, role),
            };
            let (client, server) = (Arc::new(client), Arc::new(server));
            let ends = (Arc::clone(&client), Arc::clone(&server));
            thread::spawn(move || relay(&ends.0, &ends.1, up));
            thread::spawn(move || relay(&server, &client, down));
        }
    });
    address
}

/// A direction's part in it.
enum Role {
    Plain,
    /// Hands on a copy of the bytes behind the first so many.
    Giver(Sender<Vec<u8>>, usize),
    Spoilt(Receiver<Vec<u8>>, usize, Spoil),
}

fn relay(mut from: &TcpStream, mut to: &TcpStream, role: Role) {
    let mut spoiler = Spoiler { role, passed: 0, held: Vec::new() };
    let mut bytes = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        let out = spoiler.pass(&bytes[..length]);
        if to.write_all(&out).is_err() {
            break;
        }
    }
    // A receiver that is gone by now does not miss it.
    let _ = to.write_all(&spoiler.held);
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

struct Spoiler {
    role: Role,
    /// Bytes that went unspoilt.
    passed: usize,
    /// Bytes from the place on, until there are enough to be spoilt.
    held: Vec<u8>,
}

impl Spoiler {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let at = match &self.role {
            Role::Plain => return bytes.to_vec(),
            Role::Giver(_, at) | Role::Spoilt(_, at, _) => *at,
        };
        let (before, after) = bytes.split_at(bytes.len().min(at - self.passed));
        self.passed += before.len();
        self.held.extend_from_slice(after);
        let mut out = before.to_vec();
        if let Some(spoilt) = self.spoil() {
            self.role = Role::Plain;
            self.held.clear();
            out.extend(spoilt);
        }
        out
    }

    /// The held bytes, spoilt, if there are enough of them.
    fn spoil(&self) -> Option<Vec<u8>> {
        let held = &self.held;
        match &self.role {
            Role::Plain => None,
            Role::Giver(give, _) => {
                // As many as any cross of these tests wants; none may want them.
                (held.len() >= 64).then(|| {
                    let _ = give.send(held.clone());
                    held.clone()
                })
            }
            Role::Spoilt(take, _, spoil) => match *spoil {
                Spoil::Nothing => Some(held.clone()),
                Spoil::Drop(length) => held.get(length..).map(<[u8]>::to_vec),
                Spoil::Repeat(length) => held.get(..length).map(|twice| [twice, held].concat()),
                Spoil::Flip(bits) => held.first().map(|first| [&[first ^ bits], &held[1..]].concat()),
                Spoil::Swap(one, two) => {
                    let swapped = held.get(one..one + two)?;
                    Some([swapped, &held[..one], &held[one + two..]].concat())
                }
                Spoil::Cross(length) => {
                    let rest = held.get(length..)?;
                    // The other may have ended sooner: then all stays as it is.
                    let foreign = take.recv().unwrap_or_else(|_| held.clone());
                    Some([&foreign[..length], rest].concat())
                }
            },
        }
    }
}
