//! `weir-bench`: the load generator. Not in this version; `bench/quick.py` compares CPU side by side until it is.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!(
        "weir-bench is not in this version of Weir; bench/quick.py compares the CPU of Weir and its peers"
    );
    ExitCode::from(2)
}
