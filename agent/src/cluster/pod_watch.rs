//! The watch of this node's pods. It reads only the fields that the controller needs: an agent holds a
//! few hundred bytes a pod, whatever the pods look like.

use std::{collections::BTreeSet, fmt::Debug, pin::pin};

use curfew_agent_state::{PodSnapshot, PodView, Termination, digest};
use curfew_core::{PodId, metadata, record::Marks, workload::Owner};
use curfew_runtime::{error_chain, watch::Watch};
use futures::TryStreamExt;
use jiff::SignedDuration;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, Resource, api::ListParams, runtime::watcher};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Observation;

/// A pod with no more fields than a [`PodView`] needs.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = "Pod")]
pub(crate) struct WatchedPod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: WatchedSpec,
    #[serde(default)]
    status: WatchedStatus,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchedSpec {
    node_name: Option<String>,
    priority: Option<i32>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct WatchedStatus {
    phase: Option<String>,
    #[serde(default)]
    conditions: Vec<WatchedCondition>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct WatchedCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    reason: Option<String>,
}

impl WatchedPod {
    /// Whether it is on this node.
    pub(crate) fn is_on(&self, node: &str) -> bool {
        self.spec.node_name.as_deref() == Some(node)
    }
}

impl From<WatchedPod> for PodView {
    fn from(pod: WatchedPod) -> Self {
        let meta = pod.metadata;
        let termination = termination(&meta);
        let annotations = meta.annotations.unwrap_or_default();
        let owners = meta.owner_references.unwrap_or_default();
        let controller = owners.iter().find(|owner| owner.controller == Some(true));
        let controller = controller.map(|owner| Owner {
            api_version: &owner.api_version,
            kind: &owner.kind,
        });
        let id = PodId {
            namespace: meta.namespace.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
        };
        let marks = metadata::read(&id, &annotations).unwrap_or_else(|error| {
            tracing::warn!(pod = %id, uid = id.uid, %error, "the pod's metadata cannot be read");
            Marks {
                evict_now: metadata::evict_now(&annotations),
                ..Marks::default()
            }
        });
        let state = PodSnapshot {
            version: meta.resource_version.unwrap_or_default(),
            labelled: meta.labels.is_some_and(|labels| {
                labels.get(metadata::LABEL).map(String::as_str) == Some(metadata::INTERACTED)
            }),
            annotations_digest: digest(|key| annotations.get(key).map(String::as_str)),
            room: metadata::room(&annotations) as u32,
            priority: pod.spec.priority.unwrap_or_default(),
            ready: pod
                .status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            terminating: meta.deletion_timestamp.is_some(),
            termination,
            evicted: pod.status.conditions.iter().any(|condition| {
                condition.type_ == "DisruptionTarget"
                    && condition.reason.as_deref() == Some("EvictionByEvictionAPI")
            }),
            finished: matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed")),
            mirror: annotations.contains_key(metadata::MIRROR),
            bare: controller.is_none(),
            of_job: controller.is_some_and(Owner::is_job),
        };
        Self { id, marks, state }
    }
}

/// How a pod with these metadata ends, if it was deleted or evicted.
fn termination(meta: &ObjectMeta) -> Option<Termination> {
    let grace_ends = meta.deletion_timestamp.as_ref()?.0;
    let grace = meta.deletion_grace_period_seconds.unwrap_or_default();
    let since = grace_ends.checked_sub(SignedDuration::from_secs(grace));
    Some(Termination {
        since: since.ok()?,
        grace_ends,
    })
}

/// Watches the pods of the node and reports what it sees, for as long as somebody takes that.
///
/// # Errors
/// When nobody takes it any more; the watch does not end by itself.
pub(crate) async fn watch(
    watch: Watch,
    client: Client,
    node: &str,
    observations: mpsc::Sender<Observation>,
) -> anyhow::Result<()> {
    let pods: Api<WatchedPod> = Api::all(client);
    let of_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let mut events = pin!(watch.events(pods, of_node));
    let mut listed = BTreeSet::new();
    loop {
        let seen = match events.try_next().await {
            Ok(Some(watcher::Event::Init)) => {
                listed.clear();
                Observation::ListBegins
            }
            Ok(Some(watcher::Event::InitApply(pod))) => {
                let pod = PodView::from(pod);
                listed.insert(pod.id.uid.clone());
                Observation::PodSeen(Box::new(pod))
            }
            Ok(Some(watcher::Event::InitDone)) => {
                Observation::PodsListed(std::mem::take(&mut listed))
            }
            Ok(Some(watcher::Event::Apply(pod))) => Observation::PodSeen(Box::new(pod.into())),
            Ok(Some(watcher::Event::Delete(pod))) => {
                Observation::PodGone(PodView::from(pod).id.uid)
            }
            Ok(None) => anyhow::bail!("the watch of the node's pods ended"),
            Err(error) => Observation::WatchFailed(error_chain::watch(&error)),
        };
        if observations.send(seen).await.is_err() {
            anyhow::bail!("the controller has ended");
        }
    }
}
