//! The table of answers to an eviction, a test each: when the pod is asked for again, what the schedule
//! shows, what people are told and what is counted.

mod budgets;
mod done;
mod refused;

use std::time::Duration;

use super::{events, told};
use crate::testing::{
    api::{Answer, Asked},
    stage::{Agent, Stage},
};

/// The pod is due then.
const DUE: f64 = 600.0;

/// Until then it is answered so.
const UNTIL: f64 = 3000.0;

/// Later than a request or a timer is, in seconds.
const SLACK: f64 = 0.1;

const BLOCKED: &str = "PodInteractionEvictionBlocked";

/// What follows when each request is answered so for forty minutes, and honestly after that. The pod is
/// evicted then.
struct Row {
    answer: fn() -> Answer,
    /// The answer's name in the metric.
    result: &'static str,
    /// The pod's state in the schedule.
    state: &'static str,
    /// Part of what stands in the way, in the schedule; nothing where nothing does.
    reason: &'static str,
    /// The least and the most seconds from the first answer to the next request. No later pause is
    /// shorter than that.
    first: (f64, f64),
    /// The longest pause in seconds.
    longest: f64,
    /// Part of what people are told, in one Event, if they are.
    told: Option<&'static str>,
}

impl Row {
    async fn holds(self) -> Stage {
        let (stage, agent) = pod_answered(self.answer).await;
        stage.until(UNTIL).await;
        let asked = stage.api.evictions();
        let at = asked[0].at.as_secs_f64();
        assert!((DUE..DUE + SLACK).contains(&at), "{at}");
        let first = pauses(&asked)[0];
        let (least, most) = self.first;
        assert!((least..most + SLACK).contains(&first), "{first}");

        let pod = agent.only().await.unwrap();
        assert_eq!(pod.state.as_str(), self.state);
        assert!(pod.pending);
        let reason = pod.reason.unwrap_or_default();
        match self.reason {
            "" => assert_eq!(reason, ""),
            part => assert!(reason.contains(part), "{reason}"),
        }

        self.assert_told(&stage);
        let answered = asked.iter().filter(|asked| asked.ended.is_some()).count() as u64;
        let results: Vec<_> = agent.results().into_iter().collect();
        assert_eq!(results, [(self.result, answered)]);

        stage.api.come_back();
        stage.until(UNTIL + self.longest + 40.0).await;
        let asked = stage.api.evictions();
        assert!(asked.last().is_some_and(Asked::is_accepted), "{asked:#?}");
        let pauses = pauses(&asked);
        let bounds = least..self.longest + SLACK;
        assert!(
            pauses.iter().all(|pause| bounds.contains(pause)),
            "{pauses:?}"
        );
        assert_eq!(told(&stage).last().unwrap(), "PodInteractionEvicted");
        assert!(agent.only().await.is_none(), "its record has ended");
        agent.end().await;
        stage
    }

    fn assert_told(&self, stage: &Stage) {
        let reasons = told(stage);
        let Some(note) = self.told else {
            assert_eq!(reasons, ["PodInteraction"]);
            return;
        };
        assert_eq!(reasons, ["PodInteraction", BLOCKED]);
        let event = &events(stage)[1];
        let said = event["note"].as_str().unwrap();
        assert!(said.contains(note), "{said}");
        let tries = stage.api.evictions().len() as u64;
        let count = event["series"]["count"].as_u64().unwrap();
        assert!((2..=tries).contains(&count), "{count} of {tries}");
        assert_series_is_quiet(stage, UNTIL);
    }
}

/// That no more is told of an obstacle than every five minutes.
fn assert_series_is_quiet(stage: &Stage, until: f64) {
    let mut asked = stage.api.asked();
    asked.retain(|asked| asked.method == "PATCH" && asked.target.resource == "events");
    let most = 1 + ((until - DUE) / 300.0) as usize;
    assert!((1..=most).contains(&asked.len()), "{}", asked.len());
}

/// One ready pod that is due at [`DUE`] and whose eviction is answered so, and a budget that covers it.
async fn pod_answered(answer: fn() -> Answer) -> (Stage, Agent) {
    let stage = Stage::set(5);
    stage.pod("a", 0);
    stage.budget(1, "IfHealthyBudget", 0);
    stage.api.script_evictions(move |_| answer());
    let agent = stage.start().await;
    stage.exec(&agent, "a").await;
    (stage, agent)
}

/// The seconds from each answer to the next request.
fn pauses(asked: &[Asked]) -> Vec<f64> {
    let pause = |pair: &[Asked]| {
        let (ended, _) = pair[0].ended.unwrap_or((Duration::MAX, 0));
        pair[1].at.saturating_sub(ended).as_secs_f64()
    };
    asked.windows(2).map(pause).collect()
}
