//! The controller at work on a scripted API server, in virtual time: what it asks, when, and how often.

mod answers;
mod as_node;
mod away;
mod circuit_breaker;
mod clock;
mod course;
mod dry_run;
mod many;
mod panics;
mod stop;
mod told;
mod trail;
mod unseen;

use serde_json::Value;

use crate::testing::{api::Asked, stage::Stage};

/// When each eviction was asked for, in seconds since the stage was set, and of which pod.
fn asked(stage: &Stage) -> Vec<(f64, String)> {
    let seen = |asked: Asked| (asked.at.as_secs_f64(), asked.target.name);
    stage.api.evictions().into_iter().map(seen).collect()
}

/// The Events that were posted, in the order of their time.
fn events(stage: &Stage) -> Vec<Value> {
    let mut events = stage.api.list("events");
    events.sort_by_key(|event| event["eventTime"].to_string());
    events
}

/// The reasons of the Events that were posted, in the order of their time.
fn told(stage: &Stage) -> Vec<String> {
    let reason = |event: &Value| event["reason"].as_str().unwrap().to_owned();
    events(stage).iter().map(reason).collect()
}

/// The pods whose eviction was accepted, in that order.
fn accepted(stage: &Stage) -> Vec<String> {
    let mut evictions = stage.api.evictions();
    evictions.retain(Asked::is_accepted);
    evictions
        .into_iter()
        .map(|asked| asked.target.name)
        .collect()
}

/// That pods were asked for in this order, each within a tenth of a second after its time.
#[track_caller]
fn assert_asked(stage: &Stage, expected: &[(f64, &str)]) {
    let asked = asked(stage);
    let punctual = asked.len() == expected.len()
        && asked
            .iter()
            .zip(expected)
            .all(|((at, pod), (due, expected))| pod == expected && (*due..*due + 0.1).contains(at));
    assert!(punctual, "{asked:?} instead of {expected:?}");
}
