//! Taking parts of the cluster away, and making it whole again.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use curfew_cluster::Cluster;
use curfew_core::duration;
use jiff::SignedDuration;
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    Agents, CURFEW, Kubectl, NODES, TestCluster, cluster::selector, eventually, http::Connection,
    namespace::is_ready,
};

/// The agents.
pub const DAEMONSET: &str = "daemonset/curfew-agent";
/// The webhook.
pub const DEPLOYMENT: &str = "deployment/curfew-webhook";
/// The API server, as [`Cluster::kill`] knows it.
pub const API_SERVER: &str = "kube-apiserver";
/// What makes pods for DaemonSets and Deployments.
pub const CONTROLLERS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];
/// The admission policy that tests put in the webhook's way.
pub const OBSTACLE: &str = "curfew-e2e-obstacle";
/// What the webhook does with what it cannot record.
pub const UNRECORDED: &str = "CURFEW_UNRECORDED";

const PATIENCE: Duration = Duration::from_secs(90);
const METRICS_PORT: u16 = 9090;
const REPLICAS: usize = 2;

/// kubectl in Curfew's namespace.
pub fn kubectl(cluster: &TestCluster) -> Kubectl {
    cluster.kubectl().in_namespace(CURFEW)
}

/// The pod's node.
pub fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// The pods of one of Curfew's parts, whatever state they are in.
pub async fn all_pods_of(cluster: &TestCluster, part: &str) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), CURFEW);
    let of = ListParams::default().labels(&selector(part));
    Ok(pods.list(&of).await?.items)
}

/// Lets a node have no agent. What runs on the other is restarted by it.
pub async fn keep_agent_away(cluster: &TestCluster, node: &str) -> Result<()> {
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]},
        ]}],
    }}});
    set_affinity(cluster, &affinity).await?;
    eventually(PATIENCE, &format!("{node} has no agent"), async || {
        let pods = all_pods_of(cluster, "agent").await?;
        let there = pods.iter().any(|pod| node_of(pod) == Some(node));
        Ok((!there).then_some(()))
    })
    .await?;
    rolled_out(cluster, DAEMONSET).await
}

/// Gives every node its agent, and waits for them.
pub async fn bring_agents_back(cluster: &TestCluster) -> Result<()> {
    set_affinity(cluster, &json!(null)).await?;
    rolled_out(cluster, DAEMONSET).await
}

async fn set_affinity(cluster: &TestCluster, affinity: &serde_json::Value) -> Result<()> {
    let patch = json!({"spec": {"template": {"spec": {"affinity": affinity}}}}).to_string();
    kubectl(cluster)
        .ok(&["patch", DAEMONSET, "--type=merge", "-p", &patch])
        .await?;
    Ok(())
}

/// Sets an environment variable of the webhook, or takes it away, and waits until no replica is
/// without the change.
pub async fn set_webhook_env(cluster: &TestCluster, name: &str, value: Option<&str>) -> Result<()> {
    set_webhook_envs(cluster, &[(name, value)]).await
}

/// The same for several at once.
pub async fn set_webhook_envs(
    cluster: &TestCluster,
    variables: &[(&str, Option<&str>)],
) -> Result<()> {
    let changes = variables.iter().map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => format!("{name}-"),
    });
    let changes: Vec<_> = changes.collect();
    let changes = changes.iter().map(String::as_str);
    let args: Vec<_> = ["set", "env", DEPLOYMENT]
        .into_iter()
        .chain(changes)
        .collect();
    kubectl(cluster).ok(&args).await?;
    replaced_webhooks(cluster).await
}

/// Replaces all replicas of the webhook by new ones.
pub async fn restart_webhooks(cluster: &TestCluster) -> Result<()> {
    let restart = ["rollout", "restart", DEPLOYMENT];
    kubectl(cluster).ok(&restart).await?;
    replaced_webhooks(cluster).await
}

async fn replaced_webhooks(cluster: &TestCluster) -> Result<()> {
    rolled_out(cluster, DEPLOYMENT).await?;
    eventually(PATIENCE, "the old replicas have ended", async || {
        let pods = all_pods_of(cluster, "webhook").await?;
        Ok((pods.len() == REPLICAS && pods.iter().all(is_ready)).then_some(()))
    })
    .await
}

/// Waits until a workload of Curfew runs as it should.
pub async fn rolled_out(cluster: &TestCluster, workload: &str) -> Result<()> {
    kubectl(cluster)
        .ok(&["rollout", "status", workload, "--timeout=55s"])
        .await
        .map(drop)
}

/// The process with this variable in its environment, of the processes with this name. Those of the
/// nodes are processes of this machine.
pub fn process(name: &str, variable: &str) -> Option<i32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
        if comm.trim_end() != name {
            return None;
        }
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let has = environment
            .split(|byte| *byte == 0)
            .any(|pair| pair == variable.as_bytes());
        has.then_some(pid)
    })
}

/// The process of a pod of one of Curfew's parts.
pub fn process_of(part: &str, pod: &str) -> Option<i32> {
    process(&format!("curfew-{part}"), &format!("HOSTNAME={pod}"))
}

/// Kills a process at once.
pub fn kill_process(pid: i32) -> Result<()> {
    ensure!(pid > 1, "{pid} is not to be killed");
    kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("cannot kill {pid}"))
}

/// The agent's pod of this node.
pub async fn agent_of(cluster: &TestCluster, node: &str) -> Result<Pod> {
    let pods = cluster.pods_of("agent").await?;
    let found = pods.into_iter().find(|pod| node_of(pod) == Some(node));
    found.with_context(|| format!("{node} has no agent"))
}

/// The metrics of one of Curfew's pods, as text.
pub async fn metrics(pod: &Pod) -> Result<String> {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let ip = ip.with_context(|| format!("{} has no address", pod.name_any()))?;
    let stream = TcpStream::connect((ip.as_str(), METRICS_PORT)).await?;
    Connection::open(stream).await?.get("/metrics").await
}

/// How long a pod may live on after an interaction, as the webhook is configured.
pub async fn time_to_live(cluster: &TestCluster) -> Result<SignedDuration> {
    const PATH: &str =
        "jsonpath={.spec.template.spec.containers[0].env[?(@.name=='CURFEW_DEFAULT_TTL')].value}";
    let ttl = kubectl(cluster)
        .ok(&["get", DEPLOYMENT, "-o", PATH])
        .await?;
    Ok(SignedDuration::try_from(duration::parse(&ttl)?)?)
}

/// Removes a pod of Curfew's at once. A container that died a second time waits for the kubelet's
/// back-off; its successor does not.
pub async fn replace(cluster: &TestCluster, pod: &Pod) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), CURFEW);
    let at_once = DeleteParams::default().grace_period(0);
    match pods.delete(&pod.name_any(), &at_once).await {
        Err(error) if !matches!(&error, kube::Error::Api(status) if status.code == 404) => {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

/// How often the pod's container was restarted.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}

/// Does with the machine's cluster what takes its time.
pub async fn on_machine(
    cluster: &TestCluster,
    act: impl FnOnce(&Cluster) -> Result<()> + Send + 'static,
) -> Result<()> {
    let machine = cluster.machine.clone();
    tokio::task::spawn_blocking(move || act(&machine)).await?
}

/// How many ready endpoints a Service of Curfew's has.
async fn endpoints(cluster: &TestCluster, service: &str) -> Result<usize> {
    let slices: Api<EndpointSlice> = Api::namespaced(cluster.client.clone(), CURFEW);
    let of = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let slices = slices.list(&of).await?.items;
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter());
    let ready = endpoints.filter(|endpoint| {
        endpoint.conditions.as_ref().and_then(|state| state.ready) == Some(true)
    });
    Ok(ready.count())
}

/// Starts the cluster's controllers anew. After an API server that was killed they were seen to make no
/// pod for minutes ("read version is not as new as written version"), or to place none for a minute (the pauses of
/// their watches grow), which nothing but this ended.
pub async fn restart_controllers(cluster: &TestCluster) -> Result<()> {
    on_machine(cluster, |machine| restart(machine, &CONTROLLERS)).await
}

/// Starts these anew.
pub fn restart(machine: &Cluster, components: &[&str]) -> Result<()> {
    for component in components {
        if machine.pid(component).is_some() {
            machine.kill(component)?;
        }
        machine.start(component)?;
    }
    Ok(())
}

/// Makes the cluster whole, whatever a test did to it: nothing is left of what is done here and in the
/// tests, and every part is ready.
pub async fn heal(cluster: &TestCluster) -> Result<()> {
    on_machine(cluster, |machine| {
        machine.revive()?;
        machine.wait_until_ready()
    })
    .await?;
    let admin = cluster.kubectl();
    for kind in [
        "validatingadmissionpolicybinding",
        "validatingadmissionpolicy",
    ] {
        admin
            .ok(&["delete", kind, OBSTACLE, "--ignore-not-found"])
            .await?;
    }
    set_affinity(cluster, &json!(null)).await?;
    let unset = format!("{UNRECORDED}-");
    kubectl(cluster)
        .ok(&["set", "env", DEPLOYMENT, &unset])
        .await?;
    for part in ["agent", "webhook"] {
        for pod in all_pods_of(cluster, part).await? {
            if restarts(&pod) > 0 {
                replace(cluster, &pod).await?;
            }
        }
    }
    eventually(PATIENCE, "Curfew is whole", async || {
        // What ended with the API server may do so only now: kube-scheduler, when it binds the next pod.
        on_machine(cluster, |machine| machine.revive()).await?;
        for (part, count) in [("agent", NODES.len()), ("webhook", REPLICAS)] {
            let pods = all_pods_of(cluster, part).await?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            ensure!(
                (pods.len(), ready) == (count, count),
                "of {} pods of {part}, {ready} are ready",
                pods.len()
            );
        }
        let reached = endpoints(cluster, "curfew-webhook").await?;
        ensure!(
            reached == REPLICAS,
            "{reached} of the webhook's replicas can be reached"
        );
        Agents::connect(cluster).await?;
        Ok(Some(()))
    })
    .await?;
    rolled_out(cluster, DAEMONSET).await?;
    rolled_out(cluster, DEPLOYMENT).await
}
