//! The API server has no room for the agents and answers 429.

use std::time::Duration;

use anyhow::Result;
use futures::future::join_all;
use hyper::Request;
use kube::Client;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::super::{Scenario, boxed, scene::Scene, senses::Sign::Rose, tools::FLOOD};
use crate::agents::ACCOUNT;

const FOR: Duration = Duration::from_secs(60);
/// A level without seats still takes one request at a time. So many askers keep that one busy.
const ASKERS: usize = 6;

/// The agents' requests are rejected.
pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "throttled",
    what: "the agents' requests rejected (429) by a FlowSchema for 60 s",
    later: 75,
    // Evictions are asked for as the node, whose requests have room.
    told: &[Rose("agent", "curfew_agent_patch_errors_total")],
    strike: |scene| boxed(throttle(scene)),
    renews: true,
}];

async fn throttle(scene: &Scene) -> Result<()> {
    let kubectl = scene.namespace.cluster.kubectl();
    let (schema, level) = objects();
    let apply = async |object: &serde_json::Value| -> Result<()> {
        let said = kubectl
            .feed(&["apply", "-f", "-"], &object.to_string())
            .await?;
        said.success().map(drop)
    };
    apply(&level).await?;
    scene.touch().await?;
    apply(&schema).await?;
    let client = &scene.namespace.cluster.client;
    let busy = join_all((0..ASKERS).map(|_| keep_busy(client)));
    // They never end by themselves.
    drop(timeout(FOR, busy).await);
    kubectl.ok(&["delete", "flowschema", FLOOD]).await?;
    scene.returned();
    Ok(())
}

/// Asks as an agent would, again and again.
async fn keep_busy(client: &Client) {
    loop {
        let request = Request::get("/api/v1/pods")
            .header("impersonate-user", ACCOUNT)
            .body(Vec::new());
        if let Ok(request) = request
            && client.request_text(request).await.is_err()
        {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn objects() -> (serde_json::Value, serde_json::Value) {
    let object = |kind: &str, spec: serde_json::Value| {
        json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": FLOOD},
            "spec": spec,
        })
    };
    let schema = object(
        "FlowSchema",
        json!({
            "matchingPrecedence": 2,
            "priorityLevelConfiguration": {"name": FLOOD},
            "rules": [{
                "subjects": [{
                    "kind": "ServiceAccount",
                    "serviceAccount": {"name": "curfew-agent", "namespace": "curfew"},
                }],
                "resourceRules": [{
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                    "namespaces": ["*"], "clusterScope": true,
                }],
            }],
        }),
    );
    let level = object(
        "PriorityLevelConfiguration",
        json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"},
        }}),
    );
    (schema, level)
}
