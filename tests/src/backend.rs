//! Backends: a listener on a free port of 127.0.0.1, a thread for it and one for each connection, and what they do there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::client::{PATIENCE, patient, reset};

/// A backend that runs until it is dropped; its connections live on until their peers end them.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    accepted: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Backend {
    /// A backend that gives each connection, in a thread of its own, to `serve`.
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), serve)
    }

    /// The same on a given address.
    pub fn start_at(address: SocketAddr, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = listen(address, 4096);
        let address = listener.local_addr().expect("a listener has an address");
        let backend = Self { address, accepted: Arc::default(), stop: Arc::default() };
        let (accepted, stop, serve) = (backend.accepted.clone(), backend.stop.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                // Small answers leave at once. No timeouts: its client decides how long a connection lives.
                let _ = stream.set_nodelay(true);
                accepted.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream));
            }
        });
        backend
    }

    /// Sends back what it gets, and its end.
    pub fn echo() -> Self {
        Self::start(|mut stream| {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
        })
    }

    /// Answers every line with its name, a space and the line.
    pub fn lines(name: &str) -> Self {
        Self::lines_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), name)
    }

    /// The same on a given address.
    pub fn lines_at(address: SocketAddr, name: &str) -> Self {
        let name = name.to_owned();
        Self::start_at(address, move |stream| answer_lines(&stream, &name))
    }

    /// Reads and forgets.
    pub fn sink() -> Self {
        Self::start(|mut stream| {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(1..) = stream.read(&mut buffer) {}
        })
    }

    /// Writes as fast as it is taken, until the other side is gone.
    pub fn source() -> Self {
        Self::start(|mut stream| {
            let buffer = vec![b'x'; 64 << 10];
            while stream.write_all(&buffer).is_ok() {}
        })
    }

    /// Speaks first: a line, then an echo of lines.
    pub fn banner(line: &str) -> Self {
        let line = format!("{line}\n");
        Self::start(move |mut stream| {
            if stream.write_all(line.as_bytes()).is_ok() {
                answer_lines(&stream, "banner");
            }
        })
    }

    /// Resets each connection at once.
    pub fn resetting() -> Self {
        Self::start(reset)
    }

    /// Hands each connection to the test, which plays the upstream itself.
    pub fn manual() -> (Self, Upstreams) {
        Self::manual_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// The same on a given address.
    pub fn manual_at(address: SocketAddr) -> (Self, Upstreams) {
        let (sender, receiver) = channel();
        let sender = Mutex::new(sender);
        let backend = Self::start_at(address, move |stream| {
            let Ok(stream) = patient(stream) else { return };
            // The test may have ended and dropped its end: then the connection is dropped, too.
            let _ = sender.lock().unwrap_or_else(PoisonError::into_inner).send(stream);
        });
        (backend, Upstreams(receiver))
    }

    /// How many connections it has taken.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept, which then sees the flag. From outside of its network namespace it cannot be reached.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

/// The upstream ends of a [`Backend::manual`], in order of arrival.
#[derive(Debug)]
pub struct Upstreams(Receiver<TcpStream>);

impl Upstreams {
    /// The next one; panics if none comes.
    #[track_caller]
    pub fn next(&self) -> TcpStream {
        self.0.recv_timeout(PATIENCE).expect("a connection reaches the upstream")
    }

    /// Whether none has come.
    pub fn is_empty(&self) -> bool {
        self.0.try_recv().is_err()
    }
}

/// An address where nothing listens: connecting is refused.
pub fn refusing() -> SocketAddr {
    let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1);
    listener.local_addr().expect("a listener has an address")
}

/// An address where connecting gets no answer: its accept queue is full, and no thread accepts.
#[derive(Debug)]
pub struct BlackHole {
    /// The address to dial.
    pub address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    /// A listener with a queue of one, which is taken.
    pub fn new() -> Self {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 0);
        let address = listener.local_addr().expect("a listener has an address");
        let brief = Duration::from_millis(50);
        let queued =
            std::iter::from_fn(|| TcpStream::connect_timeout(&address, brief).ok()).take(8).collect();
        Self { address, _listener: listener, _queued: queued }
    }
}

impl Default for BlackHole {
    fn default() -> Self {
        Self::new()
    }
}

fn answer_lines(stream: &TcpStream, name: &str) {
    let mut writer = stream;
    for line in BufReader::new(stream).split(b'\n') {
        let Ok(line) = line else { return };
        let answer = [name.as_bytes(), b" ", &line, b"\n"].concat();
        if writer.write_all(&answer).is_err() {
            return;
        }
    }
}

/// Without SO_REUSEADDR a second test could not take an address that a first one gave back.
fn listen(address: SocketAddr, backlog: i32) -> TcpListener {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.bind(&address.into()).unwrap_or_else(|error| panic!("binding {address}: {error}"));
    socket.listen(backlog).expect("listening");
    socket.into()
}
