//! A clock on the wall that jumps.

use std::time::Duration;

use super::{asked, assert_asked};
use crate::testing::{api::Answer, stage::Stage};

#[tokio::test(start_paused = true)]
async fn a_jump_over_a_deadline_is_noticed_within_ten_seconds() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    stage.pod("b", 0);
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(200.0).await;
    stage.exec(&agent, "b").await;
    stage.until(231.7).await;
    stage.wall.jump(500);
    stage.until(5000.0).await;
    let asked = asked(&stage);
    let [(first, a), (second, b)] = &asked[..] else {
        panic!("{asked:?}");
    };
    assert_eq!((a.as_str(), b.as_str()), ("a", "b"));
    assert!((231.7..=241.7).contains(first), "{first}");
    assert!(
        (300.0..300.1).contains(second),
        "{second}: its clock showed 800"
    );
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_jump_makes_an_eviction_early_by_no_more_than_it() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(100.0).await;
    stage.wall.jump(120);
    stage.until(5000.0).await;
    assert_asked(&stage, &[(480.0, "a")]);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_jump_back_a_pod_goes_when_it_is_due_again() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(599.9).await;
    stage.wall.jump(-300);
    stage.until(5000.0).await;
    assert_asked(&stage, &[(900.0, "a")]);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_jump_there_and_back_nothing_has_changed() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(100.0).await;
    stage.wall.jump(-3600);
    stage.until(200.0).await;
    stage.wall.jump(3600);
    stage.until(5000.0).await;
    assert_asked(&stage, &[(600.0, "a")]);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_jump_back_asks_for_nothing_twice() {
    let stage = Stage::set(5);
    stage.pod_with_grace("terminating", 0, 500);
    stage.pod_with_grace("unanswered", 0, 500);
    stage
        .api
        .script_evictions(|asked| match asked.target.name.as_str() {
            "unanswered" => Answer::honest().after(Duration::from_secs(20)),
            _ => Answer::honest(),
        });
    let agent = stage.start().await;
    stage.exec(&agent, "terminating").await;
    stage.exec(&agent, "unanswered").await;
    stage.until(610.0).await;
    stage.wall.jump(-300);
    stage.until(5000.0).await;
    assert_asked(&stage, &[(600.0, "terminating"), (600.0, "unanswered")]);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_blocked_pod_that_stays_overdue_is_asked_for_again_after_a_jump_back() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    stage.api.script_evictions(|_| Answer::no_room());
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(8000.0).await;
    stage.wall.jump(-3600);
    let before = asked(&stage).len();
    stage.until(8035.0).await;
    let tries = asked(&stage).len() - before;
    assert!((1..=3).contains(&tries), "{tries}");
    agent.end().await;
}
