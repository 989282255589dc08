//! `make bench`: measures on the real cluster what Curfew costs, and says whether it keeps its targets.
//!
//! Each measurement is a module: [`recording`], [`restart`], [`due`], [`rotation`], [`flood`],
//! [`plugin`], [`scrape`] and [`connections`].
//! Those of many pods use a [node without a kubelet](node), because no kubelet of this size of machine runs so
//! many; two of them with an [agent of their own](agent). What they leave behind is taken away by [`tidy`], also when they fail or
//! are interrupted; where they end, a [`report`] says what was seen.

mod agent;
mod connections;
mod due;
mod flood;
mod instant;
mod node;
mod plugin;
mod policies;
mod profiles;
mod quiet;
mod recording;
mod report;
mod restart;
mod rotation;
mod scrape;
mod tidy;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use curfew_e2e::TestCluster;

use report::{Report, conditions};

/// A target was missed.
const MISSED: u8 = 1;
/// Something could not be measured.
const FAILED: u8 = 2;

/// Measures what Curfew costs, on the cluster of `make cluster`; without a command, everything is measured
#[derive(Debug, Parser)]
#[command(name = "curfew-bench")]
struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The time that recording adds to an admission, compared with a webhook that answers immediately
    Recording(recording::Settings),
    /// How soon an agent with many records is ready after a restart, and how much memory they need
    Restart(restart::Settings),
    /// How an agent handles many pods whose time ends in the same second
    Due(due::Settings),
    /// Admissions while certificates and CA are replaced
    Rotation(rotation::Settings),
    /// The time and memory that `kubectl pi get -A` needs with many marked pods
    Plugin(plugin::Settings),
    /// The effect of a flood of execs by one user on another user, and what it leaves behind
    Flood(flood::Settings),
    /// The time and size of a scrape of an agent with many pending pods
    Scrape(scrape::Settings),
    /// Probes and admissions while a few addresses hold many connections
    Connections(connections::Settings),
}

impl What {
    fn named(self) -> (&'static str, Self) {
        let name = match self {
            What::Recording(_) => "recording",
            What::Restart(_) => "restart",
            What::Due(_) => "due",
            What::Rotation(_) => "rotation",
            What::Plugin(_) => "plugin",
            What::Flood(_) => "flood",
            What::Scrape(_) => "scrape",
            What::Connections(_) => "connections",
        };
        (name, self)
    }

    async fn measure(&self, cluster: &TestCluster) -> Result<Report> {
        match self {
            What::Recording(settings) => recording::run(cluster, settings).await,
            What::Restart(settings) => restart::run(cluster, settings).await,
            What::Due(settings) => due::run(cluster, settings).await,
            What::Rotation(settings) => rotation::run(cluster, settings).await,
            What::Plugin(settings) => plugin::run(cluster, settings).await,
            What::Flood(settings) => flood::run(cluster, settings).await,
            What::Scrape(settings) => scrape::run(cluster, settings).await,
            What::Connections(settings) => connections::run(cluster, settings).await,
        }
    }
}

/// What there is, in the order in which it is measured.
const ALL: [&str; 8] = [
    "recording",
    "restart",
    "due",
    "rotation",
    "flood",
    "plugin",
    "scrape",
    "connections",
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let wanted = match Args::parse().what {
        Some(what) => vec![what],
        // As if each had been named: their defaults stand with their flags.
        None => ALL
            .into_iter()
            .filter_map(|name| Args::parse_from(["curfew-bench", name]).what)
            .collect(),
    };
    let mut status = 0;
    for what in wanted {
        let (name, what) = what.named();
        match measure(name, &what).await {
            Ok(report) if report.holds() => {}
            Ok(_) => status = status.max(MISSED),
            Err(error) => {
                say(&format!("{name}: {error:#}"));
                status = FAILED;
                if error.is::<tidy::Interrupted>() {
                    break;
                }
            }
        }
    }
    ExitCode::from(status)
}

async fn measure(name: &str, what: &What) -> Result<Report> {
    let cluster = TestCluster::connect().await?;
    tidy::leftovers(&cluster).await?;
    let before = conditions()?;
    let mut report = what.measure(&cluster).await?;
    report.figure("before", before);
    report.figure("after", conditions()?);
    writeln!(io::stdout(), "{name}\n{report}")?;
    Ok(report)
}

/// Tells how far it is, beside the results.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}
