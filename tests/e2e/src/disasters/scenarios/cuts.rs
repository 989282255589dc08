//! Connections between the parts that do not come about.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::super::{
    Scenario, boxed,
    scene::Scene,
    senses::Sign::{Any, Fell, Rose},
    tools,
};
use crate::{
    NODES,
    firewall::{API_SERVER, Firewall, NOTICES, Rule},
};

const FOR: Duration = Duration::from_secs(60);

/// From the webhook to the agents, and from those to the API server.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "cut-webhook-agent",
        what: "webhook cannot reach any agent for 60 s",
        later: 75,
        told: &[Rose("webhook", "curfew_webhook_agents_unreachable")],
        strike: |scene| boxed(cut_notices(scene)),
        renews: true,
    },
    Scenario {
        name: "cut-agent-api-server",
        what: "agents cannot reach the API server for 60 s",
        later: 75,
        told: &[Any(&[
            Rose("agent", "curfew_agent_watch_errors_total"),
            Fell("agent", "curfew_agent_watch_synced"),
        ])],
        strike: |scene| boxed(cut_api(scene)),
        renews: true,
    },
];

async fn close(scene: &Scene, rule: Rule) -> Result<Vec<Firewall>> {
    let mut closed = Vec::new();
    let cluster = &scene.namespace.cluster;
    for node in NODES {
        let pid = tools::agent(cluster, node).await?;
        closed.push(Firewall::close(&cluster.machine, pid, &[rule])?);
    }
    Ok(closed)
}

async fn cut_notices(scene: &Scene) -> Result<()> {
    let closed = close(scene, NOTICES).await?;
    // The record goes to the pod, and its agent learns of it by its watch.
    scene.touch().await?;
    sleep(FOR).await;
    open(closed)?;
    scene.returned();
    Ok(())
}

async fn cut_api(scene: &Scene) -> Result<()> {
    scene.touch().await?;
    let closed = close(scene, API_SERVER).await?;
    sleep(FOR).await;
    open(closed)?;
    scene.returned();
    Ok(())
}

fn open(closed: Vec<Firewall>) -> Result<()> {
    closed.into_iter().try_for_each(Firewall::open)
}
