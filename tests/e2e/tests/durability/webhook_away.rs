//! Evictions while no replica of the webhook runs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_cluster::Minor;
use curfew_e2e::{
    Agents, NODES, Namespace, Scheduled, Workload, budgets,
    disrupt::{self, DEPLOYMENT},
    eventually,
    evictions::Mark,
    life,
    namespace::uid,
    skip,
};
use jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::alone;

const NODE: &str = NODES[0];
/// Longer than it takes until the last replica has drained and ended.
const EXTENSION: &str = "--duration=40s";
const SCALED: Duration = Duration::from_secs(40);
/// How soon after the first deadline an eviction of the budget's pods is asked for.
const DUE: Duration = Duration::from_secs(20);
/// How soon the pods of a budget go when it is removed.
const ROOM: SignedDuration = SignedDuration::from_secs(20);
const TOO_MANY: u16 = 429;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_is_evicted_without_the_webhook() {
    alone("webhook-away", async |namespace| {
        if skip::unless(
            &namespace.cluster,
            Minor::agents_act_as_nodes,
            skip::GUARDED,
        )
        .await?
        {
            return Ok(());
        }
        let workloads = ["lone", "twin"].map(|name| Workload::new(name).on(NODE));
        let mut pods = namespace.run_pods(&workloads).await?;
        pods.extend(
            namespace
                .run_deployment(&Workload::new("web").on(NODE), 2)
                .await?,
        );
        budgets::budget(namespace, "web", json!({})).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        for pod in &pods {
            life::touch(namespace, &agents, pod, &["true"]).await?;
        }
        let extend = ["pi", "extend", "--all", EXTENSION];
        namespace.kubectl.ok(&extend).await?;

        scale(namespace, 0).await?;
        let evicted = without_webhook(namespace, &agents, &pods).await;
        scale(namespace, 2).await?;
        evicted
    })
    .await;
}

async fn scale(namespace: &Namespace, replicas: usize) -> Result<()> {
    let cluster = &namespace.cluster;
    let count = format!("--replicas={replicas}");
    disrupt::kubectl(cluster)
        .ok(&["scale", DEPLOYMENT, &count])
        .await?;
    disrupt::rolled_out(cluster, DEPLOYMENT).await?;
    eventually(SCALED, "the webhook has its replicas", async || {
        let pods = disrupt::all_pods_of(cluster, "webhook").await?;
        Ok((pods.len() == replicas).then_some(()))
    })
    .await
}

async fn without_webhook(
    namespace: &Namespace,
    agents: &Agents,
    pods: &[k8s_openapi::api::core::v1::Pod],
) -> Result<()> {
    let watch = namespace.watch().await?;
    let audit = Mark::now(namespace.cluster.machine.audit_log())?;
    let mut records: Vec<Scheduled> = Vec::new();
    for pod in pods {
        let record = agents.of(NODE)?.record(&uid(pod)?).await?;
        records.push(record.with_context(|| format!("there is no record of {pod:?}"))?);
    }
    let [lone, twin, web @ ..] = &records[..] else {
        anyhow::bail!("{records:?}");
    };

    // Another pod gets the name.
    let at_once = DeleteParams::default().grace_period(0);
    namespace.pods().delete("twin", &at_once).await?;
    eventually(life::PROMPT, "the name is free", async || {
        let found = namespace.pods().get_opt("twin").await?;
        Ok(found.is_none().then_some(()))
    })
    .await?;
    let other = Workload::new("twin").on(NODE).pod()?;
    let other = namespace
        .pods()
        .create(&PostParams::default(), &other)
        .await?;

    watch
        .evicted(&lone.uid, lone.deadline()?, life::TOLERANCE)
        .await?;
    eventually(DUE, "the budget refuses an eviction", async || {
        let answers = audit.answers(&namespace.name)?;
        Ok(answers
            .iter()
            .any(|answer| answer.code == TOO_MANY)
            .then_some(()))
    })
    .await?;
    for record in web {
        let pod = namespace.pods().get(&record.name).await?;
        ensure!(
            uid(&pod)? == record.uid && pod.metadata.deletion_timestamp.is_none(),
            "{} went against its budget",
            record.name
        );
    }
    budgets::budgets(namespace)
        .delete("web", &DeleteParams::default())
        .await?;
    let by = Timestamp::now().checked_add(ROOM)?;
    for record in web {
        watch.going(&record.uid, by).await?;
    }
    let answers = audit.answers(&namespace.name)?;
    let asked = answers
        .iter()
        .filter(|answer| answer.eviction.pod == twin.name)
        .count();
    let stays = namespace.pods().get("twin").await?;
    ensure!(
        asked == 0 && uid(&stays)? == uid(&other)? && stays.metadata.deletion_timestamp.is_none(),
        "{asked} evictions of another pod were requested"
    );
    Ok(())
}
