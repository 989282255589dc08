//! Answers by which the pod goes, and those that nobody heard.

use curfew_core::State;

use super::*;
use crate::controller::tests::asked;

const EVICTED: [&str; 2] = ["PodInteraction", "PodInteractionEvicted"];

/// A pod whose end takes ten minutes, and whose eviction is answered so.
async fn slow_pod(answer: fn() -> Answer) -> (Stage, Agent) {
    let stage = Stage::set(5);
    stage.pod_with_grace("a", 0, 600);
    stage.api.script_evictions(move |_| answer());
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    (stage, agent)
}

#[tokio::test(start_paused = true)]
async fn accepted_and_waited_for() {
    for answer in [|| Answer::honest(), || Answer::done_as(200)] {
        let (stage, agent) = slow_pod(answer).await;
        stage.until(1190.0).await;
        let pod = agent.only().await.unwrap();
        assert_eq!((pod.state, pod.pending), (State::Terminating, false));
        assert_eq!(told(&stage), EVICTED);
        stage.until(1210.0).await;
        assert!(agent.only().await.is_none());
        assert_eq!(asked(&stage).len(), 1);
        let results: Vec<_> = agent.results().into_iter().collect();
        assert_eq!(results, [("accepted", 1)]);
        agent.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_gone_before_the_watch_says_so() {
    let (stage, agent) = slow_pod(Answer::honest).await;
    stage.until(1.0).await;
    let mut gone = false;
    stage.api.script(move |asked| {
        gone |= asked.is_eviction();
        match asked.target.name.as_str() {
            "a" if gone => Answer::status(404, "pods \"a\" not found"),
            _ => Answer::honest(),
        }
    });
    stage.until(DUE + 5.0).await;
    assert!(agent.only().await.is_none());
    stage.gone("a");
    stage.until(5000.0).await;
    assert!(agent.only().await.is_none());
    assert_eq!(asked(&stage).len(), 1);
    assert_eq!(told(&stage), ["PodInteraction"], "that is not known");
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn another_pod_has_the_name_before_the_watch_says_so() {
    let (stage, agent) = slow_pod(Answer::honest).await;
    stage.until(1.0).await;
    let mut taken = false;
    stage.api.script(move |asked| {
        let is_pod = asked.target.name == "a" && asked.target.resource == "pods";
        match asked.method.as_str() {
            "POST" if is_pod => {
                taken = true;
                Answer::status(409, "the UID in the precondition is another")
            }
            "GET" if is_pod && taken => Answer::raw(
                200,
                r#"{"metadata": {"namespace": "shop", "name": "a", "uid": "uid-2"}}"#,
            ),
            _ => Answer::honest(),
        }
    });
    stage.until(DUE + 5.0).await;
    assert!(agent.only().await.is_none());
    stage.gone("a");
    stage.until(5000.0).await;
    assert!(agent.only().await.is_none());
    assert_eq!(asked(&stage).len(), 1, "the other one lives");
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_told_once_the_pod_shows_it() {
    let (stage, agent) = slow_pod(Answer::lost).await;
    stage.until(1190.0).await;
    assert_eq!(agent.only().await.unwrap().state, State::Terminating);
    assert_eq!(told(&stage), EVICTED);
    stage.until(5000.0).await;
    assert_eq!(told(&stage), EVICTED, "once");
    assert_eq!(asked(&stage).len(), 1);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_is_told_though_the_pod_goes_at_once() {
    let (stage, agent) = pod_answered(Answer::lost).await;
    stage.until(5000.0).await;
    assert_eq!(told(&stage), EVICTED);
    assert!(agent.only().await.is_none());
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_somebody_deletes_while_the_server_is_not_heard_is_not_told_as_evicted() {
    let (stage, agent) = pod_answered(Answer::broken).await;
    stage.until(1000.0).await;
    stage.gone("a");
    stage.until(5000.0).await;
    assert!(agent.only().await.is_none());
    assert_eq!(told(&stage), ["PodInteraction"]);
    agent.end().await;
}
