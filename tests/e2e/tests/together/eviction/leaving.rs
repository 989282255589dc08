//! Pods that take their time to go: accepted is accepted, and nobody asks again.

use std::time::Duration;

use anyhow::{Result, ensure};
use curfew_e2e::{
    Agents, Namespace, Workload, agents::sample, eventually, life, marks, within_namespace,
};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{NODE, QUIET, SOON, after_deadline, in_state, now, until_deadline};

const FINALIZER: &str = "example.com/keep";

/// That the eviction was asked for once, granted, and told once.
async fn asked_once(
    namespace: &Namespace,
    since: &curfew_e2e::evictions::Mark,
    uid: &str,
) -> Result<()> {
    let asked = since.answers(&namespace.name)?;
    ensure!(asked.len() == 1 && asked[0].code == 201, "{asked:?}");
    for (reason, times) in [
        ("PodInteractionEvicted", 1),
        ("PodInteractionEvictionBlocked", 0),
    ] {
        let events = marks::events(namespace, uid, reason).await?;
        ensure!(events.len() == times, "{events:?}");
    }
    Ok(())
}

async fn without_finalizer(namespace: &Namespace, pod: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    namespace
        .pods()
        .patch(pod, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

/// A pod that stays until its finalizer is taken away.
async fn kept(namespace: &Namespace, name: &str) -> Result<k8s_openapi::api::core::v1::Pod> {
    let mut pod = Workload::new(name).on(NODE).pod()?;
    pod.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    namespace
        .pods()
        .create(&PostParams::default(), &pod)
        .await?;
    namespace.ready(name).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finalizer_is_waited_for() {
    within_namespace("finalizer", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let pod = kept(namespace, "kept").await?;
        let audit = now(namespace)?;
        let record = life::touch(namespace, &agents, &pod, &["true"]).await?;
        let checked = async {
            in_state(
                &agents,
                &record,
                "terminating",
                until_deadline(&record, SOON)?,
            )
            .await?;
            after_deadline(&record, QUIET * 3).await?;
            asked_once(namespace, &audit, &record.uid).await
        }
        .await;
        without_finalizer(namespace, "kept").await?;
        checked?;
        life::forgotten(&agents, &record).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_grace_period_is_waited_for() {
    within_namespace("grace", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        // A first process of a container ignores what it has no handler for.
        let pod = namespace
            .run_pod(&Workload::new("slow").on(NODE).grace(60))
            .await?;
        let audit = now(namespace)?;
        let record = life::touch(namespace, &agents, &pod, &["true"]).await?;
        in_state(
            &agents,
            &record,
            "terminating",
            until_deadline(&record, SOON)?,
        )
        .await?;
        after_deadline(&record, QUIET * 3).await?;
        asked_once(namespace, &audit, &record.uid).await?;
        // Nobody waits for the rest of the minute.
        let at_once = DeleteParams::default().grace_period(0);
        namespace.pods().delete("slow", &at_once).await?;
        life::forgotten(&agents, &record).await
    })
    .await;
}

/// As [`a_long_grace_period_is_waited_for`], by somebody who wants the pod to stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_kept_by_a_year_of_grace_is_seen() {
    within_namespace("year", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let agent = agents.of(NODE)?;
        let pod = namespace
            .run_pod(&Workload::new("stays").on(NODE).grace(31_536_000))
            .await?;
        let record = life::touch(namespace, &agents, &pod, &["true"]).await?;
        let soon = until_deadline(&record, SOON)?;
        in_state(&agents, &record, "terminating", soon).await?;
        eventually(SOON, "the age is seen", async || {
            let metrics = agent.metrics().await?;
            let value = |name| sample(&metrics, name).unwrap_or_default();
            let page = agent.page().await?;
            let listed = namespace.kubectl.ok(&["pi", "get"]).await?;
            let seen = value("curfew_agent_longest_terminating_seconds") >= 2.0
                && value("curfew_agent_terminating_pods") >= 1.0
                && page.contains("Terminating since")
                && listed.contains("terminating for ");
            Ok(seen.then_some(()))
        })
        .await?;
        let at_once = DeleteParams::default().grace_period(0);
        namespace.pods().delete("stays", &at_once).await?;
        life::forgotten(&agents, &record).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_deleted_takes_its_pods_along() {
    within_namespace("deleted", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let doomed =
            Namespace::create(&namespace.cluster, &format!("{}-2", namespace.name)).await?;
        let pod = kept(&doomed, "kept").await?;
        let audit = now(&doomed)?;
        let record = life::touch(&doomed, &agents, &pod, &["true"]).await?;
        doomed.remove().await?;
        let checked = async {
            in_state(&agents, &record, "terminating", SOON).await?;
            after_deadline(&record, QUIET).await?;
            let asked = audit.answers(&doomed.name)?;
            ensure!(asked.is_empty(), "{asked:?}");
            let blocked =
                marks::events(&doomed, &record.uid, "PodInteractionEvictionBlocked").await?;
            ensure!(blocked.is_empty(), "{blocked:?}");
            Ok(())
        }
        .await;
        without_finalizer(&doomed, "kept").await?;
        checked?;
        eventually(Duration::from_secs(20), "the pod is gone", async || {
            Ok(doomed.pods().get_opt("kept").await?.is_none().then_some(()))
        })
        .await?;
        life::forgotten(&agents, &record).await
    })
    .await;
}
