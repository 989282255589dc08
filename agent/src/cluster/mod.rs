//! Requests to the API server about the pods of this node.
//!
//! Owns the open requests, each of which is a task of the [`executor`], and the watches: of the node's pods
//! ([`pod_watch`]) and of the disruption budgets that block evictions ([`budget_watch`]). [`patch`] changes the
//! metadata of a pod. [`evict`] requests an eviction and reads the answer. [`acting_as`] decides as whom pods are read
//! and evicted.
//! This room reports the results of requests and the events of watches. It decides nothing: the controller decides
//! what to request, and when.

pub(crate) mod acting_as;
pub(crate) mod budget_watch;
mod container_facts;
pub mod evict;
pub(crate) mod executor;
pub(crate) mod patch;
pub(crate) mod pod_watch;
pub(crate) mod read;

use std::collections::BTreeSet;

use curfew_agent_state::{BudgetId, BudgetView, PodView};
use curfew_core::Drift;
use tokio::sync::mpsc;

/// How many observations may wait for the controller. When the agent starts, the pods of the whole node arrive
/// before the store is open. They wait at the API server and not here, because the allocator would not return that
/// memory.
const OBSERVATIONS: usize = 64;

/// What a watch saw.
#[derive(Debug)]
pub(crate) enum Observation {
    /// The watch is about to list the pods of the node.
    ListBegins,
    /// A pod.
    PodSeen(Box<PodView>),
    /// The pod of that UID is gone.
    PodGone(String),
    /// All pods of the node are listed; these are their UIDs.
    PodsListed(BTreeSet<String>),
    /// The watch of the node's pods failed, and tries again.
    WatchFailed(String),
    /// A budget, or that it is gone.
    BudgetSeen(BudgetId, Option<BudgetView>),
    /// Whether the containers of the pod of that UID changed.
    Looked(String, Drift),
}

/// The channel by which the watches report.
pub(crate) fn observations() -> (mpsc::Sender<Observation>, mpsc::Receiver<Observation>) {
    mpsc::channel(OBSERVATIONS)
}
