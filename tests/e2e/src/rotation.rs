//! Exchanges the CA again and again, certificates of all parts with it, while people reach into pods.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use curfew_webhook::identity::secret::{self, Authorities};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    CURFEW, NODES, Namespace, TestCluster, Workload,
    agents::sample,
    disrupt::{self, process_of, set_webhook_envs},
    eventually,
    figures::Distribution,
    knock::knock,
};

/// As short as the webhook allows it, and pods that stay meanwhile.
const SHORT_LIVED: [(&str, &str); 4] = [
    ("CURFEW_CERTIFICATE_LIFETIME", "10s"),
    ("CURFEW_CA_OVERLAP", "1s"),
    ("CURFEW_CA_LIFETIME", "1h"),
    (TTL, "1h0m0s"),
];
const TTL: &str = "CURFEW_DEFAULT_TTL";
const IN_METADATA: &str = "curfew_webhook_recorded_total{where=\"metadata\"}";
/// An exchange takes the overlap twice and the life of a certificate.
const EXCHANGE: Duration = Duration::from_secs(60);
const PODS: usize = 4;
const EXPIRY: &str = "curfew_agent_certificate_expiry_timestamp_seconds";

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    /// How many times the CA is exchanged.
    pub exchanges: usize,
    /// How many admissions a second there are.
    pub rate: u32,
    /// Whether it is waited for connections to be closed that are not used any more.
    pub settles: bool,
}

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// How many times the CA was exchanged.
    pub exchanges: usize,
    /// How many times webhooks and agents have renewed certificates.
    pub renewals: usize,
    /// How long the admissions took, all of which have been granted.
    pub admissions: Distribution,
    /// How many interactions were recorded on the pod, because the agent could not be told.
    pub in_metadata: f64,
    /// How many descriptors all processes of Curfew's had open before, and after.
    pub descriptors: (usize, usize),
}

/// The CAs of the installation, as its Secret has them.
pub async fn authorities(cluster: &TestCluster) -> Result<Authorities> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), CURFEW);
    Ok(Authorities::read(
        &secrets.get(secret::NAME).await?,
        CURFEW,
    )?)
}

/// Exchanges the CA while people are admitted, and returns once each of them was.
///
/// # Errors
/// When one was not, or an exchange does not come to its end.
pub async fn exchange(namespace: &Namespace, course: Course) -> Result<Seen> {
    let cluster = &namespace.cluster;
    let ttl = disrupt::time_to_live(cluster).await?;
    let ttl = curfew_core::duration::format(ttl.unsigned_abs());
    let set = SHORT_LIVED.map(|(name, value)| (name, Some(value)));
    set_webhook_envs(cluster, &set).await?;
    let seen = under_load(namespace, course).await;
    let unset = SHORT_LIVED.map(|(name, _)| (name, (name == TTL).then_some(ttl.as_str())));
    let healed = set_webhook_envs(cluster, &unset).await;
    let seen = seen?;
    healed?;
    Ok(seen)
}

async fn under_load(namespace: &Namespace, course: Course) -> Result<Seen> {
    let cluster = &namespace.cluster;
    let pods: Vec<_> = (0..PODS)
        .map(|at| Workload::new(&format!("pod-{at}")).on(NODES[at % NODES.len()]))
        .collect();
    namespace.run_pods(&pods).await?;
    // All have connections by then, and agents the short-lived certificates.
    exchange_once(cluster).await?;
    eventually(
        EXCHANGE,
        "the agents' certificates are short-lived",
        async || {
            let soon = Timestamp::now().as_second() as f64 + 20.0;
            let mut short = true;
            for pod in cluster.pods_of("agent").await? {
                let metrics = disrupt::metrics(&pod).await?;
                let expiry = sample(&metrics, EXPIRY).context("an agent has no certificate")?;
                short &= expiry < soon;
            }
            Ok(short.then_some(()))
        },
    )
    .await?;
    let before = (
        descriptors(cluster).await?,
        in_metadata(cluster).await?,
        renewals(cluster).await?,
    );
    let over = AtomicBool::new(false);
    let (knocked, exchanged) = tokio::join!(knock_all(namespace, course.rate, &over), async {
        let mut exchanged = Ok(());
        for _ in 0..course.exchanges {
            exchanged = exchange_once(cluster).await;
            if exchanged.is_err() {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        exchanged
    });
    let took = knocked?;
    exchanged?;
    let after = match course.settles {
        true => settled(cluster, before.0).await?,
        false => descriptors(cluster).await?,
    };
    Ok(Seen {
        exchanges: course.exchanges,
        renewals: renewals(cluster).await? - before.2,
        admissions: Distribution::of(took).context("nobody was admitted")?,
        in_metadata: in_metadata(cluster).await? - before.1,
        descriptors: (before.0, after),
    })
}

/// Exchanges the CA, and returns when the former is trusted no more.
async fn exchange_once(cluster: &TestCluster) -> Result<()> {
    let former = authorities(cluster).await?.current.certificate.clone();
    let mark = format!("{}=now", secret::ROTATE);
    let args = ["annotate", "--overwrite", "secret", secret::NAME, &mark];
    disrupt::kubectl(cluster).ok(&args).await?;
    eventually(EXCHANGE, "the CA is exchanged", async || {
        let now = authorities(cluster).await?;
        Ok((!now.bundle().contains(former.trim_end()) && now.next().is_none()).then_some(()))
    })
    .await
}

/// Knocks at this rate until it is over. Returns how long each took.
async fn knock_all(namespace: &Namespace, rate: u32, over: &AtomicBool) -> Result<Vec<Duration>> {
    let began = Instant::now();
    let mut knocks = JoinSet::new();
    let name: Arc<str> = namespace.name.as_str().into();
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        sleep_until(began + Duration::from_secs(1) / rate * sent).await;
        let (client, name) = (namespace.cluster.client.clone(), name.clone());
        knocks.spawn(async move {
            let pod = format!("pod-{}", sent as usize % PODS);
            knock(&client, &name, &pod, &sent.to_string()).await
        });
        sent += 1;
    }
    let mut took = Vec::new();
    while let Some(knock) = knocks.join_next().await {
        took.push(knock??);
    }
    Ok(took)
}

async fn in_metadata(cluster: &TestCluster) -> Result<f64> {
    let mut sum = 0.0;
    for pod in cluster.pods_of("webhook").await? {
        let metrics = disrupt::metrics(&pod).await?;
        sum += sample(&metrics, IN_METADATA).context("no count of what was recorded on pods")?;
    }
    Ok(sum)
}

/// How many descriptors the processes of Curfew's have open once those of connections that are not used any
/// more are closed, which takes a minute or so.
///
/// # Errors
/// When it cannot be seen.
async fn settled(cluster: &TestCluster, before: usize) -> Result<usize> {
    let settled = eventually(EXCHANGE * 2, "descriptors are closed", async || {
        Ok((descriptors(cluster).await? <= before).then_some(()))
    });
    drop(settled.await);
    descriptors(cluster).await
}

/// How many descriptors the processes of Curfew's have open.
async fn descriptors(cluster: &TestCluster) -> Result<usize> {
    let mut sum = 0;
    for part in ["agent", "webhook"] {
        for pod in cluster.pods_of(part).await? {
            let process = process_of(part, &pod.name_any());
            let process = process.with_context(|| format!("{} does not run", pod.name_any()))?;
            sum += fs::read_dir(format!("/proc/{process}/fd"))?.count();
        }
    }
    Ok(sum)
}

/// How many times the parts have said that they have another certificate.
async fn renewals(cluster: &TestCluster) -> Result<usize> {
    let mut count = 0;
    for (part, event) in [
        ("agent", "\"certified\""),
        ("webhook", "\"certificate-renewed\""),
    ] {
        for pod in cluster.pods_of(part).await? {
            let log = disrupt::kubectl(cluster)
                .ok(&["logs", &pod.name_any()])
                .await?;
            count += log.lines().filter(|line| line.contains(event)).count();
        }
    }
    Ok(count)
}
