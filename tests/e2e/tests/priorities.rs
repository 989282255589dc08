//! Priorities by environment: a labelled namespace is held to its PriorityClass or warned, every other
//! is left alone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    CURFEW, NODES, Namespace, TestCluster, Workload, eventually, kubectl::Said, within_namespace,
};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingAdmissionPolicy,
    apps::v1::Deployment,
    core::v1::{Node, Pod},
    scheduling::v1::PriorityClass,
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

const LABEL: &str = "curfew.dev/priority-class";
const WARN: &str = "curfew.dev/priority-class-mode=warn";
/// Whatever is changed, the API server judges by it within seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Above it begin the system's classes.
const HIGHEST_OF_USERS: i32 = 1_000_000_000;

#[tokio::test]
async fn a_namespace_is_held_to_its_priority_class() {
    within_namespace("priorities", async |held| {
        let warned = Namespace::create(&held.cluster, &format!("{}-warn", held.name)).await?;
        let free = Namespace::create(&held.cluster, &format!("{}-free", held.name)).await?;
        let outcome = all(held, &warned, &free).await;
        let withdrawn = withdraw(&held.cluster).await;
        let removed = (warned.remove().await, free.remove().await);
        outcome?;
        withdrawn?;
        removed.0.and(removed.1)
    })
    .await;
}

async fn all(held: &Namespace, warned: &Namespace, free: &Namespace) -> Result<()> {
    // It is older than the policy, and of no class.
    held.run_deployment(&standing(), 1).await?;
    apply(&held.cluster).await?;
    let staging = classes(&held.cluster).await?;
    // The API server learns of labels in the order in which they were set: when it judges by the last
    // one it knows all of them.
    for namespace in ["kube-system", CURFEW] {
        label(&held.cluster, namespace, &[&format!("{LABEL}=staging")]).await?;
    }
    label(&held.cluster, &free.name, &[&format!("{LABEL}=")]).await?;
    for (namespace, mode) in [(warned, &[WARN][..]), (held, &[])] {
        let class = format!("{LABEL}=staging");
        let labels = [&[class.as_str()], mode].concat();
        label(&held.cluster, &namespace.name, &labels).await?;
    }
    let sentence = sentence(held, "Pod", "none", "spec");
    eventually(PATIENCE, "the policy is in force", async || {
        refused(&try_out(held, &of_class("Pod", None)?).await?, &sentence).map(Some)
    })
    .await?;
    holds(held, &staging).await?;
    mends(held).await?;
    warns(warned).await?;
    leaves_alone(held, free).await
}

/// The labelled namespace takes nothing of another class, and says what would be right.
async fn holds(held: &Namespace, staging: &PriorityClass) -> Result<()> {
    for (kind, path) in [
        ("Pod", "spec"),
        ("Deployment", "spec.template.spec"),
        ("StatefulSet", "spec.template.spec"),
        ("DaemonSet", "spec.template.spec"),
        ("ReplicaSet", "spec.template.spec"),
        ("ReplicationController", "spec.template.spec"),
        ("Job", "spec.template.spec"),
        ("CronJob", "spec.jobTemplate.spec.template.spec"),
    ] {
        for (class, found) in [(None, "none"), (Some("production"), "production")] {
            let said = try_out(held, &of_class(kind, class)?).await?;
            refused(&said, &sentence(held, kind, found, path))?;
        }
        silent(&try_out(held, &of_class(kind, Some("staging"))?).await?)?;
    }
    let fitting = Workload::new("fitting").priority_class("staging");
    let pod = held.run_pod(&fitting).await?;
    ensure!(priority(&pod) == Some(staging.value), "{pod:?}");
    Ok(())
}

/// A workload that is older than the label can be scaled, is refused pods and every change but the
/// right one, and is whole after that.
async fn mends(held: &Namespace) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(held.cluster.client.clone(), &held.name);
    held.kubectl
        .ok(&[
            "annotate",
            "deployment",
            "standing",
            "example.com/touched=yes",
        ])
        .await?;
    let refusal = sentence(held, "Deployment", "none", "spec.template.spec");
    let restart = ["rollout", "restart", "deployment/standing"];
    refused(&held.kubectl.run(&restart).await?, &refusal)?;

    held.kubectl
        .ok(&["scale", "deployment/standing", "--replicas=2"])
        .await?;
    let refusal = sentence(held, "Pod", "none", "spec");
    eventually(PATIENCE, "the Deployment tells of its pod", async || {
        let deployment = deployments.get("standing").await?;
        let conditions = deployment.status.and_then(|status| status.conditions);
        let told = conditions.iter().flatten().any(|condition| {
            let message = condition.message.as_deref().unwrap_or_default();
            condition.type_ == "ReplicaFailure" && message.contains(&refusal)
        });
        ensure!(told, "{conditions:?}");
        Ok(Some(()))
    })
    .await?;

    let patch = json!({"spec": {"template": {"spec": {"priorityClassName": "staging"}}}});
    let patch = format!("--patch={patch}");
    held.kubectl
        .ok(&["patch", "deployment", "standing", &patch])
        .await?;
    eventually(PATIENCE, "all pods are of the class", async || {
        let pods = held.ready_of("standing", 2).await?;
        let classes: Vec<_> = pods.iter().map(class).collect();
        ensure!(classes == [Some("staging"); 2], "{classes:?}");
        Ok(Some(()))
    })
    .await
}

/// Who only wants to be told is told, and gets what they asked for.
async fn warns(warned: &Namespace) -> Result<()> {
    for (kind, path) in [("Pod", "spec"), ("Deployment", "spec.template.spec")] {
        let said = try_out(warned, &of_class(kind, None)?).await?;
        told(&said, &sentence(warned, kind, "none", path))?;
        silent(&try_out(warned, &of_class(kind, Some("staging"))?).await?)?;
    }
    let said = feed(
        warned,
        &["create", "-f", "-"],
        &of_class("Pod", Some("dev"))?,
    )
    .await?;
    told(&said, &sentence(warned, "Pod", "dev", "spec"))?;
    let pod = warned.pods().get("candidate").await?;
    ensure!(class(&pod) == Some("dev"), "{pod:?}");
    Ok(())
}

/// The label without a value chooses no class, as if it was not there; what belongs to the system is
/// left alone with it, too, and so are static pods.
async fn leaves_alone(held: &Namespace, free: &Namespace) -> Result<()> {
    for namespace in [free.name.as_str(), "kube-system", CURFEW] {
        let there = Namespace {
            name: namespace.to_owned(),
            kubectl: held.cluster.kubectl().in_namespace(namespace),
            cluster: held.cluster.clone(),
        };
        for class in [None, Some("production")] {
            silent(&try_out(&there, &of_class("Pod", class)?).await?)?;
            silent(&try_out(&there, &of_class("Deployment", class)?).await?)?;
        }
    }
    let unset = format!("{LABEL}-");
    label(&held.cluster, &free.name, &[&unset]).await?;
    silent(&try_out(free, &of_class("Pod", None)?).await?)?;

    let node = NODES[0];
    let nodes: Api<Node> = Api::all(held.cluster.client.clone());
    let uid = nodes.get(node).await?.uid().context("a node has a UID")?;
    let mut mirror = of_class("Pod", None)?;
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "of a file"});
    mirror["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": node, "uid": uid, "controller": true,
    }]);
    mirror["spec"]["nodeName"] = json!(node);
    let kubelet = Namespace {
        kubectl: held
            .kubectl
            .impersonating(&format!("system:node:{node}"), &["system:nodes"]),
        ..held.clone()
    };
    silent(&try_out(&kubelet, &mirror).await?)
}

/// Applies the component, twice, and has the API server check its expressions.
async fn apply(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let folder = component(cluster)?;
    kubectl
        .ok(&["apply", "-k", &folder, "--dry-run=server"])
        .await?;
    kubectl.ok(&["apply", "-k", &folder]).await?;
    let again = kubectl.ok(&["apply", "-k", &folder]).await?;
    let unchanged = again.lines().all(|line| line.ends_with(" unchanged"));
    ensure!(unchanged && again.lines().count() == 6, "{again}");
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(cluster.client.clone());
    let checked = eventually(PATIENCE, "the policy is checked", async || {
        let policy = policies.get("curfew-priority-class").await?;
        Ok(policy.status.and_then(|status| status.type_checking))
    })
    .await?;
    let warnings = checked.expression_warnings.unwrap_or_default();
    ensure!(warnings.is_empty(), "{warnings:?}");
    Ok(())
}

/// The classes have distinct values in the right order, none is anybody's default, and only production
/// takes other pods' place. Returns that of staging.
async fn classes(cluster: &TestCluster) -> Result<PriorityClass> {
    let api: Api<PriorityClass> = Api::all(cluster.client.clone());
    let dev = api.get("dev").await?;
    let staging = api.get("staging").await?;
    let production = api.get("production").await?;
    let values = [dev.value, staging.value, production.value];
    let apart = dev.value < 0 && 0 < staging.value && staging.value < production.value;
    ensure!(
        apart && production.value < HIGHEST_OF_USERS / 100,
        "{values:?}"
    );
    for (class, preemption) in [
        (&dev, "Never"),
        (&staging, "Never"),
        (&production, "PreemptLowerPriority"),
    ] {
        ensure!(class.global_default != Some(true), "{class:?}");
        let policy = class.preemption_policy.as_deref();
        ensure!(policy == Some(preemption), "{class:?}");
    }
    Ok(staging)
}

/// Takes away all that is not of one namespace.
async fn withdraw(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let folder = component(cluster)?;
    let unset = format!("{LABEL}-");
    for namespace in ["kube-system", CURFEW] {
        label(cluster, namespace, &[&unset]).await?;
    }
    let delete = ["delete", "-k", &folder, "--ignore-not-found"];
    kubectl.ok(&delete).await?;
    let get = ["get", "-k", &folder, "--ignore-not-found", "-o", "name"];
    let left = kubectl.ok(&get).await?;
    ensure!(left.is_empty(), "left behind: {left}");
    let classes: Api<PriorityClass> = Api::all(cluster.client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/component=priorities");
    ensure!(classes.list(&ours).await?.items.is_empty());
    Ok(())
}

fn component(cluster: &TestCluster) -> Result<String> {
    let folder = cluster
        .machine
        .checkout()
        .join("manifests/components/priorities");
    Ok(folder.to_str().context("no UTF-8")?.to_owned())
}

async fn label(cluster: &TestCluster, namespace: &str, labels: &[&str]) -> Result<()> {
    let args = [&["label", "namespace", namespace], labels].concat();
    cluster.kubectl().ok(&args).await?;
    Ok(())
}

fn standing() -> Workload {
    Workload::new("standing")
}

/// A workload of a kind, whose pods name this class.
fn of_class(kind: &str, class: Option<&str>) -> Result<Value> {
    let mut workload = Workload::new("candidate");
    if let Some(class) = class {
        workload = workload.priority_class(class);
    }
    let pod = json!(workload.pod()?);
    let mut template = json!({"metadata": pod["metadata"].clone(), "spec": pod["spec"].clone()});
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.remove("name");
    }
    let labels = pod["metadata"]["labels"].clone();
    let selector = json!({"matchLabels": labels});
    let mut job = json!({"template": template});
    job["template"]["spec"]["restartPolicy"] = json!("Never");
    let (version, spec) = match kind {
        "Pod" => ("v1", pod["spec"].clone()),
        "ReplicationController" => ("v1", json!({"selector": labels, "template": template})),
        "Job" => ("batch/v1", job),
        "CronJob" => (
            "batch/v1",
            json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}}),
        ),
        _ => (
            "apps/v1",
            json!({"selector": selector, "template": template}),
        ),
    };
    Ok(json!({
        "apiVersion": version, "kind": kind, "metadata": {"name": "candidate"}, "spec": spec,
    }))
}

/// What the policy says to a namespace that is bound to staging.
fn sentence(namespace: &Namespace, kind: &str, found: &str, path: &str) -> String {
    format!(
        "the label {LABEL} binds the namespace {} to the PriorityClass staging, \
         and this {kind} names {found}: set {path}.priorityClassName to staging",
        namespace.name
    )
}

/// Creates an object without keeping it.
async fn try_out(namespace: &Namespace, object: &Value) -> Result<Said> {
    feed(
        namespace,
        &["create", "--dry-run=server", "-f", "-"],
        object,
    )
    .await
}

async fn feed(namespace: &Namespace, args: &[&str], object: &Value) -> Result<Said> {
    namespace.kubectl.feed(args, &object.to_string()).await
}

fn refused(said: &Said, sentence: &str) -> Result<()> {
    let forbidden = said.code == Some(1) && said.stderr.contains("is forbidden: ");
    ensure!(forbidden && said.stderr.contains(sentence), "{said:?}");
    Ok(())
}

fn told(said: &Said, sentence: &str) -> Result<()> {
    let warned = said.stderr.starts_with("Warning: ") && said.stderr.contains(sentence);
    ensure!(said.code == Some(0) && warned, "{said:?}");
    Ok(())
}

fn silent(said: &Said) -> Result<()> {
    ensure!(said.code == Some(0) && said.stderr.is_empty(), "{said:?}");
    Ok(())
}

fn class(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.priority_class_name.as_deref()
}

fn priority(pod: &Pod) -> Option<i32> {
    pod.spec.as_ref()?.priority
}
