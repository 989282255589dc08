//! People who want a pod to stay for longer than they may keep it.

use anyhow::ensure;
use curfew_core::metadata::{HOLD, HOLD_REQUESTER};
use curfew_e2e::{
    Agents, NODES, Workload, eventually, life, marks,
    policies::Policies,
    rights::{kubectl_of, people, user},
    within_namespace,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::{Api, api::PostParams};
use serde_json::json;

use super::{SOON, annotate, passed};

/// The API server lets a pod's annotations have 262,144 bytes in all.
const NEARLY_HALF: usize = 131_000;

#[tokio::test]
async fn a_pod_without_room_for_marks_is_evicted_all_the_same() {
    within_namespace("crammed", async |namespace| {
        people(namespace).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let pod = namespace
            .run_pod(&Workload::new("crammed").on(NODES[0]))
            .await?;
        let filler = "x".repeat(NEARLY_HALF);
        let patch = json!({"metadata": {"annotations": {"one": filler, "two": filler}}});
        let args = [
            "patch",
            "pod",
            "crammed",
            "--type=merge",
            "--patch-file=/dev/stdin",
        ];
        let editor = kubectl_of(namespace, "edit");
        passed(&editor.feed(&args, &patch.to_string()).await?)?;
        let watch = namespace.watch().await?;
        let record = life::touch(namespace, &agents, &pod, &["true"]).await?;
        life::evicted(namespace, &watch, &record).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_hold_ends_when_the_policy_says_however_often_it_is_set() {
    within_namespace("outlasting", async |namespace| {
        people(namespace).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        policies
            .hold(&[("short", json!({"ttl": "10s", "maxHold": "5s"}))])
            .await?;
        let pod = namespace
            .run_pod(&Workload::new("held").on(NODES[0]))
            .await?;
        let watch = namespace.watch().await?;
        let record = life::touch_seen(namespace, &agents, &pod, &["true"]).await?;
        let (admin, requester) = (kubectl_of(namespace, "admin"), user(namespace, "admin"));
        for reason in ["evidence", "more evidence", "even more"] {
            let wish = [(HOLD, reason), (HOLD_REQUESTER, requester.as_str())];
            passed(&annotate(&admin, "held", &wish, &[]).await?)?;
        }
        let end = record.decisive.time + SignedDuration::from_secs(15);
        watch.evicted(&record.uid, end, life::TOLERANCE).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_exemption_of_an_unmanaged_pod_ends_when_it_is_adopted() {
    within_namespace("adopted", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let policies = Policies::new(namespace).await?;
        let spec = json!({"unmanagedPods": "Record", "ttl": "5s"});
        policies.hold(&[("unmanaged", spec)]).await?;
        let workload = Workload::new("web").on(NODES[0]);
        let pod = namespace.run_pod(&workload).await?;
        let watch = namespace.watch().await?;
        let record = life::touch_seen(namespace, &agents, &pod, &["true"]).await?;
        ensure!(record.state == "recorded", "{record:?}");
        // Longer than it may live with a controller.
        let past = record.decisive.time + SignedDuration::from_secs(7);
        eventually(SOON * 2, "its time to live is over", async || {
            Ok((Timestamp::now() > past).then_some(()))
        })
        .await?;

        // As when somebody gives it back the label that it is selected by.
        let owner = json!({"replicas": 1, "selector": {"matchLabels": {"app": "web"}}});
        let owner: ReplicaSet = workload.controlled_by(owner)?;
        let adopted = Timestamp::now();
        Api::namespaced(namespace.cluster.client.clone(), &namespace.name)
            .create(&PostParams::default(), &owner)
            .await?;
        let record = eventually(SOON, "its timer runs", async || {
            let record = agents.record_only_on(NODES[0], &record.uid).await?;
            Ok(record.eviction_time.is_some().then_some(record))
        })
        .await?;
        let left = record.deadline()?.duration_since(adopted);
        ensure!(
            left >= SignedDuration::from_secs(4),
            "{left} from its adoption"
        );
        ensure!(record.interactions == 1, "{record:?}");
        let why = "because it has a controller now";
        marks::noted(namespace, &record.uid, SOON, why).await?;
        watch
            .evicted(&record.uid, record.deadline()?, life::TOLERANCE)
            .await?;
        Ok(())
    })
    .await;
}
