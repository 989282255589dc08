//! The end of a controller, and what its successor makes of it.

use std::time::Duration;

use curfew_core::Receipt;
use tokio::{task::JoinHandle, time::Instant};

use super::assert_asked;
use crate::{
    store::NotRecorded,
    testing::{
        api::Answer,
        shell,
        stage::{Agent, Stage, notice},
    },
};

/// The kubelet is told to be patient for longer.
const MOST: Duration = Duration::from_secs(5);

/// Tells the agent of an exec at the stage's beginning, and stops it while it writes that to a disk that
/// holds it. Returns the answer to the notice and the end of the agent, both to come.
async fn end_while_it_writes(
    stage: &Stage,
    agent: Agent,
) -> (JoinHandle<Result<Receipt, NotRecorded>>, JoinHandle<()>) {
    stage.disk.hold();
    let controller = agent.controller.clone();
    let recording = tokio::spawn(async move { controller.record(notice("a", shell(0))).await });
    stage.disk.holds_a_write().await;
    let ending = tokio::spawn(agent.end());
    // On a paused clock: when there is nothing else to do.
    tokio::time::sleep(Duration::from_millis(1)).await;
    (recording, ending)
}

#[tokio::test(start_paused = true)]
async fn what_falls_due_while_it_stops_is_left_to_the_successor() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(599.0).await;
    agent.end().await;
    let ended = stage.now();
    assert!(
        (600.0..604.0).contains(&ended),
        "{ended}: its deadline is at 600"
    );
    assert_asked(&stage, &[]);
    stage.until(700.0).await;
    let agent = stage.start().await;
    stage.until(800.0).await;
    assert_asked(&stage, &[(700.0, "a")]);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_notice_in_hand_is_answered_and_kept() {
    // While messages are still answered, and after.
    for written_after in [1.0, 4.0] {
        let stage = Stage::set(5);
        stage.pod("a", 0);
        let agent = stage.start().await;
        let (recording, ending) = end_while_it_writes(&stage, agent).await;
        let begun = stage.now();
        stage.until(begun + written_after).await;
        assert!(!recording.is_finished() && !ending.is_finished());
        stage.disk.let_go();
        ending.await.unwrap();
        let took = stage.now() - begun;
        assert!(took <= MOST.as_secs_f64(), "{took}");
        assert!(recording.await.unwrap().unwrap().eviction_time.is_some());

        let agent = stage.start().await;
        let records = agent.controller.look().await.unwrap().records;
        assert_eq!(records.len(), 1);
        agent.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_eviction_that_is_not_answered_does_not_hold_it_up() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    stage.api.script_evictions(|_| Answer::never());
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(601.0).await;
    let begun = Instant::now();
    agent.end().await;
    assert!(begun.elapsed() <= MOST, "{:?}", begun.elapsed());
    stage.api.come_back();
    stage.until(700.0).await;
    let agent = stage.start().await;
    stage.until(800.0).await;
    assert_asked(&stage, &[(600.0, "a"), (700.0, "a")]);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_notice_in_hand_that_is_due_already_is_left_to_the_successor() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    let agent = stage.start().await;
    stage.until(1000.0).await;
    let (recording, ending) = end_while_it_writes(&stage, agent).await;
    stage.disk.let_go();
    ending.await.unwrap();
    recording.await.unwrap().unwrap();
    assert_asked(&stage, &[]);
}
