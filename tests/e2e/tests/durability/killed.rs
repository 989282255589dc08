//! An agent that is killed right after an exec returned.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, NODES, Namespace, PodWatch, Workload, disrupt, eventually, figures, life,
    namespace::uid,
};
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::{Touched, alone, exec, told_once};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_still_knows_and_evicts() {
    alone("killed", async |namespace| {
        let workloads = NODES.map(|node| Workload::new(&format!("on-{node}")).on(node));
        let pods = namespace.run_pods(&workloads).await?;
        let watch = namespace.watch().await?;
        let both = NODES.into_iter().zip(&pods);
        try_join_all(both.map(|(node, pod)| exec_and_kill(namespace, &watch, node, pod))).await?;
        Ok(())
    })
    .await;
}

async fn exec_and_kill(
    namespace: &Namespace,
    watch: &PodWatch,
    node: &str,
    pod: &Pod,
) -> Result<()> {
    let cluster = &namespace.cluster;
    let agent = disrupt::agent_of(cluster, node).await?.name_any();
    let process = disrupt::process_of("agent", &agent).context("its process is not found")?;
    let before = Timestamp::from_second(Timestamp::now().as_second())?;
    exec(namespace, pod, "id").await?;
    disrupt::kill_process(process)?;
    let killed = Timestamp::now();

    let uid = uid(pod)?;
    let what = format!("the agent of {node} is back with its record");
    let record = eventually(Duration::from_secs(30), &what, async || {
        let now = disrupt::process_of("agent", &agent);
        ensure!(now.is_some_and(|now| now != process), "it does not run");
        let agents = Agents::connect(cluster).await?;
        agents.record_only_on(node, &uid).await.map(Some)
    })
    .await?;
    let away = Timestamp::now().duration_since(killed);
    ensure!(
        record.decisive.time >= before && record.decisive.time <= killed,
        "the time of the interaction is not what it was: {record:?}"
    );
    ensure!(record.interactions == 1, "{record:?}");
    let deadline = record.deadline()?;
    let back = Timestamp::now();
    // It is back long before the deadline; a kubelet that waits longer must not fail the test.
    let by = deadline.max(back);
    let late = watch
        .evicted(
            &uid,
            deadline,
            by.duration_since(deadline) + life::TOLERANCE,
        )
        .await?;
    let shown = format!(
        "back with its record after {} ms, evicted {} ms after the deadline",
        away.as_millis(),
        late.as_millis()
    );
    figures::report(&namespace.cluster, &format!("killed-{node}"), &shown)?;
    let touched = Touched {
        name: record.name,
        uid,
        deadline,
    };
    told_once(namespace, &touched).await
}
