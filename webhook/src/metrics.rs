//! The metrics of the webhook: their names, and where they are counted. No metric contains a pod, a user or a command.
//!
//! Owns the counters. Gauges are computed from the state of the other modules at each scrape. What the values of labels
//! mean is in [`labels`].

mod labels;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use curfew_core::{
    Exemption, Kind,
    behaviour::{Decision, Novelty, Stage},
};
use curfew_runtime::{
    metrics::{Catalog, unix_seconds},
    tls::Refusals,
    watch::Watches,
};
use prometheus::{
    Gauge, Histogram, HistogramTimer, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, proto::MetricFamily,
};
use strum::VariantNames;

pub use self::labels::{Guarded, Noticed, Outcome, ProfileWrite, RecordedIn, SelfCheck};
use crate::policy::PolicySet;

/// The kind of a request that was not understood.
const UNKNOWN: &str = "unknown";

/// What stood where the webhook configuration was written.
const BEFORE: [&str; 2] = ["missing", "different"];

/// What an interaction is, by the profile of its workload.
const BEHAVIOURS: [&str; 3] = ["usual", "irregular", "not_enough"];

/// In place of the stage of a profile that cannot be used.
const UNFIT: &str = "unfit";

fn result(decision: &Decision) -> &'static str {
    match decision {
        Decision::Usual { .. } => BEHAVIOURS[0],
        Decision::Irregular { .. } => BEHAVIOURS[1],
        Decision::NotEnough { .. } => BEHAVIOURS[2],
    }
}

fn stages() -> Vec<&'static str> {
    let stages = Stage::ALL.map(Stage::as_str);
    stages.into_iter().chain([UNFIT]).collect()
}

/// What a replica watches.
const WATCHES: [&str; 10] = [
    "policies",
    "namespaces",
    "profiles",
    "touched-pods",
    "agents",
    "certificates",
    "ca",
    "trust",
    "configuration",
    "own-namespace",
];

/// The metrics of the process.
#[derive(Debug, Clone)]
pub struct Metrics {
    catalog: Catalog,
    /// The watches of the process.
    pub watches: Watches,
    admissions: IntCounterVec,
    admission: HistogramVec,
    recorded: IntCounterVec,
    notices: IntCounterVec,
    forward: Histogram,
    agents: IntGauge,
    unreachable: IntGauge,
    policies: IntGaugeVec,
    policies_known: IntGauge,
    exempted: IntCounterVec,
    compared: IntCounterVec,
    irregular: IntCounterVec,
    left: IntCounterVec,
    profiles: IntGaugeVec,
    profile_writes: IntCounterVec,
    unlearned: IntCounter,
    evictions: IntCounterVec,
    registered: IntGauge,
    registrations: IntCounterVec,
    self_checks: IntCounterVec,
    certificate_expiry: Gauge,
    authority_expiry: Gauge,
    certified: IntCounterVec,
    /// Agents that were not talked to, because they are not who they should be, and clients that were
    /// not let in.
    pub refusals: Refusals,
    refused: IntCounterVec,
    strangers: IntCounter,
}

/// What gauges show.
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    /// How many nodes have an agent that is known and ready.
    pub agents: usize,
    /// How many of them could not be told the last time.
    pub unreachable: usize,
    /// The policies, once they are known.
    pub policies: Option<&'a PolicySet>,
    /// The profiles.
    pub profiles: &'a ProfileCounts,
}

/// How many profiles there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileCounts {
    /// Those that are used, by the stage that they show.
    pub stages: BTreeMap<Stage, usize>,
    /// Those that cannot be used.
    pub unfit: usize,
}

impl Metrics {
    /// Metrics in a registry of their own.
    ///
    /// # Errors
    /// When a name is not one, which a test rules out.
    pub fn new() -> prometheus::Result<Self> {
        let mut all = Catalog::of("webhook", env!("CARGO_PKG_VERSION"))?;
        let admissions = all.counters(
            "curfew_webhook_admissions_total",
            "Admission requests, by kind of interaction and outcome.",
            &[
                ("kind", Kind::ADMITTED_NAMES),
                ("outcome", Outcome::VARIANTS),
            ],
        )?;
        admissions.with_label_values(&[UNKNOWN, Outcome::Invalid.as_ref()]);
        Ok(Self {
            admissions,
            admission: all.histograms(
                "curfew_webhook_admission_duration_seconds",
                "Time until an admission request was answered, by outcome.",
                &[("outcome", Outcome::VARIANTS)],
                &[0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0],
            )?,
            recorded: all.counters(
                "curfew_webhook_recorded_total",
                "Interactions, by where they were recorded.",
                &[("where", RecordedIn::VARIANTS)],
            )?,
            notices: all.counters(
                "curfew_webhook_notices_total",
                "Notices to the agent of the pod's node, by result.",
                &[("result", Noticed::VARIANTS)],
            )?,
            forward: all.histogram(
                "curfew_webhook_forward_duration_seconds",
                "Time until the agent had stored an interaction, or the webhook gave up.",
                &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5],
            )?,
            agents: all.gauge("curfew_webhook_agents", "Nodes whose agent is known and ready.")?,
            unreachable: all.gauge(
                "curfew_webhook_agents_unreachable",
                "Known and ready agents to which this replica's last notice failed.",
            )?,
            policies: all.gauges(
                "curfew_webhook_policies",
                "Policies, by whether they are in force as written (accepted) or not (rejected).",
                &[("state", &["accepted", "rejected"])],
            )?,
            policies_known: all.gauge(
                "curfew_webhook_policies_known",
                "Whether this replica has read the policies; until it has, --unrecorded decides.",
            )?,
            exempted: all.counters(
                "curfew_webhook_exempted_total",
                "Interactions that started no timer because of a policy, by reason.",
                &[("exemption", Exemption::NAMES)],
            )?,
            compared: all.counters(
                "curfew_webhook_behaviour_total",
                "Interactions that were compared with the profile of their workload, by result.",
                &[("behaviour", &BEHAVIOURS)],
            )?,
            irregular: all.counters(
                "curfew_webhook_irregular_total",
                "Irregular interactions, by reason; one that is irregular for several reasons is counted for each.",
                &[("reason", &Novelty::ALL.map(Novelty::as_str))],
            )?,
            left: all.counters(
                "curfew_webhook_leftovers_total",
                "What sessions left behind in pods, as it was compared with the profile of the workload, by result. Each \
                 replica compares it.",
                &[("behaviour", &BEHAVIOURS)],
            )?,
            profiles: all.gauges(
                "curfew_webhook_profiles",
                "Profiles, by stage, or unfit if they cannot be used.",
                &[("stage", &stages())],
            )?,
            profile_writes: all.counters(
                "curfew_webhook_profile_writes_total",
                "How often this replica was to write a profile, by result.",
                &[("result", ProfileWrite::VARIANTS)],
            )?,
            unlearned: all.counter(
                "curfew_webhook_unlearned_total",
                "Interactions that were not learned because there were too many, or because the profile could not be \
                 written for too long.",
            )?,
            evictions: all.counters(
                "curfew_webhook_eviction_reviews_total",
                "Reviews of the agents' evictions, by outcome.",
                &[("outcome", Guarded::VARIANTS)],
            )?,
            registrations: all.counters(
                "curfew_webhook_registrations_total",
                "How often this replica wrote the webhook configuration, because there was none (missing) or because \
                 it was not as expected (different).",
                &[("before", &BEFORE)],
            )?,
            registered: all.gauge(
                "curfew_webhook_registered",
                "Whether the webhook configuration is what this replica expects.",
            )?,
            self_checks: all.counters(
                "curfew_webhook_self_checks_total",
                "How often this replica checked, by a dry run on a new connection, whether the API server asks the \
                 webhook, by result.",
                &[("result", SelfCheck::VARIANTS)],
            )?,
            certificate_expiry: all.seconds(
                "curfew_webhook_certificate_expiry_timestamp_seconds",
                "When the serving certificate expires; it is renewed after two thirds of its lifetime.",
            )?,
            authority_expiry: all.seconds(
                "curfew_webhook_ca_expiry_timestamp_seconds",
                "When the CA expires; it is replaced after two thirds of its lifetime.",
            )?,
            certified: all.counters(
                "curfew_webhook_agent_certificates_total",
                "Certificate requests of agents that this replica answered, by answer.",
                &[("result", &["issued", "denied"])],
            )?,
            refusals: Refusals::new(
                &mut all,
                "curfew_webhook_refused_peers_total",
                "Connections with agents or clients that were refused because of a certificate, by reason.",
            )?,
            refused: all.counters(
                "curfew_webhook_connections_refused_total",
                "Connections that were closed to make room for others because too many were open, by port.",
                &[("port", &["admission", "metrics"])],
            )?,
            strangers: all.counter(
                "curfew_webhook_unknown_paths_total",
                "Refused requests to the admission port with a path that no API server was given.",
            )?,
            watches: Watches::new("webhook", &WATCHES, &mut all)?,
            catalog: all,
        })
    }

    /// What there is, for those who document it.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// An admission was answered after so long.
    pub fn admitted(&self, kind: Option<Kind>, outcome: Outcome, took: Duration) {
        let kind = kind.map_or(UNKNOWN, Kind::as_str);
        let outcome = outcome.as_ref();
        self.admissions.with_label_values(&[kind, outcome]).inc();
        self.admission
            .with_label_values(&[outcome])
            .observe(took.as_secs_f64());
    }

    /// The agent of the pod's node was told, or not.
    pub fn noticed(&self, noticed: Noticed) {
        self.notices.with_label_values(&[noticed.as_ref()]).inc();
    }

    /// So many interactions were recorded there.
    pub fn recorded(&self, recorded_in: RecordedIn, interactions: usize) {
        self.recorded
            .with_label_values(&[recorded_in.as_ref()])
            .inc_by(interactions as u64);
    }

    /// An agent's eviction was reviewed.
    pub fn guarded(&self, guarded: Guarded) {
        self.evictions.with_label_values(&[guarded.as_ref()]).inc();
    }

    /// A policy let an interaction start no timer.
    pub fn exempted(&self, exemption: Exemption) {
        self.exempted.with_label_values(&[exemption.as_str()]).inc();
    }

    /// An interaction was compared with a profile.
    pub(crate) fn compared(&self, decision: &Decision) {
        self.compared.with_label_values(&[result(decision)]).inc();
        self.count_reasons(decision);
    }

    /// What a session left behind was compared with a profile.
    pub(crate) fn left_compared(&self, decision: &Decision) {
        self.left.with_label_values(&[result(decision)]).inc();
        self.count_reasons(decision);
    }

    fn count_reasons(&self, decision: &Decision) {
        for novelty in decision.novelties() {
            self.irregular.with_label_values(&[novelty.as_str()]).inc();
        }
    }

    /// A profile was to be written.
    pub(crate) fn profile_written(&self, result: ProfileWrite) {
        self.profile_writes
            .with_label_values(&[result.as_ref()])
            .inc();
    }

    /// Something was not learned.
    pub(crate) fn unlearned(&self) {
        self.unlearned.inc();
    }

    /// Counts the connections that this port refuses.
    pub fn refused(&self, port: &str) -> IntCounter {
        self.refused.with_label_values(&[port])
    }

    /// Somebody asked under a path that no API server was told.
    pub fn strange(&self) {
        self.strangers.inc();
    }

    /// The time of the forwarding that ends when this is dropped.
    pub fn forwarding(&self) -> HistogramTimer {
        self.forward.start_timer()
    }

    /// Whether the configuration is as it should be.
    pub fn registered(&self, registered: bool) {
        self.registered.set(i64::from(registered));
    }

    /// Whether it was, the last time.
    pub(crate) fn is_registered(&self) -> bool {
        self.registered.get() == 1
    }

    /// A self-check ended so.
    pub(crate) fn self_checked(&self, result: SelfCheck) {
        self.self_checks.with_label_values(&[result.as_ref()]).inc();
    }

    /// The webhook configuration was written, in the place of another or of none.
    pub(crate) fn written(&self, stood_before: bool) {
        let before = BEFORE[usize::from(stood_before)];
        self.registrations.with_label_values(&[before]).inc();
    }

    /// There is a certificate that ends then.
    pub fn certificate(&self, expiry: SystemTime) {
        self.certificate_expiry.set(unix_seconds(expiry));
    }

    /// There is a CA that ends then.
    pub fn authority(&self, expiry: SystemTime) {
        self.authority_expiry.set(unix_seconds(expiry));
    }

    /// An agent's request for a certificate was answered, with one or not.
    pub fn certified(&self, issued: bool) {
        let result = if issued { "issued" } else { "denied" };
        self.certified.with_label_values(&[result]).inc();
    }

    /// All of them, with the gauges as the state is.
    pub fn gather(&self, state: State<'_>) -> Vec<MetricFamily> {
        self.agents.set(state.agents as i64);
        self.unreachable.set(state.unreachable as i64);
        self.policies_known.set(state.policies.is_some().into());
        let (accepted, rejected) = state.policies.map_or((0, 0), PolicySet::count);
        for (state, count) in [("accepted", accepted), ("rejected", rejected)] {
            self.policies.with_label_values(&[state]).set(count as i64);
        }
        let ProfileCounts { stages, unfit } = state.profiles;
        for stage in Stage::ALL {
            let count = stages.get(&stage).copied().unwrap_or_default();
            let gauge = self.profiles.with_label_values(&[stage.as_str()]);
            gauge.set(count as i64);
        }
        self.profiles.with_label_values(&[UNFIT]).set(*unfit as i64);
        self.watches.show();
        self.catalog.gather()
    }
}
