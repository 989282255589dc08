//! `make disasters`: has one disaster after the other befall the cluster, and judges what came of each.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Result, ensure};
use clap::Parser;
use curfew_e2e::disasters::{self, Scenario, scenarios};

/// Removes or damages parts of the cluster, and judges whether Curfew keeps its guarantees
#[derive(Debug, Parser)]
struct Args {
    /// Only run these disasters
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// List the disasters and exit
    #[arg(long)]
    list: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let all = scenarios::all();
    for name in &args.only {
        let known = all.iter().any(|scenario| scenario.name == name);
        ensure!(known, "there is no {name}; --list shows what there is");
    }
    let chosen: Vec<&Scenario> = all
        .into_iter()
        .filter(|one| args.only.is_empty() || args.only.iter().any(|name| name == one.name))
        .collect();
    let mut out = io::stdout();
    if args.list {
        for scenario in chosen {
            writeln!(out, "{:26} {}", scenario.name, scenario.what)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let outcomes = disasters::run(&chosen).await?;
    writeln!(out, "\n{}", disasters::HEAD)?;
    for outcome in &outcomes {
        writeln!(out, "{}", outcome.row)?;
    }
    let short = outcomes.iter().filter(|one| !one.violations.is_empty());
    let short = short.count() + chosen.len() - outcomes.len();
    writeln!(out, "\n{short} of {} fall short", chosen.len())?;
    Ok(if short == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
