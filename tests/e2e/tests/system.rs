//! The parts of Kubernetes go about their work on marked pods as on all others. A drained node takes no pods of other
//! tests, so this is a binary of its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_core::metadata::LAST_INTERACTION;
use curfew_e2e::{
    NODES, Namespace, Workload, eventually, life, marks, namespace::uid, within_namespace,
};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::json;

const NODE: &str = NODES[1];
/// As long as marks take to be seen.
const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// Reaches into a pod and waits until it is marked.
async fn touch(namespace: &Namespace, pod: &Pod) -> Result<String> {
    let name = pod.name_any();
    life::exec(namespace, pod, &["true"]).await?;
    eventually(SOON, "the pod is marked", async || {
        let pod = namespace.pods().get(&name).await?;
        let marked = pod.annotations().contains_key(LAST_INTERACTION);
        Ok(marked.then_some(()))
    })
    .await?;
    uid(pod)
}

/// Waits until the pods of a workload are others than this one, and clean.
async fn replaced(namespace: &Namespace, workload: &str, count: usize, old: &str) -> Result<()> {
    eventually(PATIENCE, "the pods are new", async || {
        let pods = namespace.ready_of(workload, count).await?;
        for pod in &pods {
            ensure!(uid(pod)? != old, "the old one is still there");
            marks::clean(pod)?;
        }
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_a_drain_and_a_collection_go_on() {
    within_namespace("rollout", async |namespace| {
        let kubectl = &namespace.kubectl;
        let pods = namespace.run_deployment(&Workload::new("web"), 2).await?;
        let old = touch(namespace, &pods[0]).await?;
        kubectl
            .ok(&["rollout", "restart", "deployment/web"])
            .await?;
        kubectl
            .ok(&["rollout", "status", "deployment/web", "--timeout=50s"])
            .await?;
        replaced(namespace, "web", 2, &old).await?;

        let drained = namespace
            .run_deployment(&Workload::new("drained"), 1)
            .await?;
        let node = drained[0]
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone());
        let node = node.context("the pod runs nowhere")?;
        let old = touch(namespace, &drained[0]).await?;
        let drain = [
            "drain",
            &node,
            "--pod-selector=app=drained",
            "--force",
            "--timeout=50s",
        ];
        let said = kubectl.run(&drain).await?;
        let moved = replaced(namespace, "drained", 1, &old).await;
        kubectl.ok(&["uncordon", &node]).await?;
        said.success()?;
        moved?;

        let pods = namespace.ready_of("web", 2).await?;
        touch(namespace, &pods[0]).await?;
        kubectl
            .ok(&["delete", "deployment/web", "--wait=false"])
            .await?;
        eventually(
            PATIENCE,
            "the garbage collector took the pods",
            async || {
                let left = kubectl
                    .ok(&["get", "pods", "-l", "app=web", "-o", "name"])
                    .await?;
                ensure!(left.is_empty(), "{left}");
                Ok(Some(()))
            },
        )
        .await
    })
    .await;
}

/// A pod that needs most of a node's processors.
fn demanding(workload: &Workload, millicores: i64) -> Result<Pod> {
    let mut pod = json!(workload.pod()?);
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": format!("{millicores}m")}});
    Ok(serde_json::from_value(pod)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preemption_goes_on() {
    within_namespace("preemption", async |namespace| {
        let cluster = namespace.cluster.kubectl();
        let class = format!("{}-high", namespace.name);
        cluster
            .ok(&["create", "priorityclass", &class, "--value=1000"])
            .await?;
        let outcome = preempt(namespace, &class).await;
        cluster.ok(&["delete", "priorityclass", &class]).await?;
        outcome
    })
    .await;
}

async fn preempt(namespace: &Namespace, class: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(namespace.cluster.client.clone());
    let allocatable = nodes
        .get(NODE)
        .await?
        .status
        .and_then(|status| status.allocatable);
    let cpu = allocatable
        .and_then(|mut all| all.remove("cpu"))
        .context("no processors")?
        .0;
    let whole = match cpu.strip_suffix('m') {
        Some(millicores) => millicores.parse()?,
        None => cpu.parse::<i64>()? * 1000,
    };
    let most = whole * 6 / 10;
    let low = demanding(&Workload::new("low").on(NODE), most)?;
    namespace
        .pods()
        .create(&PostParams::default(), &low)
        .await?;
    let low = touch(namespace, &namespace.ready("low").await?).await?;
    let high = demanding(&Workload::new("high").on(NODE).priority_class(class), most)?;
    namespace
        .pods()
        .create(&PostParams::default(), &high)
        .await?;
    namespace.ready("high").await?;
    let left = namespace.pods().get_opt("low").await?;
    ensure!(left.is_none(), "{low} is still there: {left:?}");
    let args = [
        "get",
        "events",
        "--field-selector=reason=Preempted",
        "-o",
        "name",
    ];
    eventually(SOON, "the scheduler tells that it preempted", async || {
        Ok((!namespace.kubectl.ok(&args).await?.is_empty()).then_some(()))
    })
    .await
}
