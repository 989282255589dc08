//! The agents that the last notice did not reach.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::placement::agents::Agents;

/// By node, and where the agent was asked in vain: one that is elsewhere by now was not asked yet. There are
/// never more of them than agents.
#[derive(Debug, Clone, Default)]
pub(super) struct Unreachable(Arc<Mutex<HashMap<String, SocketAddr>>>);

impl Unreachable {
    /// The agent of this node was told.
    pub(super) fn told(&self, node: &str) {
        self.lock().remove(node);
    }

    /// It was not, at this address; these are the agents there are.
    pub(super) fn failed(&self, node: &str, agent: SocketAddr, agents: &Agents) {
        let mut failed = self.lock();
        forget(&mut failed, agents);
        if let (Some(known), Entry::Vacant(place)) =
            (agents.get(node), failed.entry(node.to_owned()))
            && *known == agent
        {
            place.insert(agent);
        }
    }

    /// How many of these agents could not be told the last time.
    pub(super) fn count(&self, agents: &Agents) -> usize {
        let mut failed = self.lock();
        forget(&mut failed, agents);
        failed.len()
    }

    /// Held by nobody that can panic.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets those that are gone, or elsewhere.
fn forget(failed: &mut HashMap<String, SocketAddr>, agents: &Agents) {
    failed.retain(|node, agent| agents.get(node) == Some(agent));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(all: &[(&str, &str)]) -> Agents {
        let all = all.iter();
        Arc::new(
            all.map(|(node, at)| ((*node).to_owned(), at.parse().unwrap()))
                .collect(),
        )
    }

    #[test]
    fn only_agents_that_are_known_and_failed_last_are_counted() {
        let both = agents(&[("a", "10.0.0.1:1"), ("b", "10.0.0.2:1")]);
        let unreachable = Unreachable::default();
        assert_eq!(unreachable.count(&both), 0);
        unreachable.failed("a", both["a"], &both);
        unreachable.failed("a", both["a"], &both);
        unreachable.failed("b", both["b"], &both);
        assert_eq!(unreachable.count(&both), 2);
        unreachable.told("b");
        assert_eq!(unreachable.count(&both), 1);

        let moved = agents(&[("a", "10.0.0.9:1")]);
        assert_eq!(unreachable.count(&moved), 0, "another agent");
        assert_eq!(unreachable.count(&both), 0, "it is not remembered");
    }

    #[test]
    fn nodes_without_an_agent_leave_nothing() {
        let unreachable = Unreachable::default();
        let (one, none) = (agents(&[("a", "10.0.0.1:1")]), agents(&[]));
        for n in 0..1000 {
            unreachable.failed(&format!("gone-{n}"), one["a"], &one);
        }
        unreachable.failed("a", one["a"], &none);
        unreachable.failed("a", "10.0.0.2:1".parse().unwrap(), &one);
        assert!(unreachable.lock().is_empty());
    }
}
