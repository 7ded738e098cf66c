//! `weir demo`: the main job with nothing to prepare. It runs two line-echo backends and a gateway that splits between them, and
//! prints the commands to try. The backends are plain blocking threads: they take the place of a user's own servers.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use weir_routing::Source;

use crate::control::start::{self, Failure};
use crate::front::load::{Origin, Tests};
use crate::front::report;
use crate::listener::free;

/// The configuration at [`DEFAULT_PORT`].
const CONFIGURATION: &str = include_str!("demo.toml");

/// The gateway's port.
pub(crate) const DEFAULT_PORT: u16 = 31400;

/// Admin's port, counted from the gateway's; the backends are next to the gateway.
const ADMIN: u16 = 9;

/// The last port that leaves room for the others above it.
pub(crate) const MAX_PORT: u16 = u16::MAX - ADMIN;

/// The backends, in order of their ports.
const BACKENDS: [&str; 2] = ["one", "two"];

/// A longer line is answered in pieces.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// A backend's thread needs little; there is one a connection.
const STACK_BYTES: usize = 128 << 10;

/// How long a backend rests when it could not accept.
const REST: Duration = Duration::from_millis(100);

/// The arguments.
#[derive(Clone, Debug)]
pub(crate) struct Demo {
    /// The gateway's port; all others move with it.
    pub port: u16,
    /// The new file for the configuration, which is then served from it.
    pub config_out: Option<PathBuf>,
    /// Only the backends.
    pub backends: bool,
}

impl Demo {
    /// Runs until a signal ends it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.backends {
            self.refuse_taken_addresses()?;
            self.prepare()?;
            report::to_stdout(&self.backend_instructions());
            loop {
                thread::park();
            }
        }
        let text = configuration(self.port);
        let built_in = Origin::from_text(Source::new("demo.toml", text.as_str()));
        // Before the file is written, for a second attempt would refuse to write over it.
        let host = start::look_at_host(&built_in)?;
        self.refuse_taken_addresses()?;
        self.prepare()?;
        report::to_stdout(&format!("{text}\n{}\n", self.instructions()));
        let origin = match self.config_out {
            Some(path) => Origin::from_arguments(vec![path]),
            None => built_in,
        };
        start::run_on(&host, origin, Tests::Refuse)
    }

    /// Writes the file that was asked for, and starts the backends.
    fn prepare(&self) -> anyhow::Result<()> {
        if let Some(path) = &self.config_out {
            write_new(path, &configuration(self.port))?;
        }
        for (name, port) in BACKENDS.into_iter().zip(self.port + 1..) {
            start_backend(name, address(port))?;
        }
        Ok(())
    }

    /// Refuses to start where addresses are taken: reports all of them, before anything is written or started.
    fn refuse_taken_addresses(&self) -> anyhow::Result<()> {
        let backends =
            BACKENDS.into_iter().zip(self.port + 1..).map(|(name, port)| (format!("backend {name}"), port));
        let mut needed: Vec<(String, u16)> = backends.collect();
        if !self.backends {
            needed.insert(0, ("the gateway".to_owned(), self.port));
            needed.push(("admin".to_owned(), self.port + ADMIN));
        }
        let until = Instant::now() + free::PATIENCE;
        let refused = needed.into_iter().filter_map(|(what, port)| {
            let error = free::bind_alone(address(port), until).err()?;
            Some(format!("{} for {what}: {error}", address(port)))
        });
        let refused: Vec<String> = refused.collect();
        if refused.is_empty() {
            return Ok(());
        }
        let other = if self.port <= MAX_PORT - 1000 { self.port + 1000 } else { DEFAULT_PORT };
        bail!(
            "the demo cannot listen on\n    {}\nend what listens there, or move all its ports: --port {other}",
            refused.join("\n    ")
        )
    }

    /// The commands to try.
    fn instructions(&self) -> String {
        let port = self.port;
        let edit = match &self.config_out {
            Some(path) => format!(
                "It is served from {0}. Change the weights there and save: new connections follow at once.\n",
                path.display()
            ),
            None => String::new(),
        };
        format!(
            "Type, in another terminal:\n\n    {}\n\n\
             About four of five answers are \"one hello\", the others \"two hello\".\n{edit}\
             Metrics: curl http://{}/metrics\n\n{}",
            type_this(port),
            address(port + ADMIN),
            self.further_lines()
        )
    }

    fn backend_instructions(&self) -> String {
        let port = self.port;
        let written = self.config_out.as_deref().map(|path| format!(" -c {}", path.display()));
        let run = format!("{} run{}", program(), written.unwrap_or_else(|| " -c FILE".to_owned()));
        format!(
            "The backends \"one\" and \"two\" answer on {} and {}.\n\n\
             Run the proxy in another terminal, with what `{} demo{} --config-out FILE` wrote:\n\n    {run}\n\n\
             And try it:\n\n    {}\n",
            address(port + 1),
            address(port + 2),
            program(),
            self.port_argument(),
            type_this(port)
        )
    }

    /// The other ways to run the demo.
    fn further_lines(&self) -> String {
        let (program, port) = (program(), self.port_argument());
        let file = self.config_out.as_deref().unwrap_or(Path::new("demo.toml")).display();
        let mut text = String::new();
        if self.config_out.is_none() {
            text = format!(
                "To see an edit take effect as a reload:\n\n    {program} demo{port} --config-out {file}\n\n"
            );
        }
        text + &format!(
            "The same in two processes, from {file}:\n\n    {program} demo{port} --backends\n    {program} run -c {file}\n"
        )
    }

    fn port_argument(&self) -> String {
        if self.port == DEFAULT_PORT { String::new() } else { format!(" --port {}", self.port) }
    }
}

fn type_this(port: u16) -> String {
    format!("for i in $(seq 20); do echo hello | nc -w 1 127.0.0.1 {port}; done")
}

/// This program as it was called, so that what is printed can be typed here.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "weir".to_owned())
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The configuration with all its ports moved.
fn configuration(port: u16) -> String {
    // In one pass: a port that was moved onto another's old place must not be moved again.
    const BEFORE: &str = "127.0.0.1:";
    let mut pieces = CONFIGURATION.split(BEFORE);
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (old, rest) = piece.split_at(piece.find('"').unwrap_or(piece.len()));
        let moved = old.parse::<u16>().map(|old| (old - DEFAULT_PORT + port).to_string());
        text.extend([BEFORE, moved.as_deref().unwrap_or(old), rest]);
    }
    text
}

/// Writes a new file, never over one that exists: it may hold a user's edits.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            anyhow!(
                "{0} exists, and is never written over: name another file with --config-out, or use it as it is with \
                 `{1} demo --backends` and `{1} run -c {0}`",
                path.display(),
                program()
            )
        } else {
            anyhow!("cannot write {}: {error}; name another file with --config-out", path.display())
        }
    })?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Starts a backend: a thread that accepts, and one for each connection.
fn start_backend(name: &'static str, address: SocketAddr) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("backend {name} cannot listen on {address}"))?;
    let accept = move || {
        loop {
            let answered = listener.accept().and_then(|(stream, _)| {
                let connection = thread::Builder::new().name(name.into()).stack_size(STACK_BYTES);
                // A client may end as it likes.
                connection.spawn(move || drop(answer_lines(name, &stream)))
            });
            if answered.is_err() {
                thread::sleep(REST);
            }
        }
    };
    thread::Builder::new().name(name.into()).spawn(accept)?;
    Ok(())
}

/// Answers each line with the name, a space and the line, until the client has sent its FIN.
fn answer_lines(name: &str, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream);
    let mut answer = Vec::new();
    loop {
        answer.clear();
        write!(answer, "{name} ")?;
        if lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut answer)? == 0 {
            return Ok(());
        }
        if !answer.ends_with(b"\n") {
            answer.push(b'\n');
        }
        stream.write_all(&answer)?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use super::*;

    #[test]
    fn all_ports_move_by_the_same_step() {
        assert_eq!(configuration(DEFAULT_PORT), CONFIGURATION);
        // Also onto each other's old places.
        for first in [40000, 31401, 31399, 31398, 31391, 31409, 1, MAX_PORT] {
            let moved = configuration(first);
            for port in [first, first + 1, first + 2, first + ADMIN] {
                assert_eq!(moved.matches(&format!("127.0.0.1:{port}\"")).count(), 1, "{first}: {moved}");
            }
            assert_eq!(moved.matches("127.0.0.1:").count(), 4, "{first}: {moved}");
        }
    }

    #[test]
    fn a_file_that_exists_is_never_written_over() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("demo.toml");
        write_new(&path, "first").unwrap();
        let error = write_new(&path, "second").unwrap_err().to_string();
        assert!(error.contains("exists") && error.contains(path.to_str().unwrap()), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first");
    }

    #[test]
    fn a_backend_answers_every_line_and_ends_when_the_client_has() {
        #[track_caller]
        fn check(sent: &str, expected: &str) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            let backend = thread::spawn(move || answer_lines("one", &server));
            client.write_all(sent.as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut heard = String::new();
            client.read_to_string(&mut heard).unwrap();
            backend.join().unwrap().unwrap();
            assert_eq!(heard, expected);
        }
        check("", "");
        check("hello\n", "one hello\n");
        check("hello\n\nbye", "one hello\none \none bye\n");
    }
}
