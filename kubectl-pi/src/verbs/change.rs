//! Changes the metadata of one pod, and waits for the agent to act on it.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use anyhow::bail;
use curfew_core::{duration::relative, metadata, record::MAX_REASON, text};
use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, WatchEvent, WatchParams},
};
use serde::Serialize;
use serde_json::json;

use crate::{
    cli::{DryRun, Which},
    cluster::{
        detach,
        find::{self, is_marked},
    },
    output,
    print::row::{self, eviction_time},
};

/// How often a pod that others change at the same time is looked at anew.
const TRIES: usize = 5;
/// As long as the pod is waited for, and the watch is asked for, in whole seconds.
const AGENT_SECONDS: u32 = 5;
const CONFLICT: u16 = 409;
const NOT_FOUND: u16 = 404;

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
    if let Some(order) = row::evict_now(pod) {
        bail!(
            "too late: pod/{name} is evicted now, as {} ordered",
            order.requester
        );
    }
    check_stays(pod)
}

/// Checks that the pod is not on its way out already.
///
/// # Errors
/// Says that it is.
pub(crate) fn check_stays(pod: &ObjectMeta) -> anyhow::Result<()> {
    let name = pod.name.as_deref().unwrap_or_default();
    match pod.deletion_timestamp {
        Some(_) => bail!("too late: pod/{name} is terminating"),
        None => Ok(()),
    }
}

/// Checks a reason, which is to say `why`.
///
/// # Errors
/// Says what would be right.
pub(crate) fn check_reason(reason: &str, why: &str) -> anyhow::Result<()> {
    match reason.len() {
        0 => bail!("--reason: must not be empty; say {why}"),
        _ if text::is_blank(reason) => {
            bail!("--reason: contains no visible characters; say {why}")
        }
        _ if reason.contains(text::is_command) => bail!(
            "--reason: contains a control character or a character that changes the text direction; remove it"
        ),
        length if length > MAX_REASON => {
            bail!("--reason: has {length} bytes; the maximum is {MAX_REASON}")
        }
        _ => Ok(()),
    }
}

/// Adds to the change that the pod is detached from its owner and from the Services that select it. Returns these.
///
/// # Errors
/// When they cannot be read, or would select the pod all the same.
pub(crate) async fn detach(
    change: &mut Change,
    client: &Client,
    pod: &ObjectMeta,
) -> anyhow::Result<Vec<String>> {
    let namespace = pod.namespace.as_deref().unwrap_or_default();
    let claims = detach::claims(client, namespace, pod).await?;
    let labels = pod.labels.clone().unwrap_or_default();
    change.labels = detach::renamed(&labels, &claims)?;
    Ok(claims.into_iter().map(|claim| claim.of).collect())
}

/// Tells that the pod was detached from these.
///
/// # Errors
/// When it cannot be printed.
pub(crate) fn tell_detached(
    pod: &ObjectMeta,
    let_go: &[String],
    how: DryRun,
) -> anyhow::Result<()> {
    let name = pod.name.as_deref().unwrap_or_default();
    let from = match let_go {
        [] => "nothing: neither an owner nor a Service selects it".to_owned(),
        _ => let_go.join(", "),
    };
    output::print(&format!(
        "pod/{name} detached from {from}{}\n",
        how.remark()
    ))?;
    if let Some(remark) = detach::remark(pod) {
        output::note(&remark);
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
    let answer = tokio::time::timeout(limit, wait(pods, changed, answer)).await;
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

/// Waits for a moment until the pod is on its way out, and tells whether it is.
pub(crate) async fn tell_eviction(pods: &Api<Pod>, changed: &ObjectMeta) {
    let name = changed.name.as_deref().unwrap_or_default();
    let limit = Duration::from_secs(AGENT_SECONDS.into());
    let answer = tokio::time::timeout(limit, wait(pods, changed, leaving)).await;
    output::note(&match answer.unwrap_or(Ok(AgentAnswer::Pending)) {
        Ok(AgentAnswer::Leaving) => format!("pod/{name} is terminating"),
        Ok(_) => match pods.get_metadata(name).await {
            Ok(pod) if is_in_force(&pod.metadata, Timestamp::now()) => format!(
                "pod/{name} is not terminating yet; its eviction is retried until it is: use kubectl pi get to \
                 see what blocks it"
            ),
            Ok(_) => format!(
                "the agent of the node has not seen the order to evict pod/{name} yet; use kubectl pi get to see \
                 when it has"
            ),
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => {
                format!("pod/{name} is gone")
            }
            Err(error) => format!("cannot see whether pod/{name} is terminating: {error}"),
        },
        Err(error) => format!("cannot see whether pod/{name} is terminating: {error}"),
    });
}

/// Whether the agent has seen the order that stands on the pod: it marks the pod, and no time is ahead any more.
fn is_in_force(pod: &ObjectMeta, now: Timestamp) -> bool {
    is_marked(pod) && eviction_time(pod).is_some_and(|at| at <= now)
}

/// Whether the agent had the pod evicted.
fn leaving(pod: &ObjectMeta) -> AgentAnswer {
    match pod.deletion_timestamp {
        Some(_) => AgentAnswer::Leaving,
        None => AgentAnswer::Pending,
    }
}

async fn wait(
    pods: &Api<Pod>,
    changed: &ObjectMeta,
    answer: impl Fn(&ObjectMeta) -> AgentAnswer,
) -> kube::Result<AgentAnswer> {
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

/// The pods that are meant and stay. If none is named, of those that match only these are meant.
pub(crate) async fn meant_to_change(
    pods: &Api<Pod>,
    namespace: &str,
    which: &Which,
) -> anyhow::Result<(Vec<ObjectMeta>, bool)> {
    let (mut found, complete) = meant(pods, which).await?;
    if which.pods.is_empty() {
        found.retain(|pod| pod.deletion_timestamp.is_none());
        if found.is_empty() {
            output::note(&find::none_in(Some(namespace)));
        }
    }
    Ok((found, complete))
}

/// Sets or removes an extension, a hold or an order, and the name of who asked for it.
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
        let mut ordered = pod.clone();
        set(&mut ordered, metadata::EVICT_NOW, "misused");
        set(&mut ordered, metadata::EVICT_NOW_REQUESTER, "ann");
        let error = check(&ordered).unwrap_err().to_string();
        assert_eq!(error, "too late: pod/web-1 is evicted now, as ann ordered");
        pod.deletion_timestamp = Some(Time(at("2026-03-01T12:40:00Z")));
        assert!(check(&pod).unwrap_err().to_string().contains("too late"));
    }

    #[test]
    fn who_ordered_an_eviction_waits_until_the_pod_leaves() {
        let mut pod = marked("web-1", Kind::Exec, None);
        set(&mut pod, metadata::EVICT_NOW, "misused");
        set(&mut pod, metadata::EVICTION_TIME, "2026-03-01T12:00:05Z");
        assert_eq!(leaving(&pod), AgentAnswer::Pending);
        let now = at("2026-03-01T12:00:06Z");
        assert!(!is_in_force(&pod, now));
        let label = (metadata::LABEL.to_owned(), metadata::INTERACTED.to_owned());
        pod.labels = Some(BTreeMap::from([label]));
        assert!(is_in_force(&pod, now) && !is_in_force(&pod, at("2026-03-01T12:00:04Z")));
        pod.deletion_timestamp = Some(Time(at("2026-03-01T12:00:05Z")));
        assert_eq!(leaving(&pod), AgentAnswer::Leaving);
    }

    #[test]
    fn a_reason_says_something_and_is_kept_whole() {
        let check_reason = |reason: &str| check_reason(reason, "why");
        for reason in [
            "",
            "\u{202e}",
            "\u{200b} \u{2060}",
            "a\u{202e}b",
            "red \u{1b}[31m",
            "two\nlines",
        ] {
            assert!(check_reason(reason).is_err(), "{reason:?}");
        }
        assert!(check_reason(&"x".repeat(MAX_REASON)).is_ok());
        let error = check_reason(&"ü".repeat(MAX_REASON)).unwrap_err();
        assert!(error.to_string().contains("512 bytes"), "{error}");
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
