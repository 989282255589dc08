//! The API server and etcd are away while pods become due.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::super::{
    Scenario, boxed,
    scene::Scene,
    senses::Sign::{Any, Fell, Rose},
    tools,
};
use crate::disrupt;

/// How long they are away.
const AWAY: Duration = Duration::from_secs(90);

/// The outage.
pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "outage",
    what: "API server and etcd killed, away for 90 s",
    later: 120,
    told: &[Any(&[
        Rose("agent", "curfew_agent_watch_errors_total"),
        Fell("agent", "curfew_agent_watch_synced"),
    ])],
    strike: |scene| boxed(outage(scene)),
    renews: true,
}];

async fn outage(scene: &Scene) -> Result<()> {
    let cluster = &scene.namespace.cluster;
    scene.touch().await?;
    disrupt::on_machine(cluster, tools::kill_api).await?;
    sleep(AWAY).await;
    disrupt::on_machine(cluster, tools::start_api).await?;
    scene.returned();
    disrupt::restart_controllers(cluster).await
}
