//! What talks to the API server about the pods of this node.
//!
//! It owns the requests that are open, each a task of the [`executor`], and the watches: of the node's pods
//! ([`pod_watch`]) and of the disruption budgets in their way ([`budget_watch`]). A pod's metadata are changed by
//! [`patch`], and its eviction is asked for by [`evict`], which reads the answers, too, where possible as the node
//! ([`acting_as`]). It reports what came of a request and what a watch saw, and decides nothing: what is asked, and
//! when, is left to the controller.

pub(crate) mod acting_as;
pub(crate) mod budget_watch;
pub mod evict;
pub(crate) mod executor;
pub(crate) mod patch;
pub(crate) mod pod_watch;

use std::collections::BTreeSet;

use curfew_agent_state::{BudgetId, BudgetView, PodView};
use tokio::sync::mpsc;

/// How many observations may wait for the controller. At a start the pods of the whole node come faster than the
/// store opens: they wait with the API server rather than here, in memory that never comes back.
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
}

/// The channel by which the watches report.
pub(crate) fn observations() -> (mpsc::Sender<Observation>, mpsc::Receiver<Observation>) {
    mpsc::channel(OBSERVATIONS)
}
