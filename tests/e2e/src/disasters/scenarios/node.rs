//! Nodes that go down and come up, and one that is deleted and made anew.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use curfew_cluster::{images, run};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::sleep;

use super::super::{Scenario, boxed, scene::Scene, senses::Sign::Silent, tools};
use crate::{NODES, disrupt};

const DOWN: Duration = Duration::from_secs(25);
/// How long after its end the kubelet is started again.
const AGAIN: Duration = Duration::from_secs(1);

/// A node that is down, and one that is made anew.
pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "node-anew",
        what: "a node is deleted and created again with the same name",
        later: 40,
        told: &[],
        strike: |scene| boxed(anew(scene)),
        renews: true,
    },
    Scenario {
        name: "node-killed",
        what: "kubelet, containerd and all containers of a node killed, down for 25 s",
        later: 60,
        told: &[Silent("agent")],
        strike: |scene| boxed(killed(scene)),
        renews: true,
    },
];

async fn anew(scene: &Scene) -> Result<()> {
    let cluster = &scene.namespace.cluster;
    scene.touch().await?;
    cluster
        .kubectl()
        .ok(&["delete", "node", NODES[0], "--wait=false"])
        .await?;
    sleep(Duration::from_secs(3)).await;
    disrupt::on_machine(cluster, |machine| {
        disrupt::restart(machine, &["node-1-kubelet"])?;
        machine.wait_until_ready()
    })
    .await?;
    scene.returned();
    scene.replant().await
}

async fn killed(scene: &Scene) -> Result<()> {
    let cluster = &scene.namespace.cluster;
    scene.touch().await?;
    disrupt::on_machine(cluster, |machine| {
        let node = tools::node(NODES[0])?;
        let tasks = run::output(images::ctr(node).args(["tasks", "list"]))?;
        machine.kill("node-1-kubelet")?;
        machine.kill("node-1-containerd")?;
        for pid in pids(&tasks) {
            // One that went with another needs nothing.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        Ok(())
    })
    .await?;
    sleep(DOWN).await;
    disrupt::on_machine(cluster, |machine| {
        machine.start("node-1-containerd")?;
        let begun = Instant::now();
        // A kubelet that finds no containerd ends, and systemd starts it again.
        loop {
            let started = machine.start("node-1-kubelet");
            match started.and_then(|()| machine.wait_until_ready()) {
                Err(_) if begun.elapsed() < DOWN => thread::sleep(AGAIN),
                ended => return ended,
            }
        }
    })
    .await?;
    disrupt::rolled_out(cluster, disrupt::DAEMONSET).await?;
    disrupt::rolled_out(cluster, disrupt::DEPLOYMENT).await?;
    scene.returned();
    scene.replant().await
}

/// The pids in what `ctr tasks list` prints: `TASK PID STATUS`.
fn pids(tasks: &str) -> Vec<i32> {
    let lines = tasks.lines().skip(1);
    let pids = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse().ok());
    pids.filter(|pid| *pid > 1).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pids_of_tasks_are_read() {
        let said = "TASK    PID    STATUS    \nabc     4711   RUNNING\nxyz     0      STOPPED\n";
        assert_eq!(super::pids(said), [4711]);
    }
}
