//! The command line: see [`curfew_release`].

use std::process::ExitCode;

fn main() -> ExitCode {
    curfew_release::cli::main()
}
