//! Runs the end-to-end tests on each supported minor of Kubernetes, and writes what passed into `docs/install.md`:
//! `make compat ARGS="--only 1.33"`.

#![allow(clippy::print_stdout, reason = "this is what people read of it")]

mod outcome;
mod setup;
mod suite;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Parser;
use curfew_cluster::{IpFamily, Minor, kubernetes, layout::Checkout, run};

use crate::{outcome::Outcome, setup::Setup, table::Row};

/// Where the table is.
const PAGE: &str = "docs/install.md";

/// Runs the end-to-end tests on each supported version of Kubernetes
#[derive(Debug, Parser)]
#[command(name = "make compat")]
struct Args {
    /// Only on these minors, such as 1.33,1.37; the other rows of the table stay
    #[arg(long, value_delimiter = ',', value_name = "MINOR")]
    only: Vec<Minor>,
    /// Only these programs in tests/e2e/tests, such as together,torture; of the others, the last result counts
    #[arg(long = "program", value_delimiter = ',', value_name = "NAME")]
    programs: Vec<String>,
    /// The family of the addresses of nodes, pods and Services; one that is not the default has rows of its own
    #[arg(long, value_enum, default_value_t)]
    ip_family: IpFamily,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let checkout = Checkout::find()?;
    let minors = match args.only.is_empty() {
        true => kubernetes::minors(&checkout)?,
        false => args.only,
    };
    let suite = suite::programs(checkout.root())?;
    let chosen = match args.programs.is_empty() {
        true => &suite,
        false => &args.programs,
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
        let setup = Setup {
            minor: release.minor,
            ip_family: args.ip_family,
        };
        let name = setup.name(&release.version);
        println!("==> Kubernetes {name}");
        cluster(checkout.root(), &["down"])?;
        let minor = format!("--kubernetes={}", setup.minor);
        let ip_family = format!("--ip-family={}", setup.ip_family);
        cluster(checkout.root(), &["up", &minor, &ip_family])?;
        let logs = Logs::of(checkout.root(), setup)?;
        if args.programs.is_empty() {
            logs.forget()?;
        }
        let outcome = logs.run(checkout.root(), chosen)?;
        let minutes = begun.elapsed().as_secs() / 60;
        println!("==> Kubernetes {name}: {outcome}; {minutes} min");
        all_passed &= outcome.failed.is_empty();
        match logs.read(&suite) {
            Some(all) => {
                let row = Row::new(setup, &release.version, &all);
                write(checkout.root(), &row)?;
            }
            None => println!("    not all programs have been run, so the table stays as it is"),
        }
    }
    println!("The last cluster is still up; `make down` removes it.");
    Ok(match all_passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The logs of the programs on a cluster, which say how each ended when it ran last.
struct Logs(PathBuf);

impl Logs {
    fn of(root: &Path, setup: Setup) -> Result<Self> {
        let folder = root.join("target/compat").join(setup.folder());
        fs::create_dir_all(&folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
        Ok(Self(folder))
    }

    fn path(&self, program: &str) -> PathBuf {
        self.0.join(format!("{program}.log"))
    }

    fn forget(&self) -> Result<()> {
        for log in fs::read_dir(&self.0)? {
            fs::remove_file(log?.path())?;
        }
        Ok(())
    }

    fn run(&self, root: &Path, programs: &[String]) -> Result<Outcome> {
        let mut all = Outcome::default();
        for program in programs {
            let begun = Instant::now();
            let outcome = suite::run(root, program, &self.path(program))?;
            println!("    {program}: {outcome}; {} s", begun.elapsed().as_secs());
            all.add(outcome);
        }
        Ok(all)
    }

    /// What the logs say of all these programs, if each has been run.
    fn read(&self, programs: &[String]) -> Option<Outcome> {
        let mut all = Outcome::default();
        for program in programs {
            let output = fs::read_to_string(self.path(program)).ok()?;
            all.add(Outcome::read(program, &output));
        }
        Some(all)
    }
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
    let page = fs::read_to_string(&path).with_context(|| format!("{PAGE} cannot be read"))?;
    fs::write(&path, table::with_row(&page, row)?)
        .with_context(|| format!("{PAGE} cannot be written"))
}
