//! `weirctl`: the program that explains and steers a Weir. `explain` works on files alone, through the code that the proxy routes with.

mod explain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weir::front::Later;
use weir::front::report;

/// Explains and steers Weir.
#[derive(Debug, Parser)]
#[command(name = "weirctl", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what is decided for a connection, and why: every rule in order, the split, the endpoints, the policy
    Explain(explain::Explain),
}

const USAGE: u8 = 2;

const FIRST_BYTES: &str = "in this version no route asks for first bytes";
const METRICS: &str = "`admin` serves the counters: curl http://127.0.0.1:9347/metrics";
const WEIGHTS: &str = "edit the weights in the file: they are in force at once";

const LATER: Later = Later {
    program: "weirctl",
    commands: &[
        ("status", METRICS),
        ("endpoints", METRICS),
        ("connections", METRICS),
        ("events", METRICS),
        ("top", METRICS),
        ("diff", "`weirctl explain` shows one arrival at a time, by each of the files"),
        ("import", "`weir demo --config-out FILE` writes a first file to begin with"),
        ("doctor", "`weir run` prints everything that the host lacks, with the command that mends it"),
        ("reload", "save the file, or send HUP: kill -HUP PID"),
        ("upgrade", "end the running one with TERM, on which it drains, and start the new one"),
        ("kill", "`max_duration` and `idle_timeout` of a policy end connections"),
        ("endpoint", "`weight = 0` in the file keeps new connections from an endpoint"),
        ("split", WEIGHTS),
        ("shift", WEIGHTS),
        ("gateway", "take the address out of `listen`, or end Weir"),
        ("freeze", "`watch = false` in [proxy] leaves reloads to HUP"),
        ("thaw", "`watch = false` in [proxy] leaves reloads to HUP"),
        ("rollback", "bring the earlier file back: it is in force at once"),
        ("log-level", "`level` of [log] is taken at a reload"),
        ("log", "`level` of [log] is taken at a reload"),
        ("schema", "`weir check` reports what is wrong with a file, and what is wanted"),
    ],
    options: &[
        ("explain", "--sni", FIRST_BYTES),
        ("explain", "--alpn", FIRST_BYTES),
        ("explain", "--host", FIRST_BYTES),
        ("explain", "--path", FIRST_BYTES),
        ("explain", "--header", FIRST_BYTES),
        ("explain", "--lane", "there are no lanes yet"),
        ("explain", "--live", "-c names the file that a running Weir has"),
        ("explain", "--id", "--source and --destination name an arrival"),
        ("explain", "--record", "--source and --destination name an arrival"),
    ],
};

fn main() -> ExitCode {
    if let Some(refusal) = LATER.refusal(&std::env::args_os().skip(1).collect::<Vec<_>>()) {
        report::to_stderr(&refusal);
        return ExitCode::from(USAGE);
    }
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
        check("weirctl explain --source 10.0.0.1", false);
        check("weirctl explain --source nonsense --destination 10.0.0.2:80", false);
        check("weirctl explain --source 10.0.0.1 --destination 10.0.0.2", false);
        check("weirctl", false);
        check("weirctl import", false);
        for (name, _) in LATER.commands {
            check(&format!("weirctl {name}"), false);
        }
        for (command, option, _) in LATER.options {
            check(&format!("weirctl {command} --source 10.0.0.1 --destination 10.0.0.2:80 {option}"), false);
        }
    }
}
