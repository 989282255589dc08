//! How probes and admissions fare while a few addresses hold as many connections as they can get, on one port
//! of a replica of the webhook or of an agent after the other.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use curfew_e2e::{
    NODES, Namespace, TestCluster, Workload, eventually,
    figures::Distribution,
    idlers::{Addresses, Idlers, Port, ask},
    knock::knock,
};
use k8s_openapi::api::core::v1::Namespace as Object;
use kube::Api;
use tokio::time::sleep;

use crate::{
    report::{Report, ms},
    say,
    tidy::{remove, tidily, unique},
};

const MOST: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(90);
/// Tests that run at the same time have blocks of their own.
const BLOCK: u8 = 2;

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many connections are held
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// From how many addresses
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=60))]
    addresses: u8,
    /// For how many seconds each port is looked at
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    let name = unique("connections");
    let work = async {
        let namespace = Namespace::create(cluster, &name).await?;
        namespace
            .run_pod(&Workload::new("web").on(NODES[0]))
            .await?;
        measure(&namespace, settings).await
    };
    let clean = async {
        say("cleaning up");
        let namespaces: Api<Object> = Api::all(cluster.client.clone());
        remove(namespaces, &name).await
    };
    tidily(work, clean).await
}

async fn measure(namespace: &Namespace, settings: &Settings) -> Result<Report> {
    let addresses = Addresses::take(BLOCK)?;
    let from: Vec<_> = (0..settings.addresses).map(|at| addresses.at(at)).collect();
    let elsewhere = addresses.at(settings.addresses);
    let mut report = Report::default();
    for part in ["webhook", "agent"] {
        for (to, port) in ports(&namespace.cluster, part).await? {
            let what = format!("{part}:{}", to.port());
            say(&format!("{} connections to {what}", settings.connections));
            let idlers = Idlers::hold(to, port, &from, settings.connections as usize);
            // What it takes to let them in is not what is measured here.
            let wanted = settings.connections as usize;
            eventually(PATIENCE, "all have come", async || {
                Ok((idlers.count().1 >= wanted).then_some(()))
            })
            .await?;
            let (mut probes, mut admissions) = (Vec::new(), Vec::new());
            let until = Instant::now() + Duration::from_secs(settings.seconds);
            while Instant::now() < until {
                probes.push(ask(to, port, elsewhere, "/readyz").await?);
                let word = format!("{what}-{}", admissions.len());
                let client = &namespace.cluster.client;
                admissions.push(knock(client, &namespace.name, "web", &word).await?);
                sleep(PAUSE).await;
            }
            let (open, opened) = idlers.count();
            report.figure(
                &format!("{what}: connections open, opened"),
                format!("{open}, {opened}"),
            );
            for (name, times) in [("probes", probes), ("admissions", admissions)] {
                let times = Distribution::of(times).context("nothing was measured")?;
                let most = times.percentile(99);
                report.figure(&format!("{what}: {name}, p50"), ms(times.percentile(50)));
                let name = format!("{what}: {name}, p99 of {}", times.count());
                report.target(&name, ms(most), "below 100 ms", most < MOST);
            }
        }
    }
    Ok(report)
}

/// The ports that anybody reaches of the pod of a part that runs on the first node.
async fn ports(cluster: &TestCluster, part: &str) -> Result<[(SocketAddr, Port); 2]> {
    let ip = cluster.address_of(part, NODES[0]).await?;
    let tls = match part {
        "agent" => Port::Mutual,
        _ => Port::Tls,
    };
    Ok([
        (SocketAddr::new(ip, 9090), Port::Plain),
        (SocketAddr::new(ip, 8443), tls),
    ])
}
