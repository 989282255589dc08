//! A store that somebody deletes under the agent that writes it.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, NODES, Namespace, PodWatch, Workload, agents::sample, disasters::tools, disrupt,
    eventually, life,
};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{Api, api::ListParams};

use crate::alone;

/// How soon it is seen and made anew.
const SECONDS: Duration = Duration::from_secs(8);
/// How soon both agents are back, whatever became of them.
const BACK: Duration = Duration::from_secs(30);
const REBUILT: &str = "curfew_agent_store_rebuilt_total";

async fn rebuilt(namespace: &Namespace, node: &str) -> Result<f64> {
    let agent = disrupt::agent_of(&namespace.cluster, node).await?;
    let metrics = disrupt::metrics(&agent).await?;
    sample(&metrics, REBUILT).context("it does not count its stores")
}

/// Whether an Event of the node tells that its store was deleted.
async fn is_told(namespace: &Namespace, node: &str) -> Result<bool> {
    let events: Api<Event> = Api::namespaced(namespace.cluster.client.clone(), "default");
    let about = format!("reason=StoreRebuilt,involvedObject.name={node}");
    let events = events.list(&ListParams::default().fields(&about)).await?;
    let notes = events
        .items
        .iter()
        .filter_map(|event| event.message.as_deref());
    Ok(notes
        .into_iter()
        .any(|note| note.contains("was deleted while")))
}

/// The folder that is mounted into the agent.
fn folder(node: &str) -> Result<PathBuf> {
    Ok(tools::node(node)?.var_lib().join("curfew"))
}

/// Reaches into a pod, and sees that the agent that is there after the damage knows the record, and evicts the pod on time.
async fn is_kept(
    namespace: &Namespace,
    agents: &Agents,
    watch: &PodWatch,
    node: &str,
    pod: &Pod,
    damage: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let record = life::touch_seen(namespace, agents, pod, &["true"]).await?;
    damage().await?;
    // The other node's may just be on its way back.
    let known = eventually(BACK, "the record is known", async || {
        let agents = Agents::connect(&namespace.cluster).await?;
        agents.record_only_on(node, &record.uid).await.map(Some)
    })
    .await?;
    ensure!(known.eviction_time == record.eviction_time, "{known:?}");
    watch
        .evicted(&record.uid, record.deadline()?, life::TOLERANCE)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_is_made_anew_with_all_that_was_known() {
    alone("store-deleted", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let workloads = NODES.map(|node| Workload::new(&format!("on-{node}")).on(node));
        let pods = namespace.run_pods(&workloads).await?;
        let watch = namespace.watch().await?;
        let [one, other] = NODES;
        tokio::try_join!(
            is_kept(namespace, &agents, &watch, one, &pods[0], async || {
                delete_store(namespace, one).await
            }),
            is_kept(namespace, &agents, &watch, other, &pods[1], async || {
                delete_folder(namespace, other).await
            }),
        )?;
        Ok(())
    })
    .await;
}

async fn delete_store(namespace: &Namespace, node: &str) -> Result<()> {
    let before = rebuilt(namespace, node).await?;
    fs::remove_dir_all(folder(node)?.join("records"))?;
    eventually(SECONDS, "a new store", async || {
        ensure!(folder(node)?.join("records/db").is_file(), "there is none");
        Ok((rebuilt(namespace, node).await? == before + 1.0).then_some(()))
    })
    .await?;
    eventually(SECONDS, "the Event of the node", async || {
        Ok(is_told(namespace, node).await?.then_some(()))
    })
    .await?;

    // The next agent finds it there.
    let pid = tools::agent(&namespace.cluster, node).await?;
    disrupt::kill_process(pid)?;
    tools::restarted(&namespace.cluster, node, pid).await
}

async fn delete_folder(namespace: &Namespace, node: &str) -> Result<()> {
    let pid = tools::agent(&namespace.cluster, node).await?;
    // Nothing can be made in what the agent has mounted then.
    fs::remove_dir_all(folder(node)?)?;
    tools::restarted(&namespace.cluster, node, pid).await?;
    ensure!(
        folder(node)?.join("records/db").is_file(),
        "there is no store"
    );
    Ok(())
}
