//! What comes of a pod, or would have.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, Namespace, Scheduled, budgets::budgets, eventually, marks, namespace::uid,
};
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudgetStatus};
use kube::ResourceExt;

use crate::pods::WORKLOADS;

/// How soon after the last of several interactions the API server's answer about each pod is known.
const ANSWERED: Duration = Duration::from_secs(60);
/// How long the evictions of one namespace may take. Those of a workload with a budget wait for each other.
const DONE: Duration = Duration::from_secs(90);
pub(crate) const WOULD_EVICT: &str = "PodInteractionWouldEvict";
pub(crate) const EVICTED: &str = "PodInteractionEvicted";
const BLOCKED: &str = "PodInteractionEvictionBlocked";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Course {
    Goes,
    BlockedBy(String),
    OnlyRecorded,
}

/// The courses of pods, by name.
pub(crate) type Courses = BTreeMap<String, Course>;

/// What stands in a budget, which a question does not change.
pub(crate) async fn status(namespace: &Namespace, name: &str) -> Result<PodDisruptionBudgetStatus> {
    let budget = budgets(namespace).get(name).await?;
    budget.status.context("the budget has no status")
}

/// What the agents have of this pod.
pub(crate) async fn record(agents: &Agents, uid: &str) -> Result<Scheduled> {
    let records = agents.records(uid).await?;
    let record = records.into_values().next();
    record.with_context(|| format!("no agent has a record of {uid}"))
}

/// Waits until the API server has said what would come of each pod.
pub(crate) async fn foretold(
    namespace: &Namespace,
    agents: &Agents,
    pods: &[Pod],
) -> Result<Courses> {
    each(pods, ANSWERED, "is foretold", async |_, uid| {
        let record = record(agents, uid).await?;
        ensure!(!record.pending, "it is pending: {record:?}");
        Ok(match record.state.as_str() {
            "would-go" => Some(Course::Goes),
            "recorded" => Some(Course::OnlyRecorded),
            "blocked" => blocker(namespace, uid, "").await?,
            _ => None,
        })
    })
    .await
}

/// Waits until the enforced run has come to something for each pod.
pub(crate) async fn happened(
    namespace: &Namespace,
    agents: &Agents,
    pods: &[Pod],
) -> Result<Courses> {
    each(pods, DONE, "has come to something", async |name, uid| {
        let found = namespace.pods().get_opt(name).await?;
        let stays = found.is_some_and(|found| {
            found.uid().as_deref() == Some(uid) && found.metadata.deletion_timestamp.is_none()
        });
        if !stays {
            let told = marks::events(namespace, uid, EVICTED).await?;
            return Ok((!told.is_empty()).then_some(Course::Goes));
        }
        if record(agents, uid).await?.state == "recorded" {
            return Ok(Some(Course::OnlyRecorded));
        }
        let blocked = blocker(namespace, uid, "cannot be evicted yet").await?;
        // A budget that waits for a pod to take another one's place has room again.
        match &blocked {
            Some(Course::BlockedBy(budget)) if !is_full(namespace, budget).await? => Ok(None),
            _ => Ok(blocked),
        }
    })
    .await
}

/// Waits for each pod in turn until its course is known, by its name and its UID.
async fn each(
    pods: &[Pod],
    within: Duration,
    what: &str,
    mut course: impl AsyncFnMut(&str, &str) -> Result<Option<Course>>,
) -> Result<Courses> {
    let mut courses = Courses::new();
    for pod in pods {
        let (name, uid) = (pod.name_any(), uid(pod)?);
        let awaited = format!("{name} {what}");
        let course = eventually(within, &awaited, async || course(&name, &uid).await).await?;
        courses.insert(name, course);
    }
    Ok(courses)
}

/// Whether a budget never has room: it needs all pods that its workload is to have. How many there are at the moment
/// says nothing, because one that was evicted is not counted until another takes its place.
async fn is_full(namespace: &Namespace, budget: &str) -> Result<bool> {
    let workload = format!("deployment/{budget}");
    let found = WORKLOADS.iter().find(|(name, _)| *name == workload);
    let (_, pods) = found.with_context(|| format!("there is no {workload}"))?;
    let needed = status(namespace, budget).await?.desired_healthy;
    Ok(usize::try_from(needed)? >= *pods)
}

/// The budget that an Event about the pod names, whose note begins like this.
async fn blocker(namespace: &Namespace, uid: &str, note: &str) -> Result<Option<Course>> {
    let events = marks::events(namespace, uid, BLOCKED).await?;
    let told = events.into_iter().find(|event| {
        let found = event.message.as_deref().unwrap_or_default();
        found.starts_with(note)
    });
    let budget = told.and_then(|event| event.related?.name);
    Ok(budget.map(Course::BlockedBy))
}
