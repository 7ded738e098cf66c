//! Configurations that more than one subject uses.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use weir_tests::program;
use weir_tests::weir_process::with_admin;

/// Gateway `edge` on a free port, all of it to one service with these endpoints and this policy (lines of TOML).
pub(crate) fn edge(endpoints: &[SocketAddr], policy: &str) -> String {
    edge_with("", endpoints, policy)
}

/// The same, with lines of `[proxy]`.
pub(crate) fn edge_with(proxy: &str, endpoints: &[SocketAddr], policy: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        r#"[proxy]
{proxy}
[gateway.edge]
listen = ["127.0.0.1:0"]
to = [{{ service = "db" }}]

[service.db]
endpoints = [{}]

[service.db.policy]
{policy}
"#,
        endpoints.join(", ")
    )
}

/// An address that is free now. Other test runs on this host draw from here as well, so it is drawn at random.
fn free_address() -> SocketAddr {
    let candidates =
        std::iter::repeat_with(|| SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(10_000..20_000))));
    let mut candidates = candidates.take(1000);
    candidates
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a free port between 10000 and 20000")
}

/// A file with this configuration, its gateway `edge` and its admin server at fixed addresses: directory, file, gateway, admin.
pub(crate) fn fixed(toml: &str) -> (TempDir, PathBuf, SocketAddr, SocketAddr) {
    let (gateway, admin) = (free_address(), free_address());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = directory.path().join("weir.toml");
    let toml = with_admin(toml, admin).replace("127.0.0.1:0", &gateway.to_string());
    std::fs::write(&config, toml).expect("the configuration can be written");
    (directory, config, gateway, admin)
}

/// Lets every user read this directory and its configuration, and run the copy of the program that is put there and returned.
pub(crate) fn for_all_users(directory: &Path, config: &Path) -> PathBuf {
    let program = directory.join("weir");
    std::fs::copy(program::path("weir"), &program).expect("the program can be copied");
    for path in [directory, config, &program] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("the permissions can be set");
    }
    program
}
