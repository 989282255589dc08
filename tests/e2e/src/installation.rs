//! Curfew is removed, installed, and installed as on API servers where agents cannot act as their nodes.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::{admissionregistration::v1::ValidatingWebhookConfiguration, core::v1::Pod};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    CURFEW, TestCluster,
    agents::sample,
    cluster::selector,
    disrupt::{self, DAEMONSET, DEPLOYMENT},
    eventually,
};

/// The webhook that is asked about interactions.
pub const INTERACTION: &str = "interaction.curfew.dev";
/// The webhook that is asked about evictions by the agents' own account.
pub const GUARD: &str = "eviction.curfew.dev";
/// The ClusterRole of agents that do not act as their nodes, and its binding.
pub const LEGACY_ROLE: &str = "curfew-agent-legacy";

/// The ClusterRole of agents that look into containers, and its binding.
pub const EVIDENCE_ROLE: &str = "curfew-agent-evidence";

/// What Curfew is deployed from.
const OVERLAY: &str = "test-cluster";
const PATIENCE: Duration = Duration::from_secs(120);

/// Installs Curfew, or what is missing of it.
pub async fn install(cluster: &TestCluster) -> Result<()> {
    apply(cluster, OVERLAY).await?;
    registered(cluster, INTERACTION, true).await
}

/// Installs it so that it evicts nothing unless a policy says so.
pub async fn install_with_a_dry_run(cluster: &TestCluster) -> Result<()> {
    apply(cluster, "test-cluster-dry-run").await?;
    registered(cluster, INTERACTION, true).await
}

/// Whether Curfew's namespace is there.
pub async fn is_installed(cluster: &TestCluster) -> Result<bool> {
    let args = [
        "get",
        "namespace",
        CURFEW,
        "--ignore-not-found",
        "-o",
        "name",
    ];
    Ok(!cluster.kubectl().ok(&args).await?.is_empty())
}

/// Removes Curfew.
///
/// # Errors
/// When something of it is left.
pub async fn remove(cluster: &TestCluster) -> Result<()> {
    let (kubectl, overlay) = (cluster.kubectl(), cluster.overlay(OVERLAY).await?);
    let overlay = overlay.to_string_lossy();
    kubectl
        .ok(&["delete", "-k", &overlay, "--wait=false"])
        .await?;
    eventually(PATIENCE, "Curfew is gone", async || {
        Ok((!is_installed(cluster).await?).then_some(()))
    })
    .await?;
    ensure!(
        webhooks(cluster).await?.is_empty(),
        "a webhook was left behind"
    );
    let kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,\
                 flowschemas,prioritylevelconfigurations";
    let ours = "--selector=app.kubernetes.io/name=curfew";
    let left = kubectl.ok(&["get", kinds, ours, "-o", "name"]).await?;
    ensure!(left.is_empty(), "left behind: {left}");
    Ok(())
}

/// Installs the legacy component, and takes from the agents the right to act as their nodes. Where they cannot do
/// that, Curfew is installed like this already.
pub async fn go_back_to_legacy(cluster: &TestCluster) -> Result<()> {
    if !cluster.kubernetes().await?.agents_act_as_nodes() {
        return restart_agents(cluster, false).await;
    }
    apply(cluster, "test-cluster-legacy").await?;
    registered(cluster, GUARD, true).await?;
    restart_agents(cluster, false).await
}

/// Undoes that.
pub async fn leave_legacy(cluster: &TestCluster) -> Result<()> {
    if !cluster.kubernetes().await?.agents_act_as_nodes() {
        return Ok(());
    }
    apply(cluster, OVERLAY).await?;
    for kind in ["clusterrolebinding", "clusterrole"] {
        let args = ["delete", kind, LEGACY_ROLE, "--ignore-not-found"];
        cluster.kubectl().ok(&args).await?;
    }
    registered(cluster, GUARD, false).await?;
    restart_agents(cluster, true).await
}

/// Installs the base alone: agents that do not look into containers, and have no right to. [`install`] undoes that.
pub async fn take_evidence_off(cluster: &TestCluster) -> Result<()> {
    apply(cluster, "test-cluster-without-evidence").await?;
    for kind in ["clusterrolebinding", "clusterrole"] {
        let args = ["delete", kind, EVIDENCE_ROLE, "--ignore-not-found"];
        cluster.kubectl().ok(&args).await?;
    }
    registered(cluster, INTERACTION, true).await
}

/// The names of all registered webhooks.
pub async fn webhooks(cluster: &TestCluster) -> Result<Vec<String>> {
    let all: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client.clone());
    let configurations = all.list(&ListParams::default()).await?.items;
    let webhooks = configurations
        .into_iter()
        .flat_map(|configuration| configuration.webhooks.unwrap_or_default());
    Ok(webhooks.map(|webhook| webhook.name).collect())
}

async fn apply(cluster: &TestCluster, overlay: &str) -> Result<()> {
    let overlay = cluster.overlay(overlay).await?;
    let overlay = overlay.to_string_lossy();
    cluster.kubectl().ok(&["apply", "-k", &overlay]).await?;
    for workload in [DAEMONSET, DEPLOYMENT] {
        disrupt::rolled_out(cluster, workload).await?;
    }
    // Replicas of before answer until they have ended.
    let all: Api<Pod> = Api::namespaced(cluster.client.clone(), CURFEW);
    let of = ListParams::default().labels(&selector("webhook"));
    eventually(PATIENCE, "replicas of before have ended", async || {
        let ending = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        Ok((!all.list(&of).await?.iter().any(ending)).then_some(()))
    })
    .await
}

/// Waits until a webhook is registered, or is not.
pub async fn registered(cluster: &TestCluster, webhook: &str, wanted: bool) -> Result<()> {
    let what = format!("{webhook} is registered: {wanted}");
    eventually(PATIENCE, &what, async || {
        let is = webhooks(cluster).await?.iter().any(|name| name == webhook);
        Ok((is == wanted).then_some(()))
    })
    .await
}

/// Has the agents find out again as whom they act, and waits until they say so.
async fn restart_agents(cluster: &TestCluster, as_node: bool) -> Result<()> {
    disrupt::kubectl(cluster)
        .ok(&["rollout", "restart", DAEMONSET])
        .await?;
    disrupt::rolled_out(cluster, DAEMONSET).await?;
    let what = format!("the agents act as their nodes: {as_node}");
    eventually(PATIENCE, &what, async || {
        for pod in cluster.pods_of("agent").await? {
            let metrics = disrupt::metrics(&pod).await?;
            let acts = sample(&metrics, "curfew_agent_acts_as_node");
            ensure!(
                acts == Some(f64::from(u8::from(as_node))),
                "{} says {acts:?}",
                pod.name_any()
            );
        }
        Ok(Some(()))
    })
    .await
}
