//! `weirctl`: what explains and steers a Weir. `explain` works on files alone, through the code that the proxy routes with.

mod explain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Explains and steers Weir.
#[derive(Debug, Parser)]
#[command(name = "weirctl", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell what is decided for a connection, and why: every rule in order, the split, the endpoints, the policy
    Explain(explain::Explain),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Explain(explain) => explain.run(),
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
        check("weirctl explain --source 10.0.0.1 --destination 10.0.0.2:80", true);
        check(
            "weirctl explain -c a -c b --source 10.0.0.1:9 --destination [::1]:80 --gateway foo/mesh --all --json",
            true,
        );
        check("weirctl explain --source 10.0.0.1 --destination 10.0.0.2:80 --sni a.example", true);
        check("weirctl explain --source 10.0.0.1", false);
        check("weirctl explain --source nonsense --destination 10.0.0.2:80", false);
        check("weirctl explain --source 10.0.0.1 --destination 10.0.0.2", false);
        check("weirctl", false);
        check("weirctl import", false);
    }
}
