//! What happens when the webhook is away.

use std::time::Duration;

use anyhow::Result;
use curfew_cluster::Minor;
use curfew_e2e::{
    NODES, TestCluster, Workload,
    disrupt::{self, DEPLOYMENT},
    eventually,
    knock::knock,
    skip,
};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};

use crate::Scene;

const NAME: &str = "curfew-webhook";
/// Due while the webhook is away, which agents that act as their nodes do not need.
const DUE: &str = "due";

pub(crate) async fn goes_and_comes_back(scene: &Scene<'_>) -> Result<()> {
    let namespace = scene.namespace;
    namespace.run_pod(&Workload::new(DUE).on(NODES[0])).await?;
    knock(&scene.cluster.client, &namespace.name, DUE, "true").await?;
    scale(scene.cluster, 0).await?;
    scene.fires("CurfewWebhookDown").await?;
    if !skip::part_unless(scene.cluster, Minor::agents_act_as_nodes, skip::GUARDED).await? {
        let what = "the pod is evicted without the webhook";
        eventually(Duration::from_secs(60), what, async || {
            Ok(namespace.pods().get_opt(DUE).await?.is_none().then_some(()))
        })
        .await?;
    }
    scale(scene.cluster, 1).await?;
    scene.resolves("CurfewWebhookDown").await?;
    scene.fires("CurfewWebhookNotRedundant").await?;
    scale(scene.cluster, 2).await?;
    scene.resolves("CurfewWebhookNotRedundant").await?;
    loses_its_configuration(scene).await
}

/// Somebody deletes the configuration, and the webhook may not write it anew.
async fn loses_its_configuration(scene: &Scene<'_>) -> Result<()> {
    let bindings: Api<ClusterRoleBinding> = Api::all(scene.cluster.client.clone());
    let mut binding = bindings.get(NAME).await?;
    binding.metadata.resource_version = None;
    binding.metadata.uid = None;
    bindings.delete(NAME, &DeleteParams::default()).await?;
    let kubectl = scene.cluster.kubectl();
    let deleted = kubectl
        .ok(&["delete", "validatingwebhookconfiguration", NAME])
        .await;
    let fired = scene.fires("CurfewWebhookNotRegistered").await;
    bindings.create(&PostParams::default(), &binding).await?;
    deleted?;
    fired?;
    scene.resolves("CurfewWebhookNotRegistered").await
}

/// Takes back all that is done to it here and for the agents.
pub(crate) async fn mend(cluster: &TestCluster) -> Result<()> {
    scale(cluster, 2).await?;
    let own = "CURFEW_CERTIFICATE_LIFETIME-";
    disrupt::kubectl(cluster)
        .ok(&["set", "env", DEPLOYMENT, own])
        .await
        .map(drop)
}

async fn scale(cluster: &TestCluster, replicas: usize) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    disrupt::kubectl(cluster)
        .ok(&["scale", DEPLOYMENT, &replicas])
        .await
        .map(drop)
}
