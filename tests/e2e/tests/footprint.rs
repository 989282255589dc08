//! What an agent costs while nothing happens. Alone in its binary, because something would happen.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use curfew_cluster::layout;
use curfew_e2e::{
    Agents, NODES, TestCluster,
    agents::ACCOUNT,
    audit, eventually,
    figures::report,
    footprint::{Process, processes},
};
use tokio::time::{Instant, sleep_until};

const AGENT: &str = "curfew-agent";
const MAX_ANONYMOUS_KIB: u64 = 8 * 1024;
const MAX_ARCHIVE_BYTES: u64 = 10 * 1024 * 1024;
/// 0.5 % of a processor: it looks for sessions that nobody admitted.
const MAX_BUSY_PER_MILLE: u64 = 5;
const WATCHED: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_idle_agent_is_small_and_silent() -> Result<()> {
    let cluster = TestCluster::connect().await?;
    let agents = processes(AGENT)?;
    ensure!(agents.len() == NODES.len(), "{} agents run", agents.len());
    quiet(&cluster).await?;

    let mark = audit::now(cluster.machine.audit_log())?;
    let busy = |agents: &[Process]| {
        agents
            .iter()
            .map(|agent| agent.busy_ms())
            .collect::<Result<Vec<_>>>()
    };
    let before = busy(&agents)?;
    // Not a condition but a measurement: so long, nothing is to happen.
    let began = Instant::now();
    sleep_until(began + WATCHED).await;
    let after = busy(&agents)?;
    let requests = mark.since(ACCOUNT)?;

    for (at, agent) in agents.iter().enumerate() {
        let (anonymous, busy) = (agent.anonymous_kib()?, after[at] - before[at]);
        let shown = format!("{anonymous} KiB anonymous, {busy} ms busy in {WATCHED:?}");
        report(&cluster, &format!("footprint-{at}"), &shown)?;
        ensure!(anonymous <= MAX_ANONYMOUS_KIB, "{shown}");
        let most = WATCHED.as_millis() as u64 * MAX_BUSY_PER_MILLE / 1000;
        ensure!(busy < most, "{shown}, where {most} ms would be too much");
    }
    let others: Vec<_> = requests
        .iter()
        .filter(|request| request.verb != "watch")
        .collect();
    ensure!(
        others.is_empty(),
        "idle agents asked the API server: {others:?}"
    );
    Ok(())
}

/// Waits until what other tests did has come to its end.
async fn quiet(cluster: &TestCluster) -> Result<()> {
    let agents = Agents::connect(cluster).await?;
    eventually(
        Duration::from_secs(120),
        "no agent has a record",
        async || {
            for agent in agents.iter() {
                let records = agent.schedule().await?.records;
                ensure!(records.is_empty(), "{}: {records:?}", agent.node);
            }
            Ok(Some(()))
        },
    )
    .await?;
    let agents_asked = || audit::now(cluster.machine.audit_log());
    let mut mark = agents_asked()?;
    let mut since = Instant::now();
    eventually(Duration::from_secs(60), "the agents are done", async || {
        if !mark.since(ACCOUNT)?.is_empty() {
            (mark, since) = (agents_asked()?, Instant::now());
        }
        Ok((since.elapsed() > Duration::from_secs(5)).then_some(()))
    })
    .await
}

#[tokio::test]
async fn the_image_is_small() -> Result<()> {
    let cluster = TestCluster::connect().await?;
    // The archive of the image that was rolled out, by the key of what it was made of.
    let key = fs::read_to_string(layout::machine("rolled-out/localhost_curfew-agent_e2e"))
        .context("no image of the agent was rolled out")?;
    let archive = layout::cache_dir()?.join(format!("images/{AGENT}-{}.tar", key.trim()));
    let size = fs::metadata(&archive)
        .with_context(|| archive.display().to_string())?
        .len();
    report(
        &cluster,
        "image",
        &format!("{:.1} MiB", size as f64 / 1024.0 / 1024.0),
    )?;
    ensure!(size <= MAX_ARCHIVE_BYTES, "{size} bytes");
    Ok(())
}
