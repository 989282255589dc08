//! A rolling restart of all agents, as their DaemonSet does it, while people exec.
//!
//! A few agents at a time are shown as not ready, end, and others start in their places: with other keys, and with
//! certificates that they ask for. What is exec'd into meanwhile is recorded in the pod's metadata.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use curfew_core::PodId;
use curfew_e2e::{TestCluster, figures::Distribution};
use tokio_util::sync::CancellationToken;

use super::{BY_AGENTS, Replica, counted, execs, fleet::Fleet, member::Member};
use crate::{
    api_server::{self, Clock},
    report::{Report, ms},
    say,
};

const IN_METADATA: &str = "curfew_webhook_recorded_total{where=\"metadata\"}";

/// Restarts all of them, and tells what that took. Returns those that run then.
pub(super) async fn restart(
    report: &mut Report,
    fleet: &Fleet,
    crew: Vec<Member>,
    pods: &[PodId],
    rate: u32,
) -> Result<Vec<Member>> {
    say("a rolling restart of all agents");
    let agents = crew.len();
    let replicas = Replica::all(&fleet.cluster).await?;
    let before = recorded(&replicas).await?;
    let server = Clock::start(api_server::process(&fleet.cluster)?)?;
    let began = Instant::now();
    let done = CancellationToken::new();
    let restarting = async {
        let restarted = fleet.restart(crew).await;
        done.cancel();
        (restarted, began.elapsed())
    };
    let meanwhile = knock_until(&done, &fleet.cluster, pods, rate);
    let ((restarted, all), took) = tokio::join!(restarting, meanwhile);
    let (crew, waited) = restarted?;
    let (took, waited) = (took?, Distribution::of(waited));
    let busy = server.ms()?;
    let after = recorded(&replicas).await?;

    let waited = waited.context("nobody has a certificate")?;
    let figure = format!(
        "{:.1} s for {agents} agents; certificates p50 {}, p99 {}; {busy} ms of the API server",
        all.as_secs_f64(),
        ms(waited.percentile(50)),
        ms(waited.percentile(99)),
    );
    report.figure("rolling restart", figure);
    let by_agents = after.0 - before.0;
    let in_metadata = after.1 - before.1;
    let sent = took.len();
    let took = Distribution::of(took).context("nothing was sent")?;
    let figure = format!(
        "{sent}, p50 {}, p99 {}; {by_agents} recorded by agents, {in_metadata} in the pods' metadata",
        ms(took.percentile(50)),
        ms(took.percentile(99)),
    );
    report.figure("execs during the rolling restart", figure);
    let lost = sent as f64 - by_agents - in_metadata;
    report.target(
        "execs during the rolling restart that were not recorded",
        lost,
        "none",
        lost == 0.0,
    );
    Ok(crew)
}

/// Execs at this rate, until it is done; a second's worth in any case. Returns how long each took.
async fn knock_until(
    done: &CancellationToken,
    cluster: &TestCluster,
    pods: &[PodId],
    rate: u32,
) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    let mut turns = pods.iter().cycle();
    loop {
        let second: Vec<_> = turns.by_ref().take(rate as usize).collect();
        took.extend(execs(cluster, &second, rate, rate).await?);
        if done.is_cancelled() {
            return Ok(took);
        }
    }
}

/// How many interactions the webhook has recorded: by agents, and in the pods' metadata.
async fn recorded(replicas: &[Replica]) -> Result<(f64, f64)> {
    let by_agents = counted(replicas, BY_AGENTS).await?;
    let in_metadata = counted(replicas, IN_METADATA).await?;
    Ok((by_agents.iter().sum(), in_metadata.iter().sum()))
}
