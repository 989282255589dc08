//! What people are told: Events that the API server refuses for a while, and bursts.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{events, told};
use crate::testing::{
    api::{Answer, Asked},
    shell,
    stage::{Stage, notice},
};

fn is_event(asked: &Asked) -> bool {
    asked.target.resource == "events"
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_with_429_is_told_when_it_may_be() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    stage.until(590.0).await;
    // Others are answered at once, the pod's eviction among them.
    stage.api.script(|asked| match is_event(asked) {
        true => Answer::status(429, "Too many requests, please try again later.")
            .header("retry-after", "7"),
        false => Answer::honest(),
    });
    stage.until(660.0).await;
    assert_eq!(told(&stage), ["PodInteraction"]);
    stage.api.come_back();
    stage.until(700.0).await;
    assert_eq!(told(&stage), ["PodInteraction", "PodInteractionEvicted"]);

    let asked = stage.api.asked().into_iter().filter(is_event);
    let times: Vec<_> = asked.map(|asked| asked.at.as_secs_f64()).skip(1).collect();
    assert!(times.len() <= 8, "{times:?}");
    let pauses = times.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(pauses.into_iter().all(|pause| pause >= 7.0), "{times:?}");
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_holds_up_no_other() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    stage.pod("b", 0);
    let agent = stage.start().await;
    stage.api.script(|asked| {
        let about_a = asked.body["regarding"]["name"] == "a";
        match is_event(asked) && about_a {
            true => Answer::status(429, "Too many requests").header("retry-after", "30"),
            false => Answer::honest(),
        }
    });
    stage.exec(&agent, "a").await;
    stage.exec(&agent, "b").await;
    stage.until(5.0).await;
    let pods: Vec<_> = events(&stage)
        .iter()
        .map(|event| event["regarding"]["name"].clone())
        .collect();
    assert_eq!(pods, ["b"]);
    // For ever: it is given up, and not asked for without end.
    stage.until(550.0).await;
    let asked = stage.api.asked();
    let tries = asked.iter().filter(|asked| is_event(asked)).count();
    assert!((10..=25).contains(&tries), "{tries}");
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_tells_nothing_twice() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    let agent = stage.start().await;
    let lost = Arc::new(AtomicU64::new(0));
    let so_many = lost.clone();
    stage.api.script(move |asked| match is_event(asked) {
        true if so_many.fetch_add(1, Ordering::SeqCst) == 0 => Answer::lost(),
        _ => Answer::honest(),
    });
    stage.exec(&agent, "a").await;
    stage.until(60.0).await;
    assert_eq!(told(&stage), ["PodInteraction"]);
    assert_eq!(lost.load(Ordering::SeqCst), 2);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn each_interaction_of_a_burst_is_in_an_event() {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    let agent = stage.start().await;
    for n in 0..60 {
        let mut known = shell(0);
        // Sorted by user, many come before those that are kept.
        known.interaction.user = format!("user-{:02}", n * 37 % 60);
        known.interaction.request = format!("request-{n}");
        agent.controller.record(notice("a", known)).await.unwrap();
    }
    assert_eq!(agent.only().await.unwrap().interactions, 60);
    stage.until(60.0).await;
    let events = events(&stage);
    let counts = events
        .iter()
        .map(|event| event["series"]["count"].as_u64().unwrap_or(1));
    assert_eq!(counts.sum::<u64>(), 60);
    agent.end().await;
}
