//! The agent's metrics. Counters live here; gauges are read from the schedule at each scrape, so they
//! cannot drift from it.

use curfew_core::{Action, Kind};
use jiff::Timestamp;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, proto::MetricFamily,
};

use crate::{debug::NodeSchedule, evict::Outcome, ledger::Announcement};

/// The states of a pod whose eviction is pending.
const PENDING: [&str; 4] = ["scheduled", "due", "blocked", "retrying"];

/// The metrics of one agent.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    pending: IntGaugeVec,
    next: Gauge,
    records: IntGauge,
    interactions: IntCounterVec,
    /// Answers of the API server to eviction requests, by their meaning.
    pub evictions: IntCounterVec,
    lateness: Histogram,
    /// Failed writes of the store.
    pub store_faults: IntCounter,
    /// Events that could not be posted.
    pub events_dropped: IntCounter,
}

impl Metrics {
    /// Registers them all.
    ///
    /// # Errors
    /// When two have the same name.
    pub fn new() -> prometheus::Result<Self> {
        let metrics = Self {
            registry: Registry::new(),
            pending: IntGaugeVec::new(
                Opts::new(
                    "curfew_agent_pending_evictions",
                    "Pods of this node that are still to be evicted, by where they stand.",
                ),
                &["state"],
            )?,
            next: Gauge::new(
                "curfew_agent_next_eviction_timestamp_seconds",
                "When the next pod of this node is to be evicted; 0 when none is.",
            )?,
            records: IntGauge::new(
                "curfew_agent_records",
                "Pods of this node that were interacted with and still exist.",
            )?,
            interactions: IntCounterVec::new(
                Opts::new(
                    "curfew_agent_interactions_total",
                    "Interactions with pods of this node, by kind and what follows from them.",
                ),
                &["kind", "action"],
            )?,
            evictions: IntCounterVec::new(
                Opts::new(
                    "curfew_agent_evictions_total",
                    "Answers of the API server to requests to evict a pod, by their meaning.",
                ),
                &["result"],
            )?,
            lateness: Histogram::with_opts(
                HistogramOpts::new(
                    "curfew_agent_eviction_lateness_seconds",
                    "How long after its deadline the eviction of a pod was accepted.",
                )
                .buckets(vec![
                    0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0,
                ]),
            )?,
            store_faults: IntCounter::new(
                "curfew_agent_store_faults_total",
                "Batches of records that could not be written to the store.",
            )?,
            events_dropped: IntCounter::new(
                "curfew_agent_events_dropped_total",
                "Events about pods that could not be posted.",
            )?,
        };
        // What may happen is there from the start, so that the first time is an increase.
        for kind in Kind::ALL {
            for action in [Action::Evict, Action::Record] {
                metrics
                    .interactions
                    .with_label_values(&[kind.as_str(), action.as_str()]);
            }
        }
        for result in Outcome::NAMES {
            metrics.evictions.with_label_values(&[result]);
        }
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.pending.clone()))?;
        registry.register(Box::new(metrics.next.clone()))?;
        registry.register(Box::new(metrics.records.clone()))?;
        registry.register(Box::new(metrics.interactions.clone()))?;
        registry.register(Box::new(metrics.evictions.clone()))?;
        registry.register(Box::new(metrics.lateness.clone()))?;
        registry.register(Box::new(metrics.store_faults.clone()))?;
        registry.register(Box::new(metrics.events_dropped.clone()))?;
        Ok(metrics)
    }

    /// Counts what was announced.
    pub fn count(&self, announcement: &Announcement, now: Timestamp) {
        match announcement {
            Announcement::Interaction { known, .. } => self
                .interactions
                .with_label_values(&[known.interaction.kind.as_str(), known.terms.action.as_str()])
                .inc(),
            Announcement::Evicted { deadline, .. } => self
                .lateness
                .observe(now.duration_since(*deadline).as_secs_f64()),
            Announcement::Blocked { .. } => {}
        }
    }

    /// All of them, with the gauges as the schedule stands.
    pub fn gather(&self, schedule: &NodeSchedule) -> Vec<MetricFamily> {
        let pending = |state: &str| {
            let count = schedule
                .records
                .iter()
                .filter(|pod| pod.pending && pod.state == state);
            count.count() as i64
        };
        for state in PENDING {
            self.pending.with_label_values(&[state]).set(pending(state));
        }
        self.records.set(schedule.records.len() as i64);
        let next = schedule
            .records
            .iter()
            .filter(|pod| pod.pending)
            .find_map(|pod| pod.eviction_time);
        self.next.set(next.map_or(0.0, |at| at.as_second() as f64));
        self.registry.gather()
    }
}
