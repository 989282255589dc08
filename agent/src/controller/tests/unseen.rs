//! Records of pods that the watch does not show.

use curfew_core::Notice;
use serde_json::json;

use crate::{
    store::{NotRecorded, writer::MAX_UNSEEN},
    testing::{
        shell,
        stage::{Agent, NODE, Stage, notice},
    },
};

async fn record(agent: &Agent, pod: &str) -> Result<(), NotRecorded> {
    agent
        .controller
        .record(notice(pod, shell(0)))
        .await
        .map(drop)
}

async fn records(agent: &Agent) -> usize {
    agent.controller.look().await.unwrap().records.len()
}

/// A pod of this name that is on that node.
fn put(stage: &Stage, name: &str, node: &str) {
    let Notice { pod, .. } = notice(name, shell(0));
    stage.api.put(
        "pods",
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0},
            "status": {"phase": "Running", "conditions": []},
        }),
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_another_node_is_dropped_when_it_was_looked_up() {
    let stage = Stage::set(5);
    put(&stage, "elsewhere", "node-2");
    put(&stage, "here", NODE);
    let agent = stage.start().await;
    for pod in ["elsewhere", "here", "nowhere"] {
        record(&agent, pod).await.unwrap();
    }
    stage.until(60.0).await;
    let line = agent.only().await.unwrap();
    assert_eq!(line.name, "here");
    stage.until(700.0).await;
    let evicted = stage.api.evictions();
    assert!(evicted.iter().all(|asked| asked.target.name == "here"));
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn only_so_many_pods_that_nobody_saw_get_a_record() {
    let stage = Stage::set(5);
    stage.pod("seen", 0);
    let agent = stage.start().await;
    for ghost in 0..MAX_UNSEEN {
        record(&agent, &format!("ghost-{ghost}")).await.unwrap();
    }
    for ghost in 0..600 {
        let refused = record(&agent, &format!("more-{ghost}")).await;
        assert!(matches!(refused, Err(NotRecorded::Unseen)));
    }
    assert_eq!(records(&agent).await, MAX_UNSEEN);
    // What is known already, or shown by the watch, is recorded all the same.
    record(&agent, "ghost-0").await.unwrap();
    record(&agent, "seen").await.unwrap();
    assert_eq!(records(&agent).await, MAX_UNSEEN + 1);

    // They are looked up and found not to exist; then there is room again.
    stage.until(60.0).await;
    assert_eq!(records(&agent).await, 1);
    record(&agent, "late").await.unwrap();
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn many_at_once_are_bounded_too() {
    let stage = Stage::set(5);
    let agent = stage.start().await;
    let ghosts: Vec<_> = (0..600).map(|ghost| format!("ghost-{ghost}")).collect();
    let told = ghosts.iter().map(|ghost| record(&agent, ghost));
    let told = futures::future::join_all(told).await;
    assert_eq!(told.iter().filter(|told| told.is_ok()).count(), MAX_UNSEEN);
    agent.end().await;
}
