//! A store that somebody deletes under the agent that writes it.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, NODES, Namespace, PodWatch, Scheduled, Workload, agents::sample, disasters::tools,
    disrupt, eventually, life,
};
use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};

use crate::alone;

const NODE: &str = NODES[0];
/// How soon it is seen and made anew.
const SECONDS: Duration = Duration::from_secs(8);
const REBUILT: &str = "curfew_agent_store_rebuilt_total";

async fn rebuilt(namespace: &Namespace) -> Result<f64> {
    let agent = disrupt::agent_of(&namespace.cluster, NODE).await?;
    let metrics = disrupt::metrics(&agent).await?;
    sample(&metrics, REBUILT).context("it does not count its stores")
}

/// Whether an Event of the node tells that its store was deleted.
async fn is_told(namespace: &Namespace) -> Result<bool> {
    let events: Api<Event> = Api::namespaced(namespace.cluster.client.clone(), "default");
    let about = format!("reason=StoreRebuilt,involvedObject.name={NODE}");
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
fn folder() -> Result<PathBuf> {
    Ok(tools::node(NODE)?.var_lib().join("curfew"))
}

/// Sees that the agent of today knows the record, and evicts the pod on time.
async fn is_kept(namespace: &Namespace, watch: &PodWatch, record: &Scheduled) -> Result<()> {
    let agents = Agents::connect(&namespace.cluster).await?;
    let known = agents.record_only_on(NODE, &record.uid).await?;
    ensure!(known.eviction_time == record.eviction_time, "{known:?}");
    watch
        .evicted(&record.uid, record.deadline()?, life::TOLERANCE)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_store_is_made_anew_with_all_that_was_known() {
    alone("store-deleted", async |namespace| {
        let cluster = &namespace.cluster;
        let agents = Agents::connect(cluster).await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let watch = namespace.watch().await?;
        let before = rebuilt(namespace).await?;
        let record = life::touch_seen(namespace, &agents, &pod, &["true"]).await?;
        fs::remove_dir_all(folder()?.join("records"))?;
        eventually(SECONDS, "a new store", async || {
            ensure!(folder()?.join("records/db").is_file(), "there is none");
            Ok((rebuilt(namespace).await? == before + 1.0).then_some(()))
        })
        .await?;
        eventually(SECONDS, "the Event of the node", async || {
            Ok(is_told(namespace).await?.then_some(()))
        })
        .await?;

        // The next agent finds it there.
        let pid = tools::agent(cluster, NODE).await?;
        disrupt::kill_process(pid)?;
        tools::restarted(cluster, NODE, pid).await?;
        is_kept(namespace, &watch, &record).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_mounted_folder_is_deleted_starts_anew() {
    alone("folder-deleted", async |namespace| {
        let cluster = &namespace.cluster;
        let agents = Agents::connect(cluster).await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let watch = namespace.watch().await?;
        let record = life::touch_seen(namespace, &agents, &pod, &["true"]).await?;
        let pid = tools::agent(cluster, NODE).await?;
        // Nothing can be made in what the agent has mounted then.
        fs::remove_dir_all(folder()?)?;
        tools::restarted(cluster, NODE, pid).await?;
        ensure!(folder()?.join("records/db").is_file(), "there is no store");
        is_kept(namespace, &watch, &record).await
    })
    .await;
}
