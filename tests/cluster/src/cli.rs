//! The commands.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    go_tools,
    ip_family::IpFamily,
    kubernetes::Minor,
    layout::Checkout,
    packages, preflight, progress,
    state::{Lock, State},
    status, teardown, tools, up,
};

/// A real two-node Kubernetes on this machine.
#[derive(Debug, Parser)]
#[command(name = "curfew-cluster", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the cluster up and deploy Curfew; does nothing where nothing is to be done
    Up {
        /// Leave Curfew out
        #[arg(long)]
        bare: bool,
        /// The minor of Kubernetes, such as 1.33; the newest that is tested everywhere, if it is not given
        #[arg(long, env = "CURFEW_KUBERNETES")]
        kubernetes: Option<Minor>,
        /// The family of the addresses of nodes, pods and Services, which have none of the other
        #[arg(long, env = "CURFEW_IP_FAMILY", value_enum, default_value_t)]
        ip_family: IpFamily,
    },
    /// Take the cluster away and leave the machine as it was, whichever checkout it is of
    Down,
    /// Show what runs
    Status,
    /// Get the programs that tests need and that are not installed
    Tools,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Up {
            bare,
            kubernetes,
            ip_family,
        } => up::run(*bare, *kubernetes, *ip_family),
        Command::Down => down(),
        Command::Status => status::show(),
        Command::Tools => {
            packages::ensure_browser()?;
            tools::ensure()?;
            go_tools::ensure(&Checkout::find()?).map(drop)
        }
    }
}

fn down() -> Result<()> {
    preflight::check_privileges()?;
    let _lock = Lock::take()?;
    if teardown::is_needed() {
        progress::step("Taking the cluster away");
        // A record that cannot be read must not keep anybody from cleaning up.
        teardown::run(&State::load().ok().flatten().unwrap_or_default())?;
    }
    Ok(())
}
