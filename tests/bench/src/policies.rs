//! Many policies, of which none applies: an evaluation asks each of them.

use std::time::Duration;

use anyhow::{Context, Result};
use curfew_e2e::{Namespace, eventually};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
};
use serde_json::json;

/// How many requests are open at a time.
const AT_ONCE: usize = 8;
/// How long it takes until the webhook has said of each that it is in force.
const ACCEPTED: Duration = Duration::from_secs(120);
const LABEL: &str = "curfew-bench";

/// Makes so many policies with all kinds of conditions, and waits until they are in force. They go with the namespace.
pub(crate) async fn make(namespace: &Namespace, count: u16) -> Result<()> {
    let all = policies(namespace.cluster.client.clone());
    let owner = namespace.as_owner().await?;
    stream::iter(0..count)
        .map(async |at| {
            let policy: DynamicObject = serde_json::from_value(json!({
                "apiVersion": "curfew.dev/v1alpha1",
                "kind": "InteractionPolicy",
                "metadata": {
                    "name": format!("{}-{at}", namespace.name),
                    "labels": {LABEL: namespace.name},
                    "ownerReferences": [owner],
                },
                // The last word of each command is another one, which no client says.
                "spec": {
                    "podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
                    "groups": ["system:masters", "system:authenticated"],
                    "actors": ["User"],
                    "interactions": ["exec"],
                    "interactive": false,
                    "workloads": ["StatefulSet", "DaemonSet", "Pod"],
                    "commands": [["kubectl", "get", "..."], ["ls", "*"], [format!("never-{at}")]],
                    "ttl": "1h",
                },
            }))?;
            let created = all.create(&PostParams::default(), &policy).await;
            created.map(drop).context("a policy is refused")
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let of = ListParams::default().labels(&format!("{LABEL}={}", namespace.name));
    eventually(ACCEPTED, "the policies are in force", async || {
        let found = all.list(&of).await?.items;
        let accepted = found
            .iter()
            .filter(|policy| policy.data["status"]["conditions"][0]["status"] == "True");
        Ok((accepted.count() == usize::from(count)).then_some(()))
    })
    .await
}

fn policies(client: Client) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "curfew.dev".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "curfew.dev/v1alpha1".to_owned(),
        kind: "InteractionPolicy".to_owned(),
        plural: "interactionpolicies".to_owned(),
    };
    Api::all_with(client, &resource)
}
