//! `weir-bench`: the program is [`weir_bench::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_bench::cli::main()
}
