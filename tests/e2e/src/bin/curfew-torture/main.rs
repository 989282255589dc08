//! `make torture`: kills everything again and again, and reckons up whether anything was lost.

use std::process::ExitCode;

use clap::Parser;
use curfew_e2e::{
    installation,
    torture::{self, Settings},
    within_namespace,
};

/// Kills agents, webhook, pods and API server at random while clients exec into pods
#[derive(Debug, Parser)]
struct Args {
    /// The seed of the plan; random by default
    #[arg(long)]
    seed: Option<u64>,
    /// The number of kills
    #[arg(long, default_value_t = 200)]
    kills: usize,
    /// The number of execs that must be admitted
    #[arg(long, default_value_t = 600)]
    execs: usize,
    /// Use the legacy component: agents evict as their own account, through the webhook
    #[arg(long)]
    legacy: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    let settings = Settings {
        seed: args.seed.unwrap_or_else(|| fastrand::u64(..)),
        kills: args.kills,
        execs: args.execs,
        talkative: true,
    };
    // It panics on failure, which makes the exit status.
    within_namespace("torture", async |namespace| {
        if !args.legacy {
            return torture::run(namespace, settings).await?.passed();
        }
        installation::go_back_to_legacy(&namespace.cluster).await?;
        let verdict = torture::run(namespace, settings).await;
        installation::leave_legacy(&namespace.cluster).await?;
        verdict?.passed()
    })
    .await;
    ExitCode::SUCCESS
}
