//! What becomes of an eviction: budgets that stand in its way, the order among many, and pods of every
//! kind.

mod budgets;
mod evict_now;
mod kinds;
mod last_moment;
mod leaving;
mod order;
mod requests;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_e2e::{Agents, Namespace, Scheduled, eventually, evictions::Mark, namespace::uid};
use jiff::{SignedDuration, Timestamp};

/// The node that everything here runs on.
const NODE: &str = "node-1";
/// How soon after its deadline the state of a pod is what it should be.
const SOON: Duration = Duration::from_secs(10);
/// How long after a deadline nothing may have happened.
const QUIET: SignedDuration = SignedDuration::from_secs(4);

/// Waits until the agent has a pod in this state.
async fn in_state(
    agents: &Agents,
    record: &Scheduled,
    state: &str,
    within: Duration,
) -> Result<Scheduled> {
    let what = format!("{} is {state}", record.name);
    eventually(within, &what, async || {
        let found = agents.of(NODE)?.record(&record.uid).await?;
        let found = found.with_context(|| format!("there is no record of {}", record.name))?;
        ensure!(found.state == state, "it is {}", found.state);
        Ok(Some(found))
    })
    .await
}

/// Waits until a pod's deadline has passed for some time.
async fn after_deadline(record: &Scheduled, by: SignedDuration) -> Result<()> {
    let left = (record.deadline()? + by).duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
    Ok(())
}

/// How long until a pod's deadline has passed, and then so long.
fn until_deadline(record: &Scheduled, and: Duration) -> Result<Duration> {
    let left = record.deadline()?.duration_since(Timestamp::now());
    Ok(Duration::try_from(left).unwrap_or_default() + and)
}

/// That the pod of this UID is still there and not on its way out.
async fn lives(namespace: &Namespace, record: &Scheduled) -> Result<()> {
    let pod = namespace.pods().get(&record.name).await?;
    ensure!(uid(&pod)? == record.uid, "another pod has its name");
    ensure!(
        pod.metadata.deletion_timestamp.is_none(),
        "{} is on its way out",
        record.name
    );
    Ok(())
}

/// How many evictions in the namespace were granted since.
fn granted(namespace: &Namespace, since: &Mark) -> Result<usize> {
    Ok(since.granted(&namespace.name)?.len())
}

fn now(namespace: &Namespace) -> Result<Mark> {
    Mark::now(namespace.cluster.machine.audit_log())
}
