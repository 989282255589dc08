//! A pod that claims to be an agent. It would stand in the way of other tests, which look for agents by
//! their labels, and has this binary to itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use curfew_core::metadata;
use curfew_e2e::{
    CURFEW, NODES, Namespace, Workload, disrupt, eventually, life::exec, namespace::is_ready,
    within_namespace,
};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

const SEEN: Duration = Duration::from_secs(30);

/// It takes whatever is sent to the port for notices, and writes it to its log.
/// A controller owns it, or that of the agents would adopt it and delete it as one too many.
fn spoof(name: &str, owner: &ConfigMap) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "ownerReferences": [{
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner.name_any(),
            "uid": owner.uid(),
            "controller": true,
        }], "labels": {
            "app.kubernetes.io/name": "curfew",
            "app.kubernetes.io/component": "agent",
        }},
        "spec": {
            "nodeName": NODES[0],
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "main",
                "image": "localhost/busybox:e2e",
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", "while :; do nc -l -p 8443; echo '[connected]'; done"],
                "ports": [{"name": "notices", "containerPort": 8443}],
            }],
        },
    }))?)
}

#[tokio::test]
async fn a_pod_with_the_agents_labels_is_told_nothing() {
    within_namespace("spoof", async |namespace| {
        let cluster = &namespace.cluster;
        let target = namespace
            .run_pod(&Workload::new("web").on(NODES[0]))
            .await?;
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), CURFEW);
        let name = namespace.name.replace("e2e", "agent");
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), CURFEW);
        let owner = maps.get("kube-root-ca.crt").await?;
        // Were the agent there as well, the webhook might turn to it alone, and nothing were tried.
        disrupt::keep_agent_away(cluster, NODES[0]).await?;
        pods.create(&PostParams::default(), &spoof(&name, &owner)?)
            .await?;
        let tried = listen(namespace, &pods, &name, &target).await;
        let deleted = pods
            .delete(&name, &DeleteParams::default().grace_period(0))
            .await;
        disrupt::bring_agents_back(cluster).await?;
        deleted?;
        tried
    })
    .await;
}

/// Touches the pod until the webhook has asked the impostor, who hears nothing of it.
async fn listen(namespace: &Namespace, pods: &Api<Pod>, name: &str, target: &Pod) -> Result<()> {
    eventually(SEEN, "the impostor runs", async || {
        Ok(is_ready(&pods.get(name).await?).then_some(()))
    })
    .await?;
    let log = async || {
        disrupt::kubectl(&namespace.cluster)
            .ok(&["logs", name])
            .await
    };
    let mut said = 0;
    eventually(SEEN, "a webhook has turned to it", async || {
        said += 1;
        exec(namespace, target, &["echo", &said.to_string()]).await?;
        Ok(log().await?.contains("[connected]").then_some(()))
    })
    .await?;
    let log = log().await?;
    for word in ["/v1/interactions", "POST", &target.name_any()] {
        ensure!(!log.contains(word), "the impostor was told: {log}");
    }
    // What the webhook could tell nobody stands on the pod.
    let target = namespace.pods().get(&target.name_any()).await?;
    ensure!(target.labels().contains_key(metadata::LABEL));
    Ok(())
}
