//! PodDisruptionBudgets.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, Namespace, PodWatch, Scheduled, Workload,
    budgets::{budget, budgets},
    eventually, life, marks, table, within_namespace,
};
use k8s_openapi::api::core::v1::Event;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::{NODE, SOON, in_state, lives, until_deadline};

/// How soon the eviction follows when there is room.
const AT_ONCE: Duration = Duration::from_secs(10);
/// The same where a person has mended what two budgets did.
const MENDED: Duration = Duration::from_secs(70);

const BLOCKED: &str = "PodInteractionEvictionBlocked";

/// A Deployment of two pods that are ready while a file is there.
async fn web(namespace: &Namespace) -> Result<Vec<k8s_openapi::api::core::v1::Pod>> {
    let workload = Workload::new("web").on(NODE).ready_while("/tmp/ready");
    namespace.run_deployment(&workload, 2).await
}

/// Waits until the pod is blocked and one Event tells it, and returns that.
async fn blocked(namespace: &Namespace, agents: &Agents, record: &Scheduled) -> Result<Event> {
    in_state(agents, record, "blocked", until_deadline(record, SOON)?).await?;
    eventually(SOON, "an Event", async || {
        let events = marks::events(namespace, &record.uid, BLOCKED).await?;
        ensure!(events.len() <= 1, "{} Events", events.len());
        Ok(events.into_iter().next())
    })
    .await
}

fn note(event: &Event) -> &str {
    event.message.as_deref().unwrap_or_default()
}

async fn gone(watch: &PodWatch, record: &Scheduled, within: Duration) -> Result<()> {
    let what = format!("{} is evicted", record.name);
    eventually(within, &what, async || {
        Ok(watch.end(&record.uid).gone.map(drop))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_without_room_holds_the_pod_until_there_is_some() {
    within_namespace("budget", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let pods = web(namespace).await?;
        budget(namespace, "web", json!({})).await?;
        let watch = namespace.watch().await?;
        let record = life::touch(namespace, &agents, &pods[0], &["true"]).await?;

        let event = blocked(namespace, &agents, &record).await?;
        ensure!(
            note(&event).contains("budget web needs 2 healthy pods and has 2"),
            "{}",
            note(&event)
        );
        let related = event
            .related
            .as_ref()
            .and_then(|related| related.name.as_deref());
        ensure!(related == Some("web"), "{related:?}");
        let agent = agents.of(NODE)?;
        let metrics = agent.metrics().await?;
        let line = format!(
            "curfew_agent_blocked_evictions{{pod_namespace=\"{}\",poddisruptionbudget=\"web\"}} 1",
            namespace.name
        );
        ensure!(metrics.lines().any(|found| found == line), "{metrics}");

        eventually(SOON * 2, "a series in place of more Events", async || {
            let events = marks::events(namespace, &record.uid, BLOCKED).await?;
            ensure!(events.len() == 1, "{} Events", events.len());
            let series = events[0].series.as_ref().and_then(|series| series.count);
            Ok(series.filter(|count| *count >= 2).map(drop))
        })
        .await?;
        lives(namespace, &record).await?;

        namespace
            .kubectl
            .ok(&["scale", "deployment", "web", "--replicas=3"])
            .await?;
        eventually(SOON * 3, "the budget has room", async || {
            let status = budgets(namespace).get("web").await?.status;
            Ok(status
                .filter(|status| status.disruptions_allowed > 0)
                .map(drop))
        })
        .await?;
        gone(&watch, &record, AT_ONCE).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_budgets_on_one_pod_are_named_as_what_they_are() {
    within_namespace("two-budgets", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let pods = web(namespace).await?;
        for name in ["one", "other"] {
            budget(namespace, name, json!({"minAvailable": 0})).await?;
        }
        let watch = namespace.watch().await?;
        let record = life::touch(namespace, &agents, &pods[0], &["true"]).await?;

        let event = blocked(namespace, &agents, &record).await?;
        ensure!(
            note(&event).contains("more than one PodDisruptionBudget")
                && note(&event).contains("leave only one"),
            "{}",
            note(&event)
        );
        lives(namespace, &record).await?;
        budgets(namespace)
            .delete("other", &DeleteParams::default())
            .await?;
        gone(&watch, &record, MENDED).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_not_ready_gets_advice_that_frees_it() {
    within_namespace("unready", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let pods = web(namespace).await?;
        let policy = json!({"unhealthyPodEvictionPolicy": "IfHealthyBudget"});
        budget(namespace, "web", policy).await?;
        let watch = namespace.watch().await?;
        let record =
            life::touch(namespace, &agents, &pods[0], &["sh", "-c", "rm /tmp/ready"]).await?;

        let event = blocked(namespace, &agents, &record).await?;
        ensure!(
            note(&event).contains("unhealthyPodEvictionPolicy: AlwaysAllow"),
            "{}",
            note(&event)
        );
        lives(namespace, &record).await?;
        // The advice is followed.
        let patch = Patch::Merge(json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}}));
        budgets(namespace)
            .patch("web", &PatchParams::default(), &patch)
            .await?;
        gone(&watch, &record, AT_ONCE).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_not_ready_goes_where_that_is_allowed() {
    within_namespace("always-allow", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let pods = web(namespace).await?;
        let policy = json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"});
        budget(namespace, "web", policy).await?;
        let watch = namespace.watch().await?;
        let record =
            life::touch(namespace, &agents, &pods[0], &["sh", "-c", "rm /tmp/ready"]).await?;
        gone(&watch, &record, until_deadline(&record, SOON)?).await?;
        let events = marks::events(namespace, &record.uid, BLOCKED).await?;
        ensure!(events.is_empty(), "{events:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_never_yields_is_a_matter_of_its_own() {
    within_namespace("stuck", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let pods = web(namespace).await?;
        budget(namespace, "web", json!({})).await?;
        let record = life::touch(namespace, &agents, &pods[0], &["true"]).await?;
        blocked(namespace, &agents, &record).await?;
        // The overlay of the test cluster makes that short, too.
        in_state(&agents, &record, "stuck", Duration::from_secs(90)).await?;
        let metrics = agents.of(NODE)?.metrics().await?;
        let stuck = metrics
            .lines()
            .find_map(|line| line.strip_prefix("curfew_agent_pending_evictions{state=\"stuck\"} "))
            .context("no such metric")?;
        ensure!(stuck.parse::<u32>()? >= 1, "{stuck}");
        eventually(
            Duration::from_secs(40),
            "an Event that says so",
            async || {
                let events = marks::events(namespace, &record.uid, BLOCKED).await?;
                let told = events
                    .iter()
                    .any(|event| note(event).contains("is still running"));
                Ok(told.then_some(()))
            },
        )
        .await?;
        // The word for it is the same everywhere.
        let shown = ["pi", "get", "-o", "wide"];
        let shown = namespace.kubectl.ok(&shown).await?;
        table::check(&shown, &record.name, &[("STATE", "stuck")])?;
        lives(namespace, &record).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_never_has_room_is_named_with_what_to_change() {
    within_namespace("never", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let pods = web(namespace).await?;
        let none = json!({"minAvailable": null, "maxUnavailable": 0});
        budget(namespace, "web", none).await?;
        let watch = namespace.watch().await?;
        let record = life::touch(namespace, &agents, &pods[0], &["true"]).await?;

        let never =
            "this budget never allows an eviction, because its maxUnavailable is 0: set maxUnavailable to 1";
        let event = blocked(namespace, &agents, &record).await?;
        ensure!(note(&event).contains(never), "{}", note(&event));
        ensure!(!note(&event).contains("as soon as"), "{}", note(&event));
        let describe = ["pi", "describe", &record.name];
        let page = namespace.kubectl.ok(&describe).await?;
        ensure!(page.contains(&format!("web: {never}")), "{page}");

        // There are two pods, and both have to be healthy.
        for (spec, never) in [
            (
                r#"{"spec": {"maxUnavailable": null, "minAvailable": "100%"}}"#,
                "web: this budget never allows an eviction, because its minAvailable is 100%",
            ),
            (
                r#"{"spec": {"maxUnavailable": null, "minAvailable": 2}}"#,
                "web: this budget never allows an eviction while it selects 2 pods",
            ),
        ] {
            let patch = ["patch", "pdb", "web", "--type=merge", "-p", spec];
            namespace.kubectl.ok(&patch).await?;
            eventually(SOON, never, async || {
                let page = namespace.kubectl.ok(&describe).await?;
                Ok(page.contains(never).then_some(()))
            })
            .await?;
        }
        let change = r#"{"spec": {"maxUnavailable": null, "minAvailable": 1}}"#;
        let patch = ["patch", "pdb", "web", "--type=merge", "-p", change];
        namespace.kubectl.ok(&patch).await?;
        gone(&watch, &record, AT_ONCE).await
    })
    .await;
}
