//! `make upgrade`: replaces the Curfew of a commit by that of the working tree while clients exec.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::Parser;
use curfew_cluster::deploy::Way;
use curfew_core::duration;
use curfew_e2e::{
    upgrade::{self, Version},
    within_namespace,
};

/// Replaces an older version of Curfew by this one while clients exec, and checks that nothing is denied or lost
#[derive(Debug, Parser)]
struct Args {
    /// The commit of the older version: a hash, a tag or a branch
    #[arg(long, env = "CURFEW_UPGRADE_FROM")]
    from: String,
    /// Go back to the older version, too, and then upgrade once more
    #[arg(long, env = "CURFEW_UPGRADE_BACK")]
    back: bool,
    /// Fields of an interaction that the older version does not know, and that are lost when going back to it: policy
    #[arg(long, env = "CURFEW_UPGRADE_UNKNOWN", value_delimiter = ',')]
    unknown: Vec<String>,
    /// Deploy both versions with Helm, and not with kustomize
    #[arg(long, env = "CURFEW_UPGRADE_CHART")]
    chart: bool,
    /// How long pods live that were touched before the change: longer than the change takes
    #[arg(long, env = "CURFEW_UPGRADE_LIFE", default_value = "5m", value_parser = duration::parse)]
    life: Duration,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "curfew-upgrade: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<()> {
    let way = match args.chart {
        true => Way::Chart,
        false => Way::Kustomize,
    };
    let versions = upgrade::prepare(&args.from, way).await?;
    let (old, new) = (&versions.old, &versions.new);
    change("upgrade", old, new, args.life, &[]).await;
    if args.back {
        change("downgrade", new, old, args.life, &args.unknown).await;
        change("upgrade-again", old, new, args.life, &[]).await;
    }
    upgrade::restore(&versions).await
}

/// Panics when a check fails, which makes the exit status.
async fn change(name: &str, from: &Version, to: &Version, life: Duration, unknown: &[String]) {
    within_namespace(name, async |namespace| {
        upgrade::change(namespace, from, to, life, unknown).await
    })
    .await;
}
