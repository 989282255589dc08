//! The node's schedule for those who look into the agent, on loopback of its pod: whoever may forward
//! a port there sees it, as JSON for programs and as a page for people.

mod host;
mod page;
#[cfg(test)]
mod tests;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use curfew_agent_state::{Line, NodeState};
use curfew_core::{
    Interaction,
    metadata::{Extension, Hold},
};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    controller::{
        ControllerHandle, Ended,
        recent_evictions::{History, PastEviction},
    },
    identity::Identities,
    store::inspect,
};

/// `GET /v1/schedule` and the page at `/`: all that there is to see of the agent.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// What the controller knows.
    #[serde(flatten)]
    pub schedule: NodeSchedule,
    /// How the certificate is.
    pub certificate: CertificateHealth,
}

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
    pub recent_evictions: Vec<PastEviction>,
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

/// How the certificate is by which the webhook knows this agent.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateHealth {
    /// When it ends; null when there is none.
    pub expiry: Option<Timestamp>,
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
    /// How many interactions there were.
    pub interactions: u32,
    /// The interaction that set the deadline.
    pub decisive: Interaction,
    /// The latest interaction.
    pub last: Interaction,
}

impl NodeSchedule {
    pub(crate) fn of(
        node: &str,
        now: Timestamp,
        node_state: &NodeState,
        store: StoreHealth,
        watch: Watch,
        history: &History,
    ) -> Self {
        let mut records: Vec<_> = node_state
            .lines(now)
            .map(
                |Line {
                     record,
                     state,
                     blocker,
                     termination,
                 }| ScheduledPod {
                    namespace: record.pod.namespace.clone(),
                    name: record.pod.name.clone(),
                    uid: record.pod.uid.clone(),
                    state: state.as_str(),
                    reason: state.reason().map(str::to_owned),
                    budget: blocker.map(|budget| budget.name),
                    pending: state.is_pending(),
                    terminating_since: termination.map(|end| end.since),
                    grace_ends: termination.map(|end| end.grace_ends),
                    eviction_time: record.eviction_time(),
                    extension: record.extension.clone(),
                    hold: record.hold.clone(),
                    interactions: record.interactions(),
                    decisive: record.decisive().interaction.clone(),
                    last: record.last().interaction.clone(),
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

/// What the routes tell of.
#[derive(Clone)]
struct Told {
    controller: ControllerHandle,
    identities: Identities,
}

impl Told {
    async fn view(&self) -> Result<View, Ended> {
        let schedule = self.controller.look().await?;
        let identity = self.identities.borrow();
        let expiry = identity.as_ref().map(|identity| identity.expiry);
        Ok(View {
            schedule,
            certificate: CertificateHealth {
                expiry: expiry.and_then(|expiry| Timestamp::try_from(expiry).ok()),
            },
        })
    }
}

/// The routes.
pub fn router(controller: ControllerHandle, identities: Identities) -> Router {
    Router::new()
        .route("/v1/schedule", get(schedule_json))
        .route(inspect::PATH, get(store_json))
        .route("/", get(html))
        .with_state(Told {
            controller,
            identities,
        })
        .merge(page::files())
        .layer(middleware::map_response(page::guard))
        .layer(middleware::from_fn(host::check))
}

async fn html(State(told): State<Told>) -> Response {
    match told.view().await {
        Ok(view) => page::render(&view),
        Err(error) => ended(error),
    }
}

async fn schedule_json(State(told): State<Told>) -> Response {
    match told.view().await {
        Ok(view) => Json(view).into_response(),
        Err(error) => ended(error),
    }
}

async fn store_json(State(told): State<Told>) -> Response {
    match told.controller.dump().await {
        Ok(holdings) => Json(holdings).into_response(),
        Err(error) => ended(error),
    }
}

fn ended(error: Ended) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
}
