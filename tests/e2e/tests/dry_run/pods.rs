//! Fifteen pods of six kinds in a namespace, with two budgets.

use anyhow::{Context, Result};
use curfew_e2e::{Namespace, Workload, budgets::budget_of};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::Pod,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
    core::NamespaceResourceScope,
};
use serde_json::{Value, json};

use crate::course::{Course, Courses};

/// The workloads as a report names them, and how many pods each has.
pub(crate) const WORKLOADS: [(&str, usize); 7] = [
    ("deployment/web", 3),
    ("deployment/full", 2),
    ("statefulset/db", 3),
    ("daemonset/logs", 2),
    ("job/build", 2),
    ("replicaset/cache", 2),
    ("pod/bare", 1),
];

/// Starts them, and waits until they run.
pub(crate) async fn start(namespace: &Namespace) -> Result<Vec<Pod>> {
    let selecting = |name: &str| json!({"selector": {"matchLabels": {"app": name}}});
    let with = |mut more: Value, key: &str, value: Value| {
        more[key] = value;
        more
    };
    let db = with(selecting("db"), "replicas", json!(3));
    let db = with(db, "podManagementPolicy", json!("Parallel"));
    create::<StatefulSet>(namespace, "db", with(db, "serviceName", json!("db"))).await?;
    create::<DaemonSet>(namespace, "logs", selecting("logs")).await?;
    let cache = with(selecting("cache"), "replicas", json!(2));
    create::<ReplicaSet>(namespace, "cache", cache).await?;
    let build = json!({"parallelism": 2, "backoffLimit": 0});
    create::<Job>(namespace, "build", build).await?;
    let [web, full, bare] = ["web", "full", "bare"].map(Workload::new);
    tokio::try_join!(
        namespace.run_deployment(&web, 3),
        namespace.run_deployment(&full, 2),
        namespace.run_pod(&bare),
    )?;
    budget_of(namespace, "web", 3, 2).await?;
    budget_of(namespace, "full", 2, 2).await?;
    for (workload, replicas) in WORKLOADS {
        let (_, name) = workload.split_once('/').context("no name")?;
        namespace.ready_of(name, replicas).await?;
    }
    all(namespace).await
}

/// All pods of the namespace, sorted by name.
pub(crate) async fn all(namespace: &Namespace) -> Result<Vec<Pod>> {
    let mut pods = namespace.pods().list(&ListParams::default()).await?.items;
    pods.sort_by_key(ResourceExt::name_any);
    Ok(pods)
}

/// What comes of each of them: nothing is done to pods of Jobs, and one budget never has room.
pub(crate) fn expected(pods: &[Pod]) -> Courses {
    let course = |pod: &Pod| match pod.labels().get("app").map(String::as_str) {
        Some("full") => Course::BlockedBy("full".to_owned()),
        Some("build") => Course::OnlyRecorded,
        _ => Course::Goes,
    };
    pods.iter()
        .map(|pod| (pod.name_any(), course(pod)))
        .collect()
}

async fn create<K>(namespace: &Namespace, name: &str, more: Value) -> Result<()>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let mut workload = Workload::new(name);
    if name == "build" {
        workload = workload.once();
    }
    let object: K = workload.controlled_by(more)?;
    let api: Api<K> = Api::namespaced(namespace.cluster.client.clone(), &namespace.name);
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}
