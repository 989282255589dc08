//! Gauges that show how the node stands: set from its [`Summary`] at each scrape.

use curfew_agent_state::Summary;
use curfew_core::State;
use curfew_runtime::metrics::Catalog;
use prometheus::{Gauge, IntGauge, IntGaugeVec};

use super::busiest::{OTHER, busiest};

/// The states in which pods are still to be evicted, and that of those that never are.
const COUNTED: [State; 7] = {
    let [a, b, c, d, e, f] = State::PENDING;
    [a, b, c, d, e, f, State::Protected]
};

/// The states in which pods are counted whose timers are a dry run.
const DRY_RUN: [State; 7] = {
    let [a, b, c, d, e, f] = State::PENDING;
    [a, b, c, d, e, f, State::WouldGo]
};

#[derive(Debug)]
pub(super) struct Standing {
    pending: IntGaugeVec,
    dry_runs: IntGaugeVec,
    by_namespace: IntGaugeVec,
    blocked_by: IntGaugeVec,
    overdue: Gauge,
    terminating: IntGauge,
    beyond_grace: IntGauge,
    longest_terminating: Gauge,
    next: Gauge,
    records: IntGauge,
    store_open: IntGauge,
    store_bytes: IntGauge,
    watch_synced: IntGauge,
}

impl Standing {
    pub(super) fn new(all: &mut Catalog) -> prometheus::Result<Self> {
        Ok(Self {
            pending: all.gauges(
                "curfew_agent_pending_evictions",
                "Pods of this node that are still to be evicted, by state: scheduled, due (the request waits \
                 for its turn or its answer), blocked (by a PodDisruptionBudget), stuck (blocked for longer \
                 than --blocked-after), retrying (refused for another reason), held; and protected pods, which \
                 are never evicted.",
                &[("state", &COUNTED.map(State::as_str))],
            )?,
            dry_runs: all.gauges(
                "curfew_agent_dry_run_pods",
                "Pods of this node whose timers are all a dry run, so that they are not evicted, by state: \
                 scheduled, held, due, retrying; blocked and stuck (a PodDisruptionBudget would block the \
                 eviction), would-go (the API server would have evicted it).",
                &[("state", &DRY_RUN.map(State::as_str))],
            )?,
            // With `namespace` it would be taken for the namespace of the agent.
            by_namespace: all.gauges(
                "curfew_agent_namespace_pending_evictions",
                "Pods of this node that are still to be evicted, by namespace. Beyond the twenty largest \
                 namespaces they are counted as other.",
                &[("pod_namespace", &[])],
            )?,
            blocked_by: all.gauges(
                "curfew_agent_blocked_evictions",
                "Pods of this node whose eviction a PodDisruptionBudget blocks, by budget. Beyond the twenty \
                 budgets with most pods they are counted as other.",
                &[("pod_namespace", &[]), ("poddisruptionbudget", &[])],
            )?,
            overdue: all.seconds(
                "curfew_agent_longest_overdue_seconds",
                "How long the pod with the oldest missed deadline has been overdue; 0 if none is.",
            )?,
            terminating: all.gauge(
                "curfew_agent_terminating_pods",
                "Touched pods of this node that are terminating.",
            )?,
            beyond_grace: all.gauge(
                "curfew_agent_terminating_beyond_grace_pods",
                "Pods of this node with a timer that still exist after their termination grace period.",
            )?,
            longest_terminating: all.seconds(
                "curfew_agent_longest_terminating_seconds",
                "How long the longest terminating pod with a timer has been terminating; 0 if there is none.",
            )?,
            next: all.seconds(
                "curfew_agent_next_eviction_timestamp_seconds",
                "The earliest eviction time of the pods of this node, in the past if that pod is overdue; 0 if \
                 there is none.",
            )?,
            records: all.gauge(
                "curfew_agent_records",
                "Touched pods of this node that still exist.",
            )?,
            store_open: all.gauge(
                "curfew_agent_store_open",
                "Whether the store is open and its last write succeeded.",
            )?,
            store_bytes: all.gauge("curfew_agent_store_size_bytes", "The size of the store on disk.")?,
            watch_synced: all.gauge(
                "curfew_agent_watch_synced",
                "Whether the list of this node's pods is complete and their watch does not fail.",
            )?,
        })
    }

    pub(super) fn show(&self, summary: &Summary) {
        for state in COUNTED {
            let pending = self.pending.with_label_values(&[state.as_str()]);
            pending.set(summary.in_state(state));
        }
        for state in DRY_RUN {
            let pods = summary.dry_runs.get(&state).copied();
            let gauge = self.dry_runs.with_label_values(&[state.as_str()]);
            gauge.set(pods.unwrap_or_default());
        }
        self.by_namespace.reset();
        let (namespaces, others) = busiest(&summary.namespaces);
        for (namespace, count) in namespaces {
            self.by_namespace.with_label_values(&[namespace]).add(count);
        }
        if others > 0 {
            self.by_namespace.with_label_values(&[OTHER]).add(others);
        }
        self.blocked_by.reset();
        let (budgets, others) = busiest(&summary.blocked_by);
        for (id, count) in budgets {
            let labels = [id.namespace.as_str(), &id.name];
            self.blocked_by.with_label_values(&labels).add(count);
        }
        if others > 0 {
            let labels = [OTHER, OTHER];
            self.blocked_by.with_label_values(&labels).add(others);
        }
        self.overdue.set(summary.longest_overdue.as_secs_f64());
        let dry_runs = summary.dry_runs.get(&State::Terminating).copied();
        let terminating = summary.in_state(State::Terminating) + dry_runs.unwrap_or_default();
        self.terminating.set(terminating);
        self.beyond_grace.set(summary.beyond_grace);
        let longest = summary.longest_terminating.as_secs_f64();
        self.longest_terminating.set(longest);
        let next = summary.next.map_or(0.0, |at| at.as_second() as f64);
        self.next.set(next);
        let records = summary.states.values().chain(summary.dry_runs.values());
        self.records.set(records.sum());
        self.store_open.set(summary.store_open.into());
        self.store_bytes.set(summary.store_bytes as i64);
        self.watch_synced.set(summary.watched.into());
    }
}
