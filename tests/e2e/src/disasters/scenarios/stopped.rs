//! Processes that neither answer nor end (SIGSTOP), alone and in pairs.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::super::{
    Scenario, boxed,
    scene::Scene,
    senses::Sign::{self, Any, Fell, Rose, Silent},
    tools::{self, Stopped},
};
use crate::NODES;

/// Longer than the pods have to live.
const FOR: Duration = Duration::from_secs(30);
const WATCH: Sign = Any(&[
    Rose("agent", "curfew_agent_watch_errors_total"),
    Fell("agent", "curfew_agent_watch_synced"),
    Rose("agent", "curfew_agent_longest_overdue_seconds"),
]);

#[derive(Debug, Clone, Copy)]
enum Part {
    Webhook,
    Webhooks,
    Agents,
    ApiServer,
    Kubelet,
}

const fn scenario(
    name: &'static str,
    what: &'static str,
    told: &'static [Sign],
    strike: super::super::Strike,
) -> Scenario {
    Scenario {
        name,
        what,
        later: 45,
        told,
        strike,
        renews: true,
    }
}

/// Each part, and pairs of them.
pub(super) const ALL: &[Scenario] = &[
    scenario(
        "stop-webhook",
        "one replica of the webhook stopped for 30 s",
        &[Silent("webhook")],
        |scene| boxed(stop(scene, &[Part::Webhook])),
    ),
    scenario(
        "stop-webhooks",
        "both replicas of the webhook stopped for 30 s",
        &[Silent("webhook")],
        |scene| boxed(stop(scene, &[Part::Webhooks])),
    ),
    scenario(
        "stop-agents",
        "both agents stopped for 30 s",
        &[Silent("agent")],
        |scene| boxed(stop(scene, &[Part::Agents])),
    ),
    scenario(
        "stop-api-server",
        "API server stopped for 30 s",
        &[WATCH],
        |scene| boxed(stop(scene, &[Part::ApiServer])),
    ),
    scenario(
        "stop-kubelet",
        "kubelet of node-1 stopped for 30 s",
        // It is Kubernetes that tells of this one: the node is not ready.
        &[],
        |scene| boxed(stop(scene, &[Part::Kubelet])),
    ),
    scenario(
        "stop-webhook-agents",
        "one replica of the webhook and both agents stopped for 30 s",
        &[Silent("webhook"), Silent("agent")],
        |scene| boxed(stop(scene, &[Part::Webhook, Part::Agents])),
    ),
    scenario(
        "stop-agents-api-server",
        "both agents and the API server stopped for 30 s",
        &[Silent("agent")],
        |scene| boxed(stop(scene, &[Part::Agents, Part::ApiServer])),
    ),
    scenario(
        "stop-api-server-kubelet",
        "API server and kubelet of node-1 stopped for 30 s",
        &[WATCH],
        |scene| boxed(stop(scene, &[Part::ApiServer, Part::Kubelet])),
    ),
];

async fn stop(scene: &Scene, parts: &[Part]) -> Result<()> {
    let cluster = &scene.namespace.cluster;
    scene.touch().await?;
    let mut pids = Vec::new();
    for part in parts {
        match part {
            Part::Webhook => pids.extend(tools::webhooks(cluster).await?.into_iter().take(1)),
            Part::Webhooks => pids.extend(tools::webhooks(cluster).await?),
            Part::Agents => {
                for node in NODES {
                    pids.push(tools::agent(cluster, node).await?);
                }
            }
            Part::ApiServer => pids.push(component(scene, "kube-apiserver")?),
            Part::Kubelet => pids.push(component(scene, "node-1-kubelet")?),
        }
    }
    let mut stopped = Stopped::default();
    for pid in pids {
        stopped.stop(pid)?;
    }
    sleep(FOR).await;
    drop(stopped);
    scene.returned();
    Ok(())
}

fn component(scene: &Scene, name: &str) -> Result<i32> {
    let pid = scene.namespace.cluster.machine.pid(name);
    pid.with_context(|| format!("{name} does not run"))
}
