//! `make bench`: measures on the real cluster what Curfew costs, and says whether it keeps its targets.
//!
//! Each measurement is a module: [`recording`], [`exec`], [`touch`], [`bystanders`], [`footprint`], [`crowd`], [`growth`],
//! [`restart`], [`due`], [`rotation`], [`flood`], [`plugin`], [`scrape`] and [`connections`]. The [`plan`] says which are
//! wanted.
//! Those of many pods use a [node without a kubelet](node), because no kubelet of this size of machine runs so
//! many; some of them with an [agent of their own](agent). What they leave behind is taken away by [`tidy`], also when they fail or
//! are interrupted; where they end, a [`report`] says what was seen, and in the end a [`table`] says all of it.

mod agent;
mod api_server;
mod bindings;
mod bystanders;
mod connections;
mod crowd;
mod due;
mod exec;
mod flood;
mod footprint;
mod growth;
mod instant;
mod machine;
mod node;
mod plan;
mod plugin;
mod policies;
mod profiles;
mod quiet;
mod recording;
mod report;
mod restart;
mod rotation;
mod scrape;
mod table;
mod tidy;
mod touch;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use curfew_e2e::TestCluster;

use plan::Wanted;
use report::{Report, conditions};
use table::Table;

/// A target was missed.
const MISSED: u8 = 1;
/// Something could not be measured.
const FAILED: u8 = 2;

/// Measures what Curfew costs, on the cluster of `make cluster`
///
/// Without a command, what fits into twenty minutes is measured: recording, exec, touch, bystanders, crowd, footprint and
/// growth.
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
    /// Real execs with Curfew and without: their time, and the processors by process
    Exec(exec::Settings),
    /// Many pods that are exec'd into at once: recorded, marked, evicted, and what is asked of the API server
    Touch(touch::Settings),
    /// The cost of the admission policies for those who never exec
    Bystanders(bystanders::Settings),
    /// Memory, processors, threads, descriptors, disk, images and start of each part
    Footprint(footprint::Settings),
    /// A cluster of many simulated nodes, each with an agent
    Crowd(crowd::Settings),
    /// How schedule, store, policies and AdmissionReviews grow, by criterion; needs no cluster
    Growth(growth::Settings),
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
    /// All of them, however long it takes
    All,
    /// Those without a command once more, with as little as shows that they work; the targets do not matter
    Smoke,
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            Self::Recording(_) => "recording",
            Self::Exec(_) => "exec",
            Self::Touch(_) => "touch",
            Self::Bystanders(_) => "bystanders",
            Self::Footprint(_) => "footprint",
            Self::Crowd(_) => "crowd",
            Self::Growth(_) => "growth",
            Self::Restart(_) => "restart",
            Self::Due(_) => "due",
            Self::Rotation(_) => "rotation",
            Self::Plugin(_) => "plugin",
            Self::Flood(_) => "flood",
            Self::Scrape(_) => "scrape",
            Self::Connections(_) => "connections",
            Self::All => "all",
            Self::Smoke => "smoke",
        }
    }

    async fn measure(&self, cluster: &TestCluster) -> Result<Report> {
        match self {
            Self::Recording(settings) => recording::run(cluster, settings).await,
            Self::Exec(settings) => exec::run(cluster, settings).await,
            Self::Touch(settings) => touch::run(cluster, settings).await,
            Self::Bystanders(settings) => bystanders::run(cluster, settings).await,
            Self::Footprint(settings) => footprint::run(cluster, settings).await,
            Self::Crowd(settings) => crowd::run(cluster, settings).await,
            Self::Growth(settings) => growth::run(settings).await,
            Self::Restart(settings) => restart::run(cluster, settings).await,
            Self::Due(settings) => due::run(cluster, settings).await,
            Self::Rotation(settings) => rotation::run(cluster, settings).await,
            Self::Plugin(settings) => plugin::run(cluster, settings).await,
            Self::Flood(settings) => flood::run(cluster, settings).await,
            Self::Scrape(settings) => scrape::run(cluster, settings).await,
            Self::Connections(settings) => connections::run(cluster, settings).await,
            Self::All | Self::Smoke => bail!("each measurement is run by itself"),
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let plan = plan::of(Args::parse().what);
    let mut table = Table::begin();
    let mut status: u8 = 0;
    for Wanted { what, expected } in plan.all {
        let name = what.name();
        if !expected.is_zero() && table.elapsed() + expected > plan::MOST {
            let why = format!("it would not end within 20 minutes; make bench ARGS={name}");
            say(&format!("{name}: {why}"));
            table.add(name, Err(why));
            status = FAILED;
            continue;
        }
        match measure(&what, plan.rest).await {
            Ok(report) => {
                if plan.judges && !report.holds() {
                    status = status.max(MISSED);
                }
                table.add(name, Ok(report));
            }
            Err(error) => {
                say(&format!("{name}: {error:#}"));
                table.add(name, Err(format!("{error:#}")));
                status = FAILED;
                if error.is::<tidy::Interrupted>() {
                    break;
                }
            }
        }
    }
    if let Err(error) = show(&table).await {
        say(&format!("no table: {error:#}"));
        status = FAILED;
    }
    ExitCode::from(status)
}

async fn measure(what: &What, rest: Duration) -> Result<Report> {
    let name = what.name();
    let cluster = TestCluster::connect().await?;
    tidy::leftovers(&cluster).await?;
    quiet::settled(&cluster, rest).await?;
    let before = conditions()?;
    let began = Instant::now();
    let mut report = what.measure(&cluster).await?;
    let took = began.elapsed().as_secs();
    report.figure("this took", format!("{took} s"));
    report.figure("before", before);
    report.figure("after", conditions()?);
    // At once: what comes next may take long, or be killed.
    say(&format!("{name}\n{report}"));
    Ok(report)
}

/// Prints all that was measured.
async fn show(table: &Table) -> Result<()> {
    let machine = async { machine::describe(&TestCluster::connect().await?).await };
    let machine = machine.await;
    let machine = machine.unwrap_or_else(|error| format!("on an unknown machine: {error:#}."));
    write!(io::stdout(), "{}", table.text(&machine)?)?;
    Ok(())
}

/// Tells how far it is, beside the results.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}
