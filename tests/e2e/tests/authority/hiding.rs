//! People who want a pod to stay for longer than they may keep it.

use curfew_core::metadata::{HOLD, HOLD_REQUESTER};
use curfew_e2e::{
    Agents, NODES, Workload, life,
    policies::Policies,
    rights::{kubectl_of, people, user},
    within_namespace,
};
use jiff::SignedDuration;
use serde_json::json;

use super::{annotate, passed};

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
