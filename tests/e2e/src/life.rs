//! The whole course of an interaction, from its admission to the pod's end, checked step by step.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_core::{Interaction, Kind};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::{
    Agents, NODES, Namespace, PodWatch, Scheduled, Workload, eventually, marks, namespace::uid,
    workload::CONTAINER,
};

/// How soon users see what happened. That is a tenth of a second where nothing else runs (`make bench` shows it); here
/// other tests take the processors meanwhile.
pub const PROMPT: Duration = Duration::from_secs(3);
/// How long a test that is not about that waits for it.
const SEEN: Duration = Duration::from_secs(5);
/// How late a pod may go. It goes within milliseconds of its deadline where the API server answers at once
/// (`make bench` shows it); beside five other tests that server takes up to two seconds for an eviction.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(3);
/// No time to live of the test cluster is longer, or the tests would take for ever.
const LONGEST_TTL: SignedDuration = SignedDuration::from_secs(60);

/// What somebody did, and is to be recorded.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// How.
    pub kind: Kind,
    /// Who.
    pub user: &'a str,
    /// In which container.
    pub container: Option<&'a str>,
    /// The command as it is recorded.
    pub command: &'a str,
}

impl Expected<'_> {
    /// Whether an interaction is this one.
    pub fn check(&self, interaction: &Interaction) -> Result<()> {
        let Interaction {
            kind,
            user,
            container,
            command,
            ..
        } = interaction;
        let same = *kind == self.kind
            && user == self.user
            && container.as_deref() == self.container
            && command.as_str() == self.command;
        ensure!(same, "recorded was {interaction:?}, done was {self:?}");
        Ok(())
    }
}

/// Somebody runs a command in a pod.
pub async fn exec(namespace: &Namespace, pod: &Pod, command: &[&str]) -> Result<()> {
    let name = pod.name_any();
    let args = [&["exec", &name, "-c", CONTAINER, "--"], command].concat();
    namespace.kubectl.ok(&args).await.map(drop)
}

/// The same, and returns the record of it, which the agent of the pod's node has and no other.
pub async fn touch(
    namespace: &Namespace,
    agents: &Agents,
    pod: &Pod,
    command: &[&str],
) -> Result<Scheduled> {
    exec(namespace, pod, command).await?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let node = node.with_context(|| format!("pod {} has no node", pod.name_any()))?;
    agents.record_only_on(node, &uid(pod)?).await
}

/// The same, and waits until everybody sees it.
pub async fn touch_seen(
    namespace: &Namespace,
    agents: &Agents,
    pod: &Pod,
    command: &[&str],
) -> Result<Scheduled> {
    let record = touch(namespace, agents, pod, command).await?;
    marks::told(namespace, &record, SEEN).await?;
    Ok(record)
}

/// Starts a pod on the first node, and does all that.
pub async fn run_touched(namespace: &Namespace, agents: &Agents, name: &str) -> Result<Scheduled> {
    let workload = Workload::new(name).on(NODES[0]);
    let pod = namespace.run_pod(&workload).await?;
    touch_seen(namespace, agents, &pod, &["echo", "hello"]).await
}

/// Right after the command of a user has returned (or, for one that goes on, has begun): the record
/// is at its one place, and users are told.
pub async fn recorded(
    namespace: &Namespace,
    agents: &Agents,
    node: &str,
    pod: &Pod,
    expected: &Expected<'_>,
) -> Result<Scheduled> {
    let record = agents.record_only_on(node, &uid(pod)?).await?;
    let age = Timestamp::now().duration_since(record.last.time);
    ensure!(
        (SignedDuration::ZERO..SignedDuration::from_secs(30)).contains(&age),
        "the interaction is said to be {age} old"
    );
    expected.check(&record.last)?;
    marks::told(namespace, &record, PROMPT).await?;
    Ok(record)
}

/// Waits for the second after a pod's latest interaction: times have whole seconds, and of what happens
/// in one of them nothing is the last.
pub async fn next_second(record: &Scheduled) -> Result<()> {
    eventually(PROMPT * 2, "the next second", async || {
        Ok((Timestamp::now().as_second() > record.last.time.as_second()).then_some(()))
    })
    .await
}

/// Waits for the eviction of a pod with a timer, and returns how late it was.
///
/// # Errors
/// When it was early or late, or when nobody is told.
pub async fn evicted(
    namespace: &Namespace,
    watch: &PodWatch,
    record: &Scheduled,
) -> Result<SignedDuration> {
    let deadline = record.deadline()?;
    let ttl = deadline.duration_since(record.decisive.time);
    ensure!(
        ttl.is_positive() && ttl <= LONGEST_TTL,
        "the time to live is {ttl}; the overlay of the test cluster makes it short"
    );
    let late = watch.evicted(&record.uid, deadline, TOLERANCE).await?;
    eventually(PROMPT * 2, "the Event of the eviction", async || {
        let events = marks::events(namespace, &record.uid, "PodInteractionEvicted").await?;
        Ok((!events.is_empty()).then_some(()))
    })
    .await?;
    Ok(late)
}

/// Waits until nobody knows the pod any more.
pub async fn forgotten(agents: &Agents, record: &Scheduled) -> Result<()> {
    eventually(Duration::from_secs(10), "the record is gone", async || {
        Ok(agents.records(&record.uid).await?.is_empty().then_some(()))
    })
    .await
}
