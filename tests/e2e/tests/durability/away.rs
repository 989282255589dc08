//! A node without an agent.

use std::time::Duration;

use anyhow::{Result, ensure};
use curfew_e2e::{
    NODES, Namespace, TestCluster, Workload,
    agents::{sample, total},
    disrupt::{self, OBSTACLE, UNRECORDED},
    eventually, life, marks,
    namespace::uid,
};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{alone, exec, ready_since, told_once, touched, until};

const NODE: &str = NODES[0];
const WEBHOOK: &str = "system:serviceaccount:curfew:curfew-webhook";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_without_an_agent_stands_on_the_pod_until_an_agent_evicts() {
    alone("away", async |namespace| {
        let cluster = &namespace.cluster;
        let workloads = ["overdue", "in-time"].map(|name| Workload::new(name).on(NODE));
        let pods = namespace.run_pods(&workloads).await?;
        let watch = namespace.watch().await?;
        disrupt::keep_agent_away(cluster, NODE).await?;

        exec(namespace, &pods[0], "id").await?;
        // At once: nobody but the webhook could have marked it.
        let overdue = touched(namespace, &pods[0], "id").await?;
        until(overdue.deadline - SignedDuration::from_secs(2)).await;
        exec(namespace, &pods[1], "date").await?;
        let in_time = touched(namespace, &pods[1], "date").await?;
        until(overdue.deadline + SignedDuration::from_secs(1)).await;
        ensure!(
            watch.end(&overdue.uid).going.is_none(),
            "something evicts without an agent"
        );

        disrupt::bring_agents_back(cluster).await?;
        let ready = ready_since(cluster, NODE).await?;
        // The kubelet tells whole seconds.
        let by = ready + SignedDuration::from_secs(1) + life::TOLERANCE;
        let going = watch.end(&overdue.uid).going;
        ensure!(
            going.is_some_and(|at| at <= by),
            "the agent was ready at {ready}, and the pod went at {going:?}"
        );
        ensure!(
            ready < in_time.deadline,
            "the agent was away too long: {ready}"
        );
        watch
            .evicted(&in_time.uid, in_time.deadline, life::TOLERANCE)
            .await?;
        told_once(namespace, &overdue).await?;
        told_once(namespace, &in_time).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_recorded_nowhere_is_denied_or_counted() {
    alone("nowhere", async |namespace| {
        let cluster = &namespace.cluster;
        let pod = namespace.run_pod(&Workload::new("locked").on(NODE)).await?;
        disrupt::keep_agent_away(cluster, NODE).await?;
        obstruct(namespace).await?;

        let denied = admissions(cluster, "denied").await?;
        let args = ["exec", "locked", "--", "touch", "/tmp/reached"];
        let said = namespace.kubectl.run(&args).await?;
        ensure!(said.code.is_some_and(|code| code != 0), "{said:?}");
        for part in [
            "Curfew records every interaction",
            &format!("neither with its agent on node {NODE}"),
            &format!("nor on pod {}/locked", namespace.name),
            "Nothing was done.",
            "Try again",
        ] {
            ensure!(said.stderr.contains(part), "{part:?} is not in {said:?}");
        }
        // kubectl tries again over SPDY where its WebSocket is refused.
        let counted = admissions(cluster, "denied").await? - denied;
        ensure!((1.0..=2.0).contains(&counted), "{counted} were counted");
        marks::clean(&namespace.pods().get("locked").await?)?;

        disrupt::set_webhook_env(cluster, UNRECORDED, Some("admit")).await?;
        let args = ["exec", "locked", "--", "ls", "/tmp"];
        let found = namespace.kubectl.ok(&args).await?;
        ensure!(
            !found.contains("reached"),
            "the command that was denied ran"
        );
        let admitted = admissions(cluster, "unrecorded").await?;
        ensure!(
            admitted == 1.0,
            "of one exec, {admitted} were counted as unrecorded"
        );
        let pod_now = namespace.pods().get("locked").await?;
        ensure!(uid(&pod_now)? == uid(&pod)?);
        marks::clean(&pod_now)
    })
    .await;
}

/// How many execs came to this end, by all replicas of the webhook.
async fn admissions(cluster: &TestCluster, outcome: &str) -> Result<f64> {
    let series = format!(r#"curfew_webhook_admissions_total{{kind="exec",outcome="{outcome}"}}"#);
    let mut sum = 0.0;
    for pod in cluster.pods_of("webhook").await? {
        let metrics = disrupt::metrics(&pod).await?;
        ensure!(
            total(&metrics, "curfew_webhook_build_info") == 1.0,
            "{metrics}"
        );
        sum += sample(&metrics, &series).unwrap_or_default();
    }
    Ok(sum)
}

/// Lets nobody but others than the webhook write to pods of the namespace.
async fn obstruct(namespace: &Namespace) -> Result<()> {
    let policy = |kind: &str, spec: Value| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": OBSTACLE},
            "spec": spec,
        })
    };
    let only_here = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace.name}});
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        policy("ValidatingAdmissionPolicy", json!({
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"],
            }]},
            "validations": [{
                "expression": format!("request.userInfo.username != '{WEBHOOK}'"),
                "message": "an obstacle for a test",
            }],
        })),
        policy("ValidatingAdmissionPolicyBinding", json!({
            "policyName": OBSTACLE,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": only_here},
        })),
    ]});
    let kubectl = namespace.cluster.kubectl();
    let said = kubectl
        .feed(&["apply", "-f", "-"], &objects.to_string())
        .await?;
    said.success()?;
    let webhook = namespace.kubectl.impersonating(WEBHOOK, &[]);
    let patch = r#"{"metadata":{"annotations":{"curfew.dev/tried":"yes"}}}"#;
    let args = ["patch", "pod", "locked", "--dry-run=server", "-p", patch];
    eventually(Duration::from_secs(30), "the obstacle stands", async || {
        let said = webhook.run(&args).await?;
        ensure!(said.stderr.contains("an obstacle for a test"), "{said:?}");
        Ok(Some(()))
    })
    .await
}
