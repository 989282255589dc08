//! The agent's metrics. Counters live here; gauges are read from the schedule at each scrape, so they
//! cannot drift from it.

use std::{cmp::Reverse, time::SystemTime};

use curfew_core::{Action, Kind};
use curfew_runtime::tls::Refusals;
use jiff::Timestamp;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector, proto::MetricFamily,
};

use crate::{
    evict::answer::Outcome,
    ledger::{Announcement, State},
    summary::Summary,
};

/// How many budgets have a series of their own; the others share one.
const MAX_BUDGETS: usize = 20;

/// The metrics of one agent.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    pending: IntGaugeVec,
    protected: IntGauge,
    blocked_by: IntGaugeVec,
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
    clock_skew: Gauge,
    certificate_expiry: Gauge,
    /// Clients that were not let in to post notices.
    pub refusals: Refusals,
    /// Events that could not be posted.
    pub events_dropped: IntCounter,
    /// What was told in the Event of another, because there were too many.
    pub events_folded: IntCounter,
    refused: IntCounterVec,
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
            protected: IntGauge::new(
                "curfew_agent_protected_pods",
                "Pods of this node that were interacted with and are never evicted.",
            )?,
            blocked_by: IntGaugeVec::new(
                Opts::new(
                    "curfew_agent_blocked_evictions",
                    "Pods of this node that a PodDisruptionBudget keeps from being evicted, by budget; \
                     beyond twenty budgets the rest is counted as other.",
                ),
                &["namespace", "poddisruptionbudget"],
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
            clock_skew: Gauge::new(
                "curfew_agent_clock_skew_seconds",
                "How far this node's clock is ahead of the webhook's, as of the last notice; the time on the \
                 way included.",
            )?,
            certificate_expiry: Gauge::new(
                "curfew_agent_certificate_expiry_timestamp_seconds",
                "When the agent's certificate ends, which is renewed after two thirds of its life; 0 when it has \
                 none.",
            )?,
            refusals: Refusals::new(
                "curfew_agent_refused_peers_total",
                "Connections to the port for notices that were refused because of a certificate, by reason.",
            )?,
            store_faults: IntCounter::new(
                "curfew_agent_store_faults_total",
                "Batches of records that could not be written to the store.",
            )?,
            events_dropped: IntCounter::new(
                "curfew_agent_events_dropped_total",
                "Events about pods that could not be posted.",
            )?,
            events_folded: IntCounter::new(
                "curfew_agent_events_folded_total",
                "Things that happened to pods and were told in the Event of another, because they were many.",
            )?,
            refused: IntCounterVec::new(
                Opts::new(
                    "curfew_agent_connections_refused_total",
                    "Connections closed at once, because too many were open, by port.",
                ),
                &["port"],
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
        let collectors: [Box<dyn Collector>; 20] = [
            Box::new(metrics.pending.clone()),
            Box::new(metrics.protected.clone()),
            Box::new(metrics.blocked_by.clone()),
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
            Box::new(metrics.clock_skew.clone()),
            Box::new(metrics.certificate_expiry.clone()),
            Box::new(metrics.refusals.collector()),
            Box::new(metrics.events_dropped.clone()),
            Box::new(metrics.events_folded.clone()),
            Box::new(metrics.refused.clone()),
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
            Announcement::Evicted { eviction_time, .. } => self
                .lateness
                .observe(now.duration_since(*eviction_time).as_secs_f64()),
            Announcement::Extended { .. }
            | Announcement::Held { .. }
            | Announcement::Blocked(_)
            | Announcement::StillBlocked(_)
            | Announcement::Stuck(_)
            | Announcement::StoreRebuilt { .. } => {}
        }
    }

    /// Counts the connections that this port refuses.
    pub fn refused(&self, port: &str) -> IntCounter {
        self.refused.with_label_values(&[port])
    }

    /// A notice was taken that a webhook sent at that time, by its clock.
    pub fn clocks(&self, sent: Timestamp, now: Timestamp) {
        self.clock_skew.set(now.duration_since(sent).as_secs_f64());
    }

    /// There is a certificate that ends then.
    pub fn certificate(&self, expiry: SystemTime) {
        let since = expiry.duration_since(SystemTime::UNIX_EPOCH);
        self.certificate_expiry
            .set(since.map_or(0.0, |since| since.as_secs_f64()));
    }

    /// All of them, with the gauges as the schedule stands.
    pub fn gather(&self, summary: &Summary) -> Vec<MetricFamily> {
        for state in State::PENDING {
            let pending = self.pending.with_label_values(&[state]);
            pending.set(summary.in_state(state));
        }
        self.protected
            .set(summary.in_state(State::Protected.as_str()));
        self.show_blockers(summary);
        self.records.set(summary.states.values().sum());
        self.store_open.set(summary.store_open.into());
        self.store_bytes.set(summary.store_bytes as i64);
        self.next
            .set(summary.next.map_or(0.0, |at| at.as_second() as f64));
        self.registry.gather()
    }

    /// Who stands in the way of how many, the greatest first.
    fn show_blockers(&self, summary: &Summary) {
        let mut budgets: Vec<_> = summary.blocked_by.iter().collect();
        budgets.sort_by_key(|(id, count)| (Reverse(**count), *id));
        self.blocked_by.reset();
        for (at, (id, count)) in budgets.into_iter().enumerate() {
            let labels = match at < MAX_BUDGETS {
                true => [id.namespace.as_str(), &id.name],
                false => ["other", "other"],
            };
            self.blocked_by.with_label_values(&labels).add(*count);
        }
    }
}
