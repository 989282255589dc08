//! Who opens many connections keeps nobody else out.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use curfew_e2e::{
    NODES, TestCluster, Workload, eventually,
    idlers::{Addresses, Idlers, Port, ask},
    knock::knock,
    within_namespace,
};

const NODE: &str = NODES[0];
const PATIENCE: Duration = Duration::from_secs(60);
/// How often each port is asked, and an exec knocks.
const ROUNDS: u8 = 10;

/// The ports of a pod that anybody reaches, and how they are spoken to.
async fn ports(cluster: &TestCluster, part: &str) -> Result<[(SocketAddr, Port); 2]> {
    let ip = cluster.address_of(part, NODE).await?;
    let tls = if part == "agent" {
        Port::Mutual
    } else {
        Port::Tls
    };
    Ok([
        (SocketAddr::new(ip, 9090), Port::Plain),
        (SocketAddr::new(ip, 8443), tls),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_of_a_few_addresses_keep_nobody_out() {
    within_namespace("connections", async |namespace| {
        let cluster = &namespace.cluster;
        namespace.run_pod(&Workload::new("web").on(NODE)).await?;
        let addresses = Addresses::take(&cluster.machine, 1)?;
        let from: Vec<_> = (0..5).map(|at| addresses.at(at)).collect();
        let mut held = Vec::new();
        for part in ["agent", "webhook"] {
            for (to, port) in ports(cluster, part).await? {
                // More than each port has places for, and more of each address than it had once.
                let many = if port == Port::Plain { 200 } else { 1100 };
                held.push((to, port, Idlers::hold(to, port, &from, many)));
            }
        }
        for (to, port, idlers) in &held {
            let wanted = if *port == Port::Plain { 200 } else { 1100 };
            eventually(PATIENCE, &format!("all have come to {to}"), async || {
                Ok((idlers.count().1 >= wanted).then_some(()))
            })
            .await?;
        }
        let elsewhere = addresses.at(50);
        for round in 0..ROUNDS {
            for (to, port, _) in &held {
                ask(*to, *port, elsewhere, "/readyz").await?;
            }
            let word = format!("round-{round}");
            knock(&cluster.client, &namespace.name, "web", &word).await?;
        }
        drop(held);
        for part in ["agent", "webhook"] {
            for pod in cluster.pods_of(part).await? {
                let status = pod.status.unwrap_or_default();
                let ready = status.conditions.into_iter().flatten();
                let ready = ready
                    .filter(|c| c.type_ == "Ready")
                    .all(|c| c.status == "True");
                ensure!(ready, "{:?} is not ready", pod.metadata.name);
            }
        }
        Ok(())
    })
    .await;
}
