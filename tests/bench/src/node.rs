//! A node without a kubelet, and pods that are said to run there: as the API server tells of them, they
//! are like any others, and they cost nothing.

use std::{ops::Range, time::Duration};

use anyhow::{Context, Result};
use curfew_core::{PodId, metadata};
use curfew_e2e::{Namespace, TestCluster, Workload, eventually, namespace::uid};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Node, Pod, Toleration};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    say,
    tidy::{remove, remove_all, tidily, unique},
};

/// The node lifecycle controller gives a node up after 50 s without a sign.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How many requests of ours are open at a time while the pods are made.
const AT_ONCE: usize = 16;

/// The node, and a namespace of the same name for its pods.
#[derive(Debug)]
pub(crate) struct PretendNode {
    /// Its name.
    pub(crate) name: String,
    /// Where its pods are.
    pub(crate) namespace: Namespace,
}

/// Makes the node, keeps it alive while it is used, and takes it away, with all namespaces whose names
/// begin with its own.
pub(crate) async fn within_node<T>(
    cluster: &TestCluster,
    purpose: &str,
    body: impl AsyncFnOnce(&PretendNode) -> Result<T>,
) -> Result<T> {
    within_node_and(cluster, purpose, body, async { Ok(()) }).await
}

/// The same where more is to be cleaned up, which comes first.
pub(crate) async fn within_node_and<T>(
    cluster: &TestCluster,
    purpose: &str,
    body: impl AsyncFnOnce(&PretendNode) -> Result<T>,
    restore: impl Future<Output = Result<()>>,
) -> Result<T> {
    let name = unique(purpose);
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let work = async {
        create(&nodes, &name).await?;
        let node = PretendNode {
            namespace: Namespace::create(cluster, &name).await?,
            name: name.clone(),
        };
        tokio::select! {
            done = body(&node) => done,
            failed = keep_alive(&nodes, &name) => Err(failed),
        }
    };
    let clean = async {
        say("cleaning up");
        let restored = restore.await;
        let namespaces: Api<NamespaceObject> = Api::all(cluster.client.clone());
        let removed = remove_all(namespaces, &name).await;
        // After its pods, which others collect from a node that is gone.
        let removed = removed.and(remove(nodes.clone(), &name).await);
        restored.and(removed)
    };
    tidily(work, clean).await
}

/// Makes a node that seems to be well.
pub(crate) async fn create(nodes: &Api<Node>, name: &str) -> Result<()> {
    let node: Node = serde_json::from_value(json!({
        // It has none of the labels of other nodes, so that no DaemonSet wants it.
        "metadata": {"name": name},
        "spec": {
            "unschedulable": true,
            "taints": [{"key": "curfew.dev/bench", "effect": "NoExecute"}],
        },
    }))?;
    nodes
        .create(&PostParams::default(), &node)
        .await
        .with_context(|| format!("cannot create the node {name}"))?;
    beat(nodes, name).await
}

/// Tells again and again that the node is well; returns when that is not taken.
async fn keep_alive(nodes: &Api<Node>, name: &str) -> anyhow::Error {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        if let Err(error) = beat(nodes, name).await {
            return error;
        }
    }
}

async fn beat(nodes: &Api<Node>, name: &str) -> Result<()> {
    let status = json!({"status": {"conditions": [{
        "type": "Ready",
        "status": "True",
        "reason": "Pretended",
        "lastHeartbeatTime": Timestamp::now().strftime("%FT%TZ").to_string(),
    }]}});
    nodes
        .patch_status(name, &PatchParams::default(), &Patch::Strategic(status))
        .await
        .map(drop)
        .with_context(|| format!("cannot tell that the node {name} is well"))
}

impl PretendNode {
    /// Makes so many pods on it, running as it seems, that go at once when they are to go.
    pub(crate) async fn run_pods(&self, count: usize) -> Result<Vec<PodId>> {
        say(&format!("making {count} pods on {}", self.name));
        self.make_pods(count).await
    }

    /// The same without a word.
    pub(crate) async fn make_pods(&self, count: usize) -> Result<Vec<PodId>> {
        self.make_more_pods(0..count).await
    }

    /// Makes those of these numbers.
    pub(crate) async fn make_more_pods(&self, numbers: Range<usize>) -> Result<Vec<PodId>> {
        stream::iter(numbers)
            .map(|at| self.run_pod(at))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn run_pod(&self, at: usize) -> Result<PodId> {
        let workload = Workload::new(&format!("pod-{at}"));
        let mut pod = workload.pod()?;
        let spec = pod.spec.as_mut().context("a pod without a spec")?;
        spec.node_name = Some(self.name.clone());
        spec.tolerations = Some(vec![Toleration {
            operator: Some("Exists".to_owned()),
            ..Toleration::default()
        }]);
        let pods = self.namespace.pods();
        let made = pods.create(&PostParams::default(), &pod).await?;
        let (name, status) = (made.name_any(), running(&made));
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
            .await?;
        Ok(PodId {
            namespace: self.namespace.name.clone(),
            uid: uid(&made)?,
            name,
        })
    }

    /// Waits until so many of its pods tell of an interaction.
    pub(crate) async fn marked(&self, count: usize, within: Duration) -> Result<()> {
        let selector = format!("{}={}", metadata::LABEL, metadata::INTERACTED);
        let marked = ListParams::default().labels(&selector);
        eventually(within, &format!("{count} pods are marked"), async || {
            // The list is long, and what it costs is taken from those who mark.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let pods = self.namespace.pods().list_metadata(&marked).await?.items;
            Ok((pods.len() == count).then_some(()))
        })
        .await
    }
}

/// The status that a kubelet would report.
pub(crate) fn running(pod: &Pod) -> serde_json::Value {
    let now = Timestamp::now().strftime("%FT%TZ").to_string();
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .map(|of| json!({"type": of, "status": "True", "lastTransitionTime": now}));
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let containers: Vec<_> = containers
        .map(|container| {
            json!({
                "name": container.name,
                "image": container.image,
                "imageID": "sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "containerID": "containerd://0000000000000000000000000000000000000000000000000000000000000000",
                "ready": true,
                "started": true,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            })
        })
        .collect();
    json!({"status": {
        "phase": "Running",
        "startTime": now,
        "conditions": conditions,
        "containerStatuses": containers,
    }})
}
