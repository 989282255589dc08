//! What happens to the agent of the second node.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::chown,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use curfew_cluster::layout;
use curfew_e2e::{
    NODES, TestCluster,
    agents::sample,
    disrupt::{self, UNRECORDED},
    eventually,
    firewall::{API_SERVER, Firewall, METRICS, NOTICES},
    knock::knock,
};
use kube::ResourceExt;
use serde_json::json;

use crate::{
    Scene,
    people::{LOCKED, STAYING},
};

const NODE: &str = NODES[1];
const WEBHOOK: &str = "system:serviceaccount:curfew:curfew-webhook";
const CERTIFICATES: &str = "CURFEW_CERTIFICATE_LIFETIME";
/// Less than what is too short, which is six hours and six minutes here, and more than what is critical.
const SOON_OVER: &str = "5m";
const NOBODY: u32 = 65534;
const RESTARTED: Duration = Duration::from_secs(60);

/// First nobody can tell it anything, and it cannot see its pods; then it seems to be gone altogether.
pub(crate) async fn is_cut_off(scene: &Scene<'_>) -> Result<()> {
    let rule = json!({
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"],
    });
    let expression =
        format!("request.userInfo.username != '{WEBHOOK}' || request.name != '{LOCKED}'");
    scene.obstruct("marks", rule, &expression).await?;

    let pid = process(scene.cluster).await?;
    let firewall = Firewall::close(&scene.cluster.machine, pid, &[NOTICES, API_SERVER])?;
    while_reached_into(scene, STAYING[2], async {
        scene.fires("CurfewAgentUnreachable").await?;
        scene.fires("CurfewWebhookSlow").await?;
        scene.fires("CurfewAgentWatchBroken").await
    })
    .await?;
    firewall.open()?;
    for alert in [
        "CurfewAgentUnreachable",
        "CurfewWebhookSlow",
        "CurfewAgentWatchBroken",
    ] {
        scene.resolves(alert).await?;
    }

    let pid = process(scene.cluster).await?;
    let firewall = Firewall::close(&scene.cluster.machine, pid, &[NOTICES, METRICS])?;
    while_reached_into(scene, LOCKED, async {
        scene.fires("CurfewInteractionsDenied").await?;
        scene.fires("CurfewAgentDown").await
    })
    .await?;
    // People have to get in, record or not.
    let changes = [(UNRECORDED, Some("admit")), (CERTIFICATES, Some(SOON_OVER))];
    disrupt::set_webhook_envs(scene.cluster, &changes).await?;
    scene.resolves("CurfewInteractionsDenied").await?;
    while_reached_into(scene, LOCKED, async {
        scene.fires("CurfewInteractionsUnrecorded").await?;
        scene.fires("CurfewNodeWithoutAgent").await
    })
    .await?;
    firewall.open()?;
    scene.fires("CurfewCertificateExpiring").await?;
    disrupt::set_webhook_envs(scene.cluster, &changes.map(|(name, _)| (name, None))).await?;
    scene.clear("marks").await?;
    for alert in [
        "CurfewCertificateExpiring",
        "CurfewInteractionsUnrecorded",
        "CurfewNodeWithoutAgent",
        "CurfewAgentDown",
    ] {
        scene.resolves(alert).await?;
    }
    Ok(())
}

/// The folder of its store is another's; and then what is in it is no store.
pub(crate) async fn loses_its_store(scene: &Scene<'_>) -> Result<()> {
    let records = folder()?.join("records");
    chown(&records, Some(NOBODY), Some(NOBODY))?;
    restart(scene.cluster).await?;
    scene.fires("CurfewStoreClosed").await?;
    chown(&records, Some(0), Some(0))?;
    scene.resolves("CurfewStoreClosed").await?;

    let file = records.join("db");
    fs::remove_file(&file).with_context(|| file.display().to_string())?;
    fs::create_dir(&file)?;
    restart(scene.cluster).await?;
    scene.fires("CurfewStoreRebuilt").await
}

/// Gives the folder back, and removes what was moved aside, as people are told to.
pub(crate) fn mend(_: &TestCluster) -> Result<()> {
    for entry in fs::read_dir(folder()?)? {
        let path = entry?.path();
        match path.file_name().and_then(OsStr::to_str) {
            Some("records") => chown(&path, Some(0), Some(0))?,
            Some(name) if name.contains(".broken-") => fs::remove_dir_all(&path)?,
            _ => {}
        }
    }
    Ok(())
}

fn folder() -> Result<PathBuf> {
    let nodes = layout::NODES;
    let node = nodes
        .iter()
        .find(|node| node.name() == NODE)
        .context("there is no such node")?;
    Ok(node.var_lib().join("curfew"))
}

async fn process(cluster: &TestCluster) -> Result<i32> {
    let pod = disrupt::agent_of(cluster, NODE).await?.name_any();
    disrupt::process_of("agent", &pod).context("its process is not found")
}

/// Kills the agent and waits until it is back.
async fn restart(cluster: &TestCluster) -> Result<()> {
    let before = process(cluster).await?;
    disrupt::kill_process(before)?;
    eventually(RESTARTED, "the agent is back", async || {
        let now = process(cluster).await?;
        let metrics = disrupt::metrics(&disrupt::agent_of(cluster, NODE).await?).await?;
        let there = sample(&metrics, "curfew_agent_store_open").is_some();
        Ok((now != before && there).then_some(()))
    })
    .await
}

/// Reaches into a pod again and again, whatever is said to that, until something has come about.
async fn while_reached_into(
    scene: &Scene<'_>,
    pod: &str,
    comes_about: impl Future<Output = Result<()>>,
) -> Result<()> {
    let (over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let reach = async {
        while !over.load(Ordering::Relaxed) {
            let word = format!("{pod}-{}", count.fetch_add(1, Ordering::Relaxed));
            let answer = knock(&scene.cluster.client, &scene.namespace.name, pod, &word).await;
            // Refusals are what some of this is about.
            drop(answer);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let outcome = async {
        let outcome = comes_about.await;
        over.store(true, Ordering::Relaxed);
        outcome
    };
    let ((), outcome) = tokio::join!(reach, outcome);
    ensure!(
        count.load(Ordering::Relaxed) > 1,
        "nobody reached into {pod}"
    );
    outcome
}
