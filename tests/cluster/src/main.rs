//! The command line of the test cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    curfew_cluster::cli::main()
}
