//! The program; `weir::cli` is all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir::cli::main()
}
