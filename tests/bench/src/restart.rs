//! How soon an agent with many records is ready after a restart, and what memory they take.
//!
//! The same binary on the same node with the same pods is measured twice: before anybody interacted with
//! them, and after somebody did with each.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use curfew_core::{
    Action, Command, Interaction, Kind, Notice, PodId, RecordedInteraction, Terms, notice,
};
use curfew_e2e::{
    TestCluster,
    agents::{ACCOUNT, sample},
    audit,
    figures::Distribution,
};
use jiff::Timestamp;

use crate::{
    agent::{Agent, Setup},
    node::{PretendNode, within_node},
    report::{Report, ms},
    say,
};

const READY: Duration = Duration::from_secs(1);
const MEMORY_KIB: u64 = 2 * 1024;
/// An agent that has just become ready may still be at work.
const SETTLE: Duration = Duration::from_secs(3);
const MARKED: Duration = Duration::from_secs(180);
/// Long after the measurement.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many pods, each with one interaction
    #[arg(long, default_value_t = 1000)]
    pods: usize,
    /// How many restarts with and without records
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// What restarts showed.
#[derive(Debug, Default)]
struct Seen {
    ready: Vec<Duration>,
    anonymous_kib: Vec<u64>,
    stopped: Vec<Duration>,
    requests: usize,
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    within_node(cluster, "restart", async |node| {
        measure(cluster, settings, node).await
    })
    .await
}

async fn measure(cluster: &TestCluster, settings: &Settings, node: &PretendNode) -> Result<Report> {
    let pods = node.run_pods(settings.pods).await?;
    let setup = Setup::new(cluster, node).await?;
    let empty = restarts(cluster, &setup, settings, 0).await?;

    let agent = setup.start().await?;
    say(&format!("an interaction with each of {} pods", pods.len()));
    let now = Timestamp::from_second(Timestamp::now().as_second())?;
    let began = Instant::now();
    agent.tell(notices(node, &pods, now, TTL)).await?;
    let told = began.elapsed();
    node.marked(pods.len(), MARKED).await?;
    tokio::time::sleep(SETTLE).await;
    let taken = agent.anonymous_kib()?;
    agent.stop().await?;
    let full = restarts(cluster, &setup, settings, settings.pods).await?;

    let mut report = Report::default();
    let count = settings.pods;
    report.figure("pods on the node", count);
    report.figure("notices taken in", ms(told));
    report.figure("ready, no records", empty.readiness()?);
    let slowest = full.ready.iter().max().copied().unwrap_or_default();
    report.target(
        &format!("ready, {count} records"),
        full.readiness()?,
        "each below 1 s",
        slowest < READY,
    );
    report.figure("stopped, with records", spread(&full.stopped)?);
    report.figure("anonymous memory, no records", empty.memory());
    report.figure("the same with records, restarted", full.memory());
    let more = median(&full.anonymous_kib).saturating_sub(median(&empty.anonymous_kib));
    report.target(
        "more of it with records",
        format!("{more} KiB at the median"),
        "at most 2 MiB",
        more <= MEMORY_KIB,
    );
    report.figure("the agent that took the notices", format!("{taken} KiB"));
    report.figure(
        "requests a restart, watches left out",
        format!("{} in {} restarts", full.requests, settings.rounds),
    );
    Ok(report)
}

/// One interaction with each pod.
pub(crate) fn notices(
    node: &PretendNode,
    pods: &[PodId],
    time: Timestamp,
    ttl: Duration,
) -> Vec<Notice> {
    let notice = |pod: &PodId| Notice {
        sent: None,
        version: notice::VERSION,
        node: node.name.clone(),
        pod: pod.clone(),
        known: RecordedInteraction {
            interaction: Interaction {
                time,
                kind: Kind::Exec,
                user: "system:serviceaccount:shop:somebody-with-a-name".to_owned(),
                container: Some("main".to_owned()),
                command: Command::new(["sh", "-c", "echo debug=on >>/etc/app.conf; kill -HUP 1"]),
                // As long as those that the API server gives.
                stdin: false,
                tty: false,
                request: format!("bench-{}", pod.uid),
            },
            terms: Terms {
                action: Action::Evict,
                ttl,
                max_extension: Duration::from_secs(8 * 3600),
                max_hold: Duration::ZERO,
                exemption: None,
                enforcement: curfew_core::Enforcement::Enforce,
                on_evidence: curfew_core::OnEvidence::default(),
            },
            policy: None,
            irregular: None,
        },
    };
    pods.iter().map(notice).collect()
}

async fn restarts(
    cluster: &TestCluster,
    setup: &Setup,
    settings: &Settings,
    records: usize,
) -> Result<Seen> {
    let mut seen = Seen::default();
    for round in 1..=settings.rounds {
        let mark = audit::now(cluster.machine.audit_log())?;
        let agent = setup.start().await?;
        let ready = agent.ready;
        has(&agent, records).await?;
        tokio::time::sleep(SETTLE).await;
        let anonymous = agent.anonymous_kib()?;
        let stopped = agent.stop().await?;
        let requests = mark.since(ACCOUNT)?;
        let others = requests.iter().filter(|request| request.verb != "watch");
        seen.requests += others.count();
        say(&format!(
            "restart {round} with {records} records: ready after {}, {anonymous} KiB",
            ms(ready)
        ));
        seen.ready.push(ready);
        seen.anonymous_kib.push(anonymous);
        seen.stopped.push(stopped);
    }
    Ok(seen)
}

/// Whether the agent knows as much as it should: else it would be easy to be ready.
async fn has(agent: &Agent<'_>, records: usize) -> Result<()> {
    let metrics = agent.metrics().await?;
    let has = sample(&metrics, "curfew_agent_records").context("no count of records")?;
    ensure!(
        has == records as f64,
        "the agent is ready with {has} records instead of {records}"
    );
    Ok(())
}

impl Seen {
    fn readiness(&self) -> Result<String> {
        spread(&self.ready)
    }

    fn memory(&self) -> String {
        let least = self.anonymous_kib.iter().min().copied().unwrap_or_default();
        let most = self.anonymous_kib.iter().max().copied().unwrap_or_default();
        let median = median(&self.anonymous_kib);
        format!("{median} KiB ({least} to {most})")
    }
}

fn spread(times: &[Duration]) -> Result<String> {
    let times = Distribution::of(times.to_vec()).context("nothing was measured")?;
    let [min, median, max] = [0, 50, 100].map(|percent| ms(times.percentile(percent)));
    Ok(format!("{median} ({min} to {max})"))
}

fn median(values: &[u64]) -> u64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_one_is_the_median() {
        assert_eq!(median(&[9, 1, 5]), 5);
        assert_eq!(median(&[]), 0);
        let times = [30, 10, 20].map(Duration::from_millis);
        assert_eq!(spread(&times).unwrap(), "20.0 ms (10.0 ms to 30.0 ms)");
    }
}
