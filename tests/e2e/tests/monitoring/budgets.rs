//! What keeps pods of the first node from being evicted.

use std::time::Duration;

use anyhow::Result;
use curfew_e2e::{NODES, Namespace, Workload, eventually, knock::knock};
use serde_json::{Value, json};

use crate::Scene;

/// An agent asks again more and more seldom, and that is not sixty times faster here: so there are some pods, whose
/// times end one after the other.
const ALIKE: usize = 5;
const APART: Duration = Duration::from_millis(1500);
/// In whose way an admission policy stands.
const DENIED: &str = "denied";
/// What more than one budget covers.
const TWICE: &str = "twice";
/// What one budget covers that never has room.
const WEB: &str = "web";

pub(crate) async fn stand_in_the_way(scene: &Scene<'_>) -> Result<()> {
    let namespace = scene.namespace;
    let rule = json!({
        "apiGroups": [""], "apiVersions": ["v1"],
        "operations": ["CREATE"], "resources": ["pods/eviction"],
    });
    let expression = format!("!request.name.startsWith('{DENIED}')");
    scene.obstruct("evictions", rule, &expression).await?;
    let pods: Vec<_> = (0..ALIKE)
        .flat_map(|at| {
            [
                named(DENIED, at),
                Workload::new(&format!("{TWICE}-{at}"))
                    .on(NODES[0])
                    .in_group(TWICE),
            ]
        })
        .collect();
    let web = Workload::new(WEB).on(NODES[0]);
    let (web, _) = tokio::try_join!(namespace.run_deployment(&web, 2), namespace.run_pods(&pods))?;
    budget(namespace, WEB, json!({"app": WEB}), 2).await?;
    for name in ["one", "other"] {
        budget(namespace, name, json!({"group": TWICE}), 0).await?;
    }

    let first = web[0].metadata.name.clone().unwrap_or_default();
    let touch = async |pod: &str| knock(&scene.cluster.client, &namespace.name, pod, "true").await;
    touch(&first).await?;
    for at in 0..ALIKE {
        touch(&format!("{DENIED}-{at}")).await?;
        touch(&format!("{TWICE}-{at}")).await?;
        // Between their deadlines, not for anything to happen.
        tokio::time::sleep(APART).await;
    }
    tokio::try_join!(
        async {
            scene.fires("CurfewEvictionForbidden").await?;
            scene.fires("CurfewEvictionsOverdue").await?;
            scene.clear("evictions").await?;
            scene.resolves("CurfewEvictionForbidden").await
        },
        async {
            scene.fires("CurfewSeveralDisruptionBudgets").await?;
            namespace.kubectl.ok(&["delete", "pdb", "other"]).await?;
            scene.resolves("CurfewSeveralDisruptionBudgets").await
        },
        async {
            // An hour, which is a minute here, and before it the time to live.
            let an_hour = Duration::from_secs(100);
            scene
                .monitoring
                .fires("CurfewEvictionBlocked", an_hour)
                .await?;
            let args = ["scale", "deployment", WEB, "--replicas=3"];
            namespace.kubectl.ok(&args).await?;
            scene.resolves("CurfewEvictionBlocked").await
        },
    )?;
    scene.resolves("CurfewEvictionsOverdue").await
}

fn named(name: &str, at: usize) -> Workload {
    Workload::new(&format!("{name}-{at}")).on(NODES[0])
}

/// A budget, once its controller has looked at it.
async fn budget(namespace: &Namespace, name: &str, labels: Value, least: u32) -> Result<()> {
    let object = json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {"minAvailable": least, "selector": {"matchLabels": labels}},
    });
    let kubectl = &namespace.kubectl;
    kubectl
        .feed(&["create", "-f", "-"], &object.to_string())
        .await?
        .success()?;
    let args = ["get", "pdb", name, "-o", "jsonpath={.status.expectedPods}"];
    eventually(
        Duration::from_secs(15),
        &format!("{name} has its numbers"),
        async || {
            let expected = kubectl.ok(&args).await?;
            Ok((!expected.is_empty() && expected != "0").then_some(()))
        },
    )
    .await
}
