//! Removing and installing Curfew never stands in anybody's way. It needs the cluster for itself, and so is a binary
//! of its own.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, NODES, Namespace, Workload, figures,
    installation::{self, INTERACTION},
    life, marks,
    namespace::uid,
    within_namespace,
};

/// As long as one pod is used: far shorter than its time to live.
const TURN: Duration = Duration::from_secs(8);
const PODS: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_and_installation_block_nobody() {
    within_namespace("install", async |namespace| {
        let pods: Vec<_> = (0..PODS)
            .map(|at| Workload::new(&format!("pod-{at}")).on(NODES[at % 2]))
            .collect();
        namespace.run_pods(&pods).await?;
        let over = AtomicBool::new(false);
        let (changed, execs) = tokio::join!(
            async {
                let changed = remove_and_install(namespace).await;
                over.store(true, Ordering::Relaxed);
                changed
            },
            keep_executing(namespace, &over),
        );
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

/// Reaches into pods without a pause; each that fails ends the test.
async fn keep_executing(namespace: &Namespace, over: &AtomicBool) -> Result<usize> {
    let began = Instant::now();
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let turn = began.elapsed().as_secs() / TURN.as_secs();
        ensure!(
            (turn as usize) < PODS,
            "it takes longer than there are pods for"
        );
        let pod = format!("pod-{turn}");
        let said = namespace.kubectl.run(&["exec", &pod, "--", "true"]).await?;
        ensure!(
            said.code == Some(0),
            "after {count} execs, {:?} in: {said:?}",
            began.elapsed()
        );
        count += 1;
    }
    Ok(count)
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
