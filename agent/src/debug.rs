//! The node's schedule for those who look into the agent, on loopback of its pod: whoever may forward
//! a port there sees it.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use curfew_core::Interaction;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    inspect,
    journal::Health,
    ledger::{self, Ledger},
    schedule::{Ended, Schedule},
};

/// `GET /v1/schedule`: what this agent knows and what it is going to do.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSchedule {
    /// The node.
    pub node: String,
    /// When this was so.
    pub now: Timestamp,
    /// Whether the list of the node's pods was complete.
    pub synced: bool,
    /// How the store is.
    pub store: StoreHealth,
    /// Every pod with a record, the next to be evicted first.
    pub records: Vec<ScheduledPod>,
}

/// How the store is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreHealth {
    /// Whether it is open and its last write was good.
    pub open: bool,
    /// Its size on disk, when it was last written.
    pub bytes: u64,
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
    /// Where it stands: `recorded`, `protected`, `scheduled`, `held`, `due`, `blocked`, `stuck`,
    /// `retrying`, `terminating`, `finished` or `unseen`.
    pub state: &'static str,
    /// What stands in the way, while something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The PodDisruptionBudget that stands in the way, while one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// Whether it is still to be evicted.
    pub pending: bool,
    /// When it is to be evicted; null when no timer runs.
    pub eviction_time: Option<Timestamp>,
    /// How many interactions there were.
    pub interactions: u32,
    /// The interaction that set the deadline.
    pub decisive: Interaction,
    /// The latest interaction.
    pub last: Interaction,
}

impl NodeSchedule {
    pub(crate) fn of(node: &str, ledger: &Ledger, store: Health, now: Timestamp) -> Self {
        let mut records: Vec<_> = ledger
            .lines(now)
            .map(
                |ledger::Line {
                     record,
                     state,
                     blocker,
                 }| ScheduledPod {
                    namespace: record.pod.namespace.clone(),
                    name: record.pod.name.clone(),
                    uid: record.pod.uid.clone(),
                    state: state.as_str(),
                    reason: state.reason().map(str::to_owned),
                    budget: blocker.map(|budget| budget.name),
                    pending: state.is_pending(),
                    eviction_time: record.eviction_time(),
                    interactions: record.interactions(),
                    decisive: record.decisive().interaction.clone(),
                    last: record.last().interaction.clone(),
                },
            )
            .collect();
        records.sort_by_key(|pod| pod.eviction_time.unwrap_or(Timestamp::MAX));
        Self {
            node: node.to_owned(),
            now,
            synced: ledger.synced(),
            store: StoreHealth {
                open: store.open,
                bytes: store.bytes,
            },
            records,
        }
    }
}

/// The routes.
pub fn router(schedule: Schedule) -> Router {
    Router::new()
        .route("/v1/schedule", get(schedule_json))
        .route(inspect::PATH, get(store_json))
        .with_state(schedule)
}

async fn schedule_json(State(schedule): State<Schedule>) -> Response {
    json(schedule.look().await)
}

async fn store_json(State(schedule): State<Schedule>) -> Response {
    json(schedule.dump().await)
}

fn json(looked: Result<impl Serialize, Ended>) -> Response {
    match looked {
        Ok(looked) => Json(looked).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
