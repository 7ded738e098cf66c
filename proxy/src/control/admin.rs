//! The admin server: HTTP that only reads. One request a connection, and a deadline for the whole of it, so that nobody holds
//! a place by silence. It answers also when descriptors have run out, from one that is kept aside.

use std::convert::Infallible;
use std::fs::File;
use std::net::{IpAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use glommio::net::TcpStream;
use glommio::timer::{Timer, timeout};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version, server};
use smol_hyper::rt::FuturesIo;
use tracing::{debug, warn};

use super::status::{Ready, Status};
use crate::metrics_text;
use crate::sys::adopt_listener;

/// From accept to the last byte of the answer. Nothing here takes a second; a scraper far away may.
const DEADLINE: Duration = Duration::from_secs(10);

/// The same where the connection holds the last descriptor.
const DEADLINE_WITHOUT_DESCRIPTORS: Duration = Duration::from_secs(1);

/// Connections at the same time. More are closed at once: someone reads in a loop.
const MAX_CONNECTIONS: usize = 64;

/// How long accepting rests after it failed.
const REST: Duration = Duration::from_millis(100);

const PATHS: &str = "/live     200 while the process answers
/ready    200 while connections are welcome; ?gateway=NAME: and its default has an endpoint
/metrics  for Prometheus
/config   what is in force, as JSON
";

const PLAIN: &str = "text/plain; charset=utf-8";

type Answer = Response<Full<Bytes>>;

/// Serves on this listener for the life of the process.
pub(super) fn start(listener: TcpListener, status: Rc<Status>) {
    let listener = adopt_listener(listener);
    glommio::spawn_local(async move { serve(&listener, status).await }).detach();
}

/// Accepts for ever. Each connection's task holds a clone of `status`, which makes its count their number.
async fn serve(listener: &glommio::net::TcpListener, status: Rc<Status>) {
    let own_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let server = Rc::new(Server { status, own_name });
    let mut spare = spare();
    loop {
        match listener.accept().await {
            Ok(stream) if Rc::strong_count(&server) <= MAX_CONNECTIONS => {
                let server = server.clone();
                glommio::spawn_local(async move { server.connection(stream, DEADLINE).await }).detach();
            }
            Ok(_) => debug!("admin: more than {MAX_CONNECTIONS} connections; one is closed"),
            Err(error) if is_out_of_descriptors(&error) => {
                // Given up for the connection that waits, and taken back when it has been served.
                if spare.take().is_some()
                    && let Ok(stream) = listener.accept().await
                {
                    server.connection(stream, DEADLINE_WITHOUT_DESCRIPTORS).await;
                } else {
                    Timer::new(REST).await;
                }
            }
            Err(error) => {
                warn!("admin: cannot accept: {error}");
                Timer::new(REST).await;
            }
        }
        if spare.is_none() {
            spare = self::spare();
        }
    }
}

/// A descriptor to give up when there are no others.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_out_of_descriptors(error: &glommio::GlommioError<()>) -> bool {
    match error {
        glommio::GlommioError::IoError(error) => {
            matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
        }
        _ => false,
    }
}

struct Server {
    status: Rc<Status>,
    own_name: String,
}

impl Server {
    async fn connection(&self, stream: TcpStream, deadline: Duration) {
        let service = service_fn(|request| async move { Ok::<_, Infallible>(self.answer(&request)) });
        let connection = server::conn::http1::Builder::new()
            .keep_alive(false)
            .serve_connection(FuturesIo::new(stream), service);
        if let Err(error) = timeout(deadline, async { Ok(connection.await) }).await {
            debug!("admin: a connection ended: {error}");
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Answer {
        if let Err(why) = welcome(request, &self.own_name) {
            return text(StatusCode::MISDIRECTED_REQUEST, format!("{why}\n"));
        }
        let path = request.uri().path();
        if !matches!(path, "/live" | "/ready" | "/metrics" | "/config") {
            return text(StatusCode::NOT_FOUND, format!("There is no {path}. There are:\n{PATHS}"));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "This address only reads: GET or HEAD.\n");
            answer.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/live" => text(StatusCode::OK, "live\n"),
            "/ready" => self.ready(request.uri().query().unwrap_or("")),
            "/metrics" => typed(StatusCode::OK, metrics_text::CONTENT_TYPE, self.status.metrics()),
            _ => typed(StatusCode::OK, "application/json", format!("{:#}\n", self.status.config())),
        }
    }

    fn ready(&self, query: &str) -> Answer {
        // The names of gateways are DNS labels, with a slash at most: browsers and curl send both as they are.
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
