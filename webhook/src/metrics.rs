//! What Prometheus is told.
//!
//! Owns the names and the labels. None carries a pod, a user or a command.

use std::time::SystemTime;

use curfew_core::{Exemption, Kind};
use curfew_runtime::tls::Refusals;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, proto::MetricFamily,
};

use crate::{agents::Agents, policies::Known};

/// What became of an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Recorded and admitted.
    Recorded,
    /// Admitted without a trace, because nothing will come of it: a dry run, no such pod.
    Nothing,
    /// Admitted though it could be recorded nowhere.
    Unrecorded,
    /// Denied because it could be recorded nowhere.
    Denied,
    /// Denied because a policy says so.
    Forbidden,
    /// Not understood.
    Invalid,
}

impl Outcome {
    const ALL: [Outcome; 6] = [
        Outcome::Recorded,
        Outcome::Nothing,
        Outcome::Unrecorded,
        Outcome::Denied,
        Outcome::Forbidden,
        Outcome::Invalid,
    ];

    /// Its name in labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Recorded => "recorded",
            Outcome::Nothing => "nothing",
            Outcome::Unrecorded => "unrecorded",
            Outcome::Denied => "denied",
            Outcome::Forbidden => "forbidden",
            Outcome::Invalid => "invalid",
        }
    }
}

/// What became of the review of an agent's eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarded {
    /// Admitted: it means the pod that is there, and comes from that pod's node.
    Admitted,
    /// Denied: it does not say which UID it means.
    NoUid,
    /// Denied: the caller is not bound to one node.
    NoNode,
    /// Denied: there is no such pod any more.
    Gone,
    /// Denied: another pod has the name by now.
    OtherPod,
    /// Denied: the pod is not on the caller's node.
    OtherNode,
    /// Denied: the pod could not be read.
    Unread,
    /// Not understood.
    Invalid,
}

impl Guarded {
    const ALL: [Guarded; 8] = [
        Guarded::Admitted,
        Guarded::NoUid,
        Guarded::NoNode,
        Guarded::Gone,
        Guarded::OtherPod,
        Guarded::OtherNode,
        Guarded::Unread,
        Guarded::Invalid,
    ];

    /// Its name in labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Guarded::Admitted => "admitted",
            Guarded::NoUid => "no_uid",
            Guarded::NoNode => "no_node",
            Guarded::Gone => "gone",
            Guarded::OtherPod => "other_pod",
            Guarded::OtherNode => "other_node",
            Guarded::Unread => "unread",
            Guarded::Invalid => "invalid",
        }
    }
}

/// Where an interaction was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// In the store of the node's agent.
    Agent,
    /// In the pod's metadata.
    Metadata,
    /// In neither.
    Nowhere,
}

impl Home {
    const ALL: [Home; 3] = [Home::Agent, Home::Metadata, Home::Nowhere];

    /// Its name in labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Home::Agent => "agent",
            Home::Metadata => "metadata",
            Home::Nowhere => "nowhere",
        }
    }
}

/// The kind of a request that was not understood.
const UNKNOWN: &str = "unknown";

/// The metrics of the process.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    admissions: IntCounterVec,
    recorded: IntCounterVec,
    evictions: IntCounterVec,
    exempted: IntCounterVec,
    refused: IntCounterVec,
    forward: Histogram,
    agents: IntGauge,
    policies: IntGaugeVec,
    policies_known: IntGauge,
    registered: IntGauge,
    certificate_expiry: Gauge,
    authority_expiry: Gauge,
    certified: IntCounterVec,
    /// Agents that were not talked to, because they are not who they should be, and clients that were
    /// not let in.
    pub refusals: Refusals,
}

impl Metrics {
    /// Metrics in a registry of their own.
    ///
    /// # Errors
    /// When a name is not one, which a test rules out.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let admissions = IntCounterVec::new(
            Opts::new(
                "curfew_webhook_admissions_total",
                "Admission requests by kind of interaction and by what became of them",
            ),
            &["kind", "outcome"],
        )?;
        let recorded = IntCounterVec::new(
            Opts::new(
                "curfew_webhook_recorded_total",
                "Interactions by where they were recorded",
            ),
            &["where"],
        )?;
        let evictions = IntCounterVec::new(
            Opts::new(
                "curfew_webhook_eviction_reviews_total",
                "Evictions asked for by agents, by what became of their review",
            ),
            &["outcome"],
        )?;
        let exempted = IntCounterVec::new(
            Opts::new(
                "curfew_webhook_exempted_total",
                "Interactions that would have started a timer but for a policy, by why they did not",
            ),
            &["exemption"],
        )?;
        let refused = IntCounterVec::new(
            Opts::new(
                "curfew_webhook_connections_refused_total",
                "Connections closed at once, because too many were open, by port",
            ),
            &["port"],
        )?;
        let forward = Histogram::with_opts(
            HistogramOpts::new(
                "curfew_webhook_forward_duration_seconds",
                "Time until the agent had stored an interaction, or was given up",
            )
            .buckets(vec![
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
            ]),
        )?;
        let agents = IntGauge::new(
            "curfew_webhook_agents",
            "Nodes whose agent is known and ready",
        )?;
        let policies = IntGaugeVec::new(
            Opts::new(
                "curfew_webhook_policies",
                "Policies by whether they are followed as they stand (accepted) or not (rejected)",
            ),
            &["state"],
        )?;
        let policies_known = IntGauge::new(
            "curfew_webhook_policies_known",
            "Whether this replica knows the policies; until it does, the flags hold",
        )?;
        let registered = IntGauge::new(
            "curfew_webhook_registered",
            "Whether the webhook configuration was seen as this replica wants it",
        )?;
        let certificate_expiry = Gauge::new(
            "curfew_webhook_certificate_expiry_timestamp_seconds",
            "When the serving certificate ends; it is renewed after two thirds of its life",
        )?;
        let authority_expiry = Gauge::new(
            "curfew_webhook_ca_expiry_timestamp_seconds",
            "When the CA ends; it is exchanged after two thirds of its life",
        )?;
        let certified = IntCounterVec::new(
            Opts::new(
                "curfew_webhook_agent_certificates_total",
                "Requests of agents for a certificate that this replica answered, by answer",
            ),
            &["result"],
        )?;
        for result in ["issued", "denied"] {
            certified.with_label_values(&[result]);
        }
        let refusals = Refusals::new(
            "curfew_webhook_refused_peers_total",
            "Connections with agents or clients that were given up because of a certificate, by reason",
        )?;
        let build = IntGaugeVec::new(
            Opts::new("curfew_webhook_build_info", "The release, as labels of a 1"),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // A counter that does not exist before the first event hides that event from rate().
        for kind in Kind::ALL {
            for outcome in Outcome::ALL {
                admissions.with_label_values(&[kind.as_str(), outcome.as_str()]);
            }
        }
        admissions.with_label_values(&[UNKNOWN, Outcome::Invalid.as_str()]);
        for home in Home::ALL {
            recorded.with_label_values(&[home.as_str()]);
        }
        for guarded in Guarded::ALL {
            evictions.with_label_values(&[guarded.as_str()]);
        }
        registry.register(Box::new(admissions.clone()))?;
        registry.register(Box::new(recorded.clone()))?;
        registry.register(Box::new(evictions.clone()))?;
        for exemption in [
            Exemption::Harmless,
            Exemption::Protected,
            Exemption::Unmanaged,
        ] {
            exempted.with_label_values(&[exemption.as_str()]);
        }
        registry.register(Box::new(exempted.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(policies.clone()))?;
        registry.register(Box::new(policies_known.clone()))?;
        registry.register(Box::new(forward.clone()))?;
        registry.register(Box::new(agents.clone()))?;
        registry.register(Box::new(registered.clone()))?;
        registry.register(Box::new(certificate_expiry.clone()))?;
        registry.register(Box::new(authority_expiry.clone()))?;
        registry.register(Box::new(certified.clone()))?;
        registry.register(Box::new(refusals.collector()))?;
        registry.register(Box::new(build))?;
        Ok(Self {
            registry,
            admissions,
            recorded,
            evictions,
            exempted,
            refused,
            forward,
            agents,
            policies,
            policies_known,
            registered,
            certificate_expiry,
            authority_expiry,
            certified,
            refusals,
        })
    }

    /// An admission was answered.
    pub fn admitted(&self, kind: Option<Kind>, outcome: Outcome) {
        let kind = kind.map_or(UNKNOWN, Kind::as_str);
        self.admissions
            .with_label_values(&[kind, outcome.as_str()])
            .inc();
    }

    /// So many interactions were recorded there.
    pub fn recorded(&self, home: Home, interactions: usize) {
        self.recorded
            .with_label_values(&[home.as_str()])
            .inc_by(interactions as u64);
    }

    /// An agent's eviction was reviewed.
    pub fn guarded(&self, guarded: Guarded) {
        self.evictions.with_label_values(&[guarded.as_str()]).inc();
    }

    /// A policy let an interaction start no timer.
    pub fn exempted(&self, exemption: Exemption) {
        self.exempted.with_label_values(&[exemption.as_str()]).inc();
    }

    /// Counts the connections that this port refuses.
    pub fn refused(&self, port: &str) -> IntCounter {
        self.refused.with_label_values(&[port])
    }

    /// The time of the forwarding that ends when this is dropped.
    pub fn forwarding(&self) -> prometheus::HistogramTimer {
        self.forward.start_timer()
    }

    /// Whether the configuration is as it should be.
    pub fn registered(&self, registered: bool) {
        self.registered.set(i64::from(registered));
    }

    /// There is a certificate that ends then.
    pub fn certificate(&self, expiry: SystemTime) {
        self.certificate_expiry.set(seconds(expiry));
    }

    /// There is a CA that ends then.
    pub fn authority(&self, expiry: SystemTime) {
        self.authority_expiry.set(seconds(expiry));
    }

    /// An agent's request for a certificate was answered, with one or not.
    pub fn certified(&self, issued: bool) {
        let result = if issued { "issued" } else { "denied" };
        self.certified.with_label_values(&[result]).inc();
    }

    /// All of them, with the gauges read from the state.
    pub fn gather(&self, agents: &Agents, policies: Option<&Known>) -> Vec<MetricFamily> {
        self.agents.set(agents.len() as i64);
        self.policies_known.set(i64::from(policies.is_some()));
        let (accepted, rejected) = policies.map_or((0, 0), Known::count);
        for (state, count) in [("accepted", accepted), ("rejected", rejected)] {
            self.policies.with_label_values(&[state]).set(count as i64);
        }
        self.registry.gather()
    }

    /// The value of one counter, for tests.
    #[doc(hidden)]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.registry
            .gather()
            .iter()
            .filter(|family| family.name() == name)
            .flat_map(MetricFamily::get_metric)
            .filter(|metric| {
                labels.iter().all(|(name, value)| {
                    metric
                        .get_label()
                        .iter()
                        .any(|pair| pair.name() == *name && pair.value() == *value)
                })
            })
            .map(|metric| metric.get_counter().get_value())
            .sum()
    }
}

fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
