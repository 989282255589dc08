//! The agent's metrics. Counters live here; gauges are read from the schedule at each scrape, so they
//! cannot drift from it.

use curfew_core::{Action, Kind};
use jiff::Timestamp;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector, proto::MetricFamily,
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
    /// How long writing a batch of records takes, sync included.
    pub sync: Histogram,
    /// Failed writes of the store.
    pub store_faults: IntCounter,
    /// Stores that were moved aside because they were damaged.
    pub store_rebuilt: IntCounter,
    /// Records that were kept apart because this build cannot read them.
    pub set_aside: IntGauge,
    store_open: IntGauge,
    store_bytes: IntGauge,
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
            sync: Histogram::with_opts(
                HistogramOpts::new(
                    "curfew_agent_store_write_seconds",
                    "How long it took to write a batch of records to disk, sync included.",
                )
                .buckets(vec![
                    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5,
                ]),
            )?,
            store_rebuilt: IntCounter::new(
                "curfew_agent_store_rebuilt_total",
                "Stores that were damaged and begun anew from the pods' metadata.",
            )?,
            set_aside: IntGauge::new(
                "curfew_agent_store_set_aside_records",
                "Records in the store that this release cannot read, and keeps.",
            )?,
            store_open: IntGauge::new(
                "curfew_agent_store_open",
                "Whether the store is open and its last write was good.",
            )?,
            store_bytes: IntGauge::new(
                "curfew_agent_store_size_bytes",
                "The size of the store on disk.",
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
        let collectors: [Box<dyn Collector>; 13] = [
            Box::new(metrics.pending.clone()),
            Box::new(metrics.next.clone()),
            Box::new(metrics.records.clone()),
            Box::new(metrics.interactions.clone()),
            Box::new(metrics.evictions.clone()),
            Box::new(metrics.lateness.clone()),
            Box::new(metrics.sync.clone()),
            Box::new(metrics.store_faults.clone()),
            Box::new(metrics.store_rebuilt.clone()),
            Box::new(metrics.set_aside.clone()),
            Box::new(metrics.store_open.clone()),
            Box::new(metrics.store_bytes.clone()),
            Box::new(metrics.events_dropped.clone()),
        ];
        for collector in collectors {
            metrics.registry.register(collector)?;
        }
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
            Announcement::Blocked { .. } | Announcement::StoreRebuilt { .. } => {}
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
        self.store_open.set(schedule.store.open.into());
        self.store_bytes.set(schedule.store.bytes as i64);
        let next = schedule
            .records
            .iter()
            .filter(|pod| pod.pending)
            .find_map(|pod| pod.eviction_time);
        self.next.set(next.map_or(0.0, |at| at.as_second() as f64));
        self.registry.gather()
    }
}
