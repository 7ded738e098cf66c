//! The admin server: HTTP that only reads. One request a connection, and a deadline for the whole of it; when places run out, the
//! oldest connection without a request makes room.
//! `accepting` is the thread that its connections come from.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use async_channel::Receiver;
use glommio::timer::timeout;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version, server};
use smol_hyper::rt::FuturesIo;
use tracing::debug;

use super::accepting::{self, Accepted};
use super::status::{Ready, Status};
use crate::boards::prometheus::text;
use crate::os::sys::adopt_stream;
use crate::panics;

/// Connections at the same time. Of more, the oldest without a request is closed, or the new one: someone reads in a loop.
const MAX_CONNECTIONS: usize = 64;

const PATHS: &str = "/live     200 while the process answers
/ready    200 while connections are welcome; ?gateway=NAME: and its default has an endpoint
/metrics  for Prometheus
/config   what is in force, as JSON
";

const PLAIN: &str = "text/plain; charset=utf-8";

type Answer = Response<Full<Bytes>>;

/// Serves on this listener for the life of the process.
///
/// Errors: there is no thread that could accept.
pub(super) fn start(listener: TcpListener, status: Rc<Status>) -> io::Result<()> {
    glommio::spawn_local(serve(accepting::start(listener)?, status)).detach();
    Ok(())
}

/// Serves each connection that is accepted in a task of its own.
async fn serve(accepted: Receiver<Accepted>, status: Rc<Status>) {
    let own_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let server = Rc::new(Server { status, own_name });
    let mut places = Places::default();
    while let Ok(Accepted { stream, deadline }) = accepted.recv().await {
        if !places.make_room() {
            debug!("admin: {MAX_CONNECTIONS} connections are being answered; another is closed");
            continue;
        }
        let (stage, server) = (Rc::new(Cell::new(Stage::Silent)), server.clone());
        let own = stage.clone();
        let task = glommio::spawn_local(async move {
            server.connection(stream, deadline, &own).await;
            own.set(Stage::Ended);
        });
        places.0.push(Place { stage, _task: task });
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No whole request yet.
    Silent,
    /// It is being answered.
    Asked,
    Ended,
}

/// A connection's place. Its task ends when this is dropped.
struct Place {
    stage: Rc<Cell<Stage>>,
    _task: glommio::Task<()>,
}

/// The connections, in the order of their coming.
#[derive(Default)]
struct Places(Vec<Place>);

impl Places {
    /// Whether there is room for one more; ended ones leave, and where that is not enough the oldest silent one.
    fn make_room(&mut self) -> bool {
        self.0.retain(|place| place.stage.get() != Stage::Ended);
        if self.0.len() < MAX_CONNECTIONS {
            return true;
        }
        let silent = self.0.iter().position(|place| place.stage.get() == Stage::Silent);
        silent.map(|at| self.0.remove(at)).is_some()
    }
}

struct Server {
    status: Rc<Status>,
    own_name: String,
}

impl Server {
    async fn connection(&self, stream: TcpStream, deadline: Duration, stage: &Cell<Stage>) {
        let service = service_fn(|request| {
            stage.set(Stage::Asked);
            let reply = panics::caught(|| self.answer(&request));
            let reply = reply.unwrap_or_else(|defect| {
                Reply::Now(text(StatusCode::INTERNAL_SERVER_ERROR, format!("{defect}\n")))
            });
            async move { Ok::<_, Infallible>(reply.answer().await) }
        });
        let connection = server::conn::http1::Builder::new()
            .keep_alive(false)
            .serve_connection(FuturesIo::new(adopt_stream(stream)), service);
        if let Err(error) = timeout(deadline, async { Ok(connection.await) }).await {
            debug!("admin: a connection ended: {error}");
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Reply {
        if let Err(why) = welcome(request, &self.own_name) {
            return Reply::Now(text(StatusCode::MISDIRECTED_REQUEST, format!("{why}\n")));
        }
        let path = request.uri().path();
        if !matches!(path, "/live" | "/ready" | "/metrics" | "/config") {
            let what = format!("There is no {path}. There are:\n{PATHS}");
            return Reply::Now(text(StatusCode::NOT_FOUND, what));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "This address only reads: GET or HEAD.\n");
            answer.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            return Reply::Now(answer);
        }
        match path {
            "/live" => Reply::Now(text(StatusCode::OK, "live\n")),
            "/ready" => Reply::Now(self.ready(request.uri().query().unwrap_or(""))),
            "/metrics" => Reply::Page(text::CONTENT_TYPE, self.status.metrics()),
            _ => Reply::Page("application/json", self.status.config()),
        }
    }

    fn ready(&self, query: &str) -> Answer {
        // The names of gateways need no escaping in a query, but for the slash, which some clients escape.
        let gateway = query.split('&').find_map(|pair| pair.strip_prefix("gateway="));
        let gateway = gateway.map(|name| name.replace("%2F", "/").replace("%2f", "/"));
        match self.status.ready(gateway.as_deref()) {
            Ready::Yes => text(StatusCode::OK, "ready\n"),
            Ready::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            Ready::NoEndpoint => text(StatusCode::SERVICE_UNAVAILABLE, "its default has no endpoint\n"),
            Ready::UnknownGateway => text(StatusCode::NOT_FOUND, "there is no such gateway\n"),
        }
    }
}

/// An answer, or a page that is being rendered.
enum Reply {
    Now(Answer),
    /// Its media type, and where it comes from.
    Page(&'static str, Receiver<String>),
}

impl Reply {
    async fn answer(self) -> Answer {
        match self {
            Self::Now(answer) => answer,
            Self::Page(content_type, page) => match page.recv().await {
                Ok(page) => typed(StatusCode::OK, content_type, page),
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "this page could not be rendered\n"),
            },
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, PLAIN, body)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    answer
}

/// Whether a request names this server as its own user would. A page in a browser can make its own name lead here (DNS
/// rebinding), but cannot send another Host than that name.
fn welcome<B>(request: &Request<B>, own_name: &str) -> Result<(), String> {
    let host = request.headers().get(HOST).map(|host| host.to_str().unwrap_or(""));
    // A request line with a whole URL overrules the header.
    let host = request.uri().authority().map(|authority| authority.as_str()).or(host);
    match host {
        None if request.version() < Version::HTTP_11 => Ok(()),
        None => Err("This request has no Host.".to_owned()),
        Some(host) if is_own(host, own_name) => Ok(()),
        Some(host) => Err(format!(
            "This server does not answer to the Host {host:?}, only to an address, localhost or {own_name}."
        )),
    }
}

/// Whether a Host is an address, localhost or the machine's own name, with or without a port.
fn is_own(host: &str, own_name: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let name = name.strip_suffix('.').unwrap_or(name);
    match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            name.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4())
                || name.eq_ignore_ascii_case("localhost")
                || (!own_name.is_empty() && name.eq_ignore_ascii_case(own_name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_that_no_stranger_can_make_lead_here_is_answered() {
        #[track_caller]
        fn check(host: &str, expected: bool) {
            assert_eq!(is_own(host, "edge-7.example.org"), expected, "{host:?}");
        }
        check("127.0.0.1", true);
        check("127.0.0.1:9347", true);
        check("10.1.2.3:80", true);
        check("[::1]", true);
        check("[::1]:9347", true);
        check("localhost", true);
        check("LocalHost:9347", true);
        check("localhost.", true);
        check("edge-7.example.org:9347", true);
        check("EDGE-7.example.org", true);

        check("", false);
        check(":9347", false);
        check("evil.example", false);
        check("evil.example:9347", false);
        check("127.0.0.1.evil.example", false);
        check("localhost.evil.example", false);
        check("edge-7.example.org.evil.example", false);
        check("[evil]", false);
        check("::1", false);
        check("127.0.0.1:9347:80", false);
    }

    #[test]
    fn a_request_without_host_is_only_of_the_old_days() {
        #[track_caller]
        fn check(version: Version, uri: &str, host: Option<&str>, expected: bool) {
            let mut request = Request::builder().version(version).uri(uri);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            assert_eq!(welcome(&request.body(()).unwrap(), "edge").is_ok(), expected);
        }
        check(Version::HTTP_10, "/live", None, true);
        check(Version::HTTP_11, "/live", None, false);
        check(Version::HTTP_11, "/live", Some("localhost"), true);
        check(Version::HTTP_10, "/live", Some("evil.example"), false);
        check(Version::HTTP_11, "http://evil.example/live", Some("localhost"), false);
        check(Version::HTTP_11, "http://localhost/live", Some("localhost"), true);
    }
}
