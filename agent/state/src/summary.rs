//! The state of the node in numbers, for probes and metrics. Only the names that become labels are copied from the
//! records.

use std::{collections::BTreeMap, time::Duration};

use curfew_core::State;
use jiff::Timestamp;

use crate::{budget::BudgetId, node::NodeState};

/// The node in numbers.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Whether the list of the node's pods was complete.
    pub synced: bool,
    /// The same, and the watch of them does not fail.
    pub watched: bool,
    /// Whether the store is open and its last write was good.
    pub store_open: bool,
    /// Its size on disk in bytes, when it was last written.
    pub store_bytes: u64,
    /// How many pods have a record, by where they stand. Dry runs are not among them.
    pub states: BTreeMap<State, i64>,
    /// How many pods are a dry run, by where they stand.
    pub dry_runs: BTreeMap<State, i64>,
    /// How many pods are still to be evicted, by namespace.
    pub namespaces: BTreeMap<String, i64>,
    /// When the next pod is to be evicted, or was to be.
    pub next: Option<Timestamp>,
    /// How long ago that was; nothing when it lies ahead.
    pub longest_overdue: Duration,
    /// How many pods that are terminating had a timer, and are beyond their grace period.
    pub beyond_grace: i64,
    /// How long ago the first of those that had a timer was asked to end.
    pub longest_terminating: Duration,
    /// How many pods each budget keeps from being evicted.
    pub blocked_by: BTreeMap<BudgetId, i64>,
}

impl Summary {
    /// The numbers that this state knows. The owners of the watch and of the store must add the state of both; until
    /// then the summary says that neither works.
    pub fn of(node: &NodeState, now: Timestamp) -> Self {
        let mut summary = Self {
            synced: node.synced(),
            ..Self::default()
        };
        let since = |time: Timestamp| now.duration_since(time).try_into().unwrap_or_default();
        for row in node.rows(now) {
            // Nobody has to look after what is not evicted.
            if row.record.is_dry_run() {
                *summary.dry_runs.entry(row.state).or_default() += 1;
                continue;
            }
            *summary.states.entry(row.state).or_default() += 1;
            if row.state.is_pending() {
                let next = summary.next.into_iter().chain(row.record.eviction_time());
                summary.next = next.min();
                let namespace = row.record.pod.namespace.clone();
                *summary.namespaces.entry(namespace).or_default() += 1;
            }
            // A pod that nobody changed may take its time.
            if let Some(end) = row.termination
                && row.record.eviction_time().is_some()
            {
                summary.beyond_grace += i64::from(now > end.grace_ends);
                summary.longest_terminating = summary.longest_terminating.max(since(end.since));
            }
            if let Some(budget) = row.blocker {
                *summary.blocked_by.entry(budget).or_default() += 1;
            }
        }
        summary.longest_overdue = summary.next.map(since).unwrap_or_default();
        summary
    }

    /// How many pods stand there.
    pub fn in_state(&self, state: State) -> i64 {
        self.states.get(&state).copied().unwrap_or_default()
    }
}
