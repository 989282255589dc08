//! The latest evictions of the node, accepted and refused, for the debug page and its JSON.
//!
//! They are kept in memory only and are lost when the process ends. The log and the Events contain all of them.

use std::collections::VecDeque;

use curfew_agent_state::EvictionOutcome;
use curfew_core::{PodId, RecordedInteraction, record::EvictNow};
use jiff::Timestamp;
use serde::Serialize;

/// How many are kept. A pod that is refused for the same reason again and again takes one place.
pub const KEPT: usize = 20;

/// What came of asking for the eviction of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecentEviction {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The UID.
    pub uid: String,
    /// Why it was to be evicted.
    #[serde(flatten)]
    pub cause: EvictionCause,
    /// When it was to be evicted.
    pub eviction_time: Option<Timestamp>,
    /// What came of it, in the words of `curfew_agent_evictions_total`.
    pub result: String,
    /// In the words of who refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When that was answered first.
    pub since: Timestamp,
    /// When that was answered the last time.
    pub time: Timestamp,
    /// How often it was.
    pub times: u32,
}

/// Why a pod was to be evicted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvictionCause {
    /// Whose interaction set the deadline, or, if nobody interacted with the pod, who ordered to evict it.
    pub user: String,
    /// How they interacted, or `evict-now` if nobody did.
    pub kind: &'static str,
    /// Who ordered to evict it now, if somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered_by: Option<String>,
}

impl EvictionCause {
    pub(crate) fn of(decisive: Option<&RecordedInteraction>, order: Option<&EvictNow>) -> Self {
        let ordered_by = order.map(|order| order.requester.clone());
        match decisive {
            Some(known) => Self {
                user: known.interaction.user.clone(),
                kind: known.interaction.kind.as_str(),
                ordered_by,
            },
            None => Self {
                user: ordered_by.clone().unwrap_or_default(),
                kind: "evict-now",
                ordered_by,
            },
        }
    }
}

/// The latest evictions, a bounded number of them.
#[derive(Debug, Default)]
pub(crate) struct RecentEvictions {
    past: VecDeque<RecentEviction>,
}

impl RecentEvictions {
    /// A request to evict the pod was answered.
    pub(crate) fn add(
        &mut self,
        pod: &PodId,
        cause: EvictionCause,
        eviction_time: Option<Timestamp>,
        outcome: &EvictionOutcome,
        dry_run: bool,
        now: Timestamp,
    ) {
        let result = outcome.result(dry_run);
        let same = |past: &RecentEviction| past.uid == pod.uid && past.result == result;
        let before = self.past.iter().position(same);
        let before = before.and_then(|at| self.past.remove(at));
        if self.past.len() >= KEPT {
            self.past.pop_front();
        }
        self.past.push_back(RecentEviction {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            cause,
            eviction_time,
            result,
            reason: Some(outcome.message())
                .filter(|reason| !reason.is_empty())
                .map(str::to_owned),
            since: before.as_ref().map_or(now, |before| before.since),
            time: now,
            times: before.map_or(0, |before| before.times).saturating_add(1),
        });
    }

    /// All that are kept, the latest first.
    pub(crate) fn latest_first(&self) -> impl Iterator<Item = &RecentEviction> {
        self.past.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, pod_id, shell};

    fn add(history: &mut RecentEvictions, uid: &str, outcome: &EvictionOutcome, second: i64) {
        history.add(
            &pod_id(uid),
            EvictionCause::of(Some(&shell(0)), None),
            Some(at(600)),
            outcome,
            false,
            at(second),
        );
    }

    #[test]
    fn only_the_latest_are_kept() {
        let mut history = RecentEvictions::default();
        for n in 0..50 {
            add(
                &mut history,
                &format!("u-{n}"),
                &EvictionOutcome::Accepted,
                n,
            );
        }
        let kept: Vec<_> = history.latest_first().map(|past| &past.uid).collect();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(
            (kept[0].as_str(), kept[KEPT - 1].as_str()),
            ("u-49", "u-30")
        );
    }

    #[test]
    fn a_pod_that_is_refused_all_the_time_takes_one_place() {
        let mut history = RecentEvictions::default();
        add(&mut history, "other", &EvictionOutcome::Accepted, 0);
        for second in 1..=30 {
            let why = format!("The disruption budget web needs 2, {second}");
            let refused = EvictionOutcome::Budget {
                name: Some("web".into()),
                why,
            };
            add(&mut history, "u", &refused, second);
        }
        add(&mut history, "u", &EvictionOutcome::Accepted, 31);
        let kept: Vec<_> = history.latest_first().cloned().collect();
        let results: Vec<_> = kept.iter().map(|past| past.result.as_str()).collect();
        assert_eq!(results, ["accepted", "disruption_budget", "accepted"]);
        assert_eq!(
            (kept[1].times, kept[1].since, kept[1].time),
            (30, at(1), at(30))
        );
        assert!(kept[1].reason.as_ref().unwrap().ends_with("30"), "{kept:?}");
        assert_eq!((kept[0].times, kept[0].reason.as_deref()), (1, None));
    }
}
