//! What a scrape of an agent with many pending pods takes: the time until its answer was read, which is that of
//! a Prometheus on the same machine, and what Prometheus has to store.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{TestCluster, agents::sample, figures::Distribution};
use jiff::Timestamp;

use crate::{
    agent::{Agent, Setup},
    node::{PretendNode, within_node},
    report::{Report, ms},
    restart::notices,
    say,
};

const TIME: Duration = Duration::from_millis(5);
const BYTES: usize = 64 * 1024;
const SERIES: usize = 300;
const MARKED: Duration = Duration::from_secs(120);
/// Long after the measurement.
const TTL: Duration = Duration::from_secs(24 * 3600);
const PENDING: &str = "curfew_agent_pending_evictions{state=\"scheduled\"}";

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many pods, each with one interaction
    #[arg(long, default_value_t = 250)]
    pods: usize,
    /// How many scrapes, one after the other
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    scrapes: u32,
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    within_node(cluster, "scrape", async |node| {
        measure(cluster, settings, node).await
    })
    .await
}

async fn measure(cluster: &TestCluster, settings: &Settings, node: &PretendNode) -> Result<Report> {
    let pods = node.run_pods(settings.pods).await?;
    let setup = Setup::new(cluster, node).await?;
    let agent = setup.start().await?;
    say(&format!("an interaction with each of {} pods", pods.len()));
    let now = Timestamp::from_second(Timestamp::now().as_second())?;
    agent.tell(notices(node, &pods, now, TTL)).await?;
    node.marked(pods.len(), MARKED).await?;
    let (times, text) = scrapes(&agent, settings).await?;
    let pending = sample(&text, PENDING);
    ensure!(
        pending == Some(pods.len() as f64),
        "{pending:?} pods are pending"
    );
    agent.stop().await?;

    let times = Distribution::of(times).context("nothing was measured")?;
    let [median, most, slowest] = [50, 99, 100].map(|percent| times.percentile(percent));
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    let mut report = Report::default();
    report.figure("pods pending", pods.len());
    report.figure("scrapes", settings.scrapes);
    report.figure("the time of one, at the median", ms(median));
    report.target("of 99 in 100", ms(most), "below 5 ms", most < TIME);
    report.figure("of the slowest", ms(slowest));
    let bytes = text.len();
    report.target("bytes", bytes, format!("below {BYTES}"), bytes < BYTES);
    report.target("series", series, format!("below {SERIES}"), series < SERIES);
    Ok(report)
}

/// How long each took, and what the last one said.
async fn scrapes(agent: &Agent<'_>, settings: &Settings) -> Result<(Vec<Duration>, String)> {
    let (mut times, mut text) = (Vec::new(), String::new());
    for _ in 0..settings.scrapes {
        let began = Instant::now();
        text = agent.metrics().await?;
        times.push(began.elapsed());
    }
    Ok((times, text))
}
