//! What a flood of execs by one user in one namespace does to others, and what it leaves behind.
//!
//! One user sends execs without an upgrade header to the pods of one namespace; each command is another,
//! so that none is taken for a repetition. Another user sends a few a second to a namespace of their own
//! all the time: before, during and after the flood, in phases of the same length.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant as Clock},
};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{
    Agents, NODES, Namespace, TestCluster, Workload,
    agents::{ACCOUNT, sample},
    audit,
    figures::Distribution,
    footprint,
    knock::knock,
    policies::Policies,
};
use k8s_openapi::api::{core::v1::Namespace as Object, events::v1::Event};
use kube::{Api, Client, api::ListParams};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    report::{Report, ms, signed_ms},
    say,
    tidy::{remove, tidily, unique},
};

const DELAY: f64 = 0.050;
const GROWTH_KIB: u64 = 32 * 1024;
const STORE_BYTES: f64 = 16.0 * 1024.0 * 1024.0;
/// How many Events of a namespace an agent posts at once, and how many a second then.
const EVENTS: (u64, u64) = (25, 1);
/// How often an agent may patch a pod.
const MARKS_A_SECOND: u64 = 2;
/// The API server, too, has work left when the last answer is there.
const SETTLE: Duration = Duration::from_secs(10);
const PARTS: [&str; 2] = ["curfew-webhook", "curfew-agent"];

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many execs the flood has
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    execs: u32,
    /// In how many seconds they are sent; the phases without it are as long
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How many execs a second the other user sends
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rate: u32,
    /// How many pods take turns in the flooded namespace
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pods: u32,
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    let [flooded, quiet] = ["flooded", "quiet"].map(unique);
    let work = async {
        let flooded = Namespace::create(cluster, &flooded).await?;
        let quiet = Namespace::create(cluster, &quiet).await?;
        measure(cluster, settings, &flooded, &quiet).await
    };
    let clean = async {
        say("cleaning up");
        let namespaces: Api<Object> = Api::all(cluster.client.clone());
        let (one, other) = tokio::join!(
            remove(namespaces.clone(), &flooded),
            remove(namespaces, &quiet),
        );
        one.and(other)
    };
    tidily(work, clean).await
}

/// A client that is a user who may do anything in the namespace and nothing elsewhere.
async fn user(namespace: &Namespace) -> Result<Client> {
    let kubectl = &namespace.kubectl;
    kubectl.ok(&["create", "serviceaccount", "user"]).await?;
    let account = format!("--serviceaccount={}:user", namespace.name);
    let binding = [
        "create",
        "rolebinding",
        "user",
        "--clusterrole=admin",
        &account,
    ];
    kubectl.ok(&binding).await?;
    let token = kubectl.ok(&["create", "token", "user"]).await?;
    namespace.cluster.client_of(token.trim()).await
}

async fn measure(
    cluster: &TestCluster,
    settings: &Settings,
    flooded: &Namespace,
    quiet: &Namespace,
) -> Result<Report> {
    say("starting pods, and giving them time to live");
    for namespace in [flooded, quiet] {
        let stays = Policies::new(namespace).await?;
        let applied = stays.apply("stays", json!({"ttl": "1h"})).await?;
        applied.holds().await;
        let pods: Vec<_> = (0..settings.pods as usize)
            .map(|at| Workload::new(&format!("pod-{at}")).on(NODES[at % NODES.len()]))
            .collect();
        namespace.run_pods(&pods).await?;
    }
    let (bad, good) = (user(flooded).await?, user(quiet).await?);
    let agents = Agents::connect(cluster).await?;
    // Each pod once: what is measured is what repetition brings.
    for at in 0..settings.pods {
        let pod = format!("pod-{at}");
        knock(&bad, &flooded.name, &pod, "first").await?;
        knock(&good, &quiet.name, &pod, "first").await?;
    }
    sleep(SETTLE).await;
    let before = Stores::read(&agents).await?;
    let mark = audit::now(cluster.machine.audit_log())?;
    let memory = Memory::watched()?;
    let begun = Clock::now();

    say("another user without a flood");
    let first = steady(&good, quiet, settings).await?;
    say("with a flood");
    let began = Clock::now();
    let (during, poured) = tokio::try_join!(
        steady(&good, quiet, settings),
        pour(&bad, flooded, settings)
    )?;
    let took = began.elapsed();
    say("without a flood again");
    let last = steady(&good, quiet, settings).await?;
    sleep(SETTLE).await;

    let lasted = begun.elapsed().as_secs() + 1;
    let after = Stores::read(&agents).await?;
    let asked = Asked::since(&mark, &flooded.name)?;
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), &flooded.name);
    let events = events.list_metadata(&ListParams::default()).await?;
    let of_interactions = events.items.iter().filter(|event| {
        let name = event.metadata.name.as_deref().unwrap_or_default();
        // Those of the namespace's beginning are the scheduler's and the kubelets'.
        name.starts_with("pod-")
    });

    let mut report = Report::default();
    let flood = format!(
        "{} execs in {:.1} s, p50 {}",
        poured.count(),
        took.as_secs_f64(),
        ms(poured.percentile(50))
    );
    report.figure("the flood", flood);
    for (name, percent) in [("p50", 50), ("p99", 99), ("max", 100)] {
        let [first, during, last] = [&first, &during, &last].map(|of| of.percentile(percent));
        let more = during.as_secs_f64() - first.min(last).as_secs_f64();
        let figure = format!(
            "{}, before {}, after {}: {} more",
            ms(during),
            ms(first),
            ms(last),
            signed_ms(more)
        );
        let name = format!("another user's {name}");
        match percent {
            50 => report.target(&name, figure, "at most 50 ms more", more <= DELAY),
            _ => report.figure(&name, figure),
        }
    }
    memory.report(&mut report)?;
    let grown = after.bytes - before.bytes;
    report.target(
        "the stores",
        format!("{:.1} MiB more", grown / 1024.0 / 1024.0),
        "at most 16 MiB more",
        grown <= STORE_BYTES,
    );
    let records = format!("{}, before {}", after.records, before.records);
    report.target(
        "records",
        records,
        "one a pod, as before",
        after.records == before.records,
    );
    report.figure("Events about the pods", of_interactions.count());
    let nodes = NODES.len() as u64;
    let most = nodes * (EVENTS.0 + EVENTS.1 * lasted);
    report.target(
        "writes of Events",
        asked.events,
        format!("at most {most}"),
        asked.events <= most,
    );
    let most = u64::from(settings.pods) * MARKS_A_SECOND * u64::from(settings.seconds + 5);
    report.target(
        "patches of pods",
        asked.patches,
        format!("at most {most}"),
        asked.patches <= most,
    );
    Ok(report)
}

/// Sends a few execs a second for as long as a phase lasts.
async fn steady(client: &Client, to: &Namespace, settings: &Settings) -> Result<Distribution> {
    let execs = settings.rate * settings.seconds;
    send(client, to, settings, execs, "steady").await
}

/// Sends the flood.
async fn pour(client: &Client, to: &Namespace, settings: &Settings) -> Result<Distribution> {
    send(client, to, settings, settings.execs, "flood").await
}

/// Sends so many execs, spread over the seconds of a phase, and returns how long the answers took.
async fn send(
    client: &Client,
    to: &Namespace,
    settings: &Settings,
    execs: u32,
    word: &str,
) -> Result<Distribution> {
    let slot = Duration::from_secs(settings.seconds.into()) / execs;
    let start = Clock::now();
    let mut asked = JoinSet::new();
    for at in 0..execs {
        sleep_until((start + slot * at).into()).await;
        let pod = format!("pod-{}", at % settings.pods);
        let word = format!("{word}-{}-{at}", start.elapsed().as_nanos());
        let (client, namespace) = (client.clone(), to.name.clone());
        asked.spawn(async move { knock(&client, &namespace, &pod, &word).await });
    }
    let mut took = Vec::new();
    while let Some(answered) = asked.join_next().await {
        took.push(answered??);
    }
    Distribution::of(took).context("nothing was sent")
}

/// What the agents hold.
struct Stores {
    records: f64,
    bytes: f64,
}

impl Stores {
    async fn read(agents: &Agents) -> Result<Self> {
        let mut stores = Self {
            records: 0.0,
            bytes: 0.0,
        };
        for agent in agents.iter() {
            let metrics = agent.metrics().await?;
            let of = |name: &str| sample(&metrics, name).with_context(|| format!("no {name}"));
            stores.records += of("curfew_agent_records")?;
            stores.bytes += of("curfew_agent_store_size_bytes")?;
        }
        Ok(stores)
    }
}

/// What the agents asked the API server to write.
struct Asked {
    events: u64,
    patches: u64,
}

impl Asked {
    fn since(mark: &audit::Mark, namespace: &str) -> Result<Self> {
        let requests = mark.since(ACCOUNT)?;
        let count = |what: &str| {
            let path = format!("/namespaces/{namespace}/{what}");
            let written = requests.iter().filter(|request| {
                ["create", "patch"].contains(&request.verb.as_str()) && request.uri.contains(&path)
            });
            written.count() as u64
        };
        Ok(Self {
            events: count("events"),
            patches: count("pods"),
        })
    }
}

/// The anonymous memory of Curfew's processes in KiB: what it was, and the most that it came to.
type Seen = BTreeMap<(&'static str, footprint::Process), (u64, u64)>;

/// Looks at the memory of Curfew's processes until it is dropped.
struct Memory {
    seen: Arc<Mutex<Seen>>,
    _watch: AbortOnDropHandle<()>,
}

impl Memory {
    fn watched() -> Result<Self> {
        let mut seen = Seen::new();
        for part in PARTS {
            for process in footprint::processes(part)? {
                let now = process.anonymous_kib()?;
                seen.insert((part, process), (now, now));
            }
        }
        ensure!(seen.len() > PARTS.len(), "Curfew does not run");
        let seen = Arc::new(Mutex::new(seen));
        let watched = Arc::clone(&seen);
        let watch = tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(250)).await;
                let mut seen = watched.lock().unwrap_or_else(PoisonError::into_inner);
                for ((_, process), (_, most)) in seen.iter_mut() {
                    // One that has ended is found out in the end.
                    *most = (*most).max(process.anonymous_kib().unwrap_or(0));
                }
            }
        });
        Ok(Self {
            seen,
            _watch: AbortOnDropHandle::new(watch),
        })
    }

    fn report(&self, report: &mut Report) -> Result<()> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for ((part, process), (before, most)) in seen.iter() {
            let after = process.anonymous_kib();
            let after = after.with_context(|| format!("a process of {part} has ended"))?;
            let grown = most.saturating_sub(*before);
            report.target(
                &format!("memory of a {part}"),
                format!("{before} KiB, at most {most}, in the end {after}: {grown} more"),
                "less than 32 MiB more",
                grown < GROWTH_KIB,
            );
        }
        Ok(())
    }
}
