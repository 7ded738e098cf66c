//! The arguments of `weir`, and its exit codes: 0 fine, 1 failed, 2 usage, 3 the host does not allow it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::control::host::descriptors_warning;
use crate::control::start::{self, Failure};
use crate::demo::{self, Demo};
use crate::front::load::{self, Origin, Tests};
use crate::front::report::{self, Shown};
use crate::front::{Configuration, Later};
use crate::os::ring;
use crate::version;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const HOST: u8 = 3;

const LATER: Later = Later {
    program: "weir",
    commands: &[],
    options: &[
        ("run", "--take-over", "end the running one first: on TERM it drains"),
        ("run", "--last-good", "`weir check` shows what has to be mended in the file"),
    ],
};

/// A layer-4 proxy for Linux hosts: routes and relays TCP as a service mesh does, from TOML files.
#[derive(Debug, Parser)]
#[command(name = "weir", arg_required_else_help = true)]
struct Arguments {
    /// Print version, commit and what this kernel has
    #[arg(short = 'V', long)]
    version: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy
    Run {
        #[command(flatten)]
        configuration: Configuration,
        /// Start although a `[[test]]` fails
        #[arg(long)]
        skip_tests: bool,
    },
    /// Read a configuration and print every problem in it; bind nothing, ask no name server
    Check {
        #[command(flatten)]
        configuration: Configuration,
        /// Warnings fail too
        #[arg(long)]
        strict: bool,
        /// Print the problems as JSON on stdout, all of them
        #[arg(long)]
        json: bool,
        /// Print every problem; without it the first 100, and 20 warnings, and how many more there are
        #[arg(long)]
        all: bool,
    },
    /// Show the main job with nothing to prepare: two backends, a split between them, ready to try
    Demo {
        /// The gateway's port; the other ports move by the same step
        #[arg(long, default_value_t = demo::DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1..=i64::from(demo::MAX_PORT)))]
        port: u16,
        /// Write the configuration to this new file, and serve from it
        #[arg(long, value_name = "FILE")]
        config_out: Option<PathBuf>,
        /// Run only the backends, for `weir run` in another terminal
        #[arg(long)]
        backends: bool,
    },
}

/// The whole program.
pub fn main() -> ExitCode {
    if let Some(refusal) = LATER.refusal(&std::env::args_os().skip(1).collect::<Vec<_>>()) {
        report::to_stderr(&refusal);
        return ExitCode::from(USAGE);
    }
    let arguments = Arguments::parse();
    let Some(command) = arguments.command else {
        print_version();
        return ExitCode::SUCCESS;
    };
    match command {
        Command::Check { configuration, strict, json, all } => {
            let shown = if all { Shown::All } else { Shown::First };
            check(&configuration.into(), strict, json, shown)
        }
        Command::Run { configuration, skip_tests } => {
            let tests = if skip_tests { Tests::Warn } else { Tests::Refuse };
            end(start::run(configuration.into(), tests))
        }
        Command::Demo { port, config_out, backends } => end(Demo { port, config_out, backends }.run()),
    }
}

fn print_version() {
    let kernel = rustix::system::uname();
    report::to_stdout(&format!(
        "weir {} (commit {})\nLinux {}: {}\n",
        version::VERSION,
        version::COMMIT,
        kernel.release().to_string_lossy(),
        ring_features()
    ));
}

/// "io_uring with DEFER_TASKRUN, multishot accept, no multishot poll".
fn ring_features() -> String {
    match ring::probe() {
        Ok(features) => {
            let word = |there: bool, name: &str| if there { name.to_owned() } else { format!("no {name}") };
            let words = [
                word(features.defer_taskrun, "DEFER_TASKRUN"),
                word(features.multishot_accept, "multishot accept"),
                word(features.multishot_poll, "multishot poll"),
            ];
            format!("io_uring with {}", words.join(", "))
        }
        Err(error) => format!("no io_uring ({error})"),
    }
}

/// `weir check`: all problems, sorted by place.
fn check(origin: &Origin, strict: bool, json: bool, shown: Shown) -> ExitCode {
    let loaded = origin.read().and_then(|sources| load::load_without_names(sources, Tests::Refuse));
    let (sources, problems, refused) = match loaded {
        Ok(mut loaded) => {
            // It has no place, and those come first.
            let warning = descriptors_warning(&loaded.compiled);
            loaded.compiled.warnings.splice(..0, warning);
            (loaded.sources, loaded.compiled.warnings, false)
        }
        Err(refused) => (refused.sources, refused.problems, true),
    };
    let refused = refused || (strict && !problems.is_empty());
    if json {
        report::to_stdout(&format!("{}\n", report::json(&sources, &problems)));
    } else {
        report::print(&sources, &problems, shown);
        report::to_stderr(&format!("{}\n", report::summary(&problems)));
    }
    if refused { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

/// Prints why the proxy ended, if it did not end well.
fn end(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Refused(refused)) => {
            report::print_refused(&refused);
            ExitCode::from(FAILED)
        }
        Err(Failure::Host(findings)) => {
            report::to_stderr("error: this host does not allow Weir to run:\n");
            findings.iter().for_each(|finding| report::to_stderr(&format!("\n  {finding}\n")));
            ExitCode::from(HOST)
        }
        Err(Failure::Other(error)) => {
            report::to_stderr(&format!("error: {error:#}\n"));
            ExitCode::from(FAILED)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_taken_or_refused() {
        #[track_caller]
        fn check(line: &str, taken: bool) {
            let parsed = Arguments::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), taken, "{line}: {parsed:?}");
        }
        Arguments::command().debug_assert();
        check("weir --version", true);
        check("weir run", true);
        check("weir run -c a.toml -c dir --skip-tests", true);
        check("weir check --strict --json --all -c a", true);
        check("weir demo --port 65526 --config-out x.toml", true);
        check("weir demo --backends", true);
        check("weir", false);
        check("weir run a.toml", false);
        check("weir demo --port 65527", false);
        check("weir demo --port 0", false);
        check("weir serve", false);
        check("weir run --take-over", false);
    }
}
