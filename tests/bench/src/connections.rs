//! How the probes of webhook and agent, new connections and admissions fare while a few addresses hold as many
//! connections as they can get, on one port of a replica of the webhook or of an agent after the other.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use curfew_e2e::{
    NODES, Namespace, TestCluster, Workload,
    figures::Distribution,
    idlers::{Addresses, Idlers, Port, ask},
    knock::knock,
    policies::long_ttl,
};
use k8s_openapi::api::core::v1::Namespace as Object;
use kube::Api;
use tokio::time::sleep;

use crate::{
    report::{Report, ms},
    say,
    tidy::{remove, tidily, unique},
};

const PARTS: [&str; 2] = ["webhook", "agent"];
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
        // The pod is reached into until the end.
        long_ttl(&namespace).await?;
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
    let cluster = &namespace.cluster;
    let addresses = Addresses::take(&cluster.machine, BLOCK)?;
    let from: Vec<_> = (0..settings.addresses).map(|at| addresses.at(at)).collect();
    let elsewhere = addresses.at(settings.addresses);
    let mut probes = Vec::new();
    for part in PARTS {
        let [(plain, _), _] = ports(cluster, part).await?;
        for path in ["/healthz", "/readyz"] {
            probes.push((format!("{part}{path}"), plain, Port::Plain, path));
        }
    }
    let mut report = Report::default();
    for part in PARTS {
        for (to, port) in ports(cluster, part).await? {
            let what = format!("{part}:{}", to.port());
            say(&format!("{} connections to {what}", settings.connections));
            let mut asked = probes.clone();
            if port != Port::Plain {
                asked.push((format!("new connections to {what}"), to, port, "/"));
            }
            let idlers = Idlers::hold(to, port, &from, settings.connections as usize);
            let wanted = settings.connections as usize;
            let mut watch = Watch {
                namespace,
                asked: &asked,
                elsewhere,
                word: format!("{}-comes", to.port()),
            };
            // Their clients take the processors, too, until all have come: no time is a verdict then.
            let patient = Instant::now() + PATIENCE;
            let come = watch
                .look(|| idlers.count().1 < wanted && Instant::now() < patient)
                .await;
            ensure!(idlers.count().1 >= wanted, "not all have come to {what}");
            come.tell(&what, "while they come", false, &mut report);
            watch.word = format!("{}-held", to.port());
            let until = Instant::now() + Duration::from_secs(settings.seconds);
            let held = watch.look(|| Instant::now() < until).await;
            let (open, opened) = idlers.count();
            report.figure(
                &format!("{what}: connections open, opened"),
                format!("{open}, {opened}"),
            );
            held.tell(&what, "while they are held", true, &mut report);
        }
    }
    Ok(report)
}

/// What somebody asks from elsewhere.
struct Watch<'a> {
    namespace: &'a Namespace,
    asked: &'a [(String, SocketAddr, Port, &'static str)],
    elsewhere: IpAddr,
    /// What tells the admissions of this look from others.
    word: String,
}

/// How long the answers took, and which there were none of.
#[derive(Default)]
struct Seen {
    took: BTreeMap<String, Vec<Duration>>,
    failed: Vec<String>,
}

impl Watch<'_> {
    /// Asks again and again as long as this holds.
    async fn look(&self, holds: impl Fn() -> bool) -> Seen {
        let mut seen = Seen::default();
        let client = &self.namespace.cluster.client;
        let mut round = 0;
        while holds() {
            for (name, to, port, path) in self.asked {
                seen.add(name, ask(*to, *port, self.elsewhere, path).await);
            }
            let word = format!("{}-{round}", self.word);
            let admitted = knock(client, &self.namespace.name, "web", &word).await;
            seen.add("admissions", admitted);
            round += 1;
            sleep(PAUSE).await;
        }
        seen
    }
}

impl Seen {
    fn add(&mut self, name: &str, took: Result<Duration>) {
        match took {
            Ok(took) => self.took.entry(name.to_owned()).or_default().push(took),
            Err(error) => self.failed.push(format!("{name}: {error:#}")),
        }
    }

    fn tell(self, what: &str, when: &str, is_verdict: bool, report: &mut Report) {
        for (name, times) in self.took {
            let Some(times) = Distribution::of(times) else {
                continue;
            };
            let name = format!("{what}, {when}: {name}");
            let most = times.percentile(99);
            let figure = format!(
                "p50 {}, p99 {} of {}",
                ms(times.percentile(50)),
                ms(most),
                times.count()
            );
            match is_verdict {
                true => report.target(&name, figure, "p99 below 100 ms", most < MOST),
                false => report.figure(&name, figure),
            }
        }
        let failed = self.failed.len();
        let first = self.failed.first().map(|first| format!(" ({first})"));
        let figure = format!("{failed}{}", first.unwrap_or_default());
        let name = format!("{what}, {when}: without an answer");
        report.target(&name, figure, "none", failed == 0);
    }
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
