//! Pods that are only asked about.

use curfew_core::State;

use super::{asked, told};
use crate::testing::{api::Answer, stage::Stage};

#[tokio::test(start_paused = true)]
async fn the_api_server_is_asked_once_and_the_pod_stays() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    let agent = stage.start().await;
    stage.exec_dry(&agent, "a").await;
    stage.until(1.0).await;
    let annotations = stage.api.list("pods")[0]["metadata"]["annotations"].clone();
    assert_eq!(annotations["curfew.dev/enforcement"], "DryRun");
    assert_eq!(
        annotations["curfew.dev/eviction-time"],
        "2027-01-15T08:10:00Z"
    );
    stage.until(5000.0).await;
    assert_eq!(asked(&stage).len(), 1);
    assert_eq!(told(&stage), ["PodInteraction", "PodInteractionWouldEvict"]);
    assert_eq!(
        agent.results().into_iter().collect::<Vec<_>>(),
        [("dry_run_accepted", 1)]
    );
    let pod = &stage.api.list("pods")[0];
    assert!(pod["metadata"]["deletionTimestamp"].is_null());
    // Whoever reads the pod learns the answer.
    let last = pod["metadata"]["annotations"]["curfew.dev/last-interaction"].as_str();
    assert!(
        last.unwrap()
            .contains("\"wouldGo\":\"2027-01-15T08:10:00Z\""),
        "{last:?}"
    );
    let schedule = agent.controller.look().await.unwrap();
    assert_eq!(schedule.records[0].state, State::WouldGo);
    assert_eq!(schedule.recent_evictions[0].result, "dry_run_accepted");
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_would_block_is_told_and_watched_by_nobody() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    stage.api.script_evictions(|_| Answer::no_room());
    let agent = stage.start().await;
    stage.exec_dry(&agent, "a").await;
    stage.until(700.0).await;
    let schedule = agent.controller.look().await.unwrap();
    assert_eq!(schedule.records[0].state, State::Blocked);
    assert_eq!(
        told(&stage)[..2],
        ["PodInteraction", "PodInteractionEvictionBlocked"]
    );
    stage.api.come_back();
    stage.until(740.0).await;
    assert_eq!(told(&stage).last().unwrap(), "PodInteractionWouldEvict");
    let results = agent.results();
    assert_eq!(results["dry_run_accepted"], 1);
    assert!(
        results.keys().all(|name| name.starts_with("dry_run_")),
        "{results:?}"
    );
    agent.end().await;
}
