//! What agents find when they look into containers: on the pods, and in their schedules.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Deserialize;

use crate::{Agents, Namespace, Scheduled, disrupt::node_of, eventually, marks, namespace::uid};

/// The annotation with the verdict and its counts.
pub const DRIFT: &str = "curfew.dev/drift";
/// Nothing changed.
pub const UNCHANGED: &str = "Unchanged";
/// Something did.
pub const CHANGED: &str = "Changed";
/// The Event on a pod that changed.
pub const CHANGED_EVENT: &str = "PodInteractionChanged";
/// The Event on a pod that is released.
pub const RELEASED_EVENT: &str = "PodInteractionUnchanged";

/// How long a finding may be, and how many there may be.
const LONGEST: usize = 160;
const MOST: usize = 8;

/// What a look found, in a row of `/v1/schedule`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// `Unchanged`, `Changed` or `Unknown`.
    pub verdict: String,
    /// When the agent looked.
    pub time: Timestamp,
    /// Files that were added.
    #[serde(default)]
    pub added: u32,
    /// Files that were changed.
    #[serde(default)]
    pub changed: u32,
    /// Files that were deleted.
    #[serde(default)]
    pub deleted: u32,
    /// Processes that sessions left behind, and programs that run and were changed.
    #[serde(default)]
    pub running: u32,
    /// Sessions that have not ended.
    #[serde(default)]
    pub sessions: u32,
    /// What was found.
    #[serde(default)]
    pub findings: Vec<String>,
    /// What could not be seen.
    #[serde(default)]
    pub unseen: Vec<String>,
}

impl Drift {
    /// Whether a finding has all of these words.
    pub fn finds(&self, words: &[&str]) -> bool {
        let has_all = |finding: &String| words.iter().all(|word| finding.contains(word));
        self.findings.iter().any(has_all)
    }

    /// Whether what people read of it is short, and nothing in it that a terminal obeys.
    ///
    /// # Errors
    /// Names what is not.
    pub fn check_bounds(&self) -> Result<()> {
        ensure!(self.findings.len() <= MOST, "{self:?}");
        for text in self.findings.iter().chain(&self.unseen) {
            let is_plain = !text.contains(|c| c == '\n' || curfew_core::text::is_unsafe(c));
            ensure!(text.len() <= LONGEST && is_plain, "{text:?}");
        }
        Ok(())
    }
}

/// The record that the agent of the pod's node has of it.
///
/// # Errors
/// When it has none.
pub async fn record(agents: &Agents, pod: &Pod) -> Result<Scheduled> {
    let node = node_of(pod).context("the pod is on no node")?;
    let record = agents.of(node)?.record(&uid(pod)?).await?;
    record.with_context(|| format!("{node} has no record of {}", pod.name_any()))
}

/// Waits until the agent has found that the pod changed, and the pod says so, too.
pub async fn changed(
    namespace: &Namespace,
    agents: &Agents,
    pod: &Pod,
    within: Duration,
) -> Result<Drift> {
    let what = format!("{} has changed", pod.name_any());
    eventually(within, &what, async || {
        let drift = told(namespace, agents, pod).await?;
        ensure!(drift.verdict == CHANGED, "{drift:?}");
        Ok(Some(drift))
    })
    .await
}

/// Waits until the agent has looked into a pod whose sessions ended at that time, and the pod says what it found.
pub async fn looked(
    namespace: &Namespace,
    agents: &Agents,
    pod: &Pod,
    ended: Timestamp,
    within: Duration,
) -> Result<Drift> {
    let what = format!("the agent has looked into {}", pod.name_any());
    eventually(within, &what, async || {
        let drift = told(namespace, agents, pod).await?;
        // Times have whole seconds.
        let is_after = drift.time.as_second() > ended.as_second() && drift.sessions == 0;
        ensure!(is_after, "{drift:?}");
        Ok(Some(drift))
    })
    .await
}

/// What the agent found last, if the pod says the same.
async fn told(namespace: &Namespace, agents: &Agents, pod: &Pod) -> Result<Drift> {
    let drift = record(agents, pod).await?.drift.context("no look yet")?;
    let pod = namespace.pods().get(&pod.name_any()).await?;
    let summary = pod.annotations().get(DRIFT).context("no annotation")?;
    ensure!(
        summary.split(' ').next() == Some(drift.verdict.as_str()),
        "the pod says {summary}, and the agent {drift:?}"
    );
    drift.check_bounds()?;
    Ok(drift)
}

/// Whether no Event says that the pod has changed.
///
/// # Errors
/// Tells the Events.
pub async fn never_changed(namespace: &Namespace, pod: &Pod) -> Result<()> {
    let events = marks::events(namespace, &uid(pod)?, CHANGED_EVENT).await?;
    let notes: Vec<_> = events.iter().map(|event| &event.message).collect();
    ensure!(notes.is_empty(), "{}: {notes:?}", pod.name_any());
    Ok(())
}
