//! The arguments of `weir-bench`.

mod compare;
mod run;
mod serve;
mod values;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::{EXIT_CODES, FAILED};

/// Load for anything that speaks TCP, measured so that it can be believed.
#[derive(Debug, Parser)]
#[command(name = "weir-bench", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be a back end to run against
    Serve(serve::Serve),
    /// Make load and report its outcome
    Run(Box<run::Run>),
    /// Run the same work through several proxies in turn, and compare the cost of an operation
    Compare(compare::Compare),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(serve) => serve.main(),
        Command::Run(run) => run.main(),
        Command::Compare(compare) => compare.main(),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Without a reader there is no one to report to.
            let _ = writeln!(std::io::stderr(), "weir-bench: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
