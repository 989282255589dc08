//! Evictions where the API server lets the agent act as its node.

use serde_json::{Value, json};

use super::*;
use crate::{
    cluster::acting_as::NodeUser,
    testing::{
        api::Answer,
        stage::{Agent, NODE},
    },
};

/// When the pod is due.
const DUE: f64 = 600.0;
const USER: &str = "system:node:node-1";

/// A pod that somebody opened a shell in, and an agent that acts as its node.
async fn touched_pod() -> (Stage, Agent) {
    let mut stage = Stage::set(5);
    stage.node_user = NodeUser::known(NODE);
    stage.pod_with_grace("a", 0, 600);
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(DUE - 1.0).await;
    (stage, agent)
}

/// What was asked about the pod since it was due: how, and as whom.
fn asked_as(stage: &Stage) -> Vec<(String, Option<String>)> {
    let asked = stage.api.asked().into_iter();
    let since = asked.filter(|asked| asked.at.as_secs_f64() >= DUE && asked.target.name == "a");
    since.map(|asked| (asked.method, asked.user)).collect()
}

fn as_node(method: &str) -> (String, Option<String>) {
    (method.to_owned(), Some(USER.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn it_reads_and_evicts_the_pod_as_its_node_and_does_the_rest_as_itself() {
    let (stage, agent) = touched_pod().await;
    stage.until(DUE + 1.0).await;
    assert_eq!(asked_as(&stage), [as_node("GET"), as_node("POST")]);
    let evictions = stage.api.evictions();
    let preconditions = &evictions[0].body["deleteOptions"]["preconditions"];
    assert!(
        preconditions["resourceVersion"].is_string(),
        "{preconditions}"
    );
    assert_eq!(
        agent.results().into_iter().collect::<Vec<_>>(),
        [("accepted", 1)]
    );
    for asked in stage.api.asked() {
        let reads_or_evicts_pods = asked.target.resource == "pods" && asked.method != "PATCH";
        assert_eq!(asked.user.is_some(), reads_or_evicts_pods, "{asked:?}");
    }
    agent.end().await;
}

/// Answers a `get` as the node authorizer does for a pod that it does not know, and the list with this pod.
fn unknown_to_the_authorizer(stage: &Stage, listed: Option<Value>) {
    let items: Vec<_> = listed.into_iter().collect();
    let list = json!({"metadata": {"resourceVersion": "9"}, "items": items}).to_string();
    let refusal = "no relationship found between node 'node-1' and this object";
    stage.api.script(move |asked| match asked.method.as_str() {
        "GET" if asked.target.name == "a" => Answer::status(403, refusal),
        "GET" if asked.target.namespace == "shop" => Answer::raw(200, &list),
        _ => Answer::honest(),
    });
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_the_authorizer_does_not_know_yet_is_found_in_a_list() {
    let (stage, agent) = touched_pod().await;
    let pod = stage.api.list("pods").pop();
    unknown_to_the_authorizer(&stage, pod);
    stage.until(DUE + 1.0).await;
    assert_eq!(asked_as(&stage), [as_node("GET"), as_node("POST")]);
    assert_eq!(
        agent.results().into_iter().collect::<Vec<_>>(),
        [("accepted", 1)]
    );
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_the_authorizer_has_forgotten_is_gone() {
    let (stage, agent) = touched_pod().await;
    unknown_to_the_authorizer(&stage, None);
    stage.until(DUE + 1.0).await;
    // It is looked up once more, as any pod that is gone and yet in the watch.
    assert_eq!(asked_as(&stage), [as_node("GET"), as_node("GET")]);
    assert_eq!(
        agent.results().into_iter().collect::<Vec<_>>(),
        [("gone", 1)]
    );
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_may_read_nothing_tries_again_and_troubles_nobody() {
    let (stage, agent) = touched_pod().await;
    stage.api.script(|asked| match asked.user {
        Some(_) => Answer::status(403, "cannot impersonate"),
        None => Answer::honest(),
    });
    stage.until(DUE + 10.0).await;
    let before = told(&stage);
    let tries = agent.results()["error"];
    assert!((2..=5).contains(&tries), "{tries} tries in ten seconds");
    assert_eq!(before, ["PodInteraction"]);
    stage.api.come_back();
    stage.until(DUE + 60.0).await;
    assert_eq!(told(&stage).last().unwrap(), "PodInteractionEvicted");
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_changes_in_between_is_looked_at_again() {
    let (stage, agent) = touched_pod().await;
    let mut changes = 3;
    stage.api.script(move |asked| {
        if asked.is_eviction() && changes > 0 {
            changes -= 1;
            let conflict = "the ResourceVersion in the precondition (7) does not match the ResourceVersion in record (8)";
            return Answer::status(409, conflict);
        }
        Answer::honest()
    });
    stage.until(DUE + 60.0).await;
    assert_eq!(
        agent.results().into_iter().collect::<Vec<_>>(),
        [("accepted", 1), ("early", 3)]
    );
    let last = stage.api.evictions().pop().unwrap();
    assert!(last.is_accepted(), "{last:?}");
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_asked_again() {
    let (stage, agent) = touched_pod().await;
    stage.api.go_away(Answer::broken());
    stage.until(DUE + 60.0).await;
    assert!(
        asked_as(&stage)
            .iter()
            .all(|asked| *asked == as_node("GET"))
    );
    stage.api.come_back();
    stage.until(DUE + 120.0).await;
    assert_eq!(told(&stage).last().unwrap(), "PodInteractionEvicted");
    agent.end().await;
}
