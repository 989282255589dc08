//! When the agents were ready: a node without an agent evicts nothing, so what is due there waits for the agent.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;

use crate::{TestCluster, disrupt::node_of, life::TOLERANCE, namespace::is_ready};

const LOOK: Duration = Duration::from_millis(250);
/// An agent that is ready for less than this may end before it has evicted.
const STEADY: SignedDuration = SignedDuration::from_secs(3);
/// Agents become ready between two looks, and the kubelet reports it late.
const BLUR: SignedDuration = SignedDuration::from_secs(1);

/// What was seen at one time.
#[derive(Debug, Clone)]
struct Look {
    at: Timestamp,
    ready: Vec<String>,
}

/// All that was seen, by time. Before and after it all agents were ready.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Vec<Look>);

impl Readiness {
    /// Looks again and again until it is over.
    pub async fn observe(cluster: &TestCluster, over: &AtomicBool) -> Self {
        let mut looks = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let at = Timestamp::now();
            if let Ok(pods) = cluster.pods_of("agent").await {
                let ready = pods.iter().filter(|pod| is_ready(pod));
                let ready = ready.filter_map(node_of).map(str::to_owned).collect();
                looks.push(Look { at, ready });
            }
            sleep(LOOK).await;
        }
        Self(looks)
    }

    /// When a pod on this node with this deadline must have been evicted: soon after the deadline, or soon after the
    /// first moment from which its agent was ready for long enough.
    pub fn latest_eviction(&self, node: &str, deadline: Timestamp) -> Timestamp {
        let later = self.0.iter().map(|look| look.at);
        let start = std::iter::once(deadline)
            .chain(later.filter(|at| *at > deadline))
            .find(|start| self.is_steady(node, *start));
        let end = self.0.last().map_or(deadline, |look| look.at);
        start.unwrap_or(end) + TOLERANCE + BLUR
    }

    fn is_steady(&self, node: &str, start: Timestamp) -> bool {
        let mut looks = self
            .0
            .iter()
            .filter(|look| look.at >= start && look.at <= start + STEADY);
        looks.all(|look| look.ready.iter().any(|ready| ready == node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_eviction_waits_for_an_agent_that_stays() {
        let looks = (100..130).map(|at| Look {
            at: second(at),
            // Away from 108, back at 112 for a moment and at 115 for good.
            ready: match at {
                108..=111 | 113..=114 => vec!["b".to_owned()],
                _ => vec!["a".to_owned(), "b".to_owned()],
            },
        });
        let readiness = Readiness(looks.collect());
        let latest = |node, deadline| {
            let by = readiness.latest_eviction(node, second(deadline));
            (by - TOLERANCE - BLUR).as_second()
        };
        assert_eq!(latest("a", 101), 101);
        assert_eq!(latest("a", 106), 115);
        assert_eq!(latest("a", 110), 115);
        assert_eq!(latest("b", 110), 110);
        assert_eq!(latest("a", 500), 500);
        assert_eq!(latest("c", 110), 129);
    }
}
