//! Who may look but not touch is refused by the API server, and Curfew takes no notice.

use std::time::Duration;

use anyhow::{Result, ensure};
use curfew_e2e::{
    Agents, NODES, Workload, eventually, marks, namespace::uid, within_namespace, workload::IMAGE,
};

#[tokio::test]
async fn who_may_only_get_everything_leaves_no_trace() {
    within_namespace("viewer", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let viewer = format!("viewer@{}", namespace.name);
        let role = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"viewer"},
            "rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["get","list","watch"]}]}"#;
        namespace.kubectl.feed(&["apply", "-f", "-"], role).await?.success()?;
        let user = format!("--user={viewer}");
        namespace.kubectl.ok(&["create", "rolebinding", "viewer", "--role=viewer", &user]).await?;
        let node = NODES[1];
        let pod = namespace.run_pod(&Workload::new("pod").on(node)).await?;
        namespace.run_pod(&Workload::new("marker").on(node)).await?;
        let kubectl = namespace.kubectl.impersonating(&viewer, &[]);
        eventually(Duration::from_secs(10), "the viewer may look", async || {
            Ok(Some(kubectl.ok(&["get", "pod", "pod"]).await?))
        })
        .await?;

        let image = format!("--image={IMAGE}");
        for args in [
            &["exec", "pod", "--", "true"][..],
            &["exec", "-it", "pod", "--", "sh"],
            &["attach", "pod"],
            &["port-forward", "pod/pod", ":8080"],
            &["debug", "pod", &image, "--", "true"],
        ] {
            let said = kubectl.run(args).await?;
            let refused = said.code == Some(1) && said.stderr.to_lowercase().contains("forbidden");
            ensure!(refused, "{args:?}: {said:?}");
        }

        // What is recorded afterwards shows that the rest would have been by now.
        namespace.kubectl.ok(&["exec", "marker", "--", "true"]).await?;
        let marker = uid(&namespace.pods().get("marker").await?)?;
        let marker = agents.record_only_on(node, &marker).await?;
        marks::told(namespace, &marker, Duration::from_secs(5)).await?;
        untouched(namespace, &agents, &uid(&pod)?).await
    })
    .await;
}

async fn untouched(namespace: &curfew_e2e::Namespace, agents: &Agents, uid: &str) -> Result<()> {
    let records = agents.records(uid).await?;
    ensure!(records.is_empty(), "recorded: {records:?}");
    marks::clean(&namespace.pods().get("pod").await?)?;
    let events = marks::events(namespace, uid, "PodInteraction").await?;
    ensure!(events.is_empty(), "told: {events:?}");
    Ok(())
}
