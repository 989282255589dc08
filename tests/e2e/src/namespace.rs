//! A namespace for one test: made for it, taken away after it, and looked at closely when it failed.

use std::{
    fs,
    io::{self, Write},
    panic::{AssertUnwindSafe, resume_unwind},
    path::PathBuf,
    sync::LazyLock,
    time::Duration,
};

use anyhow::{Context, Result};
use futures::FutureExt;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace as Object, Pod, ServiceAccount},
    discovery::v1::{Endpoint, EndpointSlice},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    Agents, CURFEW, Kubectl, PodWatch, TestCluster, Workload, cluster::selector, eventually,
};

/// How many tests of one binary run at a time: more would measure the machine and not Curfew.
static SLOTS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(8));

const SETUP: Duration = Duration::from_secs(60);

/// A namespace with the means to work in it.
#[derive(Debug, Clone)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// kubectl as the administrator, in this namespace.
    pub kubectl: Kubectl,
    /// The cluster it is of.
    pub cluster: TestCluster,
}

/// Runs a test in a namespace of its own. When it fails, the state of the namespace and of Curfew is
/// written down before the namespace is removed.
///
/// # Panics
/// When the test fails.
pub async fn within_namespace(test: &str, body: impl AsyncFnOnce(&Namespace) -> Result<()>) {
    let _slot = SLOTS.acquire().await;
    let prepared = async {
        let cluster = TestCluster::connect().await?;
        Namespace::create(&cluster, &format!("e2e-{test}-{}", suffix()?)).await
    };
    let namespace = match prepared.await {
        Ok(namespace) => namespace,
        Err(error) => panic!("no namespace for {test}: {error:#}"),
    };
    let outcome = AssertUnwindSafe(body(&namespace)).catch_unwind().await;
    let passed = matches!(outcome, Ok(Ok(())));
    if !passed {
        let place = namespace.dump().await;
        // Not captured: whoever sees the failure has to see where its traces are.
        drop(writeln!(
            io::stderr(),
            "{test} failed; see {}",
            place.display()
        ));
    }
    let removed = namespace.remove().await;
    match outcome {
        Err(panic) => resume_unwind(panic),
        Ok(Err(error)) => panic!("{test}: {error:#}"),
        Ok(Ok(())) => assert!(removed.is_ok(), "{test}: {removed:?}"),
    }
}

fn suffix() -> Result<String> {
    let mut bytes = [0; 3];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Namespace {
    /// Makes it, ready for pods.
    pub async fn create(cluster: &TestCluster, name: &str) -> Result<Self> {
        let object: Object = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "curfew-e2e"}},
        }))?;
        Api::all(cluster.client.clone())
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("cannot create the namespace {name}"))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), name);
        eventually(SETUP, "the default ServiceAccount", async || {
            Ok(accounts.get_opt("default").await?)
        })
        .await?;
        Ok(Self {
            name: name.to_owned(),
            kubectl: cluster.kubectl().in_namespace(name),
            cluster: cluster.clone(),
        })
    }

    /// As the owner of what is to go with it, also when the test fails.
    pub async fn as_owner(&self) -> Result<Value> {
        let namespaces: Api<Object> = Api::all(self.cluster.client.clone());
        let uid = namespaces.get(&self.name).await?.uid();
        let uid = uid.context("the namespace has no UID")?;
        Ok(json!({"apiVersion": "v1", "kind": "Namespace", "name": self.name, "uid": uid}))
    }

    /// Asks for its removal, with everything in it.
    pub async fn remove(&self) -> Result<()> {
        let namespaces: Api<Object> = Api::all(self.cluster.client.clone());
        namespaces
            .delete(&self.name, &DeleteParams::default())
            .await?;
        Ok(())
    }

    /// Its pods.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.cluster.client.clone(), &self.name)
    }

    /// The endpoints of a Service, ready or not.
    pub async fn endpoints(&self, service: &str) -> Result<Vec<Endpoint>> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.cluster.client.clone(), &self.name);
        let of = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = slices.list(&of).await?.items;
        Ok(slices
            .into_iter()
            .flat_map(|slice| slice.endpoints)
            .collect())
    }

    /// Watches its pods from now on.
    pub async fn watch(&self) -> Result<PodWatch> {
        PodWatch::start(self.pods()).await
    }

    /// Starts a single pod and waits until it runs.
    pub async fn run_pod(&self, workload: &Workload) -> Result<Pod> {
        Ok(self
            .run_pods(std::slice::from_ref(workload))
            .await?
            .remove(0))
    }

    /// Starts several at once and waits until all of them run.
    pub async fn run_pods(&self, workloads: &[Workload]) -> Result<Vec<Pod>> {
        for workload in workloads {
            self.pods()
                .create(&PostParams::default(), &workload.pod()?)
                .await?;
        }
        let mut pods = Vec::new();
        for workload in workloads {
            pods.push(self.ready(workload.name()).await?);
        }
        Ok(pods)
    }

    /// Starts a Deployment and waits until its pods run.
    pub async fn run_deployment(&self, workload: &Workload, replicas: usize) -> Result<Vec<Pod>> {
        let deployments: Api<Deployment> = Api::namespaced(self.cluster.client.clone(), &self.name);
        let deployment = workload.deployment(replicas)?;
        deployments
            .create(&PostParams::default(), &deployment)
            .await?;
        self.ready_of(workload.name(), replicas).await
    }

    /// Waits until this pod runs.
    pub async fn ready(&self, name: &str) -> Result<Pod> {
        let what = format!("pod {name} is ready");
        eventually(SETUP, &what, async || {
            Ok(self.pods().get_opt(name).await?.filter(is_ready))
        })
        .await
    }

    /// Waits until so many pods of a workload run.
    pub async fn ready_of(&self, workload: &str, replicas: usize) -> Result<Vec<Pod>> {
        let of = ListParams::default().labels(&format!("app={workload}"));
        let what = format!("{replicas} pods of {workload} are ready");
        eventually(SETUP, &what, async || {
            let mut pods = self.pods().list(&of).await?.items;
            pods.retain(is_ready);
            Ok((pods.len() == replicas).then_some(pods))
        })
        .await
    }

    /// Writes down what can be known of a failure, and returns where.
    pub(crate) async fn dump(&self) -> PathBuf {
        let place = self.cluster.results().join("failed").join(&self.name);
        let mut found = Vec::new();
        for (file, args) in [
            ("pods.yaml", &["get", "pods", "-o", "yaml"][..]),
            (
                "events.txt",
                &[
                    "get",
                    "events",
                    "-o",
                    "wide",
                    "--sort-by=.metadata.creationTimestamp",
                ],
            ),
        ] {
            found.push((file.to_owned(), self.kubectl.ok(args).await));
        }
        for part in ["agent", "webhook"] {
            let of = format!("--selector={}", selector(part));
            let args = [
                "logs",
                &of,
                "--prefix",
                "--tail=-1",
                "--since=10m",
                "--max-log-requests=10",
            ];
            let kubectl = self.cluster.kubectl().in_namespace(CURFEW);
            found.push((format!("{part}.log"), kubectl.ok(&args).await));
        }
        match Agents::connect(&self.cluster).await {
            Err(error) => found.push(("agents.txt".to_owned(), Err(error))),
            Ok(agents) => {
                for agent in agents.iter() {
                    let schedule = agent
                        .schedule()
                        .await
                        .map(|schedule| format!("{schedule:#?}"));
                    found.push((format!("{}-schedule.txt", agent.node), schedule));
                    found.push((format!("{}-metrics.txt", agent.node), agent.metrics().await));
                }
            }
        }
        drop(fs::create_dir_all(&place));
        for (file, text) in found {
            let text = text.unwrap_or_else(|error| format!("not to be had: {error:#}\n"));
            drop(fs::write(place.join(file), text));
        }
        place
    }
}

/// Whether a pod runs, is ready, and is to stay.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
}

/// The UID of a pod that the API server has taken.
pub fn uid(pod: &Pod) -> Result<String> {
    pod.uid()
        .with_context(|| format!("pod {} has no UID", pod.name_any()))
}
