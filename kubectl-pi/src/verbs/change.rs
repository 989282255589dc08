//! Changes the metadata of one pod, and waits for the agent to act on it.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use anyhow::bail;
use curfew_core::{duration::relative, metadata};
use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::{Patch, PatchParams, WatchEvent, WatchParams},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    cli::{DryRun, Which},
    cluster::find::{self, is_marked},
    output,
    print::row::{self, eviction_time},
};

/// How often a pod that others change at the same time is looked at anew.
const TRIES: usize = 5;
/// As long as the pod is waited for, and the watch is asked for, in whole seconds.
const AGENT_SECONDS: u32 = 5;
const CONFLICT: u16 = 409;

/// Labels and annotations to set, and to remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, Option<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<&'static str, Option<String>>,
}

/// Makes the change that `plan` finds right for the pod as it is; when the pod has changed meanwhile,
/// `plan` looks at it again. Returns the pod as it is then.
///
/// # Errors
/// What `plan` finds wrong, and what the API server says.
pub(crate) async fn apply(
    pods: &Api<Pod>,
    pod: &ObjectMeta,
    how: DryRun,
    mut plan: impl AsyncFnMut(&ObjectMeta) -> anyhow::Result<Change>,
) -> anyhow::Result<ObjectMeta> {
    let name = pod.name.as_deref().unwrap_or_default();
    let mut current = pod.clone();
    for _ in 0..TRIES {
        let change = plan(&current).await?;
        if how == DryRun::Client {
            return Ok(current);
        }
        let mut wanted = json!(change);
        // Preconditions: another version or another pod of this name is not changed.
        wanted["uid"] = json!(current.uid);
        wanted["resourceVersion"] = json!(current.resource_version);
        let params = PatchParams {
            dry_run: how == DryRun::Server,
            field_manager: Some("kubectl-pi".to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({ "metadata": wanted }));
        match pods.patch_metadata(name, &params, &patch).await {
            Ok(changed) => return Ok(changed.metadata),
            Err(kube::Error::Api(status)) if status.code == CONFLICT => {
                current = pods.get_metadata(name).await?.metadata;
                if current.uid != pod.uid {
                    bail!("pod/{name} is gone; another pod has its name now");
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    bail!("others keep changing pod/{name}; try again")
}

/// Checks that there is something to change about the pod.
///
/// # Errors
/// Says why there is not.
pub(crate) fn check(pod: &ObjectMeta) -> anyhow::Result<()> {
    let name = pod.name.as_deref().unwrap_or_default();
    if !is_marked(pod) {
        bail!("nobody interacted with pod/{name}: no timer runs for it");
    }
    if pod.deletion_timestamp.is_some() {
        bail!("too late: pod/{name} is terminating");
    }
    Ok(())
}

/// Where the agent stands with a pod that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AgentAnswer {
    /// Its timer is set to this time, by all that the pod says.
    Timer(Option<Timestamp>),
    /// The eviction time does not go with the rest yet.
    Pending,
    /// The pod is on its way out.
    Leaving,
}

/// What the agent made of a pod whose metadata are these: it has acted when the eviction time that it
/// wrote is the one that follows from all else.
fn answer(pod: &ObjectMeta) -> AgentAnswer {
    if pod.deletion_timestamp.is_some() {
        return AgentAnswer::Leaving;
    }
    let Some(record) = row::record(pod) else {
        return AgentAnswer::Timer(eviction_time(pod));
    };
    match record.eviction_time() == eviction_time(pod) {
        true => AgentAnswer::Timer(record.eviction_time()),
        false => AgentAnswer::Pending,
    }
}

/// Waits for a moment until the agent has moved its timer, and tells to when. Returns whether the
/// pod is still there.
pub(crate) async fn tell_answer(pods: &Api<Pod>, changed: &ObjectMeta) -> bool {
    let name = changed.name.as_deref().unwrap_or_default();
    let limit = Duration::from_secs(AGENT_SECONDS.into());
    let answer = tokio::time::timeout(limit, wait(pods, changed)).await;
    output::note(&match answer.unwrap_or(Ok(AgentAnswer::Pending)) {
        Ok(AgentAnswer::Timer(Some(at))) => {
            let relative = relative(at, Timestamp::now());
            let or = match row::annotation(changed, metadata::HOLD) {
                Some(_) => ", or when it is released",
                None => "",
            };
            match row::is_dry_run(changed) {
                true => format!("pod/{name} would be evicted at {at} ({relative}, dry run){or}"),
                false => format!("pod/{name} will be evicted at {at} ({relative}){or}"),
            }
        }
        Ok(AgentAnswer::Timer(None)) => format!("no timer runs for pod/{name}"),
        Ok(AgentAnswer::Leaving) => {
            output::note(&format!("pod/{name} is terminating"));
            return false;
        }
        Ok(AgentAnswer::Pending) => format!(
            "the agent of the node has not moved the timer of pod/{name} yet; use kubectl pi get to see when \
             it has"
        ),
        // Watching is another right than changing.
        Err(error) => format!("cannot see when pod/{name} will be evicted now: {error}"),
    });
    true
}

async fn wait(pods: &Api<Pod>, changed: &ObjectMeta) -> kube::Result<AgentAnswer> {
    let mut current = answer(changed);
    if current != AgentAnswer::Pending {
        return Ok(current);
    }
    let name = changed.name.as_deref().unwrap_or_default();
    let params = WatchParams::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(AGENT_SECONDS);
    let version = changed.resource_version.as_deref().unwrap_or_default();
    let mut events = pin!(pods.watch_metadata(&params, version).await?);
    while let Some(event) = events.try_next().await? {
        current = match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => answer(&pod.metadata),
            WatchEvent::Deleted(_) => AgentAnswer::Leaving,
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        };
        if current != AgentAnswer::Pending {
            break;
        }
    }
    Ok(current)
}

/// The pods of these names. What cannot be got is told, and leaves the result incomplete.
pub(crate) async fn named(
    pods: &Api<Pod>,
    names: &[String],
) -> anyhow::Result<(Vec<ObjectMeta>, bool)> {
    let got = find::named(names, async |name| pods.get_metadata(name).await).await;
    let mut found = Vec::new();
    let mut complete = true;
    for pod in got {
        found.extend(find::or_tell(pod, &mut complete)?.map(|pod| pod.metadata));
    }
    Ok((found, complete))
}

/// The pods that are meant, those that go next first where they are not named. What cannot be got is
/// told, and leaves the result incomplete.
pub(crate) async fn meant(
    pods: &Api<Pod>,
    which: &Which,
) -> anyhow::Result<(Vec<ObjectMeta>, bool)> {
    if !which.pods.is_empty() {
        return named(pods, &which.pods).await;
    }
    let list = async |params| pods.list_metadata(&params).await;
    let marked = find::marked(which.selector.as_deref(), list).await?;
    let mut found: Vec<_> = marked.into_iter().map(|pod| pod.metadata).collect();
    found.sort_by_cached_key(row::order);
    Ok((found, true))
}

/// Sets or removes an extension or a hold, and the name of who asked for it.
pub(crate) fn with_overrides(
    (key, value): (&'static str, Option<String>),
    (requester_key, requester): (&'static str, Option<String>),
) -> Change {
    Change {
        labels: BTreeMap::new(),
        annotations: BTreeMap::from([(key, value), (requester_key, requester)]),
    }
}

/// Whether the pod has a timer, without which there is nothing to extend.
pub(crate) fn has_timer(pod: &ObjectMeta) -> bool {
    row::annotation(pod, metadata::EVICTION_TIME).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::row::tests::{at, marked};
    use curfew_core::Kind;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn set(pod: &mut ObjectMeta, key: &str, value: &str) {
        let annotations = pod.annotations.get_or_insert_default();
        annotations.insert(key.to_owned(), value.to_owned());
    }

    #[test]
    fn the_agent_has_acted_when_its_time_follows_from_the_rest() {
        let mut pod = marked("web-1", Kind::Exec, None);
        let first = Some(at("2026-03-01T12:10:00Z"));
        assert_eq!(answer(&pod), AgentAnswer::Timer(first));
        set(&mut pod, metadata::EXTENSION, "30m");
        assert_eq!(answer(&pod), AgentAnswer::Pending);
        set(&mut pod, metadata::EVICTION_TIME, "2026-03-01T12:40:00Z");
        let extended = Some(at("2026-03-01T12:40:00Z"));
        assert_eq!(answer(&pod), AgentAnswer::Timer(extended));
        set(&mut pod, metadata::HOLD, "evidence");
        assert_eq!(answer(&pod), AgentAnswer::Pending);
        set(&mut pod, metadata::EVICTION_TIME, "2026-03-01T14:40:00Z");
        assert_eq!(
            answer(&pod),
            AgentAnswer::Timer(Some(at("2026-03-01T14:40:00Z")))
        );
        pod.deletion_timestamp = Some(Time(at("2026-03-01T12:40:00Z")));
        assert_eq!(answer(&pod), AgentAnswer::Leaving);
    }

    #[test]
    fn only_pods_that_were_touched_and_stay_are_changed() {
        let mut pod = marked("web-1", Kind::Exec, None);
        assert!(check(&pod).is_err());
        let label = (metadata::LABEL.to_owned(), metadata::INTERACTED.to_owned());
        pod.labels = Some(BTreeMap::from([label]));
        assert!(check(&pod).is_ok());
        pod.deletion_timestamp = Some(Time(at("2026-03-01T12:40:00Z")));
        assert!(check(&pod).unwrap_err().to_string().contains("too late"));
    }

    #[test]
    fn what_is_removed_is_null_in_the_patch() {
        let change = with_overrides((metadata::HOLD, None), (metadata::HOLD_REQUESTER, None));
        assert_eq!(
            json!(change),
            json!({"annotations": {"curfew.dev/hold": null, "curfew.dev/hold-requester": null}})
        );
    }
}
