//! Removing and installing Curfew never stands in anybody's way. It needs the cluster for itself: its
//! name makes it the last binary that cargo runs.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, CURFEW, Kubectl, NODES, Namespace, Workload, eventually, figures, life, marks,
    namespace::uid, within_namespace,
};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, api::ListParams};

/// As long as one pod is used: far shorter than its time to live.
const TURN: Duration = Duration::from_secs(8);
const PODS: usize = 24;
const PATIENCE: Duration = Duration::from_secs(120);
const WEBHOOK: &str = "interaction.curfew.dev";

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
            install(namespace).await?;
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

fn admin(namespace: &Namespace) -> (Kubectl, String) {
    let cluster = &namespace.cluster;
    (
        cluster.kubectl(),
        cluster.overlay().to_string_lossy().into_owned(),
    )
}

async fn install(namespace: &Namespace) -> Result<()> {
    let (kubectl, overlay) = admin(namespace);
    kubectl.ok(&["apply", "-k", &overlay]).await?;
    let kubectl = kubectl.in_namespace(CURFEW);
    for workload in ["daemonset/curfew-agent", "deployment/curfew-webhook"] {
        kubectl
            .ok(&["rollout", "status", workload, "--timeout=50s"])
            .await?;
    }
    eventually(PATIENCE, "the webhook is registered", async || {
        Ok(webhooks(namespace)
            .await?
            .contains(&WEBHOOK.to_owned())
            .then_some(()))
    })
    .await
}

/// The names of all registered webhooks.
async fn webhooks(namespace: &Namespace) -> Result<Vec<String>> {
    let all: Api<ValidatingWebhookConfiguration> = Api::all(namespace.cluster.client.clone());
    let configurations = all.list(&ListParams::default()).await?.items;
    let webhooks = configurations
        .into_iter()
        .flat_map(|configuration| configuration.webhooks.unwrap_or_default());
    Ok(webhooks.map(|webhook| webhook.name).collect())
}

async fn remove_and_install(namespace: &Namespace) -> Result<()> {
    let (kubectl, overlay) = admin(namespace);
    ensure!(
        webhooks(namespace).await?.contains(&WEBHOOK.to_owned()),
        "Curfew is not installed"
    );
    kubectl
        .ok(&["delete", "-k", &overlay, "--wait=false"])
        .await?;
    eventually(PATIENCE, "Curfew is gone", async || {
        let left = kubectl
            .ok(&[
                "get",
                "namespace",
                CURFEW,
                "--ignore-not-found",
                "-o",
                "name",
            ])
            .await?;
        Ok(left.is_empty().then_some(()))
    })
    .await?;
    ensure!(
        webhooks(namespace).await?.is_empty(),
        "a webhook was left behind"
    );
    let kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,\
                 flowschemas,prioritylevelconfigurations";
    let ours = "--selector=app.kubernetes.io/name=curfew";
    let left = kubectl.ok(&["get", kinds, ours, "-o", "name"]).await?;
    ensure!(left.is_empty(), "left behind: {left}");

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
    install(namespace).await?;
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
