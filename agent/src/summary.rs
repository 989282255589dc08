//! How the node stands, in numbers: what probes and metrics ask for. Nothing of a record is copied for it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{budgets::BudgetId, journal::Health, ledger::Ledger};

/// The node in numbers.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Whether the list of the node's pods was complete.
    pub synced: bool,
    /// Whether the store is open and its last write was good.
    pub store_open: bool,
    /// Its size on disk in bytes, when it was last written.
    pub store_bytes: u64,
    /// How many pods have a record, by where they stand.
    pub states: BTreeMap<&'static str, i64>,
    /// When the next pod is to be evicted.
    pub next: Option<Timestamp>,
    /// How many pods each budget keeps from being evicted.
    pub blocked_by: BTreeMap<BudgetId, i64>,
}

impl Summary {
    pub(crate) fn of(ledger: &Ledger, store: Health, now: Timestamp) -> Self {
        let mut summary = Self {
            synced: ledger.synced(),
            store_open: store.open,
            store_bytes: store.bytes,
            states: BTreeMap::new(),
            next: None,
            blocked_by: BTreeMap::new(),
        };
        for line in ledger.lines(now) {
            *summary.states.entry(line.state.as_str()).or_default() += 1;
            if line.state.is_pending() {
                let next = summary.next.into_iter().chain(line.record.eviction_time());
                summary.next = next.min();
            }
            if let Some(budget) = line.blocker {
                *summary.blocked_by.entry(budget).or_default() += 1;
            }
        }
        summary
    }

    /// How many pods stand there.
    pub fn in_state(&self, state: &str) -> i64 {
        self.states.get(state).copied().unwrap_or_default()
    }
}
