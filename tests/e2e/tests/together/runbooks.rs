//! Every command of every runbook, as it stands there, with real names for those in capitals.

use anyhow::{Context, Result, ensure};
use curfew_core::identity::SIGNER;
use curfew_e2e::{
    Namespace, TestCluster, Workload, budgets::budget, disrupt::node_of, policies::Policies, shell,
    within_namespace,
};
use curfew_monitoring::runbooks::{self, Command};
use kube::ResourceExt;
use serde_json::json;

/// What only stands for a command.
const NOT_RUN: [&str; 2] = ["kubectl describe", "kubectl apply -k"];

/// What would disturb the tests beside this one. The API server is asked whether it would do it.
const ONLY_ASKED: [&str; 8] = [
    "kubectl -n curfew delete pod ",
    "kubectl -n curfew set env ",
    "kubectl -n curfew annotate ",
    "kubectl -n curfew rollout undo ",
    "kubectl -n curfew scale ",
    "kubectl delete validatingwebhookconfiguration ",
    "kubectl -n NAMESPACE delete pod ",
    "kubectl pi hold POD -n NAMESPACE --reason=TEXT --detach",
];

/// Those that cannot be asked so: they are done to a Deployment of this test.
const RESTART: [&str; 2] = [
    "kubectl -n curfew rollout restart deployment/curfew-webhook",
    "kubectl -n curfew rollout restart daemonset/curfew-agent deployment/curfew-webhook",
];
const RESTART_HERE: &str = "kubectl -n NAMESPACE rollout restart deployment/other";

/// The nodes have another image, and what it leaves behind goes with the namespace.
const DEBUG: &str = "kubectl debug node/NODE -it --image=busybox ";
const DEBUG_HERE: &str = "kubectl -n NAMESPACE debug node/NODE -it --image=localhost/busybox:e2e ";

/// The profile of the Deployment that the commands are about.
const PROFILE: &str = "deployment.web";

/// The names to put in, the longer ones first.
type Names = Vec<(&'static str, String)>;

#[tokio::test]
async fn every_command_does_what_its_runbook_says() {
    within_namespace("runbooks", async |namespace| {
        let policies = Policies::new(namespace).await?;
        let spec = json!({"ttl": "1h", "maxExtension": "1h"});
        policies.hold(&[("runbook", spec)]).await?;
        let names = names(namespace, policies.name("runbook")).await?;
        let commands = runbooks::commands()?;
        ensure!(commands.len() > 60, "only {} commands", commands.len());
        let mut wrong = Vec::new();
        for command in &commands {
            if let Err(error) = try_out(&namespace.cluster, command, &names).await {
                wrong.push(format!("{}: {}: {error:#}", command.alert, command.line));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
    .await;
}

/// Makes what the commands are about.
async fn names(namespace: &Namespace, policy: String) -> Result<Names> {
    let pods = namespace.run_deployment(&Workload::new("web"), 2).await?;
    // It is restarted, and the pods that others are about stay.
    namespace.run_deployment(&Workload::new("other"), 1).await?;
    budget(namespace, "web", json!({"minAvailable": 1})).await?;
    let pod = pods[0].name_any();
    namespace.kubectl.ok(&["exec", &pod, "--", "id"]).await?;
    let node = node_of(&pods[0]).context("the pod is on no node")?;
    let profile = json!({
        "apiVersion": "curfew.dev/v1alpha1",
        "kind": "InteractionProfile",
        "metadata": {"name": PROFILE},
        "spec": {},
    });
    namespace
        .kubectl
        .feed(&["create", "-f", "-"], &profile.to_string())
        .await?
        .success()?;
    let kubectl = namespace.cluster.kubectl();
    let requests = kubectl
        .ok(&[
            "get",
            "csr",
            &format!("-ojsonpath={{.items[?(@.spec.signerName==\"{SIGNER}\")].metadata.name}}"),
        ])
        .await?;
    let part = async |part: &str| -> Result<String> {
        let pods = namespace.cluster.pods_of(part).await?;
        let pod = pods
            .first()
            .with_context(|| format!("there is no {part}"))?;
        Ok(pod.name_any())
    };
    let mut names = vec![
        ("deployment NAME", "deployment web".to_owned()),
        ("ipol NAME", format!("ipol {policy}")),
        ("--replicas=N", "--replicas=2".to_owned()),
        // Of either part.
        (
            "-n curfew logs POD",
            format!("-n curfew logs {}", part("webhook").await?),
        ),
        ("AGENT-POD", part("agent").await?),
        ("WEBHOOK-POD", part("webhook").await?),
        ("NAMESPACE", namespace.name.clone()),
        ("BUDGET", "web".to_owned()),
        ("PROFILE", PROFILE.to_owned()),
        ("NODE", node.to_owned()),
        ("POD", pod),
        ("TEXT", "test".to_owned()),
    ];
    // Kubernetes removes them after an hour, and those of the tests of `identity` may go at any time.
    let mut requests = requests.split_whitespace();
    let request = requests.find(|request| !request.starts_with("curfew-e2e-"));
    names.extend(request.map(|request| ("csr NAME", format!("csr {request}"))));
    Ok(names)
}

async fn try_out(cluster: &TestCluster, command: &Command, names: &Names) -> Result<()> {
    let line = &command.line;
    let is_one_of = |all: &[&str]| all.iter().any(|one| line.starts_with(one));
    if is_one_of(&NOT_RUN) || command.is_for_a_node() {
        return Ok(());
    }
    let mut filled = match RESTART.contains(&line.as_str()) {
        true => RESTART_HERE.to_owned(),
        false => line.replace(DEBUG, DEBUG_HERE),
    };
    if is_one_of(&ONLY_ASKED) {
        filled.push_str(" --dry-run=server");
    }
    for (placeholder, name) in names {
        filled = filled.replace(placeholder, name);
    }
    if filled.contains("csr NAME") {
        return Ok(());
    }
    // What is searched for need not be there now; where it is searched must be.
    let (before, search) = match filled.split_once(" | ") {
        Some((before, _)) => (before.to_owned(), Some(&filled)),
        None => (filled.clone(), None),
    };
    let (code, out, err) = shell::run(cluster, &before, None).await?;
    if command.is_about_the_operator() {
        ensure!(
            code == 0 || err.contains("doesn't have a resource type"),
            "{code}: {err}"
        );
        return Ok(());
    }
    // Nothing was restarted, and nothing was changed.
    let is_unneeded = [
        ("--previous", "previous terminated container"),
        ("rollout undo", "no rollout history"),
    ]
    .iter()
    .any(|(what, says)| line.contains(what) && err.contains(says));
    if is_unneeded {
        return Ok(());
    }
    ensure!(code == 0, "exit status {code}: {err}");
    ensure!(!out.is_empty() || !err.is_empty(), "it prints nothing");
    if command.comment == "must be yes" {
        ensure!(out.trim() == "yes", "it says {out:?}");
    }
    if let Some(search) = search {
        let (code, out, err) = shell::run(cluster, search, None).await?;
        let found_nothing = code == 1 && out.is_empty();
        ensure!(
            (code == 0 || found_nothing) && err.is_empty(),
            "exit status {code}: {err}"
        );
    }
    Ok(())
}
