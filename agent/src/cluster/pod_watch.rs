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

use super::{Observation, container_facts::facts};
use crate::evidence::PodsOnNode;

/// A pod with no more fields than a [`PodView`] needs.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = "Pod")]
pub(crate) struct WatchedPod {
    metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: WatchedSpec,
    #[serde(default)]
    pub(crate) status: WatchedStatus,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WatchedSpec {
    node_name: Option<String>,
    priority: Option<i32>,
    #[serde(default)]
    pub(crate) containers: Vec<WatchedContainer>,
    /// Those that stay run probes, too.
    #[serde(default)]
    pub(crate) init_containers: Vec<WatchedContainer>,
}

/// What the kubelet runs in a container by itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WatchedContainer {
    pub(crate) name: String,
    pub(crate) liveness_probe: Option<WatchedProbe>,
    pub(crate) readiness_probe: Option<WatchedProbe>,
    pub(crate) startup_probe: Option<WatchedProbe>,
    pub(crate) lifecycle: Option<WatchedLifecycle>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WatchedProbe {
    pub(crate) timeout_seconds: Option<u32>,
    #[serde(flatten)]
    pub(crate) handler: WatchedHandler,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WatchedLifecycle {
    pub(crate) post_start: Option<WatchedHandler>,
    pub(crate) pre_stop: Option<WatchedHandler>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct WatchedHandler {
    exec: Option<WatchedCommand>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct WatchedCommand {
    #[serde(default)]
    command: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WatchedStatus {
    phase: Option<String>,
    #[serde(default)]
    conditions: Vec<WatchedCondition>,
    #[serde(default)]
    container_statuses: Vec<WatchedContainerStatus>,
    #[serde(default)]
    init_container_statuses: Vec<WatchedContainerStatus>,
    #[serde(default)]
    ephemeral_container_statuses: Vec<WatchedContainerStatus>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WatchedContainerStatus {
    pub(crate) name: String,
    /// As `containerd://ID`.
    #[serde(rename = "containerID")]
    pub(crate) container_id: Option<String>,
    #[serde(default)]
    state: WatchedContainerState,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct WatchedContainerState {
    terminated: Option<serde_json::Value>,
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

    /// Which pod it is.
    pub(crate) fn id(&self) -> PodId {
        let meta = &self.metadata;
        PodId {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }

    /// Its metadata.
    pub(crate) fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    /// Whether it has the label of pods that were interacted with.
    pub(crate) fn is_marked(&self) -> bool {
        let labels = self.metadata.labels.as_ref();
        let label = labels.and_then(|labels| labels.get(metadata::LABEL));
        label.map(String::as_str) == Some(metadata::INTERACTED)
    }

    /// Its priority, which admission has set.
    pub(crate) fn priority(&self) -> Option<i32> {
        self.spec.priority
    }
}

impl WatchedSpec {
    /// All containers that can have probes and hooks.
    pub(crate) fn all_containers(&self) -> impl Iterator<Item = &WatchedContainer> {
        self.containers.iter().chain(&self.init_containers)
    }
}

impl WatchedStatus {
    /// The containers of all kinds, and whether each is an ephemeral one.
    pub(crate) fn all_containers(&self) -> impl Iterator<Item = (&WatchedContainerStatus, bool)> {
        let statuses = self.container_statuses.iter();
        let statuses = statuses.chain(&self.init_container_statuses);
        let ephemeral = self.ephemeral_container_statuses.iter();
        let statuses = statuses.map(|status| (status, false));
        statuses.chain(ephemeral.map(|status| (status, true)))
    }
}

impl WatchedContainerStatus {
    /// Whether it has ended, and was not started again yet.
    pub(crate) fn has_terminated(&self) -> bool {
        self.state.terminated.is_some()
    }
}

impl WatchedHandler {
    /// The command that runs in the container, if it is one.
    pub(crate) fn command(&self) -> Option<&[String]> {
        Some(self.exec.as_ref()?.command.as_slice())
    }
}

impl From<WatchedPod> for PodView {
    fn from(pod: WatchedPod) -> Self {
        let (id, labelled) = (pod.id(), pod.is_marked());
        let meta = pod.metadata;
        let termination = termination(&meta);
        let annotations = meta.annotations.unwrap_or_default();
        let owners = meta.owner_references.unwrap_or_default();
        let controller = owners.iter().find(|owner| owner.controller == Some(true));
        let controller = controller.map(|owner| Owner {
            api_version: &owner.api_version,
            kind: &owner.kind,
        });
        let marks = metadata::read(&id, &annotations).unwrap_or_else(|error| {
            tracing::warn!(pod = %id, uid = id.uid, %error, "the pod's metadata cannot be read");
            Marks {
                evict_now: metadata::evict_now(&annotations),
                ..Marks::default()
            }
        });
        let state = PodSnapshot {
            version: meta.resource_version.unwrap_or_default(),
            labelled,
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

/// Watches the pods of the node and reports what it sees, for as long as somebody takes that. The thread that looks at
/// containers is told of them, too.
///
/// # Errors
/// When nobody takes it any more; the watch does not end by itself.
pub(crate) async fn watch(
    watch: Watch,
    client: Client,
    node: &str,
    observations: mpsc::Sender<Observation>,
    mut containers: PodsOnNode,
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
                containers.seen(pod.id(), || facts(&pod));
                let pod = PodView::from(pod);
                listed.insert(pod.id.uid.clone());
                Observation::PodSeen(Box::new(pod))
            }
            Ok(Some(watcher::Event::InitDone)) => {
                containers.listed(&listed);
                Observation::PodsListed(std::mem::take(&mut listed))
            }
            Ok(Some(watcher::Event::Apply(pod))) => {
                containers.seen(pod.id(), || facts(&pod));
                Observation::PodSeen(Box::new(pod.into()))
            }
            Ok(Some(watcher::Event::Delete(pod))) => {
                let uid = pod.id().uid;
                containers.gone(&uid);
                Observation::PodGone(uid)
            }
            Ok(None) => anyhow::bail!("the watch of the node's pods ended"),
            Err(error) => Observation::WatchFailed(error_chain::watch(&error)),
        };
        if observations.send(seen).await.is_err() {
            anyhow::bail!("the controller has ended");
        }
    }
}
