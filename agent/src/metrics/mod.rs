//! The agent's metrics: their names, and where they are counted. None carries a pod, a user or a command.
//!
//! It owns the counters. Gauges of the schedule are computed from it at each scrape ([`gauges`]), so they always
//! agree with it. Every room may count here, and each decides when.

mod busiest;
mod gauges;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use curfew_agent_state::{DomainEvent, EvictionOutcome, Source, Summary};
use curfew_core::{Action, Actor, Kind, drift::Verdict};
use curfew_runtime::{
    metrics::{Catalog, unix_seconds},
    tls::Refusals,
    watch::Watches,
};
use jiff::Timestamp;
use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, proto::MetricFamily};

use self::gauges::Standing;

/// What an agent watches: the pods of its node, the budgets in their way, and whom it has to trust.
const WATCHES: [&str; 3] = ["pods", "budgets", "trust"];

/// What an agent does outside.
const ACTIONS: [&str; 4] = ["patch", "evict", "look_up", "watch_budget"];

/// The metrics of one agent.
#[derive(Debug, Clone)]
pub struct Metrics {
    catalog: Catalog,
    /// Held by one scrape at a time: what was the busiest for one is set anew by the next.
    gauges: Arc<Mutex<Standing>>,
    interactions: IntCounterVec,
    extensions: IntCounterVec,
    holds: IntCounter,
    orders: IntCounter,
    /// Answers of the API server to eviction requests, by their meaning.
    pub evictions: IntCounterVec,
    /// Whether the API server lets the agent read and evict pods as its node.
    pub acts_as_node: IntGauge,
    lateness: Histogram,
    looks: IntCounterVec,
    look_seconds: Histogram,
    released: IntCounter,
    sessions: IntGauge,
    unseen: IntCounterVec,
    panicked: IntCounterVec,
    /// How long writing a batch of records takes, sync included.
    pub sync: Histogram,
    unmarked: IntCounter,
    patch_errors: IntCounter,
    store_faults: IntCounter,
    store_rebuilt: IntCounter,
    set_aside: IntGauge,
    /// The watches of the process.
    pub watches: Watches,
    clock_skew: Gauge,
    certificate_expiry: Gauge,
    /// Clients that were not let in to post notices.
    pub refusals: Refusals,
    refused: IntCounterVec,
    /// Events that could not be posted.
    pub events_dropped: IntCounter,
    /// What was told in the Event of another, because there were too many.
    pub events_folded: IntCounter,
}

impl Metrics {
    /// Registers them all.
    ///
    /// # Errors
    /// When two have the same name.
    pub fn new() -> prometheus::Result<Self> {
        let mut all = Catalog::of("agent", env!("CARGO_PKG_VERSION"))?;
        let gauges = Standing::new(&mut all)?;
        let results: Vec<_> = EvictionOutcome::results().collect();
        Ok(Self {
            gauges: Arc::new(Mutex::new(gauges)),
            interactions: all.counters(
                "curfew_agent_interactions_total",
                "Interactions with pods of this node, by kind, action and kind of actor.",
                &[
                    ("kind", Kind::NAMES),
                    ("action", Action::NAMES),
                    ("actor", Actor::NAMES),
                ],
            )?,
            extensions: all.counters(
                "curfew_agent_extensions_total",
                "Extensions in force on pods of this node, by whether they use the maximum that the pod's \
                 terms allow.",
                &[("maximum", &["true", "false"])],
            )?,
            holds: all.counter(
                "curfew_agent_holds_total",
                "Holds that keep pods of this node beyond their deadline.",
            )?,
            orders: all.counter(
                "curfew_agent_evict_now_total",
                "Orders of people to evict a pod of this node now (kubectl pi evict).",
            )?,
            evictions: all.counters(
                "curfew_agent_evictions_total",
                "Answers of the API server to eviction requests, by meaning; dry_run_ before it means that the \
                 request only asked whether the pod would be evicted.",
                &[("result", &results.iter().map(String::as_str).collect::<Vec<_>>())],
            )?,
            acts_as_node: all.gauge(
                "curfew_agent_acts_as_node",
                "Whether the agent reads and evicts pods as its node: 1, or 0 if it uses its own account (before \
                 Kubernetes 1.36), or if neither is allowed.",
            )?,
            lateness: all.histogram(
                "curfew_agent_eviction_lateness_seconds",
                "How long after its deadline the eviction of a pod was accepted.",
                &[0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0],
            )?,
            looks: all.counters(
                "curfew_agent_looks_total",
                "Looks at the containers of touched pods, by what they found.",
                &[("result", Verdict::NAMES)],
            )?,
            look_seconds: all.histogram(
                "curfew_agent_look_duration_seconds",
                "How long a look at the containers of a pod took.",
                &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0],
            )?,
            released: all.counter(
                "curfew_agent_released_pods_total",
                "Pods whose timers ended because nothing had changed in their containers.",
            )?,
            sessions: all.gauge(
                "curfew_agent_sessions",
                "Sessions that run in containers of this node, as far as the agent sees processes.",
            )?,
            unseen: all.counters(
                "curfew_agent_evidence_dropped_total",
                "What was lost because too much waited: sessions that were not admitted and are not recorded \
                 (bypass), and messages to the thread that looks at containers (message).",
                &[("what", &["bypass", "message"])],
            )?,
            panicked: all.counters(
                "curfew_agent_actions_panicked_total",
                "Actions that panicked, by what they were for; the agent retries each.",
                &[("action", &ACTIONS)],
            )?,
            sync: all.histogram(
                "curfew_agent_store_write_seconds",
                "How long it took to write a batch of records to disk, including the sync.",
                &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5],
            )?,
            patch_errors: all.counter(
                "curfew_agent_patch_errors_total",
                "Errors when the agent changed the labels and annotations of touched pods; it retries after each.",
            )?,
            unmarked: all.counter(
                "curfew_agent_unmarked_pods_total",
                "Touched pods whose labels and annotations the API server refused to change.",
            )?,
            store_faults: all.counter(
                "curfew_agent_store_faults_total",
                "Batches of records that could not be written to the store.",
            )?,
            store_rebuilt: all.counter(
                "curfew_agent_store_rebuilt_total",
                "Stores that were damaged, incomplete or deleted; their records were rebuilt from the pods' metadata \
                 or from what the agent knew.",
            )?,
            set_aside: all.gauge(
                "curfew_agent_store_set_aside_records",
                "Records in the store that this release cannot read but keeps.",
            )?,
            watches: Watches::new("agent", &WATCHES, &mut all)?,
            clock_skew: all.seconds(
                "curfew_agent_clock_skew_seconds",
                "How far this node's clock was ahead of the webhook's clock at the last notice, including the \
                 time for sending it.",
            )?,
            certificate_expiry: all.seconds(
                "curfew_agent_certificate_expiry_timestamp_seconds",
                "When the agent's certificate expires; it is renewed after two thirds of its lifetime. 0 if \
                 there is none.",
            )?,
            refusals: Refusals::new(
                &mut all,
                "curfew_agent_refused_peers_total",
                "Connections to the port for notices that were refused because of a certificate, by reason.",
            )?,
            refused: all.counters(
                "curfew_agent_connections_refused_total",
                "Connections that were closed to make room for others because too many were open, by port.",
                &[("port", &["notices", "metrics", "debug"])],
            )?,
            events_dropped: all.counter(
                "curfew_agent_events_dropped_total",
                "Events about pods that could not be posted.",
            )?,
            events_folded: all.counter(
                "curfew_agent_events_folded_total",
                "Events that were merged into another Event because there were too many.",
            )?,
            catalog: all,
        })
    }

    /// What there is, for those who document it.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Counts what happened.
    pub fn count(&self, event: &DomainEvent, now: Timestamp) {
        match event {
            // It was counted when it was noticed.
            DomainEvent::Interaction(new)
                if matches!(new.source, Source::Controller | Source::Leftovers) => {}
            DomainEvent::Interaction(new) => self
                .interactions
                .with_label_values(&[
                    new.known.interaction.kind.as_str(),
                    new.known.terms.action.as_str(),
                    new.known.interaction.actor().as_str(),
                ])
                .inc_by(1 + new.more.map_or(0, |more| u64::from(more.times))),
            DomainEvent::Extended(change)
                if change.extension.is_some() && change.consequence.is_eviction() =>
            {
                let maximum = if change.maximum { "true" } else { "false" };
                self.extensions.with_label_values(&[maximum]).inc();
            }
            DomainEvent::Held(change)
                if change.hold.is_some() && change.consequence.is_eviction() =>
            {
                self.holds.inc();
            }
            DomainEvent::EvictNow(_) => self.orders.inc(),
            DomainEvent::Evicted(eviction) if eviction.dry_run => {}
            DomainEvent::Evicted(eviction) => self
                .lateness
                .observe(now.duration_since(eviction.eviction_time).as_secs_f64()),
            DomainEvent::EvictionAnswered(answer) => self
                .evictions
                .with_label_values(&[&answer.outcome.result(answer.dry_run)])
                .inc(),
            DomainEvent::MarkFailed { .. } => self.patch_errors.inc(),
            DomainEvent::Unmarked(refusal) if !refusal.again => self.unmarked.inc(),
            DomainEvent::StoreOpened { set_aside, .. } => self.set_aside.set(*set_aside as i64),
            DomainEvent::StoreFailed { .. } => self.store_faults.inc(),
            DomainEvent::StoreRebuilt { .. } => self.store_rebuilt.inc(),
            DomainEvent::Released(_) => self.released.inc(),
            DomainEvent::Extended(_)
            | DomainEvent::Held(_)
            | DomainEvent::Stored(_)
            | DomainEvent::Drifted(_)
            | DomainEvent::Marked { .. }
            | DomainEvent::Unmarked(_)
            | DomainEvent::Blocked(_)
            | DomainEvent::StillBlocked(_)
            | DomainEvent::Stuck(_)
            | DomainEvent::Gone { .. }
            | DomainEvent::ClockWentBack(_) => {}
        }
    }

    /// The containers of a pod were looked at.
    pub(crate) fn looked(&self, verdict: Verdict, took: Duration) {
        self.looks.with_label_values(&[verdict.as_str()]).inc();
        self.look_seconds.observe(took.as_secs_f64());
    }

    /// So many sessions run in containers of this node.
    pub(crate) fn sessions(&self, open: usize) {
        self.sessions.set(open.try_into().unwrap_or(i64::MAX));
    }

    /// Counts the sessions that were not admitted and cannot be recorded.
    pub(crate) fn bypasses_dropped(&self) -> IntCounter {
        self.unseen.with_label_values(&["bypass"])
    }

    /// Counts the messages that the thread that looks at containers did not take.
    pub(crate) fn messages_dropped(&self) -> IntCounter {
        self.unseen.with_label_values(&["message"])
    }

    /// An action of this name panicked.
    pub(crate) fn panicked(&self, action: &str) {
        self.panicked.with_label_values(&[action]).inc();
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
        self.certificate_expiry.set(unix_seconds(expiry));
    }

    /// All of them, with the gauges as the schedule stands.
    pub fn gather(&self, summary: &Summary) -> Vec<MetricFamily> {
        let gauges = self.gauges.lock();
        // Each scrape sets all of it, so nothing half set outlives a panic.
        let gauges = gauges.unwrap_or_else(PoisonError::into_inner);
        gauges.show(summary);
        self.watches.show();
        self.catalog.gather()
    }
}
