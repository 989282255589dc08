//! A real Prometheus and Alertmanager watch the real cluster, by the shipped monitors, rules and dashboards. Each
//! thing is made to happen once: then every panel has something to show, and the alerts have fired and are
//! resolved by what their runbooks say.
//!
//! Honestly: every length of time in the rules is sixty times shorter here, and so is nothing of the cluster's.
//! What takes an hour to be alerted on takes a minute. That the alerts wait as long as they should is tested
//! where time costs nothing, by `promtool test rules`. It needs the cluster for itself.

#[path = "monitoring/budgets.rs"]
mod budgets;
#[path = "monitoring/node.rs"]
mod node;
#[path = "monitoring/panels.rs"]
mod panels;
#[path = "monitoring/people.rs"]
mod people;
#[path = "monitoring/webhook.rs"]
mod webhook;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, resume_unwind},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use curfew_cluster::{run, tools};
use curfew_e2e::{
    Namespace, TestCluster, disrupt, eventually, figures, monitoring::Monitoring,
    policies::Policies, within_namespace,
};
use curfew_monitoring::rules::Rules;
use futures::FutureExt;
use serde_json::{Value, json};

/// Those that are caused, fire, and are resolved as their runbooks say.
const RESOLVED: [&str; 21] = [
    "CurfewAgentDown",
    "CurfewAgentUnreachable",
    "CurfewAgentWatchBroken",
    "CurfewBypass",
    "CurfewCertificateExpiring",
    "CurfewEvictionBlocked",
    "CurfewEvictionForbidden",
    "CurfewEvictionsOverdue",
    "CurfewInteractionsDenied",
    "CurfewInteractionsUnrecorded",
    "CurfewManyInteractions",
    "CurfewNodeWithoutAgent",
    "CurfewPodsNotMarked",
    "CurfewPolicyRejected",
    "CurfewProfileUnfit",
    "CurfewSeveralDisruptionBudgets",
    "CurfewStoreClosed",
    "CurfewWebhookDown",
    "CurfewWebhookNotRedundant",
    "CurfewWebhookNotRegistered",
    "CurfewWebhookSlow",
];
/// Those that fire, and that nothing resolves but time: even shortened too much of it.
const FIRED: [&str; 2] = ["CurfewExtensionsAtMaximum", "CurfewStoreRebuilt"];
/// Those that only `promtool test rules` makes fire, and why.
const UNIT_TESTED: [(&str, &str); 8] = [
    (
        "CurfewCAExpiring",
        "no CA can be had that ends so soon: the webhook exchanges it in time",
    ),
    (
        "CurfewClockSkew",
        "the nodes of the test cluster have the clock of one machine",
    ),
    (
        "CurfewIrregularInteractions",
        "the tests of `behaviour` make such interactions, when no Prometheus looks",
    ),
    (
        "CurfewPodTerminatingLong",
        "no test has an hour for a pod that does not end",
    ),
    (
        "CurfewPoliciesUnknown",
        "a replica that cannot read the policies would refuse the execs of all other tests",
    ),
    (
        "CurfewWatchSilent",
        "no test has three minutes for a watch that is open and shows nothing",
    ),
    (
        "CurfewWebhookNotAsked",
        "the API server of the test cluster calls webhooks, and would have to be started without that",
    ),
    (
        "CurfewWebhookUnknownPath",
        "the test `forged` makes such requests, before Prometheus looks",
    ),
];

/// How long an alert may take to fire, once its cause is there.
const FIRES: Duration = Duration::from_secs(60);
/// How long it may take until it is resolved, once its cause is gone.
const RESOLVES: Duration = Duration::from_secs(60);

/// What all parts of the test work with.
struct Scene<'a> {
    namespace: &'a Namespace,
    cluster: &'a TestCluster,
    monitoring: &'a Monitoring,
}

impl Scene<'_> {
    async fn fires(&self, alert: &str) -> Result<()> {
        self.monitoring.fires(alert, FIRES).await
    }

    async fn resolves(&self, alert: &str) -> Result<()> {
        self.monitoring.resolves(alert, RESOLVES).await
    }

    /// Lets an admission policy refuse something in this namespace, until it or the namespace is deleted.
    async fn obstruct(&self, name: &str, rule: Value, expression: &str) -> Result<()> {
        let name = format!("{}-{name}", self.namespace.name);
        let meta = json!({"name": name, "ownerReferences": [self.namespace.as_owner().await?]});
        let object = |kind: &str, spec: Value| {
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": kind,
                "metadata": meta,
                "spec": spec,
            })
        };
        let here = json!({"matchLabels": {"kubernetes.io/metadata.name": self.namespace.name}});
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            object("ValidatingAdmissionPolicy", json!({
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [{"expression": expression, "message": "an obstacle for a test"}],
            })),
            object("ValidatingAdmissionPolicyBinding", json!({
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": here},
            })),
        ]});
        let kubectl = self.cluster.kubectl();
        let said = kubectl
            .feed(&["apply", "-f", "-"], &objects.to_string())
            .await?;
        said.success().map(drop)
    }

    async fn clear(&self, name: &str) -> Result<()> {
        let name = format!("{}-{name}", self.namespace.name);
        let args = ["delete", "validatingadmissionpolicybinding", &name];
        self.cluster.kubectl().ok(&args).await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_shows_something_and_the_alerts_come_and_go() {
    within_namespace("monitoring", async |namespace| {
        let cluster = &namespace.cluster;
        // A run that was broken off may have left something.
        mend(cluster).await?;
        let outcome = AssertUnwindSafe(watched(namespace)).catch_unwind().await;
        let mended = mend(cluster).await;
        match outcome {
            Err(panic) => resume_unwind(panic),
            Ok(outcome) => outcome.and(mended.context("the cluster does not get well again")),
        }
    })
    .await;
}

async fn mend(cluster: &TestCluster) -> Result<()> {
    webhook::mend(cluster).await?;
    node::mend(cluster)?;
    disrupt::heal(cluster).await
}

async fn watched(namespace: &Namespace) -> Result<()> {
    let began = Instant::now();
    let monitoring = Monitoring::start(&namespace.cluster).await?;
    let scene = Scene {
        namespace,
        cluster: &namespace.cluster,
        monitoring: &monitoring,
    };
    found(&scene).await?;
    let policies = Policies::new(namespace).await?;
    people::let_some_stay(&policies).await?;
    // What needs a whole webhook goes first, on one node with the agent as it should be, on the other without.
    tokio::try_join!(
        budgets::stand_in_the_way(&scene),
        people::cannot_write_policies(&scene, &policies),
        people::see_no_marks(&scene),
        people::bypass_the_api_server(&scene),
        async {
            people::work(&scene).await?;
            node::is_cut_off(&scene).await
        },
    )?;
    tokio::try_join!(
        webhook::goes_and_comes_back(&scene),
        node::loses_its_store(&scene)
    )?;

    let caused: BTreeSet<_> = RESOLVED
        .into_iter()
        .chain(FIRED)
        .map(str::to_owned)
        .collect();
    ensure!(
        monitoring.fired() == caused,
        "{:?} have fired",
        monitoring.fired()
    );
    panels::all_show_something(&scene).await?;
    names_are_as_they_should_be(&scene).await?;
    let shown = format!("{} alerts in {} s", caused.len(), began.elapsed().as_secs());
    figures::report(scene.cluster, "monitoring", &shown)
}

/// The monitors find every agent and every replica, each under the labels that rules and dashboards rely on.
async fn found(scene: &Scene<'_>) -> Result<()> {
    for (query, count) in [
        (
            r#"up{job="curfew-agent",namespace="curfew",pod=~".+",node=~"node-[12]"} == 1"#,
            2,
        ),
        (
            r#"up{job="curfew-webhook",namespace="curfew",pod=~".+"} == 1"#,
            2,
        ),
        ("up", 4),
        // Nothing of ours was renamed, because the target had a label of that name.
        (r#"{__name__=~"curfew_.+",exported_namespace=~".+"}"#, 0),
    ] {
        eventually(
            Duration::from_secs(15),
            &format!("{count} of {query}"),
            async || {
                let series = scene.monitoring.query(query).await?;
                ensure!(series.len() == count, "{series:?}");
                Ok(Some(()))
            },
        )
        .await?;
    }
    Ok(())
}

async fn names_are_as_they_should_be(scene: &Scene<'_>) -> Result<()> {
    for part in ["agent", "webhook"] {
        for pod in scene.cluster.pods_of(part).await? {
            let metrics = disrupt::metrics(&pod).await?;
            let mut promtool = Command::new(tools::program("promtool")?);
            let said = run::output_with_input(promtool.args(["check", "metrics"]), &metrics)
                .with_context(|| format!("the metrics of {part}"))?;
            ensure!(said.trim().is_empty(), "{part}: {said}");
        }
    }
    Ok(())
}

#[test]
fn each_alert_is_accounted_for() {
    let listed = RESOLVED
        .into_iter()
        .chain(FIRED)
        .chain(UNIT_TESTED.map(|(alert, _)| alert));
    let listed: BTreeSet<_> = listed.map(str::to_owned).collect();
    let rules = Rules::shipped().expect("rules");
    let all: BTreeSet<_> = rules.alerts().map(|alert| alert.alert.clone()).collect();
    assert_eq!(listed, all);
}
