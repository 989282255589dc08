//! An API server that is away while deadlines pass, and comes back.

use std::{ops::Range, time::Duration};

use super::{accepted, asked, told};
use crate::testing::{
    api::Answer,
    stage::{Agent, Stage},
};

const PODS: usize = 50;
const AWAY: f64 = 500.0;
const BACK: f64 = 3000.0;

/// What the network and the API server take for an honest answer.
const LATENCY: Duration = Duration::from_millis(20);

fn priority(pod: usize) -> i32 {
    [100, 0, 1000, 50, 7][pod % 5]
}

fn name(pod: usize) -> String {
    format!("p-{pod:02}")
}

/// A pod is touched each second from the start; all their deadlines pass while every request is answered
/// so. Ends when the server was back for two minutes.
async fn outage(pods: usize, answer: Answer) -> (Stage, Agent) {
    let stage = Stage::set(5);
    for pod in 0..pods {
        stage.pod(&name(pod), priority(pod));
    }
    let agent = stage.start().await;
    for pod in 0..pods {
        stage.until(pod as f64).await;
        stage.exec(&agent, &name(pod)).await;
    }
    stage.until(AWAY).await;
    stage.api.go_away(answer);
    stage.until(BACK).await;
    stage.api.script(|_| Answer::honest().after(LATENCY));
    stage.until(BACK + 120.0).await;
    (stage, agent)
}

/// Every pod was evicted once, soon after the server was back: whichever found out that it was, and then all
/// others in the order of priority and deadline. Few requests were open at a time.
fn assert_all_evicted_once(stage: &Stage) {
    let mut expected: Vec<_> = (0..PODS).map(|pod| (priority(pod), name(pod))).collect();
    expected.sort();
    let mut expected: Vec<_> = expected.into_iter().map(|(_, name)| name).collect();
    let mut pods = accepted(stage);
    let first = pods.remove(0);
    expected.retain(|pod| *pod != first);
    assert_eq!(pods, expected);
    let evictions = stage.api.evictions();
    let open = evictions.iter().map(|asked| asked.open).max();
    assert!(open <= Some(5), "{open:?}");
    let after: Vec<_> = asked(stage)
        .into_iter()
        .filter(|(at, _)| *at >= BACK)
        .collect();
    assert_eq!(after.len(), PODS, "asked once each: {after:?}");
    assert!(after.iter().all(|(at, _)| *at < BACK + 70.0), "{after:?}");
}

/// The most requests of all kinds within so many seconds, of those begun in a span of time.
fn busiest(stage: &Stage, span: Range<f64>, window: f64) -> usize {
    let asked = stage.api.asked().into_iter();
    let times: Vec<_> = asked
        .map(|asked| asked.at.as_secs_f64())
        .filter(|at| span.contains(at))
        .collect();
    let until = |from: &f64| times.partition_point(|at| *at < from + window);
    let counts = times.iter().enumerate();
    counts
        .map(|(index, from)| until(from) - index)
        .max()
        .unwrap_or_default()
}

/// How often it was tried, while it was away, to read a pod for its eviction.
fn tries(stage: &Stage) -> usize {
    let asked = stage.api.asked().into_iter();
    let reads = asked.filter(|asked| asked.method == "GET" && !asked.target.name.is_empty());
    let away = reads.filter(|asked| (AWAY..BACK).contains(&asked.at.as_secs_f64()));
    away.count()
}

/// Some minutes after it went away, it is asked about one eviction every 22 seconds, however many pods are due;
/// and the watch is tried every 2.5 seconds at the most.
fn assert_bounded_while_away(stage: &Stage) {
    let most = busiest(stage, AWAY + 500.0..BACK, 22.0);
    assert!(most <= 13, "{most}");
}

#[tokio::test(start_paused = true)]
async fn ten_times_as_many_pods_ask_no_more() {
    let asked_while_away = async |pods| {
        let (stage, agent) = outage(pods, Answer::broken()).await;
        agent.end().await;
        tries(&stage)
    };
    let few = asked_while_away(10).await;
    let many = asked_while_away(100).await;
    assert!((60..=120).contains(&few), "{few}");
    assert!((60..=120).contains(&many), "{many}");
}

#[tokio::test(start_paused = true)]
async fn connections_that_break() {
    let (stage, agent) = outage(PODS, Answer::broken()).await;
    assert_all_evicted_once(&stage);
    assert_bounded_while_away(&stage);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_it_is_not_available() {
    let unavailable = Answer::status(503, "apiserver is shutting down");
    let (stage, agent) = outage(PODS, unavailable.after(LATENCY)).await;
    assert_all_evicted_once(&stage);
    assert_bounded_while_away(&stage);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn connections_on_which_nothing_comes() {
    let (stage, agent) = outage(PODS, Answer::never()).await;
    assert_all_evicted_once(&stage);
    assert_bounded_while_away(&stage);
    let records = agent.controller.look().await.unwrap().records;
    assert_eq!(records.len(), 0, "the watch has begun again");
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_goes_while_the_server_is_away_is_forgotten() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(500.0).await;
    stage.api.go_away(Answer::broken());
    stage.until(1000.0).await;
    stage.gone("a");
    stage.until(2000.0).await;
    stage.api.come_back();
    stage.until(2060.0).await;
    let records = agent.controller.look().await.unwrap().records;
    assert_eq!(records.len(), 0, "{records:#?}");
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_costs_no_second_eviction() {
    let stage = Stage::set(5);
    stage.pod_with_grace("a", 0, 300);
    stage.api.script_evictions(|_| Answer::lost());
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(800.0).await;
    assert_eq!(
        asked(&stage).len(),
        1,
        "the watch shows that it is on its way out"
    );
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_fails_for_as_long_as_the_server_is_away() {
    for answer in [
        Answer::broken(),
        Answer::never(),
        Answer::status(503, "apiserver is shutting down"),
    ] {
        let stage = Stage::set(5);
        stage.pod("a", 0);
        let agent = stage.start().await;
        stage.until(AWAY).await;
        assert_eq!(agent.watch().await, (true, 0));
        stage.api.go_away(answer.clone());
        let (mut at, mut failed) = (AWAY + 60.0, 0);
        while at < BACK {
            stage.until(at).await;
            let (well, errors) = agent.watch().await;
            assert!(!well, "{answer:?}: well at {at} s after {errors} errors");
            (at, failed) = (at + 1.0, errors);
        }
        // It goes on, and nothing happens of which it could tell.
        stage.api.come_back();
        stage.until(BACK + 21.0).await;
        let (well, errors) = agent.watch().await;
        assert!(
            well && errors > 20 && errors <= failed + 1,
            "{answer:?}: {errors} errors"
        );
        agent.end().await;
    }
}

/// A real one does for a moment: it answers before it has read its roles and bindings.
#[tokio::test(start_paused = true)]
async fn a_server_that_forbids_everything_when_it_is_back_is_asked_again_soon_and_nobody_is_told() {
    for pods in [1, 8] {
        let stage = Stage::set(5);
        for pod in 0..pods {
            stage.pod(&name(pod), 0);
        }
        let agent = stage.start().await;
        for pod in 0..pods {
            stage.exec(&agent, &name(pod)).await;
        }
        stage.until(AWAY).await;
        stage.api.go_away(Answer::broken());
        stage.until(BACK).await;
        let mut forbidden = 0;
        stage.api.script_evictions(move |_| {
            forbidden += 1;
            match forbidden {
                1..=2 => Answer::status(403, "pods is forbidden: User \"agent\" cannot create"),
                _ => Answer::honest(),
            }
        });
        stage.until(BACK + 60.0).await;
        let evictions = stage.api.evictions();
        let answered: Vec<_> = evictions
            .iter()
            .filter_map(|asked| asked.ended.filter(|(_, status)| *status > 0))
            .collect();
        let statuses: Vec<_> = answered.iter().map(|(_, status)| *status).collect();
        assert_eq!(statuses[..2], [403, 403]);
        assert_eq!(accepted(&stage).len(), pods, "{statuses:?}");
        let took = answered[answered.len() - 1].0 - answered[0].0;
        assert!(took < Duration::from_secs(4), "{took:?}");
        let blocked = "PodInteractionEvictionBlocked".to_owned();
        assert!(!told(&stage).contains(&blocked));
        agent.end().await;
    }
}
