//! Many people at once. Alone in its binary, because it measures.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use curfew_e2e::{
    Agents, NODES, Namespace, PodWatch, Scheduled, Workload,
    figures::{distribution, report},
    life,
    namespace::uid,
    within_namespace,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

const PODS: usize = 40;
const CLIENTS: usize = 10;

/// A pod that somebody is to reach into.
struct Target {
    name: String,
    uid: String,
    node: &'static str,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_pods_and_ten_clients() {
    within_namespace("many", async |namespace| {
        let agents = Arc::new(Agents::connect(&namespace.cluster).await?);
        let targets = start(namespace).await?;
        let watch = namespace.watch().await?;
        let began = Instant::now();
        let done: Vec<(Scheduled, Duration)> = stream::iter(targets)
            .map(|target| interact(namespace, Arc::clone(&agents), target))
            .buffer_unordered(CLIENTS)
            .try_collect()
            .await?;
        let all = began.elapsed();
        let execs = done.iter().map(|(_, took)| *took).collect();
        let shown = format!("{PODS} in {} ms; {}", all.as_millis(), distribution(execs));
        report(&namespace.cluster, "many-execs", &shown)?;

        let late = lateness(&watch, done.iter().map(|(record, _)| record)).await?;
        let shown = distribution(late.values().copied().collect());
        report(&namespace.cluster, "many-lateness", &shown)?;
        late.iter().try_for_each(|(name, late)| {
            ensure!(
                *late <= life::PROMPT,
                "{name} was evicted {late:?} after its deadline"
            );
            Ok(())
        })
    })
    .await;
}

/// Pods of one named container without a grace period, half of them on each node.
async fn start(namespace: &Namespace) -> Result<Vec<Target>> {
    let node = |at: usize| NODES[at % NODES.len()];
    let workloads: Vec<_> = (0..PODS)
        .map(|at| Workload::new(&format!("pod-{at}")).on(node(at)))
        .collect();
    let pods = namespace.run_pods(&workloads).await?;
    let target = |(at, pod): (usize, &Pod)| {
        Ok(Target {
            name: pod.name_any(),
            uid: uid(pod)?,
            node: node(at),
        })
    };
    pods.iter().enumerate().map(target).collect()
}

/// What a client does: an exec, and right after it a look whether it is recorded where it should be.
async fn interact(
    namespace: &Namespace,
    agents: Arc<Agents>,
    target: Target,
) -> Result<(Scheduled, Duration)> {
    let args = ["exec", &target.name, "-c", "main", "--", "true"];
    let said = namespace.kubectl.run(&args).await?;
    ensure!(said.code == Some(0), "{said:?}");
    let record = agents.record_only_on(target.node, &target.uid).await?;
    Ok((record, said.took))
}

/// How long after their deadlines the pods went.
async fn lateness<'a>(
    watch: &PodWatch,
    records: impl Iterator<Item = &'a Scheduled>,
) -> Result<BTreeMap<String, Duration>> {
    let mut late = BTreeMap::new();
    for record in records {
        // What is too late is told with all the others.
        let patience = life::TOLERANCE * 30;
        let by = watch
            .evicted(&record.uid, record.deadline()?, patience)
            .await?;
        late.insert(record.name.clone(), by.unsigned_abs());
    }
    Ok(late)
}
