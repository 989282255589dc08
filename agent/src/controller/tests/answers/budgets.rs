//! Answers by which a PodDisruptionBudget keeps the pod, and how it goes when the budget opens.

use curfew_core::State;

use super::*;
use crate::controller::tests::{accepted, asked};

const NO_ROOM: Row = Row {
    answer: Answer::no_room,
    result: "disruption_budget",
    state: "blocked",
    reason: "needs 2 healthy pods and has 2 currently",
    first: (1.5, 2.0),
    longest: 30.0,
    told: Some("has 2 currently; it is evicted as soon as the budget allows it"),
};

#[tokio::test(start_paused = true)]
async fn no_room() {
    NO_ROOM.holds().await;
}

#[tokio::test(start_paused = true)]
async fn no_room_as_far_as_its_controller_has_looked() {
    for says in [
        || Answer::budget("The disruption budget web is still being processed by the server."),
        || Answer::budget("The disruption budget web does not allow evicting pods currently"),
    ] {
        let row = Row {
            answer: says,
            reason: "The disruption budget web",
            told: Some("it is evicted as soon as the budget allows it"),
            ..NO_ROOM
        };
        row.holds().await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_room_in_a_budget_without_a_name() {
    let row = Row {
        answer: || Answer::budget("Somebody says no"),
        reason: "Somebody says no",
        told: Some("Somebody says no"),
        ..NO_ROOM
    };
    let stage = row.holds().await;
    assert_eq!(watches(&stage), 0);
}

#[tokio::test(start_paused = true)]
async fn several_budgets() {
    let row = Row {
        answer: || {
            let message = "This pod has more than one PodDisruptionBudget, which the eviction \
                           subresource does not support.";
            Answer::status(500, message)
        },
        result: "several_disruption_budgets",
        reason: "more than one PodDisruptionBudget",
        first: (3.75, 5.0),
        longest: 60.0,
        told: Some("leave only one PodDisruptionBudget whose selector matches the pod"),
        ..NO_ROOM
    };
    row.holds().await;
}

/// How often the watch of a budget was begun.
fn watches(stage: &Stage) -> usize {
    let asked = stage.api.asked().into_iter();
    asked
        .filter(|asked| asked.target.resource == "poddisruptionbudgets")
        .count()
}

/// Waits for the next request, so that the one after it is far.
async fn next_request(stage: &Stage) {
    let before = asked(stage).len();
    while asked(stage).len() == before {
        stage.until(stage.now() + 0.5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_gets_room_lets_the_pod_go_at_once() {
    let (stage, agent) = pod_answered(Answer::no_room).await;
    stage.until(2000.0).await;
    let pod = agent.only().await.unwrap();
    assert_eq!(pod.budget.as_deref(), Some("web"));
    next_request(&stage).await;
    let room = stage.now();
    stage.api.come_back();
    stage.budget(1, "IfHealthyBudget", 1);
    stage.until(room + 10.0).await;
    assert_eq!(accepted(&stage), ["a"]);
    let watched = watches(&stage);
    stage.until(room + 3600.0).await;
    assert_eq!(watches(&stage), watched, "nobody waits for it any more");
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_removed_lets_the_pod_go_at_once() {
    let (stage, agent) = pod_answered(Answer::no_room).await;
    stage.until(2000.0).await;
    next_request(&stage).await;
    let removed = stage.now();
    stage.api.come_back();
    stage.no_budget();
    stage.until(removed + 10.0).await;
    assert_eq!(accepted(&stage), ["a"]);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_ready_gets_advice_that_frees_it() {
    let stage = Stage::set(5);
    stage.unready_pod("a");
    stage.budget(1, "IfHealthyBudget", 0);
    stage.api.script_evictions(|_| Answer::no_room());
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(2000.0).await;
    assert_eq!(told(&stage), ["PodInteraction", BLOCKED]);
    let note = events(&stage)[1]["note"].to_string();
    assert!(
        note.contains(
            "unhealthyPodEvictionPolicy: AlwaysAllow in that budget would allow its eviction"
        ),
        "{note}"
    );
    next_request(&stage).await;
    let freed = stage.now();
    stage.api.come_back();
    stage.budget(2, "AlwaysAllow", 0);
    stage.until(freed + 10.0).await;
    assert_eq!(accepted(&stage), ["a"]);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_never_yields_is_a_state_of_its_own_and_does_not_flood() {
    const DAY: f64 = 86_400.0;
    let (stage, agent) = pod_answered(Answer::no_room).await;
    let blocked_after = DUE + 3600.0;
    stage.until(blocked_after - 1.0).await;
    assert_eq!(agent.only().await.unwrap().state, State::Blocked);
    stage.until(blocked_after + 31.0).await;
    assert_eq!(agent.only().await.unwrap().state, State::Stuck);
    let all = ["PodInteraction", BLOCKED, BLOCKED];
    assert_eq!(told(&stage), all);
    let note = events(&stage)[2]["note"].to_string();
    assert!(note.contains("is still running"), "{note}");

    stage.until(DUE + DAY).await;
    assert_eq!(told(&stage), all);
    assert_series_is_quiet(&stage, DUE + DAY);
    let tries = asked(&stage).len();
    assert!(tries < (DAY / 20.0) as usize, "{tries}");
    let watches = watches(&stage);
    // Each is listed anew every three to five minutes.
    assert!(watches < (DAY / 180.0) as usize, "{watches}");
    agent.end().await;
}
