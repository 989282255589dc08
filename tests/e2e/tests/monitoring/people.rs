//! What people do: many things at once, extensions, holds, policies that cannot be followed.

use std::time::Duration;

use anyhow::{Context, Result};
use curfew_core::metadata;
use curfew_e2e::{
    NODES, Workload, agents::ACCOUNT, bypass, eventually, knock::knock, policies::Policies,
};
use futures::{StreamExt, TryStreamExt, stream};
use kube::ResourceExt;
use serde_json::json;

use crate::Scene;

/// Pods on the second node that stay for the whole test, whoever reaches into them.
pub(crate) const STAYING: [&str; 5] = ["stays-0", "stays-1", "stays-2", "stays-3", "stays-4"];
/// Of those the webhook may not change this one.
pub(crate) const LOCKED: &str = "locked";
const GROUP: &str = "stays";
/// How soon an interaction is on the pod.
const MARKED: Duration = Duration::from_secs(10);
/// More than are thought many, within five seconds.
const MANY: usize = 200;
const CLIENTS: usize = 16;
/// The profile of a workload that need not exist.
const UNFIT: &str = "deployment.unfit";
/// The pod that the agent may not mark, and how often it is touched.
const UNMARKED: &str = "unmarked";
const TOUCHES: usize = 4;
const APART: Duration = Duration::from_secs(2);

/// Gives pods of the second node time to stay.
pub(crate) async fn let_some_stay(policies: &Policies<'_>) -> Result<()> {
    let spec = json!({
        "podSelector": {"matchLabels": {"group": GROUP}},
        "ttl": "1h",
        "maxExtension": "8h",
        "harmlessCommands": [["date"]],
    });
    policies.hold(&[("stays", spec)]).await
}

pub(crate) async fn work(scene: &Scene<'_>) -> Result<()> {
    let staying = STAYING.into_iter().chain([LOCKED]);
    let workloads: Vec<_> = staying
        .map(|name| Workload::new(name).on(NODES[1]).in_group(GROUP))
        .collect();
    scene.namespace.run_pods(&workloads).await?;
    let kubectl = &scene.namespace.kubectl;
    kubectl.ok(&["exec", STAYING[0], "--", "date"]).await?;
    for pod in STAYING {
        knock(&scene.cluster.client, &scene.namespace.name, pod, "first").await?;
    }
    for pod in STAYING {
        eventually(MARKED, "its timer is on the pod", async || {
            let pod = scene.namespace.pods().get(pod).await?;
            let timed = pod.annotations().contains_key(metadata::EVICTION_TIME);
            Ok(timed.then_some(()))
        })
        .await?;
    }
    // Once by less than there may be, and then each by all of it.
    kubectl
        .ok(&["pi", "extend", STAYING[0], "--duration=1h"])
        .await?;
    for pod in STAYING {
        kubectl
            .ok(&["pi", "extend", pod, "--duration=8h", "--yes"])
            .await?;
    }
    kubectl
        .ok(&["pi", "hold", STAYING[1], "--reason=to look at it"])
        .await?;
    scene.fires("CurfewExtensionsAtMaximum").await?;

    stream::iter(0..MANY)
        .map(async |at| {
            let (client, pod) = (&scene.cluster.client, STAYING[at % STAYING.len()]);
            knock(client, &scene.namespace.name, pod, &format!("again-{at}")).await
        })
        .buffer_unordered(CLIENTS)
        .try_collect::<Vec<_>>()
        .await?;
    scene.fires("CurfewManyInteractions").await?;
    scene.resolves("CurfewManyInteractions").await
}

/// A policy and a profile that the API server takes and that nobody can follow.
pub(crate) async fn cannot_write_policies(
    scene: &Scene<'_>,
    policies: &Policies<'_>,
) -> Result<()> {
    let spec = json!({"ttl": "1h", "podSelector": {"matchLabels": {"no key at all": "x"}}});
    policies
        .apply("unfit", spec)
        .await
        .context("it is refused")?;
    let profile = json!({
        "apiVersion": "curfew.dev/v1alpha1",
        "kind": "InteractionProfile",
        "metadata": {"name": UNFIT},
        "spec": {"allowed": [{}]},
    });
    let kubectl = &scene.namespace.kubectl;
    kubectl
        .feed(&["apply", "-f", "-"], &profile.to_string())
        .await?
        .success()?;
    scene.fires("CurfewPolicyRejected").await?;
    scene.fires("CurfewProfileUnfit").await?;
    policies.delete("unfit").await?;
    kubectl.ok(&["delete", "iprof", UNFIT]).await?;
    scene.resolves("CurfewPolicyRejected").await?;
    scene.resolves("CurfewProfileUnfit").await
}

/// Root of the node enters a container.
pub(crate) async fn bypass_the_api_server(scene: &Scene<'_>) -> Result<()> {
    let workload = Workload::new("entered").on(NODES[0]);
    let pod = scene.namespace.run_pod(&workload).await?;
    let session = bypass::enter(&pod, &["sleep", "10"]).await?;
    scene.fires("CurfewBypass").await?;
    drop(session);
    scene.resolves("CurfewBypass").await
}

/// A pod whose metadata the agent may not write. A policy of the API server holds after a while, and each touch
/// is to be written.
pub(crate) async fn see_no_marks(scene: &Scene<'_>) -> Result<()> {
    let rule = json!({
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"],
    });
    let expression =
        format!("request.name != '{UNMARKED}' || request.userInfo.username != '{ACCOUNT}'");
    scene.obstruct("unmarked", rule, &expression).await?;
    let workload = Workload::new(UNMARKED).on(NODES[0]);
    scene.namespace.run_pod(&workload).await?;
    for touch in 0..TOUCHES {
        let word = format!("touch-{touch}");
        let client = &scene.cluster.client;
        knock(client, &scene.namespace.name, UNMARKED, &word).await?;
        tokio::time::sleep(APART).await;
    }
    scene.fires("CurfewPodsNotMarked").await?;
    scene.clear("unmarked").await?;
    scene.resolves("CurfewPodsNotMarked").await
}
