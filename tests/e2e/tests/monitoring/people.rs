//! What people do: many things at once, extensions, holds, policies that cannot be followed.

use anyhow::{Context, Result};
use curfew_e2e::{NODES, Workload, knock::knock, policies::Policies};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::Scene;

/// Pods on the second node that stay for the whole test, whoever reaches into them.
pub(crate) const STAYING: [&str; 5] = ["stays-0", "stays-1", "stays-2", "stays-3", "stays-4"];
/// Of those the webhook may not change this one.
pub(crate) const LOCKED: &str = "locked";
const GROUP: &str = "stays";
/// More than are thought many, within five seconds.
const MANY: usize = 200;
const CLIENTS: usize = 16;

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

/// A policy that the API server takes and that nobody can follow.
pub(crate) async fn cannot_write_policies(
    scene: &Scene<'_>,
    policies: &Policies<'_>,
) -> Result<()> {
    let spec = json!({"ttl": "1h", "podSelector": {"matchLabels": {"no key at all": "x"}}});
    policies
        .apply("unfit", spec)
        .await
        .context("it is refused")?;
    scene.fires("CurfewPolicyRejected").await?;
    policies.delete("unfit").await?;
    scene.resolves("CurfewPolicyRejected").await
}
