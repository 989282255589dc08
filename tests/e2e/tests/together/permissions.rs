//! Who may look but not touch is refused by the API server, and Curfew takes no notice. Before Kubernetes 1.35, who may
//! `get` the subresource of a connection opens one all the same, and that is recorded.

use std::time::Duration;

use anyhow::{Result, ensure};
use curfew_e2e::{
    Agents, Kubectl, NODES, Namespace, Workload, eventually, marks, namespace::uid,
    within_namespace, workload::IMAGE,
};
use k8s_openapi::api::core::v1::Pod;

const NODE: &str = NODES[1];

/// Ways to connect to a pod.
const CONNECTIONS: [&[&str]; 4] = [
    &["exec", "pod", "--", "true"],
    &["exec", "-it", "pod", "--", "sh"],
    &["attach", "pod"],
    &["port-forward", "pod/pod", ":8080"],
];

/// Somebody who may read these resources, and the pods `pod` and `marker`.
async fn reader(namespace: &Namespace, resources: &str) -> Result<(Kubectl, Pod)> {
    let viewer = format!("viewer@{}", namespace.name);
    let role = format!(
        r#"{{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{{"name":"viewer"}},
        "rules":[{{"apiGroups":["*"],"resources":["{resources}"],"verbs":["get","list","watch"]}}]}}"#
    );
    let applied = namespace.kubectl.feed(&["apply", "-f", "-"], &role).await?;
    applied.success()?;
    let user = format!("--user={viewer}");
    let bind = ["create", "rolebinding", "viewer", "--role=viewer", &user];
    namespace.kubectl.ok(&bind).await?;
    let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
    namespace.run_pod(&Workload::new("marker").on(NODE)).await?;
    let kubectl = namespace.kubectl.impersonating(&viewer, &[]);
    eventually(Duration::from_secs(10), "the viewer may look", async || {
        Ok(Some(kubectl.ok(&["get", "pod", "pod"]).await?))
    })
    .await?;
    Ok((kubectl, pod))
}

#[tokio::test]
async fn who_may_only_get_pods_leaves_no_trace() {
    within_namespace("viewer", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let (kubectl, pod) = reader(namespace, "pods").await?;
        for args in CONNECTIONS {
            refuses(&kubectl, args).await?;
        }
        refuses_debug(&kubectl).await?;
        untouched(namespace, &agents, &uid(&pod)?).await
    })
    .await;
}

#[tokio::test]
async fn who_may_get_everything_leaves_a_trace_only_where_that_opens_a_shell() {
    within_namespace("get-all", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let (kubectl, pod) = reader(namespace, "*").await?;
        refuses_debug(&kubectl).await?;
        if namespace
            .cluster
            .kubernetes()
            .await?
            .connections_take_create()
        {
            for args in CONNECTIONS {
                refuses(&kubectl, args).await?;
            }
            return untouched(namespace, &agents, &uid(&pod)?).await;
        }
        untouched(namespace, &agents, &uid(&pod)?).await?;
        let shell = ["exec", "pod", "--", "sh", "-c", "echo inside"];
        let said = kubectl.ok(&shell).await?;
        ensure!(said.contains("inside"), "{said}");
        let record = agents.record_only_on(NODE, &uid(&pod)?).await?;
        marks::told(namespace, &record, Duration::from_secs(5)).await
    })
    .await;
}

async fn refuses(kubectl: &Kubectl, args: &[&str]) -> Result<()> {
    let said = kubectl.run(args).await?;
    let refused = said.code == Some(1) && said.stderr.to_lowercase().contains("forbidden");
    ensure!(refused, "{args:?}: {said:?}");
    Ok(())
}

async fn refuses_debug(kubectl: &Kubectl) -> Result<()> {
    let image = format!("--image={IMAGE}");
    refuses(kubectl, &["debug", "pod", &image, "--", "true"]).await
}

async fn untouched(namespace: &Namespace, agents: &Agents, uid: &str) -> Result<()> {
    // What is recorded afterwards shows that the rest would have been by now.
    let exec = ["exec", "marker", "--", "true"];
    namespace.kubectl.ok(&exec).await?;
    let marker = curfew_e2e::namespace::uid(&namespace.pods().get("marker").await?)?;
    let marker = agents.record_only_on(NODE, &marker).await?;
    marks::told(namespace, &marker, Duration::from_secs(5)).await?;
    let records = agents.records(uid).await?;
    ensure!(records.is_empty(), "recorded: {records:?}");
    marks::clean(&namespace.pods().get("pod").await?)?;
    let events = marks::events(namespace, uid, "PodInteraction").await?;
    ensure!(events.is_empty(), "told: {events:?}");
    Ok(())
}
