//! Which pods wait for which disruption budget. A budget is watched while pods wait for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    action::{AgentAction, Decisions},
    budget::{BudgetId, BudgetView},
    eviction_key::EvictionKey,
};

/// How many budgets are watched at a time. Pods that others hold ask again by themselves.
const MAX_WATCHED: usize = 32;

#[derive(Debug, Default)]
struct Queue {
    view: Option<BudgetView>,
    pods: BTreeSet<EvictionKey>,
}

/// The queues before all budgets that stand in the way.
#[derive(Debug, Default)]
pub(super) struct BudgetWaiters {
    by_budget: BTreeMap<BudgetId, Queue>,
}

impl BudgetWaiters {
    /// Puts a pod in the queue before a budget. Returns whether there was room.
    pub(super) fn enter(&mut self, id: &BudgetId, turn: EvictionKey, out: &mut Decisions) -> bool {
        if !self.by_budget.contains_key(id) {
            if self.by_budget.len() >= MAX_WATCHED {
                return false;
            }
            out.actions.push(AgentAction::WatchBudget(id.clone()));
        }
        let queue = self.by_budget.entry(id.clone()).or_default();
        queue.pods.insert(turn);
        true
    }

    /// Takes a pod out of the queue before a budget.
    pub(super) fn leave(&mut self, id: &BudgetId, turn: &EvictionKey) {
        if let Some(queue) = self.by_budget.get_mut(id) {
            queue.pods.remove(turn);
        }
    }

    /// Ends the watch of a budget that nobody waits for.
    pub(super) fn close_if_empty(&mut self, id: &BudgetId, out: &mut Decisions) {
        if self
            .by_budget
            .get(id)
            .is_some_and(|queue| queue.pods.is_empty())
        {
            self.by_budget.remove(id);
            out.actions.push(AgentAction::UnwatchBudget(id.clone()));
        }
    }

    /// What is known of a budget.
    pub(super) fn view(&self, id: &BudgetId) -> Option<&BudgetView> {
        self.by_budget.get(id)?.view.as_ref()
    }

    /// A budget was seen, or seen to be gone. Returns those who wait for it, in the order in which they
    /// go, and what was known of it before; nothing when nobody waits for it any more.
    pub(super) fn seen(
        &mut self,
        id: &BudgetId,
        view: Option<BudgetView>,
    ) -> Option<(Vec<String>, Option<BudgetView>)> {
        let queue = self.by_budget.get_mut(id)?;
        let before = std::mem::replace(&mut queue.view, view);
        let waiting = queue.pods.iter().map(|turn| turn.uid.clone()).collect();
        Some((waiting, before))
    }
}
