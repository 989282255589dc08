//! A PodDisruptionBudget that blocks an eviction: its numbers, and which pods it allows to be evicted.

use std::fmt;

use curfew_core::budget::NeverRoom;

/// A budget's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BudgetId {
    /// Its namespace, which is its pods'.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for BudgetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a budget tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetView {
    /// Counts the changes that people make to it.
    pub generation: i64,
    /// Whether its numbers are those of its present form.
    pub current: bool,
    /// How many of its pods may go now.
    pub allowed: i32,
    /// How many of its pods are healthy.
    pub healthy: i32,
    /// How many have to be.
    pub desired: i32,
    /// Whether pods that are not ready may always go (`unhealthyPodEvictionPolicy: AlwaysAllow`).
    pub always_unhealthy: bool,
    /// Why it never has room, if it never has.
    pub never: Option<NeverRoom>,
}

impl BudgetView {
    /// Whether evicting the pod does not use up an allowed disruption. That is so for a pod that is not ready,
    /// because it does not count as healthy. See the documentation of `unhealthyPodEvictionPolicy` (KEP-3017).
    pub fn spares(&self, ready: bool) -> bool {
        !ready && (self.always_unhealthy || (self.desired > 0 && self.healthy >= self.desired))
    }

    /// Whether `unhealthyPodEvictionPolicy: AlwaysAllow`, which it has not, would let the pod go.
    pub fn frees_by_policy(&self, ready: bool) -> bool {
        !ready && !self.always_unhealthy
    }
}
