//! Many pods that are due at the same second.

use std::time::Duration;

use futures::future::join_all;

use super::{accepted, asked, told};
use crate::testing::{api::Answer, stage::Stage};

const PODS: usize = 250;

#[tokio::test(start_paused = true)]
async fn all_are_evicted_in_order_few_at_a_time() {
    let stage = Stage::set(5);
    let latency = Duration::from_millis(20);
    stage
        .api
        .script_evictions(move |_| Answer::honest().after(latency));
    let names: Vec<_> = (0..PODS).map(|pod| format!("p-{pod:03}")).collect();
    for (pod, name) in names.iter().enumerate() {
        stage.pod(name, (pod % 7) as i32);
    }
    let agent = stage.start().await;
    join_all(names.iter().map(|name| stage.exec(&agent, name))).await;
    stage.until(700.0).await;

    let asked = asked(&stage);
    let mut expected: Vec<_> = (0..PODS).map(|pod| (pod % 7, &names[pod])).collect();
    expected.sort_unstable();
    let order: Vec<_> = asked.iter().map(|(_, name)| name).collect();
    let expected: Vec<_> = expected.into_iter().map(|(_, name)| name).collect();
    assert_eq!(order, expected, "each once, the lowest priority first");
    let (first, last) = (asked[0].0, asked[PODS - 1].0);
    assert!((600.0..600.1).contains(&first), "{first}");
    assert!(last < 602.0, "{last}: a request takes 20 ms");
    let open = stage.api.evictions().iter().map(|asked| asked.open).max();
    assert_eq!(open, Some(5));
    assert_eq!(accepted(&stage).len(), PODS);
    assert_eq!(agent.results()["accepted"], PODS as u64);
    assert_eq!(told(&stage).len(), 2 * PODS, "none was dropped");
    assert!(agent.only().await.is_none());
    agent.end().await;
}
