//! The programs of the workspace: built once a test run, in the profile of the tests, and taken from there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The result of a program that ran to its end.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Where a program of the workspace is: "weir", "weirctl", "weir-bench".
pub fn path(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).join(name)
}

/// Root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ stands in the workspace")
}

/// Runs a program of the workspace to its end.
pub fn run<S: AsRef<std::ffi::OsStr>>(name: &str, arguments: &[S]) -> Output {
    run_command(Command::new(path(name)).args(arguments))
}

/// Runs a command to its end.
pub fn run_command(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// Builds the programs where this test's own executable was built (`TARGET/PROFILE/deps/weir-HASH`) and returns that
/// directory. Cargo gives a test crate no paths to the programs of other packages, and does not build them for it.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    let directory =
        test.parent().and_then(Path::parent).expect("a test stands in PROFILE/deps").to_path_buf();
    let target = directory.parent().expect("a profile stands in the target directory");
    let profile = match directory.file_name().and_then(|name| name.to_str()).expect("profiles have names") {
        "debug" => "dev",
        profile => profile,
    };
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(workspace())
        .args(["build", "--quiet", "--workspace", "--bin", "weir", "--bin", "weirctl", "--bin", "weir-bench"])
        // A test among them, the smallest, has cargo choose features as `cargo test` does: then it compiles no dependency twice.
        .args(["--test", "accounting"])
        .args(["--profile", profile])
        .arg("--target-dir")
        .arg(target)
        .status()
        .expect("cargo starts");
    assert!(status.success(), "building the programs failed: {status}");
    directory
}
