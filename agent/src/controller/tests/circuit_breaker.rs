//! A server that is asked by many while it is in trouble, and pods that are in trouble by themselves.

use std::time::Duration;

use super::{accepted, asked};
use crate::testing::{
    api::{Answer, Asked},
    stage::{Agent, Stage},
};

const DUE: f64 = 600.0;

/// So many pods are touched in the first second.
async fn pods(stage: &Stage, names: &[&str]) -> Agent {
    for name in names {
        stage.pod(name, 0);
    }
    let agent = stage.start().await;
    for name in names {
        stage.exec(&agent, name).await;
    }
    agent
}

/// How many requests there were within a span of seconds.
fn requests(stage: &Stage, from: f64, until: f64) -> usize {
    let asked = asked(stage).into_iter();
    asked.filter(|(at, _)| (from..until).contains(at)).count()
}

const NINE: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

/// The first of all in order never gets another answer than this.
async fn one_bad_pod(answer: fn() -> Answer) {
    let stage = Stage::set(5);
    stage
        .api
        .script_evictions(move |asked: &Asked| match asked.target.name == NINE[0] {
            true => answer(),
            false => Answer::honest().after(Duration::from_millis(20)),
        });
    let agent = pods(&stage, &NINE).await;
    stage.until(DUE + 1.0).await;
    assert_eq!(accepted(&stage), NINE[1..]);

    stage.pod("later", 9);
    stage.until(2000.0).await;
    stage.exec(&agent, "later").await;
    stage.until(2600.5).await;
    assert_eq!(accepted(&stage).last().unwrap(), "later");
    let tries = asked(&stage).len() - NINE.len();
    assert!((25..120).contains(&tries), "{tries}");
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_never_answered_holds_up_nobody() {
    one_bad_pod(Answer::never).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_for_which_nobody_is_available_holds_up_nobody() {
    one_bad_pod(|| Answer::status(503, "no")).await;
}

#[tokio::test(start_paused = true)]
async fn several_bad_pods_hold_up_others_for_a_minute_at_the_most() {
    let stage = Stage::set(5);
    stage
        .api
        .script_evictions(|asked| match asked.target.name.as_str() {
            "later" => Answer::honest(),
            _ => Answer::status(503, "no"),
        });
    let agent = pods(&stage, &["a", "b", "c"]).await;
    stage.pod("later", 9);
    stage.until(2000.0).await;
    stage.exec(&agent, "later").await;
    stage.until(2660.0).await;
    assert_eq!(accepted(&stage), ["later"]);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_patience_gets_it_from_the_whole_node() {
    let stage = Stage::set(1);
    stage.api.script_evictions(|_| {
        Answer::status(429, "too many requests").header("Retry-After", "100")
    });
    let agent = pods(&stage, &NINE).await;
    stage.until(DUE + 50.0).await;
    stage.api.come_back();
    stage.until(DUE + 120.0).await;
    assert_eq!(requests(&stage, 0.0, DUE + 99.9), 1);
    let mut pods = accepted(&stage);
    pods.sort();
    assert_eq!(pods, NINE);
    agent.end().await;
}
