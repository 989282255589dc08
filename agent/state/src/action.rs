//! What is to be done.

use curfew_core::{Overrides, PodId};
use jiff::Timestamp;

use crate::{
    budget::BudgetId,
    event::{DomainEvent, EvictionAnswer},
    eviction_outcome::EvictionOutcome,
    patch::PodPatch,
};

/// Something that the agent must do outside of this crate. The result is passed back to
/// [`NodeState`](crate::NodeState). The name begins with Agent because a policy has an action too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentAction {
    /// Patch the pod's metadata; answered by [`NodeState::patched`](crate::NodeState::patched).
    Patch(PodPatch),
    /// Ask the API server to evict the pod; answered by [`NodeState::evicted`](crate::NodeState::evicted).
    Evict(EvictionRequest),
    /// Look whether the pod still exists, which the watch did not show; answered by
    /// [`NodeState::answered`](crate::NodeState::answered) or [`NodeState::gone`](crate::NodeState::gone).
    LookUp(PodId),
    /// Look whether anything has changed in the pod; answered by [`NodeState::looked`](crate::NodeState::looked), soon,
    /// because the eviction waits for it.
    Look {
        /// The pod.
        pod: PodId,
        /// What changed at this time or later counts.
        since: Timestamp,
    },
    /// Begin to watch this budget; answered by [`NodeState::budget_seen`](crate::NodeState::budget_seen), again
    /// and again.
    WatchBudget(BudgetId),
    /// Watch it no longer.
    UnwatchBudget(BudgetId),
}

/// A request to evict a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvictionRequest {
    /// The pod.
    pub pod: PodId,
    /// The request of the interaction that set the deadline.
    pub id: String,
    /// The extension and the hold that the agent knew. If they have changed since and move the eviction to a
    /// later time, the pod stays. None if later changes no longer count.
    pub seen: Option<Overrides>,
    /// Ask only whether the pod would be evicted.
    pub dry_run: bool,
}

impl EvictionRequest {
    /// What came of it.
    pub fn answered(self, outcome: EvictionOutcome) -> EvictionAnswer {
        EvictionAnswer {
            pod: self.pod,
            id: self.id,
            outcome,
            dry_run: self.dry_run,
        }
    }
}

/// What was decided: what to do, and what to tell, each in the order in which it came up.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// What is to be done.
    pub actions: Vec<AgentAction>,
    /// What happened.
    pub events: Vec<DomainEvent>,
}
