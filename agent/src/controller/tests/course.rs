//! The ordinary course: an interaction, its marks, the eviction, and a budget without room.

use std::time::Duration;

use curfew_core::State;
use serde_json::Value;

use super::{accepted, assert_asked, told};
use crate::testing::{api::Answer, stage::Stage};

#[tokio::test(start_paused = true)]
async fn an_interaction_is_marked_told_and_ends_in_an_eviction() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    stage.pod("untouched", 0);
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(1.0).await;
    let pods = stage.api.list("pods");
    let metadata = &pods[0]["metadata"];
    assert_eq!(metadata["labels"]["curfew.dev/interacted"], "true");
    let eviction_time = &metadata["annotations"]["curfew.dev/eviction-time"];
    assert_eq!(eviction_time, "2027-01-15T08:10:00Z");
    assert_eq!(pods[1]["metadata"]["labels"], Value::Null);

    stage.until(5000.0).await;
    assert_asked(&stage, &[(600.0, "a")]);
    assert_eq!(told(&stage), ["PodInteraction", "PodInteractionEvicted"]);
    let records = agent.controller.look().await.unwrap().records;
    assert!(records.is_empty(), "{records:?}");
    assert_eq!(stage.api.list("pods").len(), 1);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_a_budget_held_goes_by_itself_when_there_is_room() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    stage.api.script_evictions(|_| Answer::no_room());
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(3000.0).await;
    assert_eq!(accepted(&stage), [""; 0]);
    let blocked = told(&stage);
    assert_eq!(blocked, ["PodInteraction", "PodInteractionEvictionBlocked"]);
    let state = agent.controller.look().await.unwrap().records[0].state;
    assert_eq!(state, State::Blocked);

    stage.api.come_back();
    stage.until(3030.0).await;
    assert_eq!(accepted(&stage), ["a"]);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn of_those_that_are_due_together_the_lowest_priority_goes_first() {
    let stage = Stage::set(2);
    let latency = Duration::from_millis(20);
    stage
        .api
        .script_evictions(move |_| Answer::honest().after(latency));
    for pod in 0..10 {
        stage.pod(&format!("p-{pod}"), [100, 0, 1000, 50, 7][pod % 5]);
    }
    let agent = stage.start().await;
    for pod in 0..10 {
        stage.exec(&agent, &format!("p-{pod}")).await;
    }
    stage.until(700.0).await;
    let order = [1, 6, 4, 9, 3, 8, 0, 5, 2, 7].map(|pod| format!("p-{pod}"));
    assert_eq!(accepted(&stage), order);
    let open = stage.api.evictions().iter().map(|asked| asked.open).max();
    assert_eq!(open, Some(2));
    agent.end().await;
}
