//! What stands in the way of evictions, as the agents' Events tell it.
//!
//! It stands on no pod, so it is looked for only where a pod should be gone and is not. Events are
//! read with the user's own rights: who may not read them sees such pods as due.

use std::{collections::BTreeMap, time::Duration};

use curfew_core::State;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::{Api, Client, api::ListParams};

/// The reason of those Events.
pub(crate) const REASON: &str = "PodInteractionEvictionBlocked";
/// How many are asked for at once, and how often at the most: some pods have a few, most have none.
const PAGE: u32 = 500;
const PAGES: usize = 8;
/// What was asked for can be shown without them.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What stands in the way of one eviction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// When it was last so.
    pub(crate) last_seen: Timestamp,
    /// The PodDisruptionBudget, where it is one.
    pub(crate) budget: Option<String>,
    /// What the Event says.
    pub(crate) message: String,
    /// The pod's state as the agent has it.
    pub(crate) state: State,
}

/// The latest block of each pod that has one, by UID.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocks(BTreeMap<String, Told>);

/// What is told of one pod.
#[derive(Debug, Clone)]
struct Told {
    latest: Block,
    /// When it was last told that the pod is stuck. The series of Events that began before goes on
    /// beside that.
    stuck: Option<Timestamp>,
}

impl Blocks {
    /// Reads the Events of a namespace, or of all.
    pub(crate) async fn fetch(client: &Client, namespace: Option<&str>) -> Self {
        let events: Api<Event> = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let first = ListParams::default()
            .fields(&format!("reason={REASON}"))
            .limit(PAGE);
        let mut blocks = Self::default();
        let all = async {
            let mut params = first.clone();
            for _ in 0..PAGES {
                let page = events.list(&params).await?;
                page.items.into_iter().for_each(|event| blocks.learn(event));
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params = first.clone().continue_token(&token),
                    None => break,
                }
            }
            Ok::<_, kube::Error>(())
        };
        // What was read until it failed is true all the same.
        drop(tokio::time::timeout(TIMEOUT, all).await);
        blocks
    }

    /// Adds what an Event tells.
    pub(crate) fn learn(&mut self, event: Event) {
        if event.reason.as_deref() != Some(REASON) {
            return;
        }
        let uid = event.involved_object.uid.clone();
        let (Some(uid), Some(last_seen)) = (uid, last_seen(&event)) else {
            return;
        };
        let budget = event
            .related
            .filter(|related| related.kind.as_deref() == Some("PodDisruptionBudget"))
            .and_then(|related| related.name);
        let message = event.message.unwrap_or_default();
        self.add(
            uid,
            Block {
                last_seen,
                budget,
                message,
                state: State::of_action(event.action.as_deref().unwrap_or_default()),
            },
        );
    }

    pub(crate) fn add(&mut self, uid: String, block: Block) {
        let stuck = (block.state == State::Stuck).then_some(block.last_seen);
        let known = self.0.entry(uid).or_insert_with(|| Told {
            latest: block.clone(),
            stuck,
        });
        known.stuck = known.stuck.max(stuck);
        if known.latest.last_seen < block.last_seen {
            known.latest = block;
        }
    }

    /// What blocks the pod of this UID. What was seen before its present eviction time blocked an
    /// earlier one, which was extended since.
    pub(crate) fn of(&self, uid: &str, eviction_time: Timestamp) -> Option<Block> {
        let Told { latest, stuck } = self.0.get(uid)?;
        let mut block = (latest.last_seen >= eviction_time).then(|| latest.clone())?;
        if block.state == State::Blocked && stuck.is_some_and(|stuck| stuck >= eviction_time) {
            block.state = State::Stuck;
        }
        Some(block)
    }
}

/// When what an Event tells was last so.
pub(crate) fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref();
    series
        .and_then(|series| series.last_observed_time.as_ref())
        .map(|time| time.0)
        .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| event.first_timestamp.as_ref().map(|time| time.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::row::tests::at;
    use serde_json::json;

    fn event(time: &str, series: Option<&str>, budget: Option<&str>) -> Event {
        let mut event = json!({
            "metadata": {},
            "reason": REASON,
            "involvedObject": {"kind": "Pod", "uid": "u-1"},
            "eventTime": time,
            "message": format!("blocked, told at {time}"),
        });
        if let Some(last) = series {
            event["series"] = json!({"count": 7, "lastObservedTime": last});
        }
        if let Some(name) = budget {
            event["related"] = json!({"kind": "PodDisruptionBudget", "name": name});
        }
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn the_latest_word_counts_and_a_series_goes_on() {
        let mut blocks = Blocks::default();
        let (early, late) = ("2026-03-01T12:10:01.000000Z", "2026-03-01T12:40:00.000000Z");
        blocks.learn(event(early, Some(late), Some("web")));
        blocks.learn(event("2026-03-01T12:20:00.000000Z", None, None));
        let block = blocks.of("u-1", at("2026-03-01T12:30:00Z")).unwrap();
        assert_eq!(block.budget.as_deref(), Some("web"));
        assert_eq!(blocks.of("u-1", at("2026-03-01T12:50:00Z")), None);
        assert_eq!(blocks.of("u-2", at("2026-03-01T12:00:00Z")), None);
    }

    #[test]
    fn a_stuck_pod_stays_stuck_while_its_series_goes_on() {
        let mut blocks = Blocks::default();
        let state = |blocks: &Blocks, after| blocks.of("u-1", at(after)).unwrap().state;
        blocks.learn(event("2026-03-01T12:10:01.000000Z", None, Some("web")));
        assert_eq!(state(&blocks, "2026-03-01T12:10:00Z"), State::Blocked);
        let mut stuck = event("2026-03-01T12:20:00.000000Z", None, Some("web"));
        stuck.action = Some("EvictStuck".into());
        blocks.learn(stuck);
        let later = "2026-03-01T12:40:00.000000Z";
        blocks.learn(event(
            "2026-03-01T12:10:01.000000Z",
            Some(later),
            Some("web"),
        ));
        assert_eq!(state(&blocks, "2026-03-01T12:10:00Z"), State::Stuck);
        // It was extended since, and is blocked anew.
        assert_eq!(state(&blocks, "2026-03-01T12:30:00Z"), State::Blocked);
        let mut denied = event("2026-03-01T12:50:00.000000Z", None, None);
        denied.action = Some("EvictRetrying".into());
        blocks.learn(denied);
        assert_eq!(state(&blocks, "2026-03-01T12:10:00Z"), State::Retrying);
    }

    #[test]
    fn other_events_block_nothing() {
        let mut blocks = Blocks::default();
        let mut other = event("2026-03-01T12:20:00.000000Z", None, Some("web"));
        other.reason = Some("PodInteraction".into());
        blocks.learn(other);
        assert_eq!(blocks.of("u-1", at("2026-03-01T12:00:00Z")), None);
    }
}
