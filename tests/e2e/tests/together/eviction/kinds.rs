//! Pods of every kind of owner, and of none.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, Namespace, Workload, eventually, life, marks, namespace::uid, policies::Policies,
    within_namespace,
};
use jiff::SignedDuration;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, StatefulSet},
    batch::v1::Job,
    core::v1::Pod,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use super::{NODE, QUIET, SOON, after_deadline, granted, in_state, lives, now, until_deadline};

/// How long a controller may take to put another pod in the place of one.
const REPLACED: Duration = Duration::from_secs(30);

async fn create<K>(namespace: &Namespace, object: &K) -> Result<()>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(namespace.cluster.client.clone(), &namespace.name);
    api.create(&PostParams::default(), object).await?;
    Ok(())
}

/// The one pod of a workload on the node, other than this one.
async fn other(namespace: &Namespace, workload: &str, than: Option<&str>) -> Result<Pod> {
    let what = format!("a pod of {workload} on {NODE}");
    eventually(REPLACED, &what, async || {
        let of = kube::api::ListParams::default().labels(&format!("app={workload}"));
        let pods = namespace.pods().list(&of).await?.items;
        Ok(pods.into_iter().find(|pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            node == Some(NODE)
                && pod.uid().as_deref() != than
                && curfew_e2e::namespace::is_ready(pod)
        }))
    })
    .await
}

/// Touches the pod of a workload, sees it evicted, and returns the one that took its place.
async fn replaced(namespace: &Namespace, workload: &str) -> Result<(Pod, Pod)> {
    let agents = Agents::connect(&namespace.cluster).await?;
    let watch = namespace.watch().await?;
    let first = other(namespace, workload, None).await?;
    let record = life::touch(namespace, &agents, &first, &["true"]).await?;
    let what = format!("{} is evicted", record.name);
    eventually(until_deadline(&record, SOON)?, &what, async || {
        Ok(watch.end(&record.uid).gone.map(drop))
    })
    .await?;
    let second = other(namespace, workload, Some(&record.uid)).await?;
    marks::clean(&second)?;
    Ok((first, second))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pod_of_a_daemon_set_comes_back_on_its_node() {
    within_namespace("daemon-set", async |namespace| {
        let labels = json!({"selector": {"matchLabels": {"app": "ds"}}});
        let object: DaemonSet = Workload::new("ds").controlled_by(labels)?;
        create(namespace, &object).await?;
        replaced(namespace, "ds").await.map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pod_of_a_job_is_replaced_and_the_job_goes_on() {
    within_namespace("job", async |namespace| {
        let policies = Policies::new(namespace).await?;
        let evict = json!({"completingPods": "Evict"});
        policies.hold(&[("jobs", evict)]).await?;
        let object: Job = Workload::new("job")
            .on(NODE)
            .once()
            .controlled_by(json!({}))?;
        create(namespace, &object).await?;
        replaced(namespace, "job").await?;
        let jobs: Api<Job> = Api::namespaced(namespace.cluster.client.clone(), &namespace.name);
        let status = jobs.get("job").await?.status.context("no status")?;
        ensure!(status.active == Some(1), "{status:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pod_of_a_stateful_set_comes_back_under_its_name() {
    within_namespace("stateful-set", async |namespace| {
        let spec = json!({"serviceName": "none", "selector": {"matchLabels": {"app": "set"}}});
        let object: StatefulSet = Workload::new("set").on(NODE).controlled_by(spec)?;
        create(namespace, &object).await?;
        let (first, second) = replaced(namespace, "set").await?;
        ensure!(
            first.name_any() == second.name_any(),
            "{}",
            second.name_any()
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_took_the_name_of_another_lives() {
    within_namespace("successor", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let spec = json!({"serviceName": "none", "selector": {"matchLabels": {"app": "set"}}});
        let object: StatefulSet = Workload::new("set").on(NODE).controlled_by(spec)?;
        create(namespace, &object).await?;
        let first = other(namespace, "set", None).await?;
        let audit = now(namespace)?;
        let record = life::touch(namespace, &agents, &first, &["true"]).await?;
        // Somebody is faster than the timer.
        namespace
            .pods()
            .delete("set-0", &DeleteParams::default())
            .await?;
        let second = other(namespace, "set", Some(&record.uid)).await?;
        after_deadline(&record, QUIET).await?;
        let now = namespace.pods().get("set-0").await?;
        ensure!(uid(&now)? == uid(&second)?, "the successor was replaced");
        marks::clean(&now)?;
        ensure!(granted(namespace, &audit)? == 0, "an eviction was granted");
        ensure!(
            agents.records(&record.uid).await?.is_empty(),
            "its record is still there"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_without_an_owner_goes_and_nobody_replaces_it() {
    within_namespace("bare", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let pod = namespace.run_pod(&Workload::new("bare").on(NODE)).await?;
        let watch = namespace.watch().await?;
        let record = life::touch(namespace, &agents, &pod, &["true"]).await?;
        watch
            .evicted(
                &record.uid,
                record.deadline()?,
                SignedDuration::from_secs(5),
            )
            .await?;
        let left = namespace.pods().list(&Default::default()).await?.items;
        ensure!(left.is_empty(), "{} pods are left", left.len());
        Ok(())
    })
    .await;
}

/// A pod that ends by itself, one way or the other, is left for those who look at its logs.
async fn ends_by_itself(test: &str, status: u8) {
    within_namespace(test, async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let script = format!("while ! [ -e /tmp/end ]; do sleep 0.2; done; exit {status}");
        let workload = Workload::new("ends").on(NODE).once().script(&script);
        let pod = namespace.run_pod(&workload).await?;
        let audit = now(namespace)?;
        let record = life::touch(namespace, &agents, &pod, &["sh", "-c", "touch /tmp/end"]).await?;
        in_state(&agents, &record, "finished", SOON).await?;
        after_deadline(&record, QUIET).await?;
        lives(namespace, &record).await?;
        ensure!(granted(namespace, &audit)? == 0, "it was evicted");
        let found = agents
            .of(NODE)?
            .record(&record.uid)
            .await?
            .context("no record")?;
        ensure!(!found.pending, "it is still to be evicted");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completed_pod_is_left() {
    ends_by_itself("completed", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_pod_is_left() {
    ends_by_itself("failed", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_pod_is_recorded_and_left() {
    within_namespace("static", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let name = format!("static-{}", namespace.name);
        let mut manifest = serde_json::to_value(Workload::new(&name).pod()?)?;
        manifest["apiVersion"] = json!("v1");
        manifest["kind"] = json!("Pod");
        manifest["metadata"]["namespace"] = json!(namespace.name);
        let file = StaticPod::write(namespace, &name, &manifest.to_string())?;

        let pod = namespace.ready(&format!("{name}-{NODE}")).await?;
        let audit = now(namespace)?;
        let args = ["exec", &pod.name_any(), "-c", "main", "--", "true"];
        namespace.kubectl.ok(&args).await?;
        let records = agents.records(&uid(&pod)?).await?;
        let record = records.get(NODE).context("it was not recorded")?.clone();
        ensure!(record.state == "protected", "it is {}", record.state);
        // Nobody is told that it will be evicted.
        ensure!(record.eviction_time.is_none(), "{:?}", record.eviction_time);
        // Longer than a pod of any other kind would live here.
        tokio::time::sleep(Duration::from_secs(24)).await;
        lives(namespace, &record).await?;
        ensure!(granted(namespace, &audit)? == 0, "it was evicted");
        drop(file);
        eventually(REPLACED * 2, "the static pod is gone", async || {
            let left = namespace.pods().get_opt(&record.name).await?;
            Ok(left.is_none().then_some(()))
        })
        .await
    })
    .await;
}

/// A file in the folder that the kubelet of the node reads static pods from, for as long as it is kept.
struct StaticPod(std::path::PathBuf);

impl StaticPod {
    fn write(namespace: &Namespace, name: &str, manifest: &str) -> Result<Self> {
        let nodes = namespace.cluster.machine.machine_nodes();
        let node = nodes
            .iter()
            .find(|node| node.name() == NODE)
            .context("no such node")?;
        let path = node.static_pods().join(format!("{name}.json"));
        std::fs::write(&path, manifest)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for StaticPod {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}
