//! Actions that panic: what they were for is done all the same.

use std::sync::atomic::{AtomicU32, Ordering};

use super::asked;
use crate::testing::{
    api::{Answer, Asked},
    stage::{Agent, Stage},
};

/// Has the first so many requests of a kind panic, and the others answered honestly.
fn panics(stage: &Stage, times: u32, is_one: impl Fn(&Asked) -> bool + Send + 'static) {
    let left = AtomicU32::new(times);
    stage.api.script(move |asked| {
        let panics = is_one(asked)
            && left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_ok();
        match panics {
            true => Answer::panics(),
            false => Answer::honest(),
        }
    });
}

async fn touched(stage: &Stage) -> Agent {
    stage.pod("a", 0);
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    agent
}

#[tokio::test(start_paused = true)]
async fn a_request_to_evict_that_panics_keeps_no_place_and_is_made_again() {
    // As many as may be open at a time, so that none is left where each keeps its place.
    let stage = Stage::set(2);
    panics(&stage, 2, Asked::is_eviction);
    let agent = touched(&stage).await;
    stage.until(660.0).await;
    let asked = asked(&stage);
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(stage.api.evictions()[2].is_accepted());
    assert_eq!(agent.panicked("evict"), 2.0);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_patch_that_panics_is_made_again() {
    let stage = Stage::set(5);
    // More than may be open at a time.
    panics(&stage, 10, |asked| {
        asked.method == "PATCH" && asked.target.resource == "pods"
    });
    let agent = touched(&stage).await;
    stage.until(100.0).await;
    let pods = stage.api.list("pods");
    let labels = &pods[0]["metadata"]["labels"];
    assert_eq!(labels["curfew.dev/interacted"], "true", "{pods:?}");
    assert_eq!(agent.panicked("patch"), 10.0);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_panics_is_made_again() {
    let stage = Stage::set(5);
    panics(&stage, 1, |asked| {
        asked.method == "GET" && asked.target.name == "ghost"
    });
    let agent = stage.start().await;
    stage.exec(&agent, "ghost").await;
    stage.until(60.0).await;
    assert_eq!(agent.panicked("look_up"), 1.0);
    assert!(agent.only().await.is_none(), "there is no such pod");
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_a_budget_that_panics_is_begun_again() {
    let stage = Stage::set(5);
    stage.budget(1, "IfHealthyBudget", 0);
    let refuses = AtomicU32::new(1);
    let panics = AtomicU32::new(1);
    let once = |left: &AtomicU32| left.swap(0, Ordering::SeqCst) > 0;
    stage.api.script(move |asked| {
        let of_budgets = asked.target.resource == "poddisruptionbudgets";
        match asked.is_eviction() {
            true if once(&refuses) => Answer::no_room(),
            false if of_budgets && once(&panics) => Answer::panics(),
            _ => Answer::honest(),
        }
    });
    let agent = touched(&stage).await;
    stage.until(601.8).await;
    assert_eq!(agent.panicked("watch_budget"), 1.0);
    let watches = stage.api.asked().into_iter();
    let watches = watches.filter(|asked| asked.target.resource == "poddisruptionbudgets");
    assert!(watches.count() >= 2, "it is asked for again");
    agent.end().await;
}
