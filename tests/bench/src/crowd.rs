//! A cluster of many nodes, as far as Curfew and the API server can tell: Node objects with pods on them and no
//! kubelets, and an [agent](member) for each as a task of this process.
//!
//! The agents have tokens of their nodes and certificates that the real webhook has signed, stand in EndpointSlices of
//! the real Service, take the webhook's notices by the real protocol, and watch the pods of their nodes as the real ones
//! do. They keep no store, change no pods and evict nothing: what an agent itself needs is measured elsewhere. They start all
//! at once, and later [a few at a time](rolling).

mod fleet;
mod member;
mod rolling;
mod watching;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use curfew_core::{PodId, duration};
use curfew_e2e::{
    CURFEW, Namespace, TestCluster,
    agents::{sample, total},
    disrupt::{self, process_of},
    eventually,
    figures::Distribution,
    footprint::Process,
    knock::knock,
};
use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{Namespace as Object, Node, Pod},
    discovery::v1::EndpointSlice,
};
use kube::{Api, ResourceExt};
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

use self::{fleet::Fleet, watching::Watchers};
use crate::{
    api_server::{self, Clock},
    quiet,
    report::{Report, mib, ms, signed_ms},
    say,
    tidy::{remove, remove_all, tidily, unique},
};

const KNOWN_KIB: u64 = 12 * 1024;
const KNOWN: Duration = Duration::from_secs(60);
/// The size of cluster that the figures are carried on to.
const LARGEST: u64 = 15_000;
const STORED: &str = "curfew_webhook_notices_total{result=\"stored\"}";
const BY_AGENTS: &str = "curfew_webhook_recorded_total{where=\"agent\"}";

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many nodes, each with an agent
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=1000))]
    nodes: u16,
    /// How many pods are on each of them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pods: u16,
    /// How many execs a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    rate: u32,
    /// For how many seconds; each way to watch is measured twice for as long
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How many times a second the status of a pod is written while it is watched
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    writes: u32,
    /// How long to wait until what has just been done is over
    #[arg(long, default_value = "5s", value_parser = duration::parse)]
    rest: Duration,
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    let name = unique("crowd");
    let work = async {
        let namespace = Namespace::create(cluster, &name).await?;
        let fleet = Fleet::make(cluster, namespace, settings.nodes.into()).await?;
        tokio::select! {
            measured = measure(&fleet, settings) => measured,
            failed = fleet.keep_alive() => Err(failed),
        }
    };
    let clean = async {
        say("cleaning up");
        let client = || cluster.client.clone();
        let slices: Api<EndpointSlice> = Api::namespaced(client(), CURFEW);
        let requests: Api<CertificateSigningRequest> = Api::all(client());
        let (slices, requests, namespace) = tokio::join!(
            remove_all(slices, &name),
            remove_all(requests, &name),
            remove(Api::<Object>::all(client()), &name),
        );
        // After their pods, which others collect from nodes that are gone.
        let nodes = remove_all(Api::<Node>::all(client()), &name).await;
        slices.and(requests).and(namespace).and(nodes)
    };
    tidily(work, clean).await
}

/// A replica of the webhook.
struct Replica {
    pod: Pod,
    process: Process,
}

impl Replica {
    async fn all(cluster: &TestCluster) -> Result<Vec<Self>> {
        let pods = cluster.pods_of("webhook").await?;
        ensure!(!pods.is_empty(), "no webhook runs");
        let replica = |pod: Pod| {
            let name = pod.name_any();
            let pid = process_of("webhook", &name);
            let pid = pid.with_context(|| format!("no process of {name}"))?;
            let process = Process::with_id(pid.try_into()?);
            Ok(Self { pod, process })
        };
        pods.into_iter().map(replica).collect()
    }

    async fn count(&self, series: &str) -> Result<f64> {
        let metrics = disrupt::metrics(&self.pod).await?;
        sample(&metrics, series).with_context(|| format!("no {series}"))
    }
}

/// The anonymous memory of each of them, in KiB.
fn memory(replicas: &[Replica]) -> Result<Vec<u64>> {
    let of = |replica: &Replica| replica.process.anonymous_kib();
    replicas.iter().map(of).collect()
}

async fn counted(replicas: &[Replica], series: &str) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for replica in replicas {
        all.push(replica.count(series).await?);
    }
    Ok(all)
}

async fn measure(fleet: &Fleet, settings: &Settings) -> Result<Report> {
    let mut report = Report::default();
    report.figure(
        "nodes, and pods on them",
        format!(
            "{}, {}",
            settings.nodes,
            u32::from(settings.nodes) * u32::from(settings.pods)
        ),
    );
    let pods = fleet.run_pods(settings.pods.into()).await?;
    let crew = certified(&mut report, fleet).await?;
    known(&mut report, fleet, &crew, &pods, settings).await?;
    let crew = rolling::restart(&mut report, fleet, crew, &pods, settings.rate).await?;
    watched(&mut report, fleet, &crew, &pods, settings).await?;
    Ok(report)
}

/// All agents ask for a certificate at the same moment.
async fn certified(report: &mut Report, fleet: &Fleet) -> Result<Vec<member::Member>> {
    say("all agents ask for certificates");
    let server = Clock::start(api_server::process(&fleet.cluster)?)?;
    let began = Instant::now();
    let (crew, took) = fleet.enlist(fleet.all()).await?;
    let all = began.elapsed();
    let took = Distribution::of(took).context("nobody has a certificate")?;
    let figure = format!(
        "{:.1} s for all, p50 {}, p99 {}; {} ms of the API server",
        all.as_secs_f64(),
        ms(took.percentile(50)),
        ms(took.percentile(99)),
        server.ms()?
    );
    report.figure("certificates, asked for at once", figure);
    Ok(crew)
}

/// The webhook learns of all agents, and tells them of interactions.
async fn known(
    report: &mut Report,
    fleet: &Fleet,
    crew: &[member::Member],
    pods: &[PodId],
    settings: &Settings,
) -> Result<()> {
    let cluster = &fleet.cluster;
    // What the measurements before this one have taken of their memory is not for the agents.
    say("starting the webhooks again");
    disrupt::restart_webhooks(cluster).await?;
    let replicas = Replica::all(cluster).await?;
    let agents = counted(&replicas, "curfew_webhook_agents").await?;
    let alone = memory(&replicas)?;
    say("the webhook learns of the agents");
    let began = Instant::now();
    fleet.announce().await?;
    eventually(KNOWN, "each replica knows all agents", async || {
        let now = counted(&replicas, "curfew_webhook_agents").await?;
        let more = now.iter().zip(&agents).map(|(now, before)| now - before);
        Ok(more
            .min_by(f64::total_cmp)
            .is_some_and(|least| least == crew.len() as f64)
            .then_some(()))
    })
    .await?;
    report.figure("agents known after", ms(began.elapsed()));
    sleep(settings.rest).await;
    let knowing = memory(&replicas)?;

    say("an exec on each node");
    let before = counted(&replicas, STORED).await?;
    let taken = member::taken(crew);
    let first: Vec<_> = pods.iter().take(crew.len()).collect();
    execs(cluster, &first, settings.rate, first.len() as u32).await?;
    let connected = memory(&replicas)?;
    let stored = counted(&replicas, STORED).await?;
    let all: f64 = stored.iter().sum::<f64>() - before.iter().sum::<f64>();
    ensure!(
        all >= crew.len() as f64 && member::taken(crew) - taken == first.len() as u64,
        "of {} execs on as many nodes, {all} notices were stored",
        first.len()
    );
    slope(
        report,
        crew.len(),
        &[&alone, &knowing, &connected],
        &[&before, &stored],
    )?;

    let sent = settings.rate * settings.seconds;
    say(&format!("{} execs a second", settings.rate));
    let turns: Vec<_> = pods.iter().cycle().take(sent as usize).collect();
    let (recorded, taken) = (counted(&replicas, BY_AGENTS).await?, member::taken(crew));
    let server = Clock::start(api_server::process(cluster)?)?;
    let webhooks = replicas.iter().map(|replica| Clock::start(replica.process));
    let webhooks = webhooks.collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    let took = execs(cluster, &turns, settings.rate, sent).await?;
    let took = Distribution::of(took).context("nothing was sent")?;
    let seconds = began.elapsed().as_secs_f64();
    let server = server.ms()?;
    let webhooks = webhooks.into_iter().map(Clock::ms).sum::<Result<u64>>()?;
    let told = member::taken(crew) - taken;
    let recorded: f64 =
        counted(&replicas, BY_AGENTS).await?.iter().sum::<f64>() - recorded.iter().sum::<f64>();
    ensure!(
        told == u64::from(sent) && recorded == f64::from(sent),
        "of {sent} execs, the agents took {told} and the webhook recorded {recorded} with them"
    );
    let each = |busy: u64| signed_ms(busy as f64 / 1000.0 / f64::from(sent));
    report.figure(
        "execs, spread over all nodes",
        format!(
            "{sent}, p50 {}, p99 {}",
            ms(took.percentile(50)),
            ms(took.percentile(99))
        ),
    );
    report.figure(
        "notices a second",
        format!("{:.1}", f64::from(sent) / seconds),
    );
    let figure = format!(
        "{} of the webhook, {} of the API server",
        each(webhooks),
        each(server)
    );
    report.figure("processors for each", figure);
    let most = memory(&replicas)?.into_iter().max().unwrap_or_default();
    report.target(
        "anonymous memory of a webhook",
        format!("{} with {} agents known and told", mib(most), crew.len()),
        "at most 12 MiB",
        most <= KNOWN_KIB,
    );
    Ok(())
}

/// What each agent takes of a webhook's memory, by the replica that has grown most.
fn slope(
    report: &mut Report,
    agents: usize,
    memory: &[&Vec<u64>; 3],
    stored: &[&Vec<f64>; 2],
) -> Result<()> {
    let grown = |at: usize| memory[2][at].saturating_sub(memory[0][at]);
    let most = (0..memory[0].len()).max_by_key(|at| grown(*at));
    let at = most.context("there is no webhook")?;
    let [alone, knowing, connected] = memory.map(|of| of[at]);
    let each = |kib: u64| kib as f64 / agents as f64;
    report.figure(
        "a webhook's anonymous memory",
        format!(
            "{} without them, {} when it knows them, {} after notices to {} of them",
            mib(alone),
            mib(knowing),
            mib(connected),
            stored[1][at] - stored[0][at]
        ),
    );
    let known = each(knowing.saturating_sub(alone));
    let told = each(grown(at));
    report.figure(
        "for each agent",
        format!("{known:.1} KiB known, {told:.1} KiB with a connection"),
    );
    let carried = |each: f64| mib(alone + (each * LARGEST as f64) as u64);
    let figure = format!(
        "{} known, {} with a connection to each",
        carried(known),
        carried(told)
    );
    report.figure(&format!("with {LARGEST} agents, by these slopes"), figure);
    Ok(())
}

/// Execs into these pods one after the other, at this rate. Returns how long each took.
async fn execs(
    cluster: &TestCluster,
    pods: &[&PodId],
    rate: u32,
    count: u32,
) -> Result<Vec<Duration>> {
    let slot = Duration::from_secs(1) / rate;
    let start = Instant::now();
    let mut asked = JoinSet::new();
    for (at, pod) in (0..count).zip(pods) {
        sleep_until((start + slot * at).into()).await;
        let client = cluster.client.clone();
        let (namespace, name) = (pod.namespace.clone(), pod.name.clone());
        // Each is another interaction.
        let word = format!("{at}-{}", fastrand::u64(..));
        asked.spawn(async move { knock(&client, &namespace, &name, &word).await });
    }
    let mut took = Vec::new();
    while let Some(answered) = asked.join_next().await {
        took.push(answered??);
    }
    Ok(took)
}

/// What it costs the API server that each agent watches the pods of its node, next to one watch of all pods and to none.
async fn watched(
    report: &mut Report,
    fleet: &Fleet,
    crew: &[member::Member],
    pods: &[PodId],
    settings: &Settings,
) -> Result<()> {
    let server = api_server::process(&fleet.cluster)?;
    let mut busy = [0, 0, 0];
    for kind in [0, 1, 2, 2, 1, 0] {
        let name = ["no watch", "a watch for each node", "one watch of all pods"][kind];
        say(&format!("{} writes a second with {name}", settings.writes));
        let clock = Clock::start(server)?;
        let watchers = match kind {
            0 => None,
            1 => Some(Watchers::of_nodes(crew).await?),
            _ => Some(Watchers::of_all(fleet, crew.len()).await?),
        };
        if let (1, Some(watchers)) = (kind, &watchers) {
            let (p50, p99) = watchers.listed()?;
            let figure = format!(
                "p50 {}, p99 {}; {} ms of the API server",
                ms(p50),
                ms(p99),
                clock.ms()?
            );
            report.figure("watches begun at once, until each has its list", figure);
        }
        sleep(settings.rest).await;
        let clock = Clock::start(server)?;
        let written = watching::write(fleet, pods, settings.writes, settings.seconds).await?;
        busy[kind] += clock.ms()?;
        if let Some(watchers) = watchers {
            watchers.has_seen(written).await?;
        }
    }
    let writes = f64::from(settings.writes * settings.seconds * 2);
    for (kind, name) in [
        (0, "no watch"),
        (1, "a watch for each node"),
        (2, "one watch of all pods"),
    ] {
        let each = busy[kind] as f64 / 1000.0 / writes;
        let more = (busy[kind] as f64 - busy[0] as f64) / 1000.0 / writes;
        let figure = format!("{}, {} more than without", signed_ms(each), signed_ms(more));
        report.figure(
            &format!("the API server's processors a write, {name}"),
            figure,
        );
    }
    ensure!(busy[0] > 0, "the API server does nothing");
    let metrics = quiet::metrics(&fleet.cluster).await?;
    let open = total(&metrics, "apiserver_longrunning_requests");
    report.figure("long-running requests of the API server, in the end", open);
    Ok(())
}
