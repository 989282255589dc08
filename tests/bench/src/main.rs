//! `make bench`: measures on the real cluster what Curfew costs, and says whether it keeps its targets.
//!
//! Each measurement is a module: [`recording`], [`exec`], [`touch`], [`bystanders`], [`footprint`], [`crowd`],
//! [`restart`], [`due`], [`rotation`], [`flood`], [`plugin`], [`scrape`] and [`connections`].
//! Those of many pods use a [node without a kubelet](node), because no kubelet of this size of machine runs so
//! many; some of them with an [agent of their own](agent). What they leave behind is taken away by [`tidy`], also when they fail or
//! are interrupted; where they end, a [`report`] says what was seen.

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
mod touch;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use curfew_e2e::TestCluster;

use report::{Report, conditions};

/// A target was missed.
const MISSED: u8 = 1;
/// Something could not be measured.
const FAILED: u8 = 2;

/// Measures what Curfew costs, on the cluster of `make cluster`
///
/// Without a command, what fits into twenty minutes is measured: recording, exec, touch, bystanders, crowd and footprint.
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
}

impl What {
    fn named(self) -> (&'static str, Self) {
        let name = match self {
            What::Recording(_) => "recording",
            What::Exec(_) => "exec",
            What::Touch(_) => "touch",
            What::Bystanders(_) => "bystanders",
            What::Footprint(_) => "footprint",
            What::Crowd(_) => "crowd",
            What::Restart(_) => "restart",
            What::Due(_) => "due",
            What::Rotation(_) => "rotation",
            What::Plugin(_) => "plugin",
            What::Flood(_) => "flood",
            What::Scrape(_) => "scrape",
            What::Connections(_) => "connections",
            What::All => "all",
        };
        (name, self)
    }

    async fn measure(&self, cluster: &TestCluster) -> Result<Report> {
        match self {
            What::Recording(settings) => recording::run(cluster, settings).await,
            What::Exec(settings) => exec::run(cluster, settings).await,
            What::Touch(settings) => touch::run(cluster, settings).await,
            What::Bystanders(settings) => bystanders::run(cluster, settings).await,
            What::Footprint(settings) => footprint::run(cluster, settings).await,
            What::Crowd(settings) => crowd::run(cluster, settings).await,
            What::Restart(settings) => restart::run(cluster, settings).await,
            What::Due(settings) => due::run(cluster, settings).await,
            What::Rotation(settings) => rotation::run(cluster, settings).await,
            What::Plugin(settings) => plugin::run(cluster, settings).await,
            What::Flood(settings) => flood::run(cluster, settings).await,
            What::Scrape(settings) => scrape::run(cluster, settings).await,
            What::Connections(settings) => connections::run(cluster, settings).await,
            What::All => bail!("each measurement is run by itself"),
        }
    }
}

/// What is measured without a command, with about how many minutes each takes, on two processors.
const USUAL: [(&str, u64); 6] = [
    ("recording", 4),
    ("exec", 1),
    ("touch", 5),
    ("bystanders", 3),
    ("crowd", 4),
    ("footprint", 3),
];

/// What else there is.
const OTHERS: [&str; 7] = [
    "restart",
    "due",
    "rotation",
    "flood",
    "plugin",
    "scrape",
    "connections",
];

/// How long the usual ones may take.
const MOST: Duration = Duration::from_secs(20 * 60);

/// A measurement of that name, as if it had been named: the defaults stand with the flags.
fn of(name: &str) -> Option<What> {
    Args::parse_from(["curfew-bench", name]).what
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let began = Instant::now();
    let wanted: Vec<(Option<What>, u64)> = match Args::parse().what {
        None => USUAL.map(|(name, minutes)| (of(name), minutes)).into(),
        Some(What::All) => {
            let usual = USUAL.iter().map(|(name, _)| *name);
            usual.chain(OTHERS).map(|name| (of(name), 0)).collect()
        }
        Some(what) => vec![(Some(what), 0)],
    };
    let mut status = 0;
    for (what, minutes) in wanted {
        let Some((name, what)) = what.map(What::named) else {
            continue;
        };
        if minutes > 0 && began.elapsed() + Duration::from_secs(minutes * 60) > MOST {
            say(&format!(
                "{name}: not measured, because it would not end within 20 minutes; make bench ARGS={name}"
            ));
            status = FAILED;
            continue;
        }
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_measurement_is_in_one_of_the_lists() {
        let command = Args::command();
        let mut names: Vec<_> = command
            .get_subcommands()
            .map(|one| one.get_name())
            .collect();
        names.retain(|name| *name != "all");
        let mut listed: Vec<_> = USUAL.iter().map(|(name, _)| *name).collect();
        listed.extend(OTHERS);
        names.sort_unstable();
        listed.sort_unstable();
        assert_eq!(names, listed);
        for name in listed {
            assert_eq!(of(name).map(|what| what.named().0), Some(name));
        }
        let minutes: u64 = USUAL.iter().map(|(_, minutes)| minutes).sum();
        assert!(Duration::from_secs(minutes * 60) <= MOST);
    }
}
