//! Pods that are to be evicted and that somebody else takes away.

use std::time::Duration;

use anyhow::{Context, Result};

use super::super::{Scenario, boxed, scene::Scene};
use crate::{NODES, disrupt, eventually};

const FORGOTTEN: Duration = Duration::from_secs(30);
const DRAINED: Duration = Duration::from_secs(60);

/// A namespace that is deleted, and a node that is drained.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "namespace-deleted",
        what: "a namespace with due pods deleted",
        later: 30,
        told: &[],
        strike: |scene| boxed(delete(scene)),
        renews: false,
    },
    Scenario {
        name: "drain",
        what: "`kubectl drain` of a node with due pods",
        later: 40,
        told: &[],
        strike: |scene| boxed(drain(scene)),
        renews: true,
    },
];

async fn delete(scene: &Scene) -> Result<()> {
    scene.touch().await?;
    scene.leaves(None);
    scene.namespace.remove().await?;
    scene.returned();
    if let Err(error) = scene.forgotten(FORGOTTEN).await {
        scene.find(format!("{error:#}"));
    }
    Ok(())
}

async fn drain(scene: &Scene) -> Result<()> {
    let cluster = &scene.namespace.cluster;
    scene.touch().await?;
    let node = NODES[1];
    scene.leaves(Some(node));
    let kubectl = cluster.kubectl();
    let args = [
        "drain",
        node,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        "--timeout=50s",
    ];
    let said = kubectl.run(&args).await?;
    if said.code != Some(0) {
        scene.find(format!("the drain did not end: {}", said.stderr));
    }
    kubectl.ok(&["uncordon", node]).await?;
    eventually(DRAINED, "the webhook has its replicas", async || {
        disrupt::rolled_out(cluster, disrupt::DEPLOYMENT)
            .await
            .map(Some)
    })
    .await
    .context("after the drain")?;
    scene.returned();
    scene.replant().await
}
