//! What disasters are made of: processes that are stopped or killed, a store that is spoilt, a control plane that is away.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use curfew_cluster::{
    Cluster, control_plane,
    layout::{self, Node},
    run,
};
use kube::ResourceExt;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{NODES, TestCluster, disrupt, eventually};

/// What [`throttled`](super::scenarios::throttled) puts before the agents.
pub const FLOOD: &str = "curfew-e2e-disaster";
/// Where an agent has its store, as the node sees it.
pub const STORE: &str = "/var/lib/curfew";
const BACK: Duration = Duration::from_secs(90);
/// How many webhooks the configuration has.
const WEBHOOKS: usize = 3;

/// Processes that do nothing until this is dropped.
#[derive(Debug, Default)]
pub struct Stopped(Vec<i32>);

impl Stopped {
    /// Stops one more.
    pub fn stop(&mut self, pid: i32) -> Result<()> {
        ensure!(pid > 1, "{pid} is not to be stopped");
        kill(Pid::from_raw(pid), Signal::SIGSTOP).with_context(|| format!("cannot stop {pid}"))?;
        self.0.push(pid);
        Ok(())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            // One that was killed meanwhile needs nothing.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGCONT);
        }
    }
}

/// The node of this name.
pub fn node(name: &str) -> Result<Node> {
    let found = layout::NODES.into_iter().find(|node| node.name() == name);
    found.with_context(|| format!("there is no {name}"))
}

/// The files of a node's store, as the machine sees them.
pub fn store(name: &str) -> Result<PathBuf> {
    let place = node(name)?.var_lib().join("curfew/records");
    ensure!(
        place.join("db").is_file(),
        "{} holds no store",
        place.display()
    );
    Ok(place)
}

/// The pid of the agent of a node.
pub async fn agent(cluster: &TestCluster, name: &str) -> Result<i32> {
    let pod = disrupt::agent_of(cluster, name).await?;
    disrupt::process_of("agent", &pod.name_any()).context("the agent's process is not found")
}

/// The pids of all replicas of the webhook.
pub async fn webhooks(cluster: &TestCluster) -> Result<Vec<i32>> {
    let pods = cluster.pods_of("webhook").await?;
    let pids = pods.iter().map(|pod| {
        disrupt::process_of("webhook", &pod.name_any())
            .context("the webhook's process is not found")
    });
    pids.collect()
}

/// Waits until the agent of a node is another process than this, and ready.
pub async fn restarted(cluster: &TestCluster, name: &str, old: i32) -> Result<()> {
    eventually(BACK, &format!("the agent of {name} is back"), async || {
        ensure!(agent(cluster, name).await? != old, "it does not run");
        let pod = disrupt::agent_of(cluster, name).await?;
        Ok(crate::namespace::is_ready(&pod).then_some(()))
    })
    .await
}

/// Runs a command in the mount namespace of a process.
pub fn within(pid: i32, command: &[&str]) -> Result<()> {
    let target = pid.to_string();
    let mut nsenter = Command::new("nsenter");
    nsenter
        .args(["--mount", "--target", &target, "--"])
        .args(command);
    run::check(&mut nsenter)
}

/// Ends the API server and etcd at once.
pub fn kill_api(machine: &Cluster) -> Result<()> {
    machine.kill("kube-apiserver")?;
    machine.kill("etcd")
}

/// Starts both, and returns when the API server serves.
pub fn start_api(machine: &Cluster) -> Result<()> {
    machine.start("etcd")?;
    machine.start("kube-apiserver")?;
    control_plane::wait_until_ready()
}

/// Takes back what any disaster may have left behind on the machine.
pub async fn restore(cluster: &TestCluster) -> Result<()> {
    disrupt::on_machine(cluster, |machine| {
        for component in machine.components() {
            match machine.pid(&component) {
                Some(pid) => kill(Pid::from_raw(pid), Signal::SIGCONT)?,
                None => machine.start(&component)?,
            }
        }
        for node in layout::NODES {
            let Some(pid) = machine.pid(&node.name()) else {
                continue;
            };
            while within(pid, &["mountpoint", "-q", STORE]).is_ok() {
                within(pid, &["umount", "--lazy", STORE])?;
            }
        }
        machine.wait_until_ready()
    })
    .await?;
    let kinds = ["flowschema", "prioritylevelconfiguration"];
    for kind in kinds {
        let args = ["delete", kind, FLOOD, "--ignore-not-found"];
        cluster.kubectl().ok(&args).await?;
    }
    for name in NODES {
        cluster.kubectl().ok(&["uncordon", name]).await?;
    }
    Ok(())
}

/// Waits until the webhook is registered with all that it has.
pub async fn registered(cluster: &TestCluster) -> Result<()> {
    eventually(BACK, "the webhook is registered", async || {
        let path = "jsonpath={.webhooks[*].name}";
        let kind = "validatingwebhookconfiguration";
        let names = cluster
            .kubectl()
            .ok(&["get", kind, "curfew-webhook", "-o", path])
            .await?;
        let count = names.split_whitespace().count();
        ensure!(count == WEBHOOKS, "it has {count} webhooks");
        Ok(Some(()))
    })
    .await
}

/// Copies a folder with everything in it; what was there is gone.
pub fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    run::check(Command::new("cp").arg("--archive").arg(from).arg(to))
}
