//! Many policies with all kinds of conditions, of which none applies.

use std::time::Duration;

use anyhow::{Context, Result};
use curfew_crd::{ACCEPTED, InteractionPolicy};
use curfew_e2e::{Namespace, eventually};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

/// How many requests are open at a time.
const AT_ONCE: usize = 8;
/// How long it takes until the webhook has said of each that it is in force.
const IN_FORCE: Duration = Duration::from_secs(120);
const LABEL: &str = "curfew-bench";

/// Makes so many policies with all kinds of conditions, and waits until they are in force. They go with the namespace.
pub(crate) async fn make(namespace: &Namespace, count: u16) -> Result<()> {
    let all: Api<InteractionPolicy> = Api::all(namespace.cluster.client.clone());
    let owner = namespace.as_owner().await?;
    stream::iter(0..count)
        .map(async |at| {
            let policy: InteractionPolicy = serde_json::from_value(json!({
                "apiVersion": "curfew.dev/v1alpha1",
                "kind": "InteractionPolicy",
                "metadata": {
                    "name": format!("{}-{at}", namespace.name),
                    "labels": {LABEL: namespace.name},
                    "ownerReferences": [owner],
                },
                // No client runs one of these programs.
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
    let of = of(namespace);
    eventually(IN_FORCE, "the policies are in force", async || {
        let found = all.list(&of).await?.items;
        let accepted = found.iter().filter(|policy| {
            let conditions = policy.status.iter().flat_map(|status| &status.conditions);
            let mut accepted = conditions.filter(|condition| condition.type_ == ACCEPTED);
            accepted.any(|condition| condition.status == "True")
        });
        Ok((accepted.count() == usize::from(count)).then_some(()))
    })
    .await
}

/// Removes them, and waits until they are gone.
pub(crate) async fn remove(namespace: &Namespace) -> Result<()> {
    let all: Api<InteractionPolicy> = Api::all(namespace.cluster.client.clone());
    let of = of(namespace);
    all.delete_collection(&DeleteParams::default(), &of).await?;
    eventually(IN_FORCE, "the policies are gone", async || {
        Ok(all.list(&of).await?.items.is_empty().then_some(()))
    })
    .await
}

fn of(namespace: &Namespace) -> ListParams {
    ListParams::default().labels(&format!("{LABEL}={}", namespace.name))
}
