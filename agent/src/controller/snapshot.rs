//! The current schedule, for the debug page and its JSON.

use curfew_agent_state::{NodeState, PodRow};
use curfew_core::{
    Drift, Enforcement, Interaction, State,
    record::{EvictNow, Extension, Hold},
};
use jiff::Timestamp;
use serde::Serialize;

use super::recent_evictions::{RecentEviction, RecentEvictions};

/// What this agent knows and is going to do.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSchedule {
    /// The node.
    pub node: String,
    /// The release of the agent.
    pub release: &'static str,
    /// When this was so.
    pub now: Timestamp,
    /// Whether the list of the node's pods was complete.
    pub synced: bool,
    /// How the watch of the node's pods is.
    pub watch: Watch,
    /// How the store is.
    pub store: StoreHealth,
    /// Every pod with a record, the next to be evicted first.
    pub records: Vec<ScheduledPod>,
    /// The latest evictions, accepted and refused, the latest first.
    pub recent_evictions: Vec<RecentEviction>,
}

/// How the store is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreHealth {
    /// Whether it is open and its last write was good.
    pub open: bool,
    /// Its size on disk, when it was last written.
    pub bytes: u64,
    /// How many records in it cannot be read, and are kept.
    pub set_aside: usize,
}

/// How the watch of the node's pods is.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Watch {
    /// Whether it told of an error, and of nothing since for less than two minutes.
    pub failing: bool,
    /// The last error since the agent started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<WatchError>,
}

/// Why the watch broke off.
#[derive(Debug, Clone, Serialize)]
pub struct WatchError {
    /// When.
    pub time: Timestamp,
    /// In the words of who refused.
    pub message: String,
}

/// A pod of the schedule.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledPod {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The UID.
    pub uid: String,
    /// Where it stands.
    pub state: State,
    /// What stands in the way, while something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The PodDisruptionBudget that stands in the way, while one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// Whether it is still to be evicted.
    pub pending: bool,
    /// Whether its eviction is enforced or a dry run; null when no timer runs.
    pub enforcement: Option<Enforcement>,
    /// When the API server answered a dry run that it would evict it, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_go: Option<Timestamp>,
    /// When it is to be evicted; null when no timer runs.
    pub eviction_time: Option<Timestamp>,
    /// When it was asked to end, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating_since: Option<Timestamp>,
    /// When its grace period is over, or was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_ends: Option<Timestamp>,
    /// The extension that stands on the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
    /// The hold that stands on the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The order to evict the pod now, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evict_now: Option<EvictNow>,
    /// What the latest look at its containers found, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// The time up to which interactions start no timer, because nothing had changed, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released: Option<Timestamp>,
    /// How many interactions there were.
    pub interactions: u32,
    /// The interaction that set the deadline; none if nobody interacted with the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decisive: Option<Interaction>,
    /// The latest interaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Interaction>,
}

impl NodeSchedule {
    pub(crate) fn of(
        node: &str,
        now: Timestamp,
        node_state: &NodeState,
        store: StoreHealth,
        watch: Watch,
        history: &RecentEvictions,
    ) -> Self {
        let mut records: Vec<_> = node_state
            .rows(now)
            .map(
                |PodRow {
                     record,
                     state,
                     reason,
                     blocker,
                     termination,
                 }| ScheduledPod {
                    namespace: record.pod.namespace.clone(),
                    name: record.pod.name.clone(),
                    uid: record.pod.uid.clone(),
                    state,
                    reason: reason.map(str::to_owned),
                    budget: blocker.map(|budget| budget.name),
                    pending: state.is_pending() && !record.is_dry_run(),
                    enforcement: record.enforcement(),
                    would_go: record.would_go,
                    terminating_since: termination.map(|end| end.since),
                    grace_ends: termination.map(|end| end.grace_ends),
                    eviction_time: record.eviction_time(),
                    extension: record.extension.clone(),
                    hold: record.hold.clone(),
                    evict_now: record.evict_now().cloned(),
                    drift: record.drift.as_deref().cloned(),
                    released: record.released,
                    interactions: record.interactions(),
                    decisive: record.decisive().map(|known| known.interaction.clone()),
                    last: record.last().map(|known| known.interaction.clone()),
                },
            )
            .collect();
        records.sort_by_key(|pod| pod.eviction_time.unwrap_or(Timestamp::MAX));
        Self {
            node: node.to_owned(),
            release: env!("CARGO_PKG_VERSION"),
            now,
            synced: node_state.synced(),
            watch,
            store,
            records,
            recent_evictions: history.latest_first().cloned().collect(),
        }
    }
}
