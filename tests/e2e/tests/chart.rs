//! Curfew is installed, upgraded and removed with Helm, and stands in nobody's way meanwhile. It needs the cluster for
//! itself, and so is a binary of its own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use curfew_core::metadata::LABEL;
use curfew_e2e::{
    Agents, NODES, Namespace, TestCluster, Workload,
    disrupt::{self, DAEMONSET, DEPLOYMENT},
    eventually, execs, figures,
    helm::Helm,
    installation, life, marks,
    namespace::uid,
    within_namespace,
};
use kube::ResourceExt;

/// Longer than it takes.
const LONGEST: Duration = Duration::from_secs(320);
/// How soon after `helm install` an exec has to be recorded.
const FIRST: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(120);
/// What stays, because deleting it would delete all objects of its kind.
const CRDS: [&str; 2] = [
    "customresourcedefinition.apiextensions.k8s.io/interactionpolicies.curfew.dev",
    "customresourcedefinition.apiextensions.k8s.io/interactionprofiles.curfew.dev",
];
/// A variable of the environment, and an address of nobody (RFC 5737).
const PROXY: (&str, &str) = ("HTTPS_PROXY", "http://192.0.2.1:3128");
const OURS: &str = "--selector=app.kubernetes.io/name=curfew";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helm_installs_upgrades_and_removes_without_blocking_anybody() {
    within_namespace("chart", async |namespace| {
        let cluster = &namespace.cluster;
        let helm = Helm::new(cluster)?;
        let pods = execs::populate(namespace, LONGEST).await?;
        installation::remove(cluster).await?;
        let whole = live_a_whole_life(namespace, &helm);
        let (lived, execs) = execs::during(namespace, pods, whole).await;
        // Whatever happened: the cluster is left as it was.
        put_back(cluster, &helm).await?;
        let execs = execs?;
        let first = lived?;
        let shown = format!(
            "first recorded exec {:.1} s after helm install began; {execs} execs until it was removed, none failed",
            first.as_secs_f64()
        );
        figures::report(cluster, "chart", &shown)
    })
    .await;
}

/// Returns after what time the first exec was recorded.
async fn live_a_whole_life(namespace: &Namespace, helm: &Helm) -> Result<Duration> {
    let cluster = &namespace.cluster;
    let began = Instant::now();
    let said = helm.install().await?;
    ensure!(
        said.contains("kubectl get validatingwebhookconfiguration"),
        "{said}"
    );
    let first = first_recorded(namespace, began).await?;
    ensure!(first < FIRST, "the first exec was recorded after {first:?}");
    settled(cluster).await?;
    works(namespace, "installed").await?;

    // Both parts are replaced, and the kind of policies is known by now.
    let name = namespace.name.as_str();
    let policy = format!(
        "policies.{name}.namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name={name}"
    );
    let ttl = format!("policies.{name}.ttl=21s");
    let values = [
        policy.as_str(),
        &ttl,
        "webhook.env.CURFEW_DRAIN=9s",
        "agent.env.CURFEW_BLOCKED_AFTER=50s",
        // As on EKS with an overlay network, on another port.
        "webhook.hostNetwork=true",
        "webhook.ports.admission=8444",
    ];
    proxied(cluster).await?;
    helm.upgrade(&values).await?;
    settled(cluster).await?;
    for pod in cluster.pods_of("webhook").await? {
        let spec = pod.spec.context("a pod has a spec")?;
        ensure!(spec.host_network == Some(true), "{spec:?}");
        let env = spec.containers[0].env.iter().flatten();
        ensure!(env.filter(|one| one.name == PROXY.0).count() == 1);
    }
    let args = [
        "get",
        "interactionpolicy",
        name,
        "-o",
        "jsonpath={.spec.ttl}",
    ];
    ensure!(cluster.kubectl().ok(&args).await? == "21s");
    works(namespace, "upgraded").await?;

    let said = helm.uninstall().await?;
    ensure!(said.contains("interactionpolicies.curfew.dev"), "{said}");
    eventually(PATIENCE, "Curfew is gone", async || {
        let gone = !installation::is_installed(cluster).await?
            && installation::webhooks(cluster).await?.is_empty();
        Ok(gone.then_some(()))
    })
    .await?;
    ensure!(helm.releases().await?.trim().is_empty());
    let left = left(cluster).await?;
    ensure!(left == CRDS, "left behind: {left:?}");
    Ok(first)
}

/// The time from then to the begin of the first exec that is recorded.
async fn first_recorded(namespace: &Namespace, began: Instant) -> Result<Duration> {
    let pod = Workload::new("first").on(NODES[0]);
    namespace.run_pod(&pod).await?;
    eventually(PATIENCE, "an exec is recorded", async || {
        let at = began.elapsed();
        let exec = ["exec", "first", "--", "true"];
        namespace.kubectl.ok(&exec).await?;
        // The mark follows the exec.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let pod = namespace.pods().get("first").await?;
        Ok(pod.labels().contains_key(LABEL).then_some(at))
    })
    .await
}

/// Both parts run as they were applied, and the webhook is registered.
async fn settled(cluster: &TestCluster) -> Result<()> {
    for workload in [DAEMONSET, DEPLOYMENT] {
        disrupt::rolled_out(cluster, workload).await?;
    }
    installation::registered(cluster, installation::INTERACTION, true).await
}

/// Adds a proxy to the environment of both parts, as something in the cluster may do. No proxy is there: what was sent to
/// it would be lost.
async fn proxied(cluster: &TestCluster) -> Result<()> {
    let variable = format!("{}={}", PROXY.0, PROXY.1);
    let lower = variable.replace(PROXY.0, &PROXY.0.to_lowercase());
    let args = [
        "-n", "curfew", "set", "env", DAEMONSET, DEPLOYMENT, &variable, &lower,
    ];
    cluster.kubectl().ok(&args).await.map(drop)
}

/// An exec into a new pod is recorded by its agent and shown on the pod.
async fn works(namespace: &Namespace, pod: &str) -> Result<()> {
    let there = namespace.run_pod(&Workload::new(pod).on(NODES[1])).await?;
    namespace.kubectl.ok(&["exec", pod, "--", "true"]).await?;
    let agents = Agents::connect(&namespace.cluster).await?;
    let record = agents.record_only_on(NODES[1], &uid(&there)?).await;
    let record = record.with_context(|| format!("{pod}: nothing is recorded"))?;
    marks::told(namespace, &record, life::PROMPT).await
}

/// What of Curfew there is, of all kinds.
async fn left(cluster: &TestCluster) -> Result<Vec<String>> {
    let kubectl = cluster.kubectl();
    let kinds = ["api-resources", "--verbs=list", "--output=name"];
    let kinds: Vec<_> = kubectl
        .ok(&kinds)
        .await?
        .lines()
        .map(str::to_owned)
        .collect();
    let args = [
        "get",
        &kinds.join(","),
        "--all-namespaces",
        OURS,
        "--output=name",
    ];
    let found = kubectl.ok(&args).await?;
    Ok(found.lines().map(str::to_owned).collect())
}

async fn put_back(cluster: &TestCluster, helm: &Helm) -> Result<()> {
    helm.uninstall().await?;
    eventually(PATIENCE, "the namespace is gone", async || {
        Ok((!installation::is_installed(cluster).await?).then_some(()))
    })
    .await?;
    // They say that they are Helm's.
    let args = ["delete", CRDS[0], CRDS[1], "--ignore-not-found"];
    cluster.kubectl().ok(&args).await?;
    installation::install(cluster).await
}
