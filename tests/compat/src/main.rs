//! Runs the end-to-end tests on each supported minor of Kubernetes, and writes what passed into `docs/install.md`:
//! `make compat ARGS="--only 1.33"`.

#![allow(clippy::print_stdout, reason = "this is what people read of it")]

mod outcome;
mod suite;
mod table;

use std::{
    path::Path,
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Parser;
use curfew_cluster::{Minor, kubernetes, layout::Checkout, run};

use crate::{outcome::Outcome, table::Row};

/// Where the table is.
const PAGE: &str = "docs/install.md";

/// Runs the end-to-end tests on each supported version of Kubernetes
#[derive(Debug, Parser)]
#[command(name = "make compat")]
struct Args {
    /// Only on these minors, such as 1.33,1.37; the other rows of the table stay
    #[arg(long, value_delimiter = ',', value_name = "MINOR")]
    only: Vec<Minor>,
    /// Only these programs in tests/e2e/tests, such as together,torture; the table then stays as it is
    #[arg(long = "program", value_delimiter = ',', value_name = "NAME")]
    programs: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let checkout = Checkout::find()?;
    let minors = match args.only.is_empty() {
        true => kubernetes::minors(&checkout)?,
        false => args.only,
    };
    let programs = match args.programs.is_empty() {
        true => suite::programs(checkout.root())?,
        false => args.programs.clone(),
    };
    let pinned = minors
        .iter()
        .map(|minor| kubernetes::pinned(&checkout, Some(*minor)))
        .collect::<Result<Vec<_>>>()?;
    cluster(checkout.root(), &["tools"])?;
    suite::build(checkout.root())?;

    let mut all_passed = true;
    for release in pinned {
        let begun = Instant::now();
        println!("==> Kubernetes {}", release.version);
        cluster(checkout.root(), &["down"])?;
        let chosen = format!("--kubernetes={}", release.minor);
        cluster(checkout.root(), &["up", &chosen])?;
        let outcome = all(checkout.root(), release.minor, &programs)?;
        let minutes = begun.elapsed().as_secs() / 60;
        println!(
            "==> Kubernetes {}: {outcome}; {minutes} min",
            release.version
        );
        all_passed &= outcome.failed.is_empty();
        if args.programs.is_empty() {
            let row = Row::new(release.minor, &release.version, &outcome);
            write(checkout.root(), &row)?;
        }
    }
    println!("The last cluster is still up; `make down` removes it.");
    Ok(match all_passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn all(root: &Path, minor: Minor, programs: &[String]) -> Result<Outcome> {
    let logs = root.join("target/compat").join(minor.to_string());
    std::fs::create_dir_all(&logs).with_context(|| format!("{} cannot be made", logs.display()))?;
    let mut all = Outcome::default();
    for program in programs {
        let begun = Instant::now();
        let outcome = suite::run(root, program, &logs)?;
        println!("    {program}: {outcome}; {} s", begun.elapsed().as_secs());
        all.add(outcome);
    }
    Ok(all)
}

/// The program of the test cluster, whose progress people see.
fn cluster(root: &Path, arguments: &[&str]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["run", "--quiet", "--package", "curfew-cluster", "--"])
        .args(arguments)
        .current_dir(root);
    let failed = format!("curfew-cluster {} failed", arguments.join(" "));
    run::shown(&mut cargo, &failed)
}

fn write(root: &Path, row: &Row) -> Result<()> {
    let path = root.join(PAGE);
    let page = std::fs::read_to_string(&path).with_context(|| format!("{PAGE} cannot be read"))?;
    std::fs::write(&path, table::with_row(&page, row)?)
        .with_context(|| format!("{PAGE} cannot be written"))
}
