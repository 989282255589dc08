//! The main job: an exec is recorded, told, counted down, and answered with an eviction.

use std::time::Duration;

use anyhow::{Result, ensure};
use curfew_core::Kind;
use curfew_e2e::{
    Agents, NODES, Workload, agents, eventually, figures, life, marks,
    namespace::{is_ready, uid},
    within_namespace,
};
use jiff::{SignedDuration, Timestamp};
use kube::{ResourceExt, api::ListParams};

const NODE: &str = "node-2";

#[tokio::test]
async fn an_exec_is_recorded_told_and_answered_with_an_eviction() {
    within_namespace("exec", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let user = namespace.cluster.administrator().await?;
        let web = namespace
            .run_deployment(&Workload::new("web").on(NODE), 1)
            .await?
            .remove(0);
        let watch = namespace.watch().await?;
        marks::clean(&web)?;

        let name = web.name_any();
        let args = [
            "exec",
            &name,
            "-c",
            "main",
            "--",
            "sh",
            "-c",
            "echo $((6*7)) it's",
        ];
        ensure!(
            namespace.kubectl.run(&args).await?.code == Some(2),
            "an open quote is no command"
        );
        let args = [
            "exec",
            &name,
            "-c",
            "main",
            "--",
            "sh",
            "-c",
            "echo $((6*7))",
        ];
        ensure!(namespace.kubectl.ok(&args).await? == "42\n");

        let expected = life::Expected {
            kind: Kind::Exec,
            user: &user,
            container: Some("main"),
            command: "sh -c 'echo $((6*7))'",
        };
        let record = life::recorded(namespace, &agents, NODE, &web, &expected).await?;
        ensure!(record.interactions == 2, "{record:?}");
        ensure!(record.state == "scheduled", "{record:?}");
        check_metrics(&agents, record.deadline()?).await?;

        let late = life::evicted(namespace, &watch, &record).await?;
        let shown = format!("evicted {} ms after the deadline", late.as_millis());
        figures::report(&namespace.cluster, "exec", &shown)?;
        life::forgotten(&agents, &record).await?;

        let replaced = namespace.ready_of("web", 1).await?.remove(0);
        ensure!(uid(&replaced)? != record.uid);
        marks::clean(&replaced)?;
        ensure!(agents.records(&uid(&replaced)?).await?.is_empty());
        Ok(())
    })
    .await;
}

/// What the node's agent counts, and that the other one does not.
async fn check_metrics(agents: &Agents, deadline: Timestamp) -> Result<()> {
    let metrics = agents.of(NODE)?.metrics().await?;
    let execs = r#"curfew_agent_interactions_total{action="Evict",actor="User",kind="exec"}"#;
    ensure!(agents::sample(&metrics, execs) >= Some(2.0), "{metrics}");
    let scheduled = r#"curfew_agent_pending_evictions{state="scheduled"}"#;
    let scheduled = agents::sample(&metrics, scheduled);
    ensure!(scheduled >= Some(1.0), "{metrics}");
    let next = agents::sample(&metrics, "curfew_agent_next_eviction_timestamp_seconds");
    let next = next.unwrap_or_default();
    // Another test's pod may go earlier.
    ensure!(
        next > 0.0 && next <= deadline.as_second() as f64,
        "{metrics}"
    );
    Ok(())
}

#[tokio::test]
async fn a_long_farewell_is_no_failure_and_keeps_the_record() {
    within_namespace("grace", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let node = NODES[0];
        let slow = namespace
            .run_pod(&Workload::new("slow").on(node).grace(5))
            .await?;
        let watch = namespace.watch().await?;
        let uid = uid(&slow)?;
        namespace
            .kubectl
            .ok(&["exec", "slow", "--", "true"])
            .await?;
        let record = agents.record_only_on(node, &uid).await?;

        life::evicted(namespace, &watch, &record).await?;
        // Only asked to go, it still is what somebody interacted with.
        let kept = agents.record_only_on(node, &uid).await?;
        ensure!(kept.state == "terminating", "{kept:?}");
        ensure!(watch.end(&uid).gone.is_none());
        let patience = Timestamp::now().checked_add(SignedDuration::from_secs(30))?;
        let gone = watch.gone(&uid, patience).await?;
        let stayed = gone.duration_since(record.deadline()?);
        ensure!(
            stayed >= SignedDuration::from_secs(4),
            "it had {stayed} only"
        );
        life::forgotten(&agents, &record).await
    })
    .await;
}

#[tokio::test]
async fn the_first_interaction_sets_the_deadline_and_the_last_is_shown() {
    within_namespace("again", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let uid = uid(&pod)?;
        let bob = namespace.kubectl.impersonating("bob", &["system:masters"]);
        namespace.kubectl.ok(&["exec", "pod", "--", "true"]).await?;
        let first = agents.record_only_on(NODE, &uid).await?;
        life::next_second(&first).await?;
        bob.ok(&["exec", "pod", "--", "id", "-u"]).await?;
        let second = agents.record_only_on(NODE, &uid).await?;

        ensure!(second.interactions == 2, "{second:?}");
        ensure!(
            second.deadline()? == first.deadline()?,
            "{first:?} {second:?}"
        );
        ensure!(second.decisive.user == namespace.cluster.administrator().await?);
        ensure!((second.last.user.as_str(), second.last.command.as_str()) == ("bob", "id -u"));
        marks::told(namespace, &second, life::PROMPT).await
    })
    .await;
}

#[tokio::test]
async fn a_pod_of_the_same_name_is_not_hit() {
    within_namespace("namesake", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let workload = Workload::new("twin").on(NODE);
        let first = namespace.run_pod(&workload).await?;
        namespace
            .kubectl
            .ok(&["exec", "twin", "--", "true"])
            .await?;
        let record = agents.record_only_on(NODE, &uid(&first)?).await?;
        let deadline = record.deadline()?;
        namespace
            .kubectl
            .ok(&["delete", "pod", "twin", "--wait=true"])
            .await?;
        let second = namespace.run_pod(&workload).await?;
        let watch = namespace.watch().await?;
        life::forgotten(&agents, &record).await?;
        ensure!(
            Timestamp::now() < deadline,
            "the replacement took too long to show anything"
        );

        // A second past the deadline of the first, and with the agent still at work.
        let sibling = Workload::new("sibling").on(NODE);
        let sibling = namespace.run_pod(&sibling).await?;
        namespace
            .kubectl
            .ok(&["exec", "sibling", "--", "true"])
            .await?;
        let other = agents.record_only_on(NODE, &uid(&sibling)?).await?;
        life::evicted(namespace, &watch, &other).await?;
        ensure!(Timestamp::now() > deadline);
        ensure!(
            watch.end(&uid(&second)?).going.is_none(),
            "the namesake was evicted"
        );
        let still = namespace.pods().get("twin").await?;
        ensure!(is_ready(&still) && uid(&still)? == uid(&second)?);
        marks::clean(&still)
    })
    .await;
}

#[tokio::test]
async fn what_leads_to_nothing_leaves_no_trace() {
    within_namespace("nothing", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        for (args, expected) in [
            (&["exec", "nobody", "--", "true"][..], "not found"),
            (&["exec", "pod", "-c", "none", "--", "true"], "none"),
        ] {
            let said = namespace.kubectl.run(args).await?;
            ensure!(
                said.code != Some(0) && said.stderr.contains(expected),
                "{said:?}"
            );
            ensure!(!said.stderr.contains("curfew"), "{said:?}");
        }
        // An interaction that is recorded afterwards shows that the others would have been by now.
        namespace.run_pod(&Workload::new("marker").on(NODE)).await?;
        namespace
            .kubectl
            .ok(&["exec", "marker", "--", "true"])
            .await?;
        let marked = ListParams::default().labels("curfew.dev/interacted=true");
        let marked = eventually(Duration::from_secs(5), "the marker's label", async || {
            let pods = namespace.pods().list(&marked).await?.items;
            Ok((!pods.is_empty()).then_some(pods))
        });
        let names: Vec<_> = marked.await?.iter().map(ResourceExt::name_any).collect();
        ensure!(names == ["marker"], "{names:?}");
        ensure!(agents.records(&uid(&pod)?).await?.is_empty());
        Ok(())
    })
    .await;
}
