//! Removing and installing Curfew never stands in anybody's way. It needs the cluster for itself, and so is a binary
//! of its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, NODES, Namespace, Workload, execs, figures,
    installation::{self, INTERACTION},
    life, marks,
    namespace::uid,
    within_namespace,
};

/// Longer than it takes.
const LONGEST: Duration = Duration::from_secs(192);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_and_installation_block_nobody() {
    within_namespace("install", async |namespace| {
        let pods = execs::populate(namespace, LONGEST).await?;
        let (changed, execs) = execs::during(namespace, pods, remove_and_install(namespace)).await;
        // Whatever happens to the rest: the cluster is left with Curfew on it.
        if changed.is_err() {
            installation::install(&namespace.cluster).await?;
        }
        let execs = execs?;
        changed?;
        let shown = format!("{execs} execs meanwhile, none failed");
        figures::report(&namespace.cluster, "install", &shown)
    })
    .await;
}

async fn remove_and_install(namespace: &Namespace) -> Result<()> {
    let cluster = &namespace.cluster;
    ensure!(
        installation::webhooks(cluster)
            .await?
            .contains(&INTERACTION.to_owned()),
        "Curfew is not installed"
    );
    installation::remove(cluster).await?;

    // Nobody takes notice any more.
    let free = namespace
        .run_pod(&Workload::new("free").on(NODES[0]))
        .await?;
    for _ in 0..5 {
        namespace
            .kubectl
            .ok(&["exec", "free", "--", "true"])
            .await?;
    }
    installation::install(cluster).await?;
    marks::clean(&namespace.pods().get("free").await?)?;

    let pod = namespace
        .run_pod(&Workload::new("guarded").on(NODES[1]))
        .await?;
    namespace
        .kubectl
        .ok(&["exec", "guarded", "--", "true"])
        .await?;
    let agents = Agents::connect(&namespace.cluster).await?;
    let record = agents.record_only_on(NODES[1], &uid(&pod)?).await;
    let record = record.context("after the installation nothing is recorded")?;
    ensure!(agents.records(&uid(&free)?).await?.is_empty());
    marks::told(namespace, &record, life::PROMPT).await
}
