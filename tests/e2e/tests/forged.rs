//! Reviews that no API server sent, posted by somebody in another namespace's pod, from where everybody reaches
//! the webhook's port. Alone in its binary, because it measures what they cost the agents.
//!
//! Whoever also knows the path can say that a user reached into a pod that there is; nothing else of a review
//! is believed.

#[path = "forged/shapes.rs"]
mod shapes;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use curfew_core::metadata;
use curfew_e2e::{
    Agents, NODES, Namespace, TestCluster, Workload, eventually,
    footprint::{Process, processes},
    life,
    namespace::uid,
    policies::long_ttl,
    webhook::{Replica, path},
    within_namespace,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::net::TcpStream;

use shapes::{Shape, Victim};

/// How much more memory an agent may have in the end.
const MAX_GROWTH_KIB: u64 = 1024;
/// At least so many reviews are posted, half of them under the right path.
const MANY: usize = 200;
/// The most bytes of a review under a wrong path: they are sent at once.
const MAX_REFUSED: usize = 4 * 1024;
/// The port at which the pod of the forger passes on what it gets.
const RELAY: u16 = 9000;
const SOON: Duration = Duration::from_secs(10);

/// A replica of the webhook, reached from a pod of this namespace.
async fn from_a_pod_of(namespace: &Namespace, cluster: &TestCluster) -> Result<Replica> {
    let webhook = Replica::address(cluster).await?;
    let (ip, port) = (webhook.ip(), webhook.port());
    let relay = format!("exec nc -ll -p {RELAY} -e nc {ip} {port}");
    let forger = namespace
        .run_pod(&Workload::new("forger").script(&relay))
        .await?;
    let status = forger.status.unwrap_or_default();
    let ip = status.pod_ip.context("the forger has no address")?;
    let relay = SocketAddr::new(ip.parse()?, RELAY);
    eventually(SOON, "the forger listens", async || {
        Ok(TcpStream::connect(relay).await.is_ok().then_some(()))
    })
    .await?;
    Replica::at(cluster, relay).await
}

/// Posts it under this path, and expects no server error.
async fn post(webhook: &Replica, path: &str, shape: &Shape) -> Result<u16> {
    let json = "application/json";
    let answer = webhook.post_under(path, json, shape.body.clone()).await;
    let answer = answer.with_context(|| format!("{} under {path}", shape.name))?;
    ensure!(answer.status < 500, "{}: {answer:?}", shape.name);
    Ok(answer.status)
}

fn memory(agents: &[Process]) -> Result<Vec<u64>> {
    agents.iter().map(|agent| agent.anonymous_kib()).collect()
}

/// Whether the pod is as it was: what Curfew says of it, and not on its way out.
async fn is_as_before(namespace: &Namespace, before: &Pod) -> Result<()> {
    let now = namespace.pods().get(&before.name_any()).await?;
    let name = now.name_any();
    ensure!(now.uid() == before.uid(), "{name} was replaced");
    ensure!(now.metadata.deletion_timestamp.is_none(), "{name} goes");
    let told = |pod: &Pod| {
        let label = pod.labels().get(metadata::LABEL).cloned();
        let mut annotations = pod.annotations().clone();
        annotations.retain(|key, _| key.starts_with(metadata::PREFIX));
        (label, annotations)
    };
    ensure!(
        told(&now) == told(before),
        "{name}: {:?}, before: {:?}",
        told(&now),
        told(before)
    );
    Ok(())
}

#[tokio::test]
async fn forged_reviews_come_to_nothing() {
    within_namespace("forged", async |namespace| {
        let cluster = &namespace.cluster;
        let other = Namespace::create(cluster, &format!("{}-by", namespace.name)).await?;
        let tried = forge(namespace, &other).await;
        other.remove().await?;
        tried
    })
    .await;
}

async fn forge(namespace: &Namespace, other: &Namespace) -> Result<()> {
    let cluster = &namespace.cluster;
    long_ttl(namespace).await?;
    let workloads = ["target", "touched"].map(|name| Workload::new(name).on(NODES[0]));
    let pods = namespace.run_pods(&workloads).await?;
    let webhook = from_a_pod_of(other, cluster).await?;
    let schedules = Agents::connect(cluster).await?;
    // This one has a timer that could be moved.
    let record = life::touch_seen(namespace, &schedules, &pods[1], &["true"]).await?;
    let touched = namespace.pods().get("touched").await?;
    let agents = processes("curfew-agent")?;
    let before = memory(&agents)?;

    let interaction = path(cluster, "interaction").await?;
    // The API server is told this path only with the legacy component, but the webhook always serves it.
    let eviction = interaction.replace("/admit/interaction/", "/admit/eviction/");
    ensure!(eviction != interaction, "{interaction} has another form");
    let wrong = format!("/admit/interaction/{}", "0".repeat(32));
    let cut = interaction[..interaction.len() - 1].to_owned();
    let foreign = ["/admit/interaction", &wrong, &cut, "/admit/eviction", "/"];
    let shapes = shapes::all(&Victim {
        namespace: &namespace.name,
        untouched: "target",
        touched: "touched",
    });
    let (mut under_the_right, mut elsewhere) = (0, 0);
    for (number, shape) in shapes.iter().enumerate() {
        let at = if shape.is_eviction {
            &eviction
        } else {
            &interaction
        };
        post(&webhook, at, shape).await?;
        // Reviews of the one kind at the place of the other, too.
        let at = if shape.is_eviction {
            &interaction
        } else {
            &eviction
        };
        post(&webhook, at, shape).await?;
        under_the_right += 2;
        // Who is refused for the path may see that before the whole body is sent, or only that the connection ends.
        if shape.body.len() <= MAX_REFUSED {
            for at in [
                foreign[number % foreign.len()],
                foreign[(number + 1) % foreign.len()],
            ] {
                let status = post(&webhook, at, shape).await?;
                ensure!(
                    status == 404,
                    "{}: {at} is answered with {status}",
                    shape.name
                );
                elsewhere += 1;
            }
        }
    }
    // What names pods that there are, under paths that nobody was told.
    for shape in shapes::plausible(&namespace.name, "target") {
        for at in foreign {
            let status = post(&webhook, at, &shape).await?;
            ensure!(
                status == 404,
                "{}: {at} is answered with {status}",
                shape.name
            );
            elsewhere += 1;
        }
    }
    ensure!(
        under_the_right >= MANY / 2 && elsewhere >= MANY / 2,
        "{under_the_right} and {elsewhere} are too few to say anything"
    );

    is_as_before(namespace, &pods[0]).await?;
    is_as_before(namespace, &touched).await?;
    for agent in schedules.iter() {
        let schedule = agent.schedule().await?;
        let is_forged = |record: &&curfew_e2e::Scheduled| {
            record.uid.starts_with("ghost") || record.last.user == shapes::FORGER
        };
        let ghosts: Vec<_> = schedule.records.iter().filter(is_forged).collect();
        ensure!(ghosts.is_empty(), "{ghosts:?}");
    }
    ensure!(schedules.records(&uid(&pods[0])?).await?.is_empty());
    let after = schedules.record_only_on(NODES[0], &record.uid).await?;
    ensure!(
        (after.eviction_time, after.interactions) == (record.eviction_time, record.interactions),
        "{after:?}, before: {record:?}"
    );
    eventually(SOON, "agents are small", async || {
        let after = memory(&agents)?;
        let pairs = before.iter().zip(&after);
        let grown: Vec<_> = pairs
            .map(|(before, after)| after.saturating_sub(*before))
            .collect();
        ensure!(
            grown.iter().all(|kib| *kib <= MAX_GROWTH_KIB),
            "agents have grown by {grown:?} KiB"
        );
        Ok(Some(()))
    })
    .await?;
    is_as_before(namespace, &pods[0]).await?;
    is_as_before(namespace, &touched).await
}
