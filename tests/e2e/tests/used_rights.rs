//! Curfew's accounts have no right that they do not use. The API server's audit log says what they have done since the
//! cluster was made. What they have not done yet, this test has them do, so it does not matter which tests ran before.
//! The rights of the legacy component are judged in `legacy.rs`, too. Where the API server does not stream lists, as 1.33 by
//! default, each watch begins with a list, so the verb `list` is used as well.
//!
//! Nothing else may run at the same time, so this is a binary of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use curfew_e2e::{
    Agents, NODES, Namespace, TestCluster, Workload, audit,
    budgets::budget,
    bypass,
    disrupt::{self, DAEMONSET},
    eventually,
    granted::{self, Right},
    installation, life,
    rotation::{self, Course},
    tokens, within_namespace,
};
use serde_json::json;

/// How soon after a deed it is in the log.
const LOGGED: Duration = Duration::from_secs(60);

/// What makes the accounts use their rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    /// Curfew is removed and installed.
    Reinstall,
    /// Agents start, and ask for certificates.
    Restart,
    /// Someone writes a policy.
    Policy,
    /// Someone execs where a policy says that it is learned.
    Learn,
    /// The CA is replaced, and certificates are renewed.
    Authority,
    /// The secret path of the webhook is replaced.
    Path,
    /// Someone execs while the node has no agent.
    AgentAway,
    /// A pod is evicted.
    Evict,
    /// A budget blocks an eviction, which is told again and again.
    Block,
    /// Someone reaches into a container past the API server.
    Bypass,
}

/// The deed that has an account use this right.
fn deed(account: &str, (_, resource, verb): &Right) -> Option<Deed> {
    Some(match (resource.as_str(), verb.as_str()) {
        ("interactionpolicies" | "namespaces", _) if account == tokens::AGENT => Deed::Bypass,
        ("pods", "patch") if account == tokens::WEBHOOK => Deed::AgentAway,
        ("pods", "list" | "watch") if account == tokens::WEBHOOK => Deed::Reinstall,
        ("pods" | "pods/eviction", _) | ("events", "create") => Deed::Evict,
        ("events", "patch") | ("poddisruptionbudgets", _) => Deed::Block,
        ("secrets", "update") => Deed::Path,
        ("configmaps", "get") => Deed::Authority,
        ("interactionpolicies/status", _) => Deed::Policy,
        ("validatingwebhookconfigurations" | "secrets" | "configmaps" | "namespaces", _)
        | ("endpointslices" | "interactionpolicies", _) => Deed::Reinstall,
        ("interactionprofiles", "list" | "watch") => Deed::Reinstall,
        ("interactionprofiles" | "interactionprofiles/status", _) => Deed::Learn,
        (
            "certificatesigningrequests"
            | "certificatesigningrequests/approval"
            | "certificatesigningrequests/status",
            _,
        ) => Deed::Restart,
        _ => return None,
    })
}

impl Deed {
    async fn perform(self, namespace: &Namespace) -> Result<()> {
        let cluster = &namespace.cluster;
        match self {
            Deed::Reinstall => {
                let removed = installation::remove(cluster).await;
                installation::install(cluster).await?;
                removed
            }
            Deed::Restart => {
                let restart = ["rollout", "restart", DAEMONSET];
                disrupt::kubectl(cluster).ok(&restart).await?;
                disrupt::rolled_out(cluster, DAEMONSET).await
            }
            Deed::Policy => {
                let policy = json!({
                    "apiVersion": "curfew.dev/v1alpha1",
                    "kind": "InteractionPolicy",
                    "metadata": {"name": namespace.name, "ownerReferences": [namespace.as_owner().await?]},
                    "spec": {"namespaceSelector": {"matchLabels": {"no-namespace": namespace.name}}, "ttl": "1m"},
                });
                let kubectl = cluster.kubectl();
                let made = kubectl
                    .feed(&["apply", "-f", "-"], &policy.to_string())
                    .await?;
                made.success().map(drop)
            }
            Deed::Learn => {
                let agents = Agents::connect(cluster).await?;
                let policy = json!({
                    "apiVersion": "curfew.dev/v1alpha1",
                    "kind": "InteractionPolicy",
                    "metadata": {"name": namespace.name, "ownerReferences": [namespace.as_owner().await?]},
                    "spec": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}},
                        "ttl": "1h", "learn": true},
                });
                let kubectl = cluster.kubectl();
                let made = kubectl
                    .feed(&["apply", "-f", "-"], &policy.to_string())
                    .await?;
                made.success()?;
                let pods = namespace
                    .run_deployment(&Workload::new("learned").on(NODES[0]), 1)
                    .await?;
                life::touch(namespace, &agents, &pods[0], &["true"])
                    .await
                    .map(drop)
            }
            Deed::Authority => {
                let course = Course {
                    exchanges: 1,
                    rate: 1,
                    settles: false,
                };
                rotation::exchange(namespace, course).await.map(drop)
            }
            Deed::Path => {
                let secret = [
                    "annotate",
                    "secret",
                    "curfew-webhook-ca",
                    "curfew.dev/rotate-path=now",
                ];
                disrupt::kubectl(cluster).ok(&secret).await.map(drop)
            }
            Deed::AgentAway => {
                let pod = namespace
                    .run_pod(&Workload::new("unwatched").on(NODES[1]))
                    .await?;
                disrupt::keep_agent_away(cluster, NODES[1]).await?;
                let done = life::exec(namespace, &pod, &["true"]).await;
                disrupt::bring_agents_back(cluster).await?;
                done
            }
            Deed::Evict => {
                let agents = Agents::connect(cluster).await?;
                let watch = namespace.watch().await?;
                let record = life::run_touched(namespace, &agents, "evicted").await?;
                life::evicted(namespace, &watch, &record).await.map(drop)
            }
            Deed::Block => {
                let agents = Agents::connect(cluster).await?;
                let pods = namespace
                    .run_deployment(&Workload::new("web").on(NODES[0]), 2)
                    .await?;
                budget(namespace, "web", json!({})).await?;
                life::touch(namespace, &agents, &pods[0], &["true"])
                    .await
                    .map(drop)
            }
            Deed::Bypass => {
                let pod = namespace
                    .run_pod(&Workload::new("entered").on(NODES[0]))
                    .await?;
                let _session = bypass::enter(&pod, &["sleep", "30"]).await?;
                bypass::noticed(namespace, &pod, Instant::now())
                    .await
                    .map(drop)
            }
        }
    }
}

/// The rights that were not used yet, by account.
async fn unused(cluster: &TestCluster) -> Result<BTreeMap<&'static str, Vec<Right>>> {
    let mut unused = BTreeMap::new();
    for account in [tokens::AGENT, tokens::WEBHOOK] {
        let granted = granted::to_account(cluster, account).await?;
        ensure!(granted.len() > 5, "{account} has only {granted:?}");
        let log = audit::beginning(cluster.machine.audit_log());
        let kubernetes = cluster.kubernetes().await?;
        let of_account = granted::unused(&granted, &log, account, kubernetes)?;
        if !of_account.is_empty() {
            unused.insert(account, of_account);
        }
    }
    Ok(unused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_right_is_used() {
    within_namespace("used-rights", async |namespace| {
        let cluster = &namespace.cluster;
        let before = unused(cluster).await?;
        let rights = before
            .iter()
            .flat_map(|(account, rights)| rights.iter().map(move |right| (account, right)));
        let deeds = rights.filter_map(|(account, right)| deed(account, right));
        for deed in BTreeSet::from_iter(deeds) {
            deed.perform(namespace).await?;
        }
        eventually(LOGGED, "every right is used", async || {
            let unused = unused(cluster).await?;
            ensure!(
                unused.is_empty(),
                "rights that nobody has used: {unused:#?}"
            );
            Ok(Some(()))
        })
        .await
    })
    .await;
}
