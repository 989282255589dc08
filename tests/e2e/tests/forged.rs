//! Reviews that no API server sent, posted by somebody who reaches the webhook's port. Alone in its binary,
//! because it measures what they cost the agents.

use std::time::Duration;

use anyhow::{Result, ensure};
use curfew_core::metadata;
use curfew_e2e::{
    Agents, NODES, Namespace, Workload, eventually,
    footprint::{Process, processes},
    namespace::uid,
    webhook::{Replica, path},
    within_namespace,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

/// How much more memory an agent may have in the end.
const MAX_GROWTH_KIB: u64 = 1024;
/// Of each shape.
const TIMES: usize = 5;

/// A review of a debug container for this pod, with as many lies about it as there is room for.
fn debug(namespace: &str, name: &str, container: &str, node: &str, number: usize) -> Value {
    let old = json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("ghost-{node}-{number}"),
            "resourceVersion": "1",
            "labels": {metadata::LABEL: metadata::INTERACTED},
            "annotations": {
                "curfew.dev/interaction-time": "2020-01-01T00:00:00Z",
                "curfew.dev/interactor": "somebody-else",
                "curfew.dev/interaction": "exec",
                "curfew.dev/ttl": "1s",
                "curfew.dev/max-extension": "8760h0m0s",
                "curfew.dev/interactions": "1",
            },
        },
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "x"}]},
    });
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"] = json!([{"name": container, "command": ["sh"]}]);
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": format!("11111111-2222-3333-4444-{number:012}"),
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "subResource": "ephemeralcontainers", "operation": "UPDATE",
            "name": name, "namespace": namespace, "dryRun": false,
            "userInfo": {"username": "mallory", "groups": ["system:authenticated"]},
            "object": new, "oldObject": old,
        },
    })
}

/// A review of a connection.
fn connect(namespace: &str, name: &str, subresource: &str, container: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "11111111-2222-3333-4444-555555555555",
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "subResource": subresource, "operation": "CONNECT",
            "name": name, "namespace": namespace, "dryRun": false,
            "userInfo": {"username": "mallory", "groups": ["system:authenticated"]},
            "object": {"container": container, "command": ["sh"], "stdin": true, "tty": true},
        },
    })
}

/// Posts it, and expects no server error.
async fn post(webhook: &Replica, under: Option<&str>, review: &Value) -> Result<u16> {
    let (json, body) = ("application/json", review.to_string());
    let answer = match under {
        Some(path) => webhook.post_under(path, json, body).await?,
        None => webhook.post(json, body).await?,
    };
    ensure!(answer.status < 500, "{answer:?}");
    Ok(answer.status)
}

fn memory(agents: &[Process]) -> Result<Vec<u64>> {
    agents.iter().map(|agent| agent.anonymous_kib()).collect()
}

/// Whether the pod is as it was made: not marked, and not on its way out.
async fn is_untouched(namespace: &Namespace, before: &Pod) -> Result<()> {
    let now = namespace.pods().get(&before.name_any()).await?;
    ensure!(now.uid() == before.uid() && now.metadata.deletion_timestamp.is_none());
    ensure!(!now.labels().contains_key(metadata::LABEL), "it is marked");
    let mut keys = now.annotations().keys();
    ensure!(
        !keys.any(|key| key.starts_with(metadata::PREFIX)),
        "it has annotations: {:?}",
        now.annotations()
    );
    Ok(())
}

#[tokio::test]
async fn forged_reviews_come_to_nothing() {
    within_namespace("forged", async |namespace| {
        let cluster = &namespace.cluster;
        let target = namespace
            .run_pod(&Workload::new("target").on(NODES[0]))
            .await?;
        let (name, of) = (&*target.name_any(), &*namespace.name);
        let agents = processes("curfew-agent")?;
        let schedules = Agents::connect(cluster).await?;
        let before = memory(&agents)?;
        let webhook = Replica::any(cluster).await?;

        let token = path(cluster, "interaction").await?;
        let wrong = format!("/admit/interaction/{}", "0".repeat(32));
        let foreign = [
            "/admit/interaction",
            &wrong,
            &token[..token.len() - 1],
            "/admit/eviction",
            "/",
        ];
        let mut posted = 0;
        for number in 0..TIMES {
            for path in foreign {
                for review in [
                    debug(of, name, "lens", NODES[0], number),
                    connect(of, name, "exec", "main"),
                    connect(of, name, "portforward", ""),
                ] {
                    let status = post(&webhook, Some(path), &review).await?;
                    ensure!(status == 404, "{path} is answered with {status}");
                    posted += 1;
                }
            }
            // Who knows the path, too, can lie about nothing but the name.
            for node in [NODES[0], NODES[1], "no-such-node"] {
                let system = format!("etcd-{number}");
                let ghost = format!("ghost-{number}");
                for (namespace, name, container) in [
                    (of, &*ghost, "lens"),
                    (of, name, "main"),
                    (of, &*format!("{name}/status"), "lens"),
                    (of, "../..", "lens"),
                    ("../../nodes", name, "lens"),
                    ("kube-system", &*system, "lens"),
                    ("curfew", &*system, "lens"),
                ] {
                    let review = debug(namespace, name, container, node, number);
                    post(&webhook, None, &review).await?;
                    posted += 1;
                }
            }
            for kind in ["exec", "attach"] {
                for (name, container) in [("nobody", "main"), (name, "no-such"), ("../..", "main")]
                {
                    post(&webhook, None, &connect(of, name, kind, container)).await?;
                    posted += 1;
                }
            }
        }
        ensure!(posted >= 100, "{posted} is too few to say anything");

        is_untouched(namespace, &target).await?;
        for agent in schedules.iter() {
            let schedule = agent.schedule().await?;
            let ghosts: Vec<_> = schedule
                .records
                .iter()
                .filter(|record| record.uid.starts_with("ghost") || record.last.user == "mallory")
                .collect();
            ensure!(ghosts.is_empty(), "{ghosts:?}");
        }
        ensure!(schedules.records(&uid(&target)?).await?.is_empty());
        eventually(Duration::from_secs(10), "agents are small", async || {
            let after = memory(&agents)?;
            let pairs = before.iter().zip(&after);
            let grown: Vec<_> = pairs
                .map(|(before, after)| after.saturating_sub(*before))
                .collect();
            ensure!(
                grown.iter().all(|kib| *kib <= MAX_GROWTH_KIB),
                "agents have grown by {grown:?} KiB"
            );
            Ok(Some(()))
        })
        .await?;
        is_untouched(namespace, &target).await
    })
    .await;
}
