//! Reaching into a container past the API server, as root can on its node.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use curfew_cluster::{images, layout, node};
use curfew_core::metadata;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::process::{Child, Command};

use crate::{Namespace, disrupt::node_of, eventually};

/// What an Event says of it.
pub const WORDS: &str = "past the API server";
/// The kind of such an interaction.
pub const KIND: &str = "bypass";
/// Who it is said to be.
pub const USER: &str = "unknown";
/// How soon an agent has to notice it.
pub const NOTICED: Duration = Duration::from_secs(5);

/// Enters the namespaces of the pod's container with `nsenter`, and runs a command there.
pub async fn enter(pod: &Pod, command: &[&str]) -> Result<Child> {
    let target = pid(pod).await?.to_string();
    let mut nsenter = Command::new("nsenter");
    nsenter
        .args(["--target", &target, "--mount", "--pid", "--"])
        .args(command);
    start(nsenter)
}

/// Has the container runtime run a command in the pod's container, as `crictl exec` does.
pub fn exec(namespace: &Namespace, pod: &Pod, command: &[&str]) -> Result<Child> {
    let node = machine_node(pod)?;
    // Both sides open pipes below /run, which is another folder on a node.
    let [_, containerd, _] = node::parts(node);
    let containerd = namespace.cluster.machine.pid(&containerd);
    let containerd = containerd.context("containerd does not run")?.to_string();
    let ctr = images::ctr(node);
    let mut nsenter = Command::new("nsenter");
    nsenter
        .args(["--target", &containerd, "--mount", "--"])
        .arg(ctr.get_program())
        .args(ctr.get_args())
        .args(["task", "exec", "--exec-id", "past-the-api-server"])
        .arg(container_id(pod)?)
        .args(command);
    start(nsenter)
}

/// The process id of the first process of the pod's container, on this machine.
pub async fn pid(pod: &Pod) -> Result<i32> {
    let (node, id) = (machine_node(pod)?, container_id(pod)?);
    let mut list = Command::from(images::ctr(node));
    let output = list.args(["task", "list"]).output().await?;
    let tasks = String::from_utf8_lossy(&output.stdout).into_owned();
    let of_container = tasks.lines().find_map(|line| line.strip_prefix(&id));
    let pid = of_container.and_then(|rest| rest.split_whitespace().next());
    let pid = pid.with_context(|| format!("no task {id} among {tasks}"))?;
    Ok(pid.parse()?)
}

/// Waits until the pod says that someone bypassed the API server, and returns how long that took.
pub async fn noticed(namespace: &Namespace, pod: &Pod, since: Instant) -> Result<Duration> {
    let name = pod.name_any();
    let left = NOTICED.saturating_sub(since.elapsed());
    eventually(left, &format!("{name} is marked"), async || {
        let pod = namespace.pods().get(&name).await?;
        let kind = pod.annotations().get(metadata::INTERACTION);
        ensure!(kind.is_some_and(|kind| kind == KIND), "{kind:?}");
        Ok(Some(since.elapsed()))
    })
    .await
}

fn machine_node(pod: &Pod) -> Result<layout::Node> {
    let name = node_of(pod).context("the pod is on no node")?;
    let mut nodes = layout::NODES.into_iter();
    nodes
        .find(|node| node.name() == name)
        .with_context(|| format!("there is no {name}"))
}

/// The runtime's name of the first container.
fn container_id(pod: &Pod) -> Result<String> {
    let statuses = pod.status.as_ref().map(|status| &status.container_statuses);
    let status = statuses.and_then(|statuses| statuses.as_ref()?.first());
    let id = status.and_then(|status| status.container_id.as_deref());
    let id = id.and_then(|id| id.strip_prefix("containerd://"));
    Ok(id.context("the container has no id")?.to_owned())
}

fn start(mut command: Command) -> Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("nsenter cannot be started")
}
