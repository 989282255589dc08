//! One interaction, followed from its admission to the eviction through the logs of webhook and agent.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, TestCluster, Workload, disrupt, eventually, life, namespace::uid, within_namespace,
};
use kube::ResourceExt;
use serde_json::Value;

const NODE: &str = "node-2";
const PROMPT: Duration = Duration::from_secs(10);

/// What the pods of a part have logged lately about the pod with this UID.
async fn logged(cluster: &TestCluster, part: &str, uid: &str) -> Result<Vec<Value>> {
    let mut lines = Vec::new();
    for pod in cluster.pods_of(part).await? {
        let args = ["logs", &pod.name_any(), "--since=5m"];
        let log = disrupt::kubectl(cluster).ok(&args).await?;
        let of_pod = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines.extend(of_pod.filter(|line: &Value| line["uid"] == uid));
    }
    Ok(lines)
}

/// Whether a line is about the interaction with this id.
fn is_about(line: &Value, id: &str) -> bool {
    let ids = line["ids"].as_str().unwrap_or_default();
    line["id"] == id || ids.split(' ').any(|one| one == id)
}

#[tokio::test]
async fn one_id_leads_from_the_admission_to_the_eviction() {
    within_namespace("trail", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let uid = uid(&pod)?;
        let watch = namespace.watch().await?;
        let record = life::touch(namespace, &agents, &pod, &["true"]).await?;

        let admitted = eventually(PROMPT, "the webhook's line", async || {
            let lines = logged(&namespace.cluster, "webhook", &uid).await?;
            Ok(lines
                .into_iter()
                .find(|line| line["event"] == "interaction"))
        })
        .await?;
        let id = admitted["id"].as_str().context("no id")?.to_owned();
        ensure!(admitted["node"] == NODE, "{admitted}");

        life::evicted(namespace, &watch, &record).await?;
        life::forgotten(&agents, &record).await?;
        let lines = eventually(PROMPT, "the agent's last line", async || {
            let lines = logged(&namespace.cluster, "agent", &uid).await?;
            let ended = lines.iter().any(|line| line["message"] == "gone");
            Ok(ended.then_some(lines))
        })
        .await?;
        // The second mark tells what was found in the pod.
        for (what, times) in [
            ("stored", 1),
            ("marked", 2),
            ("looked at the containers", 1),
            ("evicted", 1),
            ("gone", 1),
        ] {
            let told: Vec<_> = lines
                .iter()
                .filter(|line| line["message"] == what)
                .collect();
            ensure!(
                told.len() == times,
                "{what} is told {} times: {lines:#?}",
                told.len()
            );
            let line = told[0];
            ensure!(is_about(line, &id), "{line} does not tell of {id}");
            let pod = format!("{}/pod", namespace.name);
            ensure!(
                line["node"] == NODE && line["pod"] == pod.as_str(),
                "{line}"
            );
        }
        ensure!(lines.iter().all(|line| is_about(line, &id)), "{lines:#?}");
        Ok(())
    })
    .await;
}
